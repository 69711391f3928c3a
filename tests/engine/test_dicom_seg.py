"""DICOM Segmentation: the labels come back, it refers to its source, and only listed tags leave that source."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from bcseg_edge.errors import DataError
from bcseg_edge.frames import Segmentation
from bcseg_edge.sinks.dicom_text import COPIED, SegmentationFacts
from bcseg_edge.sources import open_source
from tests.fixtures.dicom_files import PATIENT, moving_square, region, write_dicom

highdicom = pytest.importorskip("highdicom", reason="writes DICOM Segmentation")
pydicom = pytest.importorskip("pydicom")

from bcseg_edge.sinks.dicom_seg import DicomSegSink  # noqa: E402

FACTS = SegmentationFacts("edge", "ab" * 32, "0.1.0")


def segment_all(folder, frames, *, empty=(), tags=None, deidentify=False):
    """Write a cine and its segmentation; returns (source, labels of each frame, path of the segmentation)."""
    source = open_source(str(write_dicom(folder / "cine.dcm", frames, **(tags or {}))))
    path = folder / "out" / "segmentation.dcm"
    sink = DicomSegSink(path, source, FACTS, deidentify)
    found = []
    for frame in source:
        labels = np.zeros(frame.image.shape, np.uint8)
        if frame.index not in empty:
            labels[frame.image > 100] = 1 + frame.index % 2
            labels[:3, :3] = 2
        found.append(labels)
        sink.write(frame, Segmentation(labels, np.ones(labels.shape, np.float32)), [])
    assert not path.exists()
    sink.close()
    sink.close()
    return source, found, path


@pytest.mark.parametrize("size_wh", [(96, 64), (97, 63)], ids=["whole bytes", "bits across frames"])
def test_labels_come_back_in_the_place_of_the_crop(tmp_path, size_wh):
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59)]}
    source, found, path = segment_all(tmp_path, moving_square(6, size_wh), empty=(3,), tags=tags)
    read = highdicom.seg.segread(path)
    pixels = read.get_pixels_by_source_frame(
        source.header.SOPInstanceUID, range(1, 7), combine_segments=True, assert_missing_frames_are_empty=True
    )
    for whole, labels in zip(pixels, found, strict=True):
        np.testing.assert_array_equal(whole[4:60, 8:88], labels)
        assert whole.sum() == labels.sum()


def test_what_it_says_of_itself(tmp_path):
    source, _, path = segment_all(tmp_path, moving_square(3))
    read = highdicom.seg.segread(path)
    assert read.Modality == "SEG"
    assert read.StudyInstanceUID == source.header.StudyInstanceUID
    assert read.SeriesInstanceUID != source.header.SeriesInstanceUID
    instance = read.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert instance.ReferencedSOPInstanceUID == source.header.SOPInstanceUID
    for number, modifier in ((1, ("30807003", "Benign")), (2, ("21594007", "Malignant"))):
        description = read.get_segment_description(number)
        assert description.segmented_property_type.value == "52988006"
        item = description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
        assert (item.CodeValue, item.CodeMeaning, item.CodingSchemeDesignator) == (*modifier, "SCT")
        assert description.anatomic_regions[0].meaning == "Breast"
        algorithm = description.algorithm_identification
        assert (algorithm.name, algorithm.version) == ("bcseg-edge edge", "0.1.0")
        assert algorithm.parameters == {"model_sha256": FACTS.model_sha256}


def test_a_still_image_needs_no_frame_numbers(tmp_path):
    source, found, path = segment_all(tmp_path, moving_square(1))
    read = highdicom.seg.segread(path)
    pixels = read.get_pixels_by_source_instance([source.header.SOPInstanceUID], combine_segments=True)
    np.testing.assert_array_equal(pixels[0], found[0])


def test_nothing_found_is_said_with_empty_frames(tmp_path):
    _, _, path = segment_all(tmp_path, moving_square(3), empty=range(3))
    read = pydicom.dcmread(path)
    assert read.NumberOfFrames == 2
    assert not read.pixel_array.any()


def texts(dataset):
    """(keyword, text) of every element at any depth."""
    for element in dataset.iterall():
        if element.VR not in ("SQ", "OB", "OW"):
            yield element.keyword, str(element.value)


def test_of_the_patient_only_the_listed_tags_appear(tmp_path):
    _, _, path = segment_all(tmp_path, moving_square(2))
    written = dict(texts(pydicom.dcmread(path)))
    for keyword, value in PATIENT.items():
        if keyword in COPIED.values():
            assert written[keyword] == value
        else:
            assert keyword not in written
            assert not any(value in text for text in written.values())


def test_nothing_of_the_patient_appears_when_deidentified(tmp_path):
    _, _, path = segment_all(tmp_path, moving_square(2), deidentify=True)
    raw = path.read_bytes()
    for keyword, value in PATIENT.items():
        if len(value) > 3:  # a short one could stand anywhere by chance
            assert value.encode() not in raw, keyword
    read = pydicom.dcmread(path)
    assert not any(read.get(keyword) for keyword in COPIED.values())


def test_a_source_that_cannot_be_referred_to_is_refused(tmp_path):
    source = open_source(str(write_dicom(tmp_path / "a.dcm", moving_square(2), StudyInstanceUID=None)))
    with pytest.raises(DataError, match="no StudyInstanceUID"):
        DicomSegSink(tmp_path / "seg.dcm", source, FACTS)


def test_without_a_frame_there_is_no_file(tmp_path):
    source = open_source(str(write_dicom(tmp_path / "a.dcm", moving_square(2))))
    DicomSegSink(tmp_path / "out" / "seg.dcm", source, FACTS).close()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("count", [1, 3])
def test_a_validator_of_the_standard_finds_no_error(tmp_path, count):
    _, _, path = segment_all(tmp_path, moving_square(count))
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Segmentation" in said.stdout + said.stderr
    assert "Error" not in said.stdout + said.stderr
