"""The live loop, in one thread and in the time of a clock that is told: every kind of frame and every kind of fault."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcseg_edge.cli.run_outputs import _blackener
from bcseg_edge.crop import Crop
from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Frame
from bcseg_edge.live.backend import BackendDown, InProcessBackend
from bcseg_edge.live.capture import Reconnect
from bcseg_edge.live.crop import AutoCrop
from bcseg_edge.live.ledger import imbalance
from bcseg_edge.live.loop import ATTEMPTS, LiveLoop, LiveOptions
from bcseg_edge.live.results import Controls, Validity
from bcseg_edge.sources.live import END, Read, Status
from tests.fixtures.live import (
    BROKEN,
    GONE,
    NOTHING,
    Clock,
    MemorySink,
    ReadOff,
    Script,
    drive,
    labels_of,
    make_loop,
    scan,
    step,
)

BLACK = np.zeros((48, 64), np.uint8)
BLUE = np.zeros((48, 64, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
FAILURE = BcsegError("the backend failed", "")


def counts(loop):
    found = loop.ledger.counts()
    assert imbalance(found) == ""
    return found


def test_each_new_image_is_segmented_once_and_shown_with_its_own_mask():
    loop, clock, sink, _, backend = make_loop([scan(number) for number in range(9)])
    drive(loop, clock)
    assert sink.validities == ["ok"] * 9
    assert [result.frame.index for result in sink.results] == list(range(9))
    assert backend.calls == 9
    for result in sink.results:
        np.testing.assert_array_equal(result.segmentation.labels, labels_of(result.frame.image))
        assert len(result.lesions) == 1
        assert set(result.stages_ms) == {"wait", "split", "network", "stitch", "lesions"}


def test_a_frozen_image_costs_nothing_and_keeps_its_result():
    loop, clock, sink, _, backend = make_loop([scan(1), scan(1), scan(1), scan(2), scan(1)])
    drive(loop, clock)
    assert sink.validities == ["ok", "frozen", "frozen", "ok", "ok"]
    assert backend.calls == 3
    assert sink.results[1].segmentation is sink.results[0].segmentation
    assert sink.results[1].frame.index == 1
    assert counts(loop).reused == 2


def test_patches_that_needed_no_computing_are_counted():
    loop, clock, _, _, backend = make_loop([scan(1), scan(1), scan(2)])
    segment = backend.segment
    backend.segment = lambda image: dataclasses.replace(segment(image), patches=6, patches_reused=4)
    drive(loop, clock)
    health = loop.health()
    assert (health.patches, health.patches_reused) == (12, 8)  # the frozen frame has none


def test_one_changed_pixel_is_another_image():
    other = scan(1)
    other[47, 63] ^= 1
    loop, clock, sink, _, _ = make_loop([scan(1), other])
    drive(loop, clock)
    assert sink.validities == ["ok", "ok"]


@pytest.mark.parametrize("blank", [BLACK, BLUE, BLACK + 7, np.full((48, 64), 128, np.uint8)])
def test_a_frame_without_an_image_is_not_segmented(blank):
    loop, clock, sink, _, backend = make_loop([scan(1), blank, scan(1)])
    drive(loop, clock)
    assert sink.validities == ["ok", "blank", "frozen"]
    assert sink.results[1].segmentation is None
    assert not sink.results[1].lesions
    assert backend.calls == 1


def test_a_result_older_than_the_deadline_is_not_shown():
    clock = Clock()
    backend = ReadOff(clock, takes_ms=150)
    loop, clock, sink, _, _ = make_loop(
        [scan(1), scan(2)], clock=clock, backend=backend, options=LiveOptions(deadline_ms=100)
    )
    drive(loop, clock)
    assert sink.validities == ["stale", "stale"]
    assert all(result.segmentation is None for result in sink.results)
    found = counts(loop)
    assert (found.segmented, found.late, found.shown) == (2, 2, 0)


def test_shown_results_are_younger_than_the_deadline_and_say_how_old():
    clock = Clock()
    loop, clock, sink, _, _ = make_loop([scan(1)], clock=clock, backend=ReadOff(clock, takes_ms=40))
    drive(loop, clock)
    assert sink.results[0].age_ms == pytest.approx(40)


def test_a_failing_backend_costs_its_frames_and_no_more():
    backend = ReadOff()
    backend.failures = [None, FAILURE, FAILURE, None]
    loop, clock, sink, _, _ = make_loop([scan(number) for number in range(4)], backend=backend)
    drive(loop, clock)
    assert sink.validities == ["ok", "stale", "stale", "ok"]
    assert counts(loop).failed == 2


def test_any_exception_of_a_backend_is_a_failed_frame():
    def explode(image):
        raise ZeroDivisionError("inside a library")

    loop, clock, _sink, _, _ = make_loop([scan(1), scan(2)], backend=InProcessBackend(explode))
    drive(loop, clock)
    assert counts(loop).failed == 2
    assert "inside a library" in loop.health().reason
    assert loop.health().state == "degraded"


def test_a_failed_frame_is_not_remembered_as_known():
    backend = ReadOff()
    backend.failures = [FAILURE]
    loop, clock, sink, _, _ = make_loop([scan(1), scan(1)], backend=backend)
    drive(loop, clock)
    assert sink.validities == ["stale", "ok"]


def test_unplugged_and_plugged_in_again():
    steps = [scan(1), BROKEN, scan(2)]
    loop, clock, sink, source, _ = make_loop(steps, opens=[GONE, GONE, GONE])
    drive(loop, clock)
    assert sink.validities == ["ok", "lost", "ok"]
    assert sink.results[1].segmentation is None
    np.testing.assert_array_equal(sink.results[1].frame.image, scan(1))
    assert source.opened == 4
    assert loop.health().source_restarts == 1


def test_attempts_to_reconnect_become_rarer():
    waits = []
    loop, clock, _, _, _ = make_loop([scan(1), BROKEN], opens=[GONE] * 9, options=LiveOptions())
    clock_waits = lambda seconds: (waits.append(seconds), clock.tick(seconds * 1e3))  # noqa: E731
    loop.capture.step()
    loop.capture._wait = clock_waits
    for _ in range(10):
        loop.capture.step()
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8]


def test_a_source_that_connects_and_gives_nothing_is_asked_ever_more_rarely():
    waits = []
    loop, _, _, _, _ = make_loop([BROKEN] * 9)
    loop.capture._wait = waits.append
    for _ in range(10):
        loop.capture.step()
    assert waits == sorted(set(waits))


def test_a_source_that_stays_away_is_given_up():
    options = LiveOptions(reconnect=Reconnect(give_up_s=20))
    loop, clock, sink, _source, _ = make_loop([scan(1), BROKEN], opens=[GONE] * 99, options=options)
    drive(loop, clock)
    assert loop.capture.state == "gave_up"
    assert "nobody there" in loop.capture.reason
    assert 20 < (clock() - sink.results[0].frame.captured_ns) / 1e9 < 40


def test_a_source_that_connects_and_gives_nothing_is_given_up_too():
    options = LiveOptions(reconnect=Reconnect(give_up_s=20))
    loop, clock, sink, source, _ = make_loop([scan(1), *[BROKEN] * 99], options=options)
    drive(loop, clock)
    assert loop.capture.state == "gave_up"
    assert 1 < source.opened < 10
    assert 20 < (clock() - sink.results[0].frame.captured_ns) / 1e9 < 40


def test_a_quiet_folder_that_goes_away_is_waited_for():
    def an_hour_later():
        clock.tick(3.6e6)
        return NOTHING

    options = LiveOptions(reconnect=Reconnect(give_up_s=20))
    steps = [scan(1), an_hour_later, BROKEN, scan(2)]
    loop, clock, sink, _, _ = make_loop(steps, opens=[GONE], options=options, frame_hz=None, lossless=True)
    drive(loop, clock)
    assert [sink.validities[0], sink.validities[-1]] == ["ok", "ok"]
    assert loop.capture.restarts == 1


def test_a_quiet_folder_may_go_away_twice():
    def an_hour_later():
        clock.tick(3.6e6)
        return NOTHING

    options = LiveOptions(reconnect=Reconnect(give_up_s=20))
    steps = [scan(1), BROKEN, NOTHING, an_hour_later, BROKEN, scan(2)]
    loop, clock, sink, _, _ = make_loop(steps, options=options, frame_hz=None, lossless=True)
    drive(loop, clock)
    assert (sink.validities[-1], loop.capture.restarts) == ("ok", 2)


def test_without_reconnecting_the_first_loss_ends_the_run():
    options = LiveOptions(reconnect=Reconnect(give_up_s=0))
    loop, clock, _, source, _ = make_loop([scan(1), BROKEN, scan(2)], options=options)
    drive(loop, clock)
    assert (loop.capture.state, source.opened) == ("gave_up", 0)


def test_a_camera_that_only_times_out_is_opened_again():
    loop, clock, sink, source, _ = make_loop([scan(1), *[NOTHING] * 120, scan(2)])
    drive(loop, clock)
    assert sink.validities == ["ok", "lost", "ok"]
    assert source.opened >= 1


def test_a_slow_model_is_no_lost_source():
    class Slow(ReadOff):
        def segment(self, image):
            for _ in range(14):
                clock.tick(100)
                if not loop.capture.done:
                    loop.capture.step()
                loop._look_around()
            return super().segment(image)

    clock = Clock()
    images = [scan(number) for number in range(60)]
    loop, _, sink, _, _ = make_loop(images, clock=clock, backend=Slow(), options=LiveOptions(deadline_ms=5000))
    drive(loop, clock)
    assert set(sink.validities) == {"ok"}
    assert counts(loop).late == 0


@pytest.mark.parametrize(("deadline_ms", "shown"), [(5000, "ok"), (200, "stale")])
def test_a_result_that_comes_after_the_loss_does_not_hide_it(deadline_ms, shown):
    class Slow(ReadOff):
        def segment(self, image):
            clock.tick(1400)
            loop._look_around()
            return super().segment(image)

    clock = Clock()
    options = LiveOptions(deadline_ms=deadline_ms)
    loop, _, sink, _, _ = make_loop([scan(1), *[NOTHING] * 9], clock=clock, backend=Slow(), options=options)
    drive(loop, clock, most=8)
    assert sink.validities == ["lost", shown, "lost"]


def test_results_have_names_of_their_own_where_a_cine_starts_again():
    loop, clock, sink, source, _ = make_loop([scan(1), scan(2), BROKEN, scan(3)])
    loop.capture.step()
    source._next_index = 0
    drive(loop, clock)
    names = [result.frame.name for result in sink.results if result.validity is Validity.OK]
    assert names == ["000001", "000002"]


def test_files_of_the_same_name_are_told_apart():
    frames = [Read(Status.OK, Frame(scan(number), 0, 1_000_000_000, name=name)) for number, name in enumerate("aab")]
    loop, clock, sink, _, _ = make_loop(frames, lossless=True)
    drive(loop, clock)
    assert [result.frame.name for result in sink.results] == ["a", "a-000001", "b"]


class Breaking(ReadOff):
    """A backend whose process dies of an image with a white corner, and whose next starts fail."""

    def __init__(self, rounds):
        super().__init__()
        self.restarts, self.rounds, self.away = 0, rounds, 0

    def segment(self, image):
        if self.away:
            self.away, self.restarts = self.away - 1, self.restarts + 1
            raise BackendDown("the backend is being started again")
        if image[0, 0] == 255:
            self.restarts, self.away = self.restarts + 1, self.rounds
            raise BackendDown("the backend is started again", had_image=True)
        return super().segment(image)


@pytest.mark.parametrize("lossless", [True, False])
def test_files_wait_for_a_backend_that_comes_back(monkeypatch, lossless):
    monkeypatch.setattr("bcseg_edge.live.loop.TICK_S", 0.0)
    images = [scan(number) for number in range(12)]
    images[3][0, 0] = 255
    loop, clock, sink, _, backend = make_loop(images, backend=Breaking(rounds=6), lossless=lossless)
    drive(loop, clock)
    assert counts(loop).failed == (1 if lossless else 7)
    assert backend.restarts == 7 * (ATTEMPTS if lossless else 1)
    assert sink.validities[3] == "stale"


def test_a_folder_may_be_silent():
    loop, clock, sink, source, _ = make_loop([scan(1), *[NOTHING] * 300, scan(2)], frame_hz=None, lossless=True)
    drive(loop, clock)
    assert sink.validities == ["ok", "ok"]
    assert source.opened == 0
    assert loop.health().state == "ok"


def test_a_driver_that_raises_is_a_loss():
    loop, clock, sink, _source, _ = make_loop([scan(1), RuntimeError("VIDIOC_DQBUF"), scan(2)])
    drive(loop, clock)
    assert sink.validities[-1] == "ok"
    assert loop.capture.restarts == 1


def test_another_size_in_mid_stream():
    loop, clock, sink, _, _ = make_loop([scan(1), scan(2, (60, 80)), scan(3)])
    drive(loop, clock)
    assert sink.validities == ["ok"] * 3
    for result in sink.results:
        assert result.segmentation.labels.shape == result.frame.image.shape


def test_a_crop_is_segmented_and_labels_come_back_in_the_frame():
    screen = np.full((100, 120), 220, np.uint8)  # a menu that would be a lesion everywhere
    screen[20:68, 30:94] = scan(5)
    loop, clock, sink, _, _ = make_loop([screen], options=LiveOptions(crop=Crop(30, 20, 64, 48)))
    drive(loop, clock)
    labels = sink.results[0].segmentation.labels
    assert labels.shape == screen.shape
    np.testing.assert_array_equal(labels[20:68, 30:94], labels_of(scan(5)))
    labels[20:68, 30:94] = 0
    assert not labels.any()


def test_a_changing_clock_outside_the_crop_leaves_the_image_frozen():
    first, second = np.zeros((2, 100, 120), np.uint8)
    first[20:68, 30:94] = second[20:68, 30:94] = scan(5)
    second[0:10, 0:40] = 200
    loop, clock, sink, _, backend = make_loop([first, second], options=LiveOptions(crop=Crop(30, 20, 64, 48)))
    drive(loop, clock)
    assert sink.validities == ["ok", "frozen"]
    assert backend.calls == 1


def test_a_crop_outside_of_the_frame_fails_with_the_reason():
    loop, clock, sink, _, backend = make_loop([scan(1)], options=LiveOptions(crop=Crop(30, 20, 640, 480)))
    drive(loop, clock)
    assert (sink.validities, backend.calls) == (["stale"], 0)
    assert "crop 30,20,640,480 lies outside" in loop.health().reason


def test_a_broken_output_is_closed_and_the_rest_goes_on():
    broken, whole = MemorySink(fail_at=1), MemorySink()
    loop, clock, _, _, _ = make_loop([scan(number) for number in range(4)], sinks=[broken, whole])
    drive(loop, clock)
    assert len(whole.results) == 4
    assert len(loop._outputs.problems) == 1
    assert "disk is full" in loop._outputs.problems[0]
    assert broken.closed == 1


@pytest.mark.parametrize("jump_ms", [3.6e6, -5e3])
def test_a_clock_that_jumps_costs_a_frame_at_most(jump_ms):
    clock = Clock()

    def jump():
        clock.tick(jump_ms)
        return NOTHING

    loop, clock, sink, _, _ = make_loop([scan(1), scan(2), jump, scan(3), scan(4)], clock=clock)
    drive(loop, clock)
    assert [result.validity for result in sink.results if result.validity is not Validity.LOST][-1] is Validity.OK
    assert all(result.age_ms >= 0 for result in sink.results)
    counts(loop)


def test_the_wall_clock_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the wall clock jumps"))
    loop, clock, sink, _, _ = make_loop([scan(1), scan(2)])
    drive(loop, clock)
    assert sink.validities == ["ok", "ok"]


def test_refine_sees_every_result_and_what_it_gives_is_shown():
    seen = []

    def refine(result):
        seen.append(result.validity.value)
        import dataclasses

        return dataclasses.replace(result, track_ids=(7,) * len(result.lesions))

    loop, clock, sink, _, _ = make_loop([scan(1), BLACK, scan(2)], refine=refine)
    drive(loop, clock)
    assert seen == ["ok", "blank", "ok"]
    assert [result.track_ids for result in sink.results] == [(7,), (), (7,)]


def test_a_tracker_that_breaks_is_switched_off_and_the_rest_goes_on():
    def refine(result):
        raise IndexError("inside the tracker")

    loop, clock, sink, _, _ = make_loop([scan(1), scan(2)], refine=refine)
    drive(loop, clock)
    assert sink.validities == ["ok", "ok"]
    assert len(loop._outputs.problems) == 1
    assert "inside the tracker" in loop._outputs.problems[0]


def test_what_is_to_be_hidden_stays_hidden_when_the_tracker_breaks():
    def refine(result):
        raise IndexError("inside the tracker")

    def blacken(result):
        image = result.frame.image.copy()
        image[:10] = 0
        return dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=image))

    loop, clock, sink, _, _ = make_loop([scan(1), scan(2)], refine=refine, blacken=blacken)
    drive(loop, clock)
    for number, result in enumerate(sink.results, start=1):
        assert not result.frame.image[:10].any()
        np.testing.assert_array_equal(result.frame.image[10:], scan(number)[10:])


def test_where_blackening_fails_nothing_is_seen():
    def blacken(result):
        raise IndexError("inside the blackener")

    loop, clock, sink, _, _ = make_loop([scan(1), scan(2)], blacken=blacken)
    drive(loop, clock)
    assert sink.validities == ["ok", "ok"]
    assert all(result.hidden and not result.frame.image.any() for result in sink.results)
    assert loop._outputs.problems == ["de-identification failed, images are black: IndexError: inside the blackener"]


EVENTS = st.lists(
    st.one_of(
        st.integers(0, 3).map(scan),
        st.just(BLACK),
        st.just(NOTHING),
        st.just(BROKEN),
        st.just(RuntimeError("driver")),
        st.just(scan(2, (30, 40))),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(
    EVENTS,
    st.lists(st.sampled_from([None, None, FAILURE]), max_size=25),
    st.lists(st.sampled_from([None, GONE]), max_size=5),
    st.sampled_from([0.0, 30.0, 90.0, 130.0]),
    st.integers(1, 3),
)
def test_whatever_happens_the_ledger_is_exact_and_masks_belong_to_their_frames(
    steps, failures, opens, takes_ms, captures_a_step
):
    clock = Clock()
    backend = ReadOff(clock, takes_ms)
    backend.failures = failures
    loop, _, sink, _, _ = make_loop(
        steps, clock=clock, backend=backend, opens=opens, options=LiveOptions(deadline_ms=100)
    )
    loop.capture._wait = lambda seconds: clock.tick(seconds * 1e3)
    for _ in range(200):
        for _ in range(captures_a_step):
            if not loop.capture.done:
                loop.capture.step()
        clock.tick(15)
        step(loop)
        counts(loop)
    found = counts(loop)
    assert loop.capture.done
    assert found.waiting == 0
    assert found.captured == sum(isinstance(step, np.ndarray) for step in steps)
    by_validity = {validity: sink.validities.count(validity.value) for validity in Validity}
    assert by_validity[Validity.OK] + by_validity[Validity.FROZEN] == found.shown
    assert by_validity[Validity.BLANK] == found.blank
    assert by_validity[Validity.STALE] == found.late + found.failed
    for result in sink.results:
        if result.segmentation is not None:
            np.testing.assert_array_equal(result.segmentation.labels, labels_of(result.frame.image))
            assert 0 <= result.age_ms <= 100
    shown = [result.frame.index for result in sink.results if result.validity is not Validity.LOST]
    assert shown == sorted(set(shown))


class TestThreads:
    """With the real threads and the real clock."""

    def run(self, steps, *, controls=None, backend=None, options=None, should_stop=lambda: False, **source):
        sink = MemorySink()
        script = Script(time.monotonic_ns, steps, **source)
        loop = LiveLoop(script, [backend or ReadOff()], [sink], options, controls=controls)
        return loop.run(should_stop), sink, script

    def test_a_source_that_ends(self):
        summary, sink, source = self.run([scan(1), END], lossless=True)
        assert summary.health.state == "stopped"
        assert (summary.health.ledger.captured, summary.health.ledger.waiting) == (1, 0)
        assert imbalance(summary.health.ledger) == ""
        assert (sink.closed, source.closed, summary.gave_up, summary.interrupted) == (1, 1, "", False)
        assert json.loads(json.dumps(summary.to_dict()))["validities"]["ok"] == 1

    def test_lossless_sources_lose_nothing(self):
        class Slow(ReadOff):
            def segment(self, image):
                time.sleep(0.01)
                return super().segment(image)

        summary, sink, _ = self.run([scan(number) for number in range(12)], backend=Slow(), lossless=True)
        assert summary.health.ledger.dropped == 0
        assert [result.frame.index for result in sink.results] == list(range(12))

    def test_a_slow_consumer_gets_the_newest_frame_and_no_lag(self):
        class Slow(ReadOff):
            def segment(self, image):
                time.sleep(0.05)
                return super().segment(image)

        def paced(number):
            def step():
                time.sleep(0.005)
                return script_frame(number)

            return step

        def script_frame(number):
            from bcseg_edge.frames import Frame
            from bcseg_edge.sources.live import Read, Status

            return Read(Status.OK, Frame(scan(number), number, time.monotonic_ns()))

        options = LiveOptions(deadline_ms=10_000)
        summary, sink, _ = self.run([paced(number) for number in range(100)], backend=Slow(), options=options)
        ledger = summary.health.ledger
        assert imbalance(ledger) == ""
        assert (ledger.captured, ledger.waiting) == (100, 0)
        assert ledger.dropped > 50
        # A queue would have made the last results seconds old.
        assert summary.age_ms["max"] < 2000
        assert sink.results[-1].frame.index == 99

    def test_a_person_quits(self):
        controls = Controls()
        controls.quit.set()
        summary, sink, _ = self.run([], then=NOTHING, controls=controls)
        assert (summary.interrupted, sink.closed) == (False, 1)

    def test_it_is_told_to_stop(self):
        stop = []
        summary, sink, _ = self.run(
            [lambda: (stop.append(1), NOTHING)[1]], then=NOTHING, should_stop=lambda: bool(stop)
        )
        assert (summary.interrupted, sink.closed) == (True, 1)

    def test_max_frames(self):
        options = LiveOptions(max_frames=5)
        summary, _, _ = self.run([scan(number) for number in range(50)], options=options, lossless=True)
        assert summary.health.ledger.captured == 5


def test_auto_crop_is_used_and_reported():
    def screen(number):
        image = np.zeros((240, 320), np.uint8)
        image[10:14, 10:200] = 230  # a title that never changes
        image[40:200, 60:280] = np.random.default_rng(number).integers(30, 190, (160, 220), np.uint8)
        return image

    finder = AutoCrop()
    loop, clock, _sink, _, _ = make_loop([screen(number) for number in range(60)], options=LiveOptions(crop=finder))
    drive(loop, clock)
    assert finder.settled
    found = finder.crop
    assert abs(found.x - 60) <= 4
    assert abs(found.y - 40) <= 4
    assert abs(found.width - 220) <= 8
    assert abs(found.height - 160) <= 8


@pytest.mark.parametrize("black", [True, False])
def test_a_run_that_starts_on_a_black_or_frozen_screen_never_shows_its_banner(black):
    def screen(number):
        image = np.full((240, 320), 70, np.uint8)  # a panel all around
        image[4:12, 10:200:3] = 230  # a name
        image[40:200, 60:280] = np.random.default_rng(number).integers(30, 190, (160, 220), np.uint8)
        return image

    start = [np.zeros((240, 320), np.uint8)] * 3 if black else [screen(0)] * 30
    finder = AutoCrop()
    loop, clock, sink, _, _ = make_loop(
        [*start, *(screen(number) for number in range(60))],
        options=LiveOptions(crop=finder),
        blacken=_blackener(finder),
    )
    drive(loop, clock)
    outside = np.ones((240, 320), bool)
    outside[36:204, 56:284] = False
    for result in sink.results:
        assert not result.frame.image[outside].any()
    assert not sink.results[len(start)].frame.image.any()
    assert set(sink.validities[: len(start) + 30]) == {"blank"}  # nor outlines of what was found in the text
    assert sink.validities[-1] == "ok"
    assert counts(loop).reused == (0 if black else 30)
    assert sink.results[-1].frame.image[40:200, 60:280].any()
    x, y, width, height = sink.results[-1].crop_xywh
    assert abs(x - 60) + abs(y - 40) + abs(x + width - 280) + abs(y + height - 200) <= 16
