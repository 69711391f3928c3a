"""Several lanes: order, one result for equal images, and what happens when one of them fails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from bcseg_edge.errors import BcsegError
from bcseg_edge.live.lanes import plan_lanes
from bcseg_edge.live.ledger import imbalance
from bcseg_edge.live.loop import LiveLoop, LiveOptions
from tests.fixtures.live import MemorySink, ReadOff, Script, labels_of, scan

OPTIONS = LiveOptions(deadline_ms=20_000)


class Gated(ReadOff):
    """A backend that answers an image only once it is told; says when it has one."""

    def __init__(self):
        super().__init__()
        self.has, self.may = threading.Event(), threading.Event()

    def segment(self, image):
        self.has.set()
        assert self.may.wait(20)
        return super().segment(image)


def lossless(images):
    return Script(time.monotonic_ns, images, lossless=True)


def camera(images):
    return Script(time.monotonic_ns, images)


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)
    assert condition()


def test_two_lanes_show_results_in_order_each_with_its_own_mask():
    class Uneven(ReadOff):
        def segment(self, image):
            time.sleep(0.002 * (int(image.sum()) % 7))
            return super().segment(image)

    def paced(number):
        def step():
            time.sleep(0.004)
            source.steps.insert(0, scan(number))
            return source.read()

        return step

    source = Script(time.monotonic_ns, [paced(number) for number in range(80)])
    sink, backends = MemorySink(), [Uneven(), Uneven()]
    summary = LiveLoop(source, backends, [sink], OPTIONS).run()
    ledger = summary.health.ledger
    assert imbalance(ledger) == ""
    assert (ledger.captured, ledger.waiting) == (80, 0)
    assert all(backend.calls for backend in backends)
    indices = [result.frame.index for result in sink.results]
    assert indices == sorted(set(indices))
    assert len(indices) == ledger.shown
    for result in sink.results:
        np.testing.assert_array_equal(result.segmentation.labels, labels_of(result.frame.image))


def test_a_lossless_source_has_one_lane_and_no_deadline():
    class Slow(ReadOff):
        def segment(self, image):
            time.sleep(0.02)
            return super().segment(image)

    sink, backends = MemorySink(), [Slow(), Slow()]
    summary = LiveLoop(lossless([scan(n) for n in range(5)]), backends, [sink], LiveOptions(deadline_ms=1)).run()
    assert [result.frame.index for result in sink.results] == list(range(5))
    assert (summary.health.ledger.shown, backends[1].calls) == (5, 0)


def test_a_result_that_is_overtaken_is_late_and_not_shown():
    slow, quick, sink = Gated(), ReadOff(), MemorySink()
    loop = LiveLoop(camera([]), [slow, quick], [sink], OPTIONS)
    loop.capture._source.steps = [scan(1)]
    loop.capture.step()
    lane = threading.Thread(target=loop.step, args=(0, slow))
    lane.start()
    assert slow.has.wait(20)
    loop.capture._source.steps = [scan(2)]
    loop.capture.step()
    loop.step(0, quick)
    slow.may.set()
    lane.join(20)
    assert [result.frame.index for result in sink.results] == [1]
    counts = loop.ledger.counts()
    assert (counts.segmented, counts.shown, counts.late) == (2, 1, 1)
    assert imbalance(counts) == ""


@pytest.mark.parametrize("fails", [False, True])
def test_a_frozen_image_waits_for_the_result_that_is_being_computed(fails):
    first, second, sink = Gated(), ReadOff(), MemorySink()
    if fails:
        first.failures = [BcsegError("broken", "")]
    loop = LiveLoop(camera([scan(1), scan(1)]), [first, second], [sink], OPTIONS)
    loop.capture.step()
    lanes = [threading.Thread(target=loop.step, args=(0, backend)) for backend in (first, second)]
    lanes[0].start()
    assert first.has.wait(20)
    loop.capture.step()
    lanes[1].start()
    wait_for(lambda: loop.slot.wait_empty(0))
    first.may.set()
    for lane in lanes:
        lane.join(20)
    counts = loop.ledger.counts()
    assert imbalance(counts) == ""
    # Where the first fails, the second is computed: nobody waits for a result that does not come.
    assert (second.calls, counts.reused, counts.failed) == ((1, 0, 1) if fails else (0, 1, 0))


def test_a_fault_of_the_program_ends_the_run_with_it():
    class Broken(ReadOff):
        def segment(self, image):
            raise KeyError("a bug")

    sink = MemorySink()
    with pytest.raises(KeyError, match="a bug"):
        LiveLoop(lossless([scan(1)]), [Broken()], [sink], OPTIONS).run()
    assert sink.closed == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("openvino", "edge", 4, None), (2, 2)),
        (("auto", "edge", 1, None), (1, 1)),
        (("onnxruntime", "edge", 8, 4), (4, 2)),
        (("openvino", "edge", 2, 4), (4, 1)),
        (("cuda", "edge", None, None), (1, None)),
        (("auto", "edge.engine", None, None), (1, None)),
        (("openvino", "edge", None, 1), (1, None)),
    ],
)
def test_lanes_share_the_cores(arguments, expected):
    assert plan_lanes(*arguments) == expected
