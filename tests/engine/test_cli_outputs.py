"""The outputs of `bcseg-edge run` as a user meets them: DICOM, black box, page, de-identification."""

from __future__ import annotations

import json
import subprocess
import urllib.request

import cv2
import numpy as np
import pytest

from tests.engine.test_cli import ENVIRONMENT, bcseg, command, model, run  # noqa: F401  (a fixture)
from tests.fixtures.dicom_files import PATIENT, moving_square, region, write_dicom

LIVE = ("phantom:64x48@30?frames=20", "--live", "--in-process", "--max-frames", "60", "--deadline", "5000", "--json")


def texts(folder):
    """All that was written, as one string of bytes."""
    return b"".join(path.read_bytes() + path.name.encode() for path in folder.rglob("*") if path.is_file())


def test_dicom_in_dicom_segmentation_out(model, tmp_path):  # noqa: F811
    highdicom = pytest.importorskip("highdicom")
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59)]}
    path = write_dicom(tmp_path / "cine.dcm", moving_square(5), **tags)
    out, _ = run(model, path, "--output", tmp_path / "out", "--json")
    assert json.loads(out)["frames"] == 5
    read = highdicom.seg.segread(tmp_path / "out" / "segmentation.dcm")
    assert read.get_segment_description(1).algorithm_identification.name == "bcseg-edge tiny"
    record = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert record["spacing_mm"] == [0.2, 0.2]
    assert record["size_hw"] == [56, 80]


def test_nothing_of_the_patient_is_written_when_deidentified(model, tmp_path):  # noqa: F811
    pytest.importorskip("highdicom")
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59)]}
    path = write_dicom(tmp_path / "Doe^Jane.dcm", moving_square(1), **tags)
    run(model, path, "--output", tmp_path / "out", "--deidentify")
    written = texts(tmp_path / "out")
    assert (tmp_path / "out" / "segmentation.dcm").is_file()
    for value in PATIENT.values():
        assert len(value) < 4 or value.encode() not in written


def test_deidentify_wants_to_know_where_the_image_lies(model, tmp_path):  # noqa: F811
    cv2.imwrite(str(tmp_path / "scan.png"), np.full((48, 64), 120, np.uint8))
    _, said = run(model, tmp_path / "scan.png", "--deidentify", expect=2)
    assert "where the ultrasound image lies" in said
    run(model, tmp_path / "scan.png", "--deidentify", "--mask", "0,0,64,20", "--output", tmp_path / "out")
    overlay = cv2.imread(str(tmp_path / "out" / "overlay" / "000000.png"))
    labels = cv2.imread(str(tmp_path / "out" / "labels" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert not labels[:20].any()
    assert labels[20:].all()
    assert overlay[2:18, 40:].max() < 60  # nothing but the contour's and the label's edges may reach in


@pytest.mark.parametrize(
    "option", [("--display",), ("--view", "127.0.0.1:0"), ("--black-box", "box"), ("--smooth", "100")]
)
def test_live_outputs_are_refused_offline(model, option):  # noqa: F811
    _, said = run(model, "phantom:64x48@30?frames=2", *option, expect=2)
    assert f"{option[0]} is for live sources" in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--view", "0.0.0.0:0"), "reached from the network"),
        (("--view", "nonsense"), "not HOST:PORT"),
        (("--smooth", "-1"), "--smooth"),
        (("--black-box", "box", "--black-box-seconds", "0"), "keeps nothing"),
        (("--deidentify",), "where the ultrasound image lies"),
        (("--mask", "1,2"), "--mask"),
    ],
)
def test_options_that_make_no_sense_are_refused(model, tmp_path, monkeypatch, options, reason):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    _, said = run(model, *LIVE, *options, expect=2)
    assert reason in said
    assert said.splitlines()[-1].startswith("hint: ")


def test_a_live_run_leaves_files_and_a_box_that_replays(model, tmp_path):  # noqa: F811
    arguments = ("--output", tmp_path / "out", "--black-box", tmp_path / "box", "--crop", "8,4,40,32", "--deidentify")
    summary = json.loads(run(model, *LIVE, *arguments)[0])
    assert summary["problems"] == []
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(records) == sum(summary["validities"].values())
    assert {record["validity"] for record in records} <= {"ok", "frozen", "stale", "blank", "lost"}
    with_lesions = next(record for record in records if record["lesions"])
    assert with_lesions["crop_xywh"] == [8, 4, 40, 32]
    assert with_lesions["lesions"][0]["track_id"] >= 1
    said, _ = bcseg("replay", tmp_path / "box")
    assert "bit for bit equal" in said
    from bcseg_edge.live.blackbox import find_runs, read_records

    image = next(read_records(find_runs(tmp_path / "box")[0])).image
    assert image[4:36, 8:48].any()
    assert not image[:4].any()
    assert not image[:, 48:].any()


def test_the_page_is_served_while_it_runs(model):  # noqa: F811
    pytest.importorskip("uvicorn")
    arguments = [*LIVE, "--model", model, "--backend", "onnxruntime", "--view", "127.0.0.1:0"]
    arguments[arguments.index("60")] = "1000000"
    process = subprocess.Popen(
        command("run", *arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = ""
        while not address:
            line = process.stderr.readline()
            assert line, "it ended before the page was served"
            address = line.partition("page: ")[2].strip()
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"bcseg-edge live" in answer.read()
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode in (143, -15)


def test_a_view_without_its_packages_says_which_extra(model):  # noqa: F811
    blocked = "import sys; sys.modules['uvicorn'] = None; from bcseg_edge.cli import main; main()"
    arguments = ("--model", model, "--backend", "onnxruntime", "--view", "127.0.0.1:0")
    _, said = bcseg("run", *LIVE, *arguments, code=blocked, expect=2)
    assert 'pip install "bcseg-edge[web]"' in said
