"""DICOM measurement reports: each lesion once, with its sizes, its place in the segmentation, and nothing private."""

from __future__ import annotations

import shutil
import subprocess

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge.frames import Segmentation
from bcseg_edge.lesions import find_lesions
from bcseg_edge.sinks.dicom_text import COPIED, SegmentationFacts
from bcseg_edge.sinks.earlier import remove_earlier_run
from bcseg_edge.sinks.lesion_links import LesionLinks
from bcseg_edge.sources import open_source
from tests.fixtures.dicom_files import PATIENT, moving_square, region, write_dicom

highdicom = pytest.importorskip("highdicom", reason="writes DICOM SR")
pydicom = pytest.importorskip("pydicom")

from bcseg_edge.sinks.dicom_seg import DicomSegSink  # noqa: E402
from bcseg_edge.sinks.dicom_sr import DicomSrSink  # noqa: E402

FACTS = SegmentationFacts("edge", "ab" * 32, "0.1.0")
SPACED = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59, 0.02)]}  # 0.2 mm a pixel


def two_lesions(frame):
    """The bright square is benign and 25x20 px; a malignant spot of 8 px grows with the frames."""
    labels = np.zeros(frame.image.shape, np.uint8)
    labels[frame.image > 100] = 1
    labels[45:53, : 8 + frame.index] = 2
    return labels


def report(folder, frames, label=two_lesions, *, tags=SPACED, deidentify=False):
    """Write a cine, its segmentation and its report; returns (source, path of the report)."""
    source = open_source(str(write_dicom(folder / "cine.dcm", frames, **tags)))
    labels = DicomSegSink(folder / "segmentation.dcm", source, FACTS, deidentify)
    sinks = [labels, DicomSrSink(folder / "measurements.dcm", source, FACTS, labels, deidentify)]
    for frame in source:
        found = label(frame)
        segmentation = Segmentation(found, np.full(found.shape, 0.875, np.float32))
        lesions = find_lesions(segmentation, frame.spacing_mm)
        for sink in sinks:
            sink.write(frame, segmentation, lesions)
    for sink in reversed(sinks):  # as the pipeline does
        sink.close()
        sink.close()
    return source, folder / "measurements.dcm"


def groups_of(path):
    return highdicom.sr.srread(path).content.get_planar_roi_measurement_groups()


def sizes(group):
    return {(item.name.meaning, item.unit.value): item.value for item in group.get_measurements()}


def test_each_lesion_is_measured_once_where_it_is_largest(tmp_path):
    _, path = report(tmp_path, moving_square(4))
    benign, malignant = groups_of(path)
    assert (benign.tracking_identifier, malignant.tracking_identifier) == ("Lesion 1", "Lesion 2")
    assert benign.tracking_uid != malignant.tracking_uid
    assert sizes(benign)["Area", "mm2"] == pytest.approx(25 * 20 * 0.04)
    assert sizes(malignant) == {
        ("Long axis", "mm"): pytest.approx(0.2 * np.hypot(11, 8), abs=0.01),
        ("Short axis", "mm"): pytest.approx(0.2 * 2 * 11 * 8 / np.hypot(11, 8), abs=0.01),
        ("Area", "mm2"): pytest.approx(11 * 8 * 0.04),
        ("Certainty of Finding", "%"): 87.5,
    }
    for group, kind in ((benign, "Benign"), (malignant, "Malignant")):
        (evaluation,) = group.get_qualitative_evaluations()
        assert (evaluation.name.scheme_designator, evaluation.value.meaning) == ("99BCSEG", kind)
        assert group.finding_type.value == "52988006"
        assert [site.value.meaning for site in group.finding_sites] == ["Breast"]


def test_a_group_leads_to_its_frame_of_segmentation_and_source(tmp_path):
    source, path = report(tmp_path, moving_square(4))
    segmentation = highdicom.seg.segread(tmp_path / "segmentation.dcm")
    _, malignant = groups_of(path)
    ((shown, *_), image) = (
        malignant.referenced_segmentation_frame[0].ReferencedSOPSequence,
        malignant.referenced_segmentation_frame[1].ReferencedSOPSequence[0],
    )
    assert shown.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
    assert "ReferencedSegmentNumber" not in shown
    groups = segmentation.PerFrameFunctionalGroupsSequence[shown.ReferencedFrameNumber - 1]
    assert groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 2
    assert groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 4
    assert (image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber) == (source.header.SOPInstanceUID, 4)
    evidence = {uids[2] for uids in highdicom.sr.srread(path).get_evidence()}
    assert evidence == {source.header.SOPInstanceUID, segmentation.SOPInstanceUID}


def test_without_the_size_of_a_pixel_there_is_no_length(tmp_path):
    _, path = report(tmp_path, moving_square(1), tags={})
    assert [sizes(group) for group in groups_of(path)] == [{("Certainty of Finding", "%"): 87.5}] * 2


def test_nothing_found_is_no_report(tmp_path):
    _, path = report(tmp_path, moving_square(2), lambda frame: np.zeros(frame.image.shape, np.uint8))
    assert not path.exists()
    assert (tmp_path / "segmentation.dcm").exists()


def test_the_report_of_an_earlier_run_goes(tmp_path):
    for name in ("measurements.dcm", "segmentation.dcm", "results.jsonl", "cine.dcm"):
        (tmp_path / name).touch()
    remove_earlier_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cine.dcm"]


def texts(dataset):
    return {element.keyword: str(element.value) for element in dataset.iterall() if element.VR not in ("SQ", "OB")}


@pytest.mark.parametrize("deidentify", [False, True])
def test_of_the_patient_only_the_listed_tags_appear(tmp_path, deidentify):
    _, path = report(tmp_path, moving_square(2), deidentify=deidentify)
    written = texts(pydicom.dcmread(path))
    for keyword, value in PATIENT.items():
        if keyword in COPIED.values() and not deidentify:
            assert written[keyword] == value
        else:
            assert written.get(keyword, "") in ("", "None")
            assert len(value) <= 3 or not any(value in text for text in written.values())


def test_no_warning_tells_the_patients_name(tmp_path, recwarn):
    report(tmp_path, moving_square(1), tags={"PatientName": "DOE"})  # one component, which highdicom finds odd
    assert not [warning for warning in recwarn if "DOE" in str(warning.message)]


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_names_keep_their_letters(tmp_path, charset):
    tags = {"SpecificCharacterSet": charset, "PatientName": "Müller^Änne"}
    _, path = report(tmp_path, moving_square(2), tags=tags)
    for written in (path, tmp_path / "segmentation.dcm"):
        assert str(pydicom.dcmread(written).PatientName) == "Müller^Änne"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("count", [1, 3])
def test_a_validator_of_the_standard_finds_no_error(tmp_path, count):
    _, path = report(tmp_path, moving_square(count))
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "ComprehensiveSR" in said.stdout + said.stderr
    assert "Error" not in said.stdout + said.stderr


def lesions_at(*spots):
    """Lesions of (label, x, side), squares side by side."""
    labels = np.zeros((40, 120), np.uint8)
    for label, x, side in spots:
        cv2.rectangle(labels, (x, 5), (x + side - 1, 4 + side), label, -1)
    return find_lesions(Segmentation(labels, np.ones(labels.shape, np.float32)))


def test_links_follow_what_moves_and_end_at_gaps_and_classes():
    links = LesionLinks()
    for index, spots in enumerate([[(1, 10, 10)], [(1, 15, 12), (2, 60, 10)], [(2, 16, 10)], [(1, 15, 10)]]):
        links.add(index, lesions_at(*spots))
    found = [(linked.number, linked.index, linked.lesion.label, linked.latest_index) for linked in links.lesions]
    assert found == [(1, 1, 1, 1), (2, 1, 2, 1), (3, 2, 2, 2), (4, 3, 1, 3)]


@given(st.lists(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 5), st.integers(6, 12)), max_size=4), max_size=6))
def test_every_lesion_belongs_to_one_link(frames):
    links = LesionLinks()
    seen = 0
    for index, spots in enumerate(frames):
        lesions = lesions_at(*((label, 20 * place, side) for label, place, side in spots))
        links.add(index, lesions)
        latest = [linked.latest for linked in links.lesions if linked.latest_index == index]
        assert {id(lesion) for lesion in latest} == {id(lesion) for lesion in lesions}
        seen += len(lesions)
    assert len(links.lesions) <= seen
    assert [linked.number for linked in links.lesions] == list(range(1, len(links.lesions) + 1))
