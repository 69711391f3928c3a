"""The loop and its summary, with a segmenter that knows the answer."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bcseg_edge import open_source
from bcseg_edge.errors import ModelError
from bcseg_edge.frames import BENIGN, MALIGNANT, Frame, Segmentation, Timings
from bcseg_edge.pipeline import STAGES, run
from bcseg_edge.sources.phantom import PhantomSource, PhantomSpec
from tests.fixtures.lazy_cuda import lazy_segmenter


class ListSource:
    """Frames from a list."""

    description, frame_hz = "a list", None

    def __init__(self, frames, problems=()):
        self.frames, self.problems, self.count = frames, list(problems), len(frames)

    def __iter__(self):
        return iter(self.frames)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class MemorySink:
    """Remembers what it was given, and in which state it was left."""

    def __init__(self, fail_at=None):
        self.results, self.closed, self.fail_at = [], 0, fail_at

    def write(self, frame, segmentation, lesions):
        assert not self.closed
        if len(self.results) == self.fail_at:
            raise OSError("disk")
        self.results.append((frame, segmentation, lesions))

    def close(self):
        self.closed += 1


def frame(index=0, truth=None, labels=None):
    """A frame whose image is the labels that `read_off` will give."""
    image = np.zeros((40, 40), np.uint8) if labels is None else labels
    return Frame(image, index, 0, name=f"{index}", truth=truth)


def read_off(image):
    """A segmenter for images that hold their labels."""
    return Segmentation(image, np.full(image.shape, 0.8, np.float32), Timings(1.0, 2.0, 3.0))


def square(label, top=0, left=0, side=10):
    labels = np.zeros((40, 40), np.uint8)
    labels[top : top + side, left : left + side] = label
    return labels


def test_every_frame_reaches_every_sink_in_order():
    sinks = [MemorySink(), MemorySink()]
    seen = []
    frames = [frame(index, labels=square(BENIGN)) for index in range(5)]
    run(ListSource(frames), read_off, sinks, on_frame=lambda frame, *_: seen.append(frame.index))
    assert seen == [0, 1, 2, 3, 4]
    for sink in sinks:
        assert [frame.index for frame, _, _ in sink.results] == seen
        assert sink.closed == 1
        assert all(len(lesions) == 1 for _, _, lesions in sink.results)


def test_lesions_are_counted_by_class():
    both = square(BENIGN) | square(MALIGNANT, top=20)
    frames = [frame(0, labels=both), frame(1), frame(2, labels=square(MALIGNANT))]
    summary = run(ListSource(frames), read_off)
    assert summary.frames == 3
    assert summary.lesions == {"benign": 1, "malignant": 2}
    assert summary.frames_with_lesion == 2


def test_times_add_up():
    summary = run(ListSource([frame(index) for index in range(20)]), read_off)
    assert summary.fps == pytest.approx(summary.frames / summary.wall_s)
    assert list(summary.stages_ms) == list(STAGES)
    assert [summary.stages_ms[name] for name in ("split", "network", "stitch")] == [1, 2, 3]
    latency = summary.latency_ms
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]


def test_dice_is_pooled_over_frames():
    """Frame 0: truth and labels overlap by half; frame 1: truth missed; frame 2: lesion found with another class."""
    frames = [
        frame(0, truth=square(BENIGN), labels=square(BENIGN, left=5)),
        frame(1, truth=square(BENIGN)),
        frame(2, truth=square(BENIGN), labels=square(MALIGNANT)),
    ]
    dice = run(ListSource(frames), read_off).truth_dice
    assert dice["benign"] == pytest.approx(2 * 50 / (300 + 100))
    assert dice["malignant"] == 0
    assert dice["lesion"] == pytest.approx(2 * 150 / (300 + 200))


def test_dice_of_what_nowhere_is_does_not_exist():
    dice = run(ListSource([frame(truth=square(BENIGN), labels=square(BENIGN))]), read_off).truth_dice
    assert dice == {"lesion": 1.0, "benign": 1.0, "malignant": None}
    assert run(ListSource([frame()]), read_off).truth_dice is None


def test_stops_after_max_frames_and_reads_no_further():
    def endless():
        for index in range(4):
            yield frame(index)
        raise AssertionError("read past max_frames")

    source = ListSource([])
    source.frames = endless()
    summary = run(source, read_off, max_frames=4)
    assert (summary.frames, summary.interrupted) == (4, False)


def test_stops_after_the_current_frame_when_asked():
    stop = []
    sink = MemorySink()
    summary = run(
        ListSource([frame(index) for index in range(9)]),
        read_off,
        [sink],
        on_frame=lambda frame, *_: stop.append(1) if frame.index == 2 else None,
        should_stop=lambda: bool(stop),
    )
    assert (summary.frames, summary.interrupted, sink.closed) == (3, True, 1)


def test_spacing_overrides_the_frames():
    sink = MemorySink()
    run(ListSource([frame(labels=square(BENIGN))]), read_off, [sink], spacing_mm=(0.5, 0.5))
    ((written, _, (lesion,)),) = sink.results
    assert written.spacing_mm == (0.5, 0.5)
    assert lesion.area_mm2 == pytest.approx(25)


def test_no_frame():
    summary = run(ListSource([], ["skipped: a.png"]), read_off)
    assert (summary.frames, summary.fps, summary.latency_ms, summary.stages_ms) == (0, 0, {}, {})
    assert summary.problems == ["skipped: a.png"]


@pytest.mark.parametrize("broken", ["source", "segmenter", "sink"])
def test_sinks_are_closed_whatever_breaks(broken):
    def failing_frames():
        yield frame(0)
        raise ModelError("broken")

    def failing(image):
        raise ModelError("broken")

    source = ListSource([frame(0), frame(1)])
    if broken == "source":
        source.frames = failing_frames()
    sinks = [MemorySink(), MemorySink(fail_at=1 if broken == "sink" else None)]
    with pytest.raises((ModelError, OSError)):
        run(source, failing if broken == "segmenter" else read_off, sinks)
    assert [sink.closed for sink in sinks] == [1, 1]


def test_summary_is_json():
    frames = [frame(0, truth=square(BENIGN), labels=square(BENIGN))]
    record = json.loads(json.dumps(run(ListSource(frames), read_off).to_dict()))
    assert record["truth_dice"] == {"lesion": 1.0, "benign": 1.0, "malignant": None}
    assert record["frames"] == 1
    assert math.isfinite(record["fps"])


def test_phantom_truth_scores_itself():
    source = PhantomSource(PhantomSpec(160, 120, frames=3))
    truths = iter([frame.truth for frame in source])
    summary = run(source, lambda image: read_off(next(truths)))
    assert summary.truth_dice["lesion"] == summary.truth_dice["benign"] == 1
    assert summary.lesions["benign"] == 3


@pytest.fixture
def on_gpu(tmp_path):
    """A segmenter on the lazy GPU, which computes as late as it may."""
    with lazy_segmenter(tmp_path) as opened:
        yield opened


def test_a_gpu_gets_frames_ahead_and_gives_the_same_results(on_gpu):
    assert on_gpu.overlaps
    streamed, single = MemorySink(), MemorySink()
    with open_source("phantom:96x64@30?frames=5") as source:
        summary = run(source, on_gpu, [streamed])
    with open_source("phantom:96x64@30?frames=5") as source:
        expected = run(source, lambda image: on_gpu(image), [single])
    assert [frame.index for frame, *_ in streamed.results] == [frame.index for frame, *_ in single.results]
    pairs = zip(streamed.results, single.results, strict=True)
    assert all(np.array_equal(first[1].labels, second[1].labels) for first, second in pairs)
    assert (summary.frames, summary.lesions, summary.truth_dice) == (5, expected.lesions, expected.truth_dice)
    # Each of the lazy GPU's five stages takes a millisecond; reading the next frame meanwhile is no latency.
    assert summary.latency_ms["p50"] == pytest.approx(5 + summary.stages_ms["lesions"], abs=1)
    assert streamed.closed


def test_a_gpu_reads_no_more_frames_than_asked_for(on_gpu):
    with open_source("phantom:96x64@30?frames=9") as source:
        assert run(source, on_gpu, max_frames=3).frames == 3
        sink = MemorySink()
        asked = iter([False, False, True, True, True])
        summary = run(source, on_gpu, [sink], should_stop=lambda: next(asked))
    assert (summary.frames, len(sink.results), summary.interrupted) == (2, 2, True)


def test_a_sink_that_fails_leaves_the_gpu_ready(on_gpu):
    sink = MemorySink(fail_at=1)
    with open_source("phantom:96x64@30?frames=4") as source:
        with pytest.raises(OSError, match="disk"):
            run(source, on_gpu, [sink])
        assert run(source, on_gpu).frames > 0
    assert sink.closed == 1
