"""The outputs of `bcseg-edge run` as a user meets them: DICOM, black box, page, de-identification."""

from __future__ import annotations

import json
import subprocess
import urllib.request

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from bcseg_edge.cli import app
from bcseg_edge.frames import Segmentation
from bcseg_edge.models import LoadedModel
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
    assert record["region_xywh"] == [8, 4, 80, 56]


def test_a_study_in_pictures_labels_and_lines_out(model, tmp_path):  # noqa: F811
    pytest.importorskip("pydicom")
    study = tmp_path / "study"
    study.mkdir()
    write_dicom(study / "2.dcm", moving_square(2))
    write_dicom(study / "10.dcm", moving_square(1, size_wh=(80, 48)))
    out, _ = run(model, study, "--output", tmp_path / "out", "--json")
    assert (json.loads(out)["frames"], json.loads(out)["problems"]) == (3, [])
    assert "size of a pixel unknown (2 of 2 files)" in json.loads(out)["source"]
    names = ["2_000000", "2_000001", "10"]
    assert [json.loads(line)["name"] for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()] == names
    for folder in ("labels", "overlay"):
        assert {path.stem for path in (tmp_path / "out" / folder).iterdir()} == set(names)


@pytest.mark.parametrize("options", [("--mask", "0,0,9,9"), ("--crop", "0,0,40,40"), ("--deidentify",)])
def test_what_counts_from_one_files_region_is_refused_for_a_study(model, tmp_path, options):  # noqa: F811
    pytest.importorskip("pydicom")
    for name in ("a.dcm", "b.dcm"):
        write_dicom(tmp_path / name, moving_square(1), SequenceOfUltrasoundRegions=[region(8, 4, 87, 59)])
    _, said = run(model, tmp_path / "*.dcm", *options, expect=2)
    assert "one DICOM file" in said


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


def test_offline_too_all_outside_of_the_crop_is_black(model, tmp_path):  # noqa: F811
    cv2.imwrite(str(tmp_path / "scan.png"), np.full((48, 64), 120, np.uint8))
    outside = np.ones((48, 64), bool)
    outside[4:36, 8:48] = False
    for options, name, shown in ((("--deidentify",), "000000", False), ((), "scan", True)):
        run(model, tmp_path / "scan.png", *options, "--crop", "8,4,40,32", "--output", tmp_path / "out")
        overlay = cv2.imread(str(tmp_path / "out" / "overlay" / f"{name}.png"))
        assert (overlay[outside] == 120).all(-1).any() == shown  # contour and text reach out of the crop
    _, said = run(model, tmp_path / "scan.png", "--deidentify", "--mask", "0,0,9,9", "--crop", "auto", expect=2)
    assert "--crop auto" in said


@pytest.mark.parametrize("option", ["--mask", "--crop"])
def test_what_would_hide_nothing_is_refused(model, tmp_path, option):  # noqa: F811
    cv2.imwrite(str(tmp_path / "scan.png"), np.full((48, 64), 120, np.uint8))
    _, said = run(model, tmp_path / "scan.png", "--deidentify", option, "500,0,16,16", expect=2)
    assert "outside" in said


def test_masks_and_crops_of_a_dicom_file_are_in_px_of_the_stored_image(model, tmp_path):  # noqa: F811
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59)]}  # 80 px wide, 56 high
    white = np.full((1, 64, 96), 255, np.uint8)
    path = write_dicom(tmp_path / "a.dcm", white, **tags)
    run(model, path, "--mask", "8,4,80,10", "--crop", "28,4,40,56", "--output", tmp_path / "out", "--spacing", "0.1")
    (labels,) = (tmp_path / "out" / "labels").glob("*.png")
    found = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
    assert found.any(), "the tiny model marks what is bright"
    assert not found[:10].any()
    assert found[10:, 20:60].all()
    assert not found[:, :20].any()
    _, said = run(model, path, "--mask", "96,0,5,5", expect=2)
    assert "outside a frame of 96x64 px" in said
    _, said = run(model, path, "--crop", "0,0,40,40", expect=2)
    assert "no part of the file's ultrasound region 8,4,80,56" in said


@pytest.mark.parametrize(
    "option",
    [
        ("--display",),
        ("--view", "127.0.0.1:0"),
        ("--view-token", "0123456789abcdef"),
        ("--black-box", "box"),
        ("--smooth", "100"),
        ("--health", "h.json"),
        ("--deadline", "200"),
        ("--reconnect", "3"),
        ("--lanes", "2"),
        ("--in-process",),
        ("--no-track",),
    ],
)
def test_live_options_are_refused_offline(model, option):  # noqa: F811
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
        (("--lanes", "3"), "one lane"),
        (("--precision", "int8"), "int8 was asked for"),
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


def test_a_box_of_blackened_frames_replays_although_the_crop_is_found_on_the_way(model, tmp_path):  # noqa: F811
    source = ("phantom:320x240@30?frames=20", *LIVE[1:], "--max-frames", "180")  # the crop takes 40 results
    run(model, *source, "--black-box", tmp_path / "box", "--crop", "auto", "--deidentify")
    (said, _) = bcseg("replay", tmp_path / "box", "--json")
    outcome = json.loads(said)
    assert outcome["equal"]
    assert 0 < outcome["compared"] < outcome["frames"]


def test_a_run_that_never_finds_the_image_is_black_and_says_so(model, tmp_path):  # noqa: F811
    out, _ = run(
        model, *LIVE, "--max-frames", "10", "--crop", "auto", "--deidentify", "--output", tmp_path / "out", expect=2
    )
    summary = json.loads(out)
    assert summary["crop"] is None
    assert "every frame is black" in summary["problems"][0]


def test_an_output_that_cannot_be_opened_leaves_what_an_earlier_run_wrote(model, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    run(model, *LIVE, "--output", out)
    (tmp_path / "file").touch()
    before = {path.name for path in out.rglob("*")}
    run(model, *LIVE, "--output", out, "--health", tmp_path / "file" / "health.json", expect=2)
    assert {path.name for path in out.rglob("*")} == before
    run(model, "phantom:64x48@30?frames=2", "--output", out, "--crop", "1,2,3", expect=2)
    assert {path.name for path in out.rglob("*")} == before
    run(model, *LIVE, "--output", out, "--black-box", tmp_path / "file", expect=2)
    assert {path.name for path in out.rglob("*")} == before


def test_run_closes_the_frame_path_before_its_model(model, monkeypatch):  # noqa: F811
    closed = []

    class FramePath:
        def __call__(self, frame):
            return Segmentation(np.zeros(frame.shape[:2], np.uint8), np.ones(frame.shape[:2], np.float32))

        def stream(self, frames):
            return map(self, frames)

        def close(self):
            closed.append("path")

    close = LoadedModel.close
    monkeypatch.setattr(LoadedModel, "open_frame_path", lambda model, tiling: FramePath())
    monkeypatch.setattr(LoadedModel, "close", lambda model: (closed.append("model"), close(model)))
    source = "phantom:64x48@30?frames=2"
    result = CliRunner().invoke(app, ["run", source, "--model", model, "--backend", "onnxruntime"])
    assert result.exit_code == 0, result.output
    assert closed[:2] == ["path", "model"]


def test_brackets_in_names_are_no_markup(model, tmp_path):  # noqa: F811
    folder = tmp_path / "in[run]"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((48, 64), 120, np.uint8))
    said, _ = run(model, folder, "--output", tmp_path / "out[bold]")
    assert "in[run]" in said.replace("\n", "")
    assert "out[bold]" in "".join(said.split())


def test_a_damaged_video_played_live_exits_2(model, tmp_path):  # noqa: F811
    path = tmp_path / "cine.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for number in range(40):
        writer.write(np.full((48, 64, 3), 5 * number, np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, told = run(model, path, "--json", expect=2)
    _, said = run(model, path, "--live", "--in-process", "--json", expect=2)
    assert "frames could be read" in told
    assert "frames could be read" in said


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
