"""What a run leaves on disk: whole files with their final names, or none."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import DataError
from bcseg_edge.frames import BENIGN, Frame, Segmentation, Timings
from bcseg_edge.lesions import find_lesions
from bcseg_edge.sinks import (
    JsonLinesSink,
    OverlayVideoSink,
    PngSink,
    label_picture,
    open_sinks,
    overlay_picture,
)


def result(index=0, size_wh=(64, 48), name=None):
    """A frame with one benign square, its segmentation and its lesions."""
    image = np.full(size_wh[::-1], 80, np.uint8)
    labels = np.zeros_like(image)
    labels[10:30, 20:40] = BENIGN
    frame = Frame(image, index, 123456789, (0.1, 0.2), name or f"{index:06d}")
    segmentation = Segmentation(labels, np.full(labels.shape, 0.9, np.float32), Timings(0.1, 2.0, 0.3), 6, 2)
    return frame, segmentation, find_lesions(segmentation, frame.spacing_mm)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def test_labels_are_the_classes(tmp_path):
    sink = PngSink(tmp_path / "labels", label_picture)
    frame, segmentation, lesions = result(name="malignant (1)")
    sink.write(frame, segmentation, lesions)
    sink.close()
    assert files(tmp_path) == ["labels/malignant (1).png"]
    read = cv2.imread(str(tmp_path / "labels" / "malignant (1).png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, segmentation.labels)


def test_overlay_images(tmp_path):
    sink = PngSink(tmp_path, overlay_picture)
    sink.write(*result(name="a"))
    sink.close()
    assert cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).shape == (48, 64, 3)


@pytest.fixture(params=["av", "opencv"])
def encoder(request, monkeypatch):
    """Both ways to encode a video."""
    if request.param == "av":
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    return request.param


@pytest.mark.parametrize("size_wh", [(64, 48), (65, 49), (16, 16)])
def test_overlay_video_is_readable_again(tmp_path, size_wh, encoder):
    path = tmp_path / "overlay.mp4"
    sink = OverlayVideoSink(path, 12.5)
    for index in range(7):
        sink.write(*result(index, (max(size_wh[0], 42), max(size_wh[1], 32))))
        assert not path.exists()
    sink.close()
    sink.close()
    assert files(tmp_path) == ["overlay.mp4"]
    assert count_frames(path) == 7
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


def test_a_video_is_h264_and_keeps_its_time_over_frames_that_were_dropped(tmp_path):
    av = pytest.importorskip("av")
    sink = OverlayVideoSink(tmp_path / "overlay.mp4", 10)
    for index in (100, 101, 105, 106):
        sink.write(*result(index))
    sink.close()
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        times_s = [frame.time for frame in container.decode(stream)]
    assert times_s == pytest.approx([0, 0.1, 0.5, 0.6])


def test_video_without_a_frame_leaves_nothing(tmp_path):
    OverlayVideoSink(tmp_path / "overlay.mp4", 30).close()
    assert files(tmp_path) == []


def test_video_refuses_a_change_of_size_and_keeps_what_it_has(tmp_path):
    sink = OverlayVideoSink(tmp_path / "overlay.mp4", 30)
    sink.write(*result(0))
    with pytest.raises(DataError, match="66x48 px, the video 64x48"):
        sink.write(*result(1, (66, 48)))
    sink.close()
    assert count_frames(tmp_path / "overlay.mp4") == 1


def test_an_unfinished_video_never_gets_the_final_name(tmp_path, monkeypatch):
    (tmp_path / "overlay.mp4").write_bytes(b"an earlier run")
    sink = OverlayVideoSink(tmp_path / "overlay.mp4", 30)
    sink.write(*result(0))
    monkeypatch.setattr("bcseg_edge.sinks.overlay._readable", lambda path: False)
    with pytest.raises(DataError, match="could not be written whole"):
        sink.close()
    assert files(tmp_path) == ["overlay.mp4"]
    assert (tmp_path / "overlay.mp4").read_bytes() == b"an earlier run"


def test_json_lines_follow_the_schema(tmp_path):
    path = tmp_path / "results.jsonl"
    sink = JsonLinesSink(path)
    for index in range(3):
        sink.write(*result(index))
        assert not path.exists()
    sink.close()
    sink.close()
    assert files(tmp_path) == ["results.jsonl"]
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    _, _, lesions = result()
    assert records[1] == {
        "version": 1,
        "index": 1,
        "name": "000001",
        "captured_ns": 123456789,
        "size_hw": [48, 64],
        "region_xywh": None,
        "spacing_mm": [0.1, 0.2],
        "lesions": [lesion.to_dict() for lesion in lesions],
        "timings_ms": {"split": 0.1, "network": 2.0, "stitch": 0.3},
        "patches": 6,
        "patches_reused": 2,
    }
    assert records[1]["lesions"][0]["area_mm2"] == pytest.approx(400 * 0.02)


def test_a_rerun_leaves_nothing_of_a_longer_earlier_run_and_all_that_is_not_its_own(tmp_path):
    for count in (5, 2):
        sinks = open_sinks(tmp_path, None)
        for index in range(count):
            for sink in sinks:
                sink.write(*result(index))
        for sink in sinks:
            sink.close()
        (tmp_path / "labels" / "mine.png").touch()
    labels = ["labels/000000.png", "labels/000001.png", "labels/mine.png"]
    assert files(tmp_path) == [*labels, "overlay/000000.png", "overlay/000001.png", "results.jsonl"]


def test_a_rerun_removes_what_a_killed_run_left(tmp_path):
    sinks = open_sinks(tmp_path, 30)
    for index in range(3):
        for sink in sinks:
            sink.write(*result(index))
    left = files(tmp_path)  # as a kill leaves it: nothing was closed
    assert "labels/000002.png" in left
    for sink in open_sinks(tmp_path, 30):
        sink.close()
    assert [name for name in files(tmp_path) if not name.startswith(".")] == ["results.jsonl"]


@pytest.mark.parametrize(
    "line", ['{"name": "../precious"}', '{"name": 3}', "[1]", '{"name": ""}', "\xff not json", "null"]
)
def test_results_that_are_not_ours_remove_nothing(tmp_path, line):
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "precious.png").touch()
    (tmp_path / "out" / "results.jsonl").write_text(line)
    open_sinks(tmp_path / "out", None)[-1].close()
    assert (tmp_path / "out" / "precious.png").exists()


def test_a_full_disk_is_an_error_of_ours(tmp_path, monkeypatch):
    def full(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    sink = JsonLinesSink(tmp_path / "results.jsonl")
    monkeypatch.setattr(sink, "_stream", SimpleNamespace(write=full))
    with pytest.raises(DataError, match=r"results\.jsonl: No space left"):
        sink.write(*result())


@pytest.mark.parametrize(("frame_hz", "overlay"), [(None, "overlay/000000.png"), (30.0, "overlay.mp4")])
def test_files_of_a_run(tmp_path, frame_hz, overlay):
    sinks = open_sinks(tmp_path / "new" / "out", frame_hz)
    for sink in sinks:
        sink.write(*result())
        sink.close()
    assert files(tmp_path / "new" / "out") == ["labels/000000.png", overlay, "results.jsonl"]


@pytest.mark.parametrize("frame_hz", [None, 30.0])
def test_an_unwritable_folder_is_refused_at_once(tmp_path, frame_hz):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(DataError, match="cannot write to the output folder"):
        open_sinks(blocker / "out", frame_hz)
    assert files(tmp_path) == ["file"]
