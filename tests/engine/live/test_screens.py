"""Window, freeze, snapshots: what the person sees and presses, without a window."""

from __future__ import annotations

import dataclasses
import json
import threading
import time

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import BackendUnavailable
from bcseg_edge.frames import BENIGN
from bcseg_edge.live.display import DisplaySink, Keys, render, require_windows, state_of
from bcseg_edge.live.results import Controls, Validity
from bcseg_edge.live.shown import Shown
from bcseg_edge.live.snapshots import SnapshotSink
from tests.fixtures.live_results import health, square

NO_MASK = [Validity.BLANK, Validity.STALE, Validity.LOST]


class Recorder:
    def __init__(self):
        self.results, self.healths, self.closed = [], [], 0

    def write(self, result):
        self.results.append(result)

    def update(self, health):
        self.healths.append(health)

    def close(self):
        self.closed += 1


class FakeScreen:
    """Shows to a list; its keys come from a list."""

    def __init__(self):
        self.pictures, self.keys, self.open, self.closed = [], [], True, False
        self.threads = set()

    def show(self, picture):
        self.pictures.append(picture)
        self.threads.add(threading.get_ident())

    def key(self):
        time.sleep(0.002)
        return self.keys.pop(0) if self.keys else ""

    def is_open(self):
        return self.open

    def close(self):
        self.closed = True


def wait_until(condition, timeout_s=30):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def coloured(picture):
    """Pixels of a picture that are not grey."""
    return int(np.count_nonzero(picture.max(-1).astype(int) - picture.min(-1) > 40))


def test_a_freeze_holds_one_result_for_all_screens():
    controls, screens = Controls(), [Recorder(), Recorder()]
    shown = Shown(screens, controls)
    shown.write(square(0))
    controls.freeze.set()
    for index in range(1, 5):
        shown.write(square(index))
    controls.freeze.clear()
    shown.write(square(5))
    shown.update(health())
    shown.close()
    for screen in screens:
        assert [result.frame.index for result in screen.results] == [0, 0, 0, 0, 0, 5]
        assert len(screen.healths) == screen.closed == 1


def test_a_freeze_before_the_first_result_holds_the_first():
    controls, screen = Controls(), Recorder()
    controls.freeze.set()
    shown = Shown([screen], controls)
    for index in range(3):
        shown.write(square(index))
    assert [result.frame.index for result in screen.results] == [0, 0, 0]


def test_a_snapshot_is_what_is_shown(tmp_path):
    controls = Controls()
    snapshots = SnapshotSink(tmp_path / "snapshots", controls)
    shown = Shown([snapshots], controls)
    shown.write(square(0, track_ids=(3,)))
    controls.freeze.set()
    controls.snapshot.set()
    for index in range(1, 10):
        shown.write(square(index))
    shown.close()
    assert not controls.snapshot.is_set()
    assert snapshots.count == 1
    assert snapshots.problems == []
    overlay, record, image = sorted(
        (tmp_path / "snapshots").iterdir(), key=lambda path: ("overlay" not in path.name, path.suffix)
    )
    assert record.stem.endswith("-000000")
    assert json.loads(record.read_text())["lesions"][0]["track_id"] == 3
    np.testing.assert_array_equal(cv2.imread(str(image), cv2.IMREAD_UNCHANGED), square(0).frame.image)
    assert coloured(cv2.imread(str(overlay))) > 0


def test_a_source_that_pauses_can_be_frozen_and_goes_on_with_its_newest():
    controls, screen = Controls(), Recorder()
    shown = Shown([screen], controls)
    shown.update(health())
    shown.write(square(0))
    controls.freeze.set()
    shown.update(health())  # the freeze is answered
    shown.update(health())
    shown.write(square(1))
    controls.freeze.clear()
    shown.update(health())
    assert [result.frame.index for result in screen.results] == [0, 0, 0, 1]


def test_a_snapshot_is_of_what_was_on_the_screen_when_it_was_asked_for(tmp_path):
    controls = Controls()
    snapshots = SnapshotSink(tmp_path, controls)
    controls.snapshot.set()
    snapshots.update(health())
    assert controls.snapshot.is_set()  # nothing was shown yet
    snapshots.write(square(0))
    controls.snapshot.set()
    snapshots.write(square(1))  # came after the press
    controls.snapshot.set()
    snapshots.update(health())  # nothing comes
    snapshots.close()
    assert not controls.snapshot.is_set()
    assert sorted(path.stem[-6:] for path in tmp_path.glob("*.json")) == ["000000", "000000", "000001"]


def test_a_snapshot_without_a_mask_has_no_overlay(tmp_path):
    controls = Controls()
    snapshots = SnapshotSink(tmp_path, controls)
    controls.snapshot.set()
    snapshots.write(square(validity=Validity.STALE))
    snapshots.close()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".png"]


@pytest.mark.parametrize("validity", Validity)
@pytest.mark.parametrize("size_wh", [(64, 48), (640, 480), (1920, 1080)])
def test_a_picture_has_a_mask_only_where_it_is_valid(validity, size_wh):
    result = square(validity=validity, size_wh=size_wh)
    picture = render(result, state_of(result, held=False, waited_s=0), 1.0)
    image = picture[-size_wh[1] :]
    assert picture.shape[1] == size_wh[0]
    assert picture.shape[0] > size_wh[1]
    assert (coloured(image) > 0) is (validity not in NO_MASK)
    assert not coloured(render(result, validity.value, None)[-size_wh[1] :])


def test_what_is_segmented_is_outlined():
    result = dataclasses.replace(square(), crop_xywh=(1, 2, 60, 44))
    without, picture = (render(shown, "ok", 0.0)[-48:] for shown in (square(), result))
    outline = np.zeros((48, 64), np.uint8)
    outline[2:46, 1:61] = 1
    outline[3:45, 2:60] = 0
    np.testing.assert_array_equal((picture != without).any(axis=2), outline)


def test_a_loop_that_stands_still_shows_no_mask():
    result = square()
    assert state_of(result, held=False, waited_s=2) == "stalled"
    assert state_of(result, held=True, waited_s=0) == "held"
    assert state_of(square(validity=Validity.LOST), held=True, waited_s=9) == "lost"
    assert not coloured(render(result, "stalled", 1.0)[-48:])


def test_keys():
    controls = Controls()
    keys = Keys(controls)
    for key in ("f", "s", "o", "+", "x", ""):
        keys.press(key)
    assert controls.freeze.is_set()
    assert controls.snapshot.is_set()
    assert not controls.quit.is_set()
    assert (keys.overlay, keys.opacity) == (False, pytest.approx(0.3))
    for _ in range(50):
        keys.press("-")
    assert keys.opacity == 0
    keys.press("f")
    assert not controls.freeze.is_set()
    keys.press("\x1b")
    assert controls.quit.is_set()


def test_the_window_is_used_from_one_thread_and_closing_it_quits():
    controls, screen = Controls(), FakeScreen()
    display = DisplaySink(controls, lambda: screen)
    display.write(square())
    wait_until(lambda: screen.pictures)
    shown = len(screen.pictures)
    display.write(square(1, label=BENIGN))
    wait_until(lambda: len(screen.pictures) > shown)
    screen.keys += ["f"]
    wait_until(controls.freeze.is_set)
    assert not controls.quit.is_set()
    screen.open = False
    wait_until(controls.quit.is_set)
    display.close()
    display.close()
    assert screen.closed
    assert threading.get_ident() not in screen.threads
    assert len(screen.threads) == 1


@pytest.mark.parametrize("why", ["lossless", "held", "neither"])
def test_the_window_keeps_what_does_not_grow_old_as_long_as_the_loop_goes_on(monkeypatch, why):
    monkeypatch.setattr("bcseg_edge.live.display.STALLED_S", 0.1)
    controls, screen = Controls(), FakeScreen()
    if why == "held":
        controls.freeze.set()
    display = DisplaySink(controls, lambda: screen, lossless=why == "lossless")
    result = square()
    display.write(result)
    wait_until(lambda: screen.pictures)
    time.sleep(0.4)
    display.write(result)  # shown again, it is as old as it was
    display.update(health())
    time.sleep(0.2)
    assert (coloured(screen.pictures[-1][-48:]) > 0) is (why != "neither")
    monkeypatch.setattr("bcseg_edge.live.display.SILENT_S", 0.1)
    wait_until(lambda: not coloured(screen.pictures[-1][-48:]))
    display.close()


def test_the_same_picture_is_not_drawn_again():
    screen = FakeScreen()
    display = DisplaySink(Controls(), lambda: screen)
    display.write(square())
    wait_until(lambda: screen.pictures)
    time.sleep(0.1)
    display.close()
    assert len(screen.pictures) <= 2  # the second where the machine was so slow that it counts as standing still


def test_a_window_that_cannot_be_opened_is_a_problem_and_no_crash():
    def broken():
        raise cv2.error("no window")

    display = DisplaySink(Controls(), broken)
    wait_until(lambda: display.problems)
    display.write(square())
    display.close()
    assert "could not be opened" in display.problems[0]


def test_an_opencv_without_windows_is_an_error_with_a_way_out(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:   NONE\n")
    with pytest.raises(BackendUnavailable, match="without them") as caught:
        require_windows()
    assert "--view" in caught.value.hint
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:   QT5\n")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(BackendUnavailable, match="no screen"):
        require_windows()
    monkeypatch.setenv("DISPLAY", ":0")
    require_windows()
