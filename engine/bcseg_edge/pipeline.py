"""The loop: frames from a source, through a segmenter, to sinks; and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bcseg_edge.crop import Segment
from bcseg_edge.frames import BENIGN, CLASSES, MALIGNANT, Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion, find_lesions
from bcseg_edge.sinks import Sink
from bcseg_edge.sources.source import Source

if TYPE_CHECKING:
    from bcseg_edge.segmenter import Segmenter

PERCENTILES = (50, 90, 99, 100)
STAGES = ("read", "split", "network", "stitch", "lesions", "write")

OnFrame = Callable[[Frame, Segmentation, Sequence[Lesion]], None]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run did.

    Attributes:
        frames: frames segmented.
        lesions: lesions found, by class, summed over the frames.
        frames_with_lesion: frames with at least one.
        wall_s: seconds from asking for the first frame to closing the last sink.
        fps: `frames / wall_s`, everything included: reading (or simulating), segmenting, writing.
        latency_ms: `p50`, `p90`, `p99`, `max` over the frames of split + network + stitch + lesions: from having
            the frame to knowing its lesions. Empty without frames.
        stages_ms: median over the frames of each of `STAGES`; on a GPU split holds the upload and stitch the download.
            Empty without frames.
        truth_dice: where the source knows the truth, Dice pooled over all pixels of all frames: `lesion` (benign
            and malignant as one), `benign`, `malignant`. A class that neither truth nor labels hold is None.
        patches: windows of the frames.
        patches_reused: of these, how many were not computed, since their bytes and with them the result were known.
        problems: what the source could not deliver.
        interrupted: it was asked to stop before the source ended.
    """

    frames: int
    lesions: dict[str, int]
    frames_with_lesion: int
    wall_s: float
    fps: float
    latency_ms: dict[str, float]
    stages_ms: dict[str, float]
    truth_dice: dict[str, float | None] | None
    patches: int
    patches_reused: int
    problems: list[str]
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values under the names above; numbers keep 3 decimals, Dice 4."""
        return {
            **dataclasses.asdict(self),
            "wall_s": round(self.wall_s, 3),
            "fps": round(self.fps, 3),
            "latency_ms": {name: round(value, 3) for name, value in self.latency_ms.items()},
            "stages_ms": {name: round(value, 3) for name, value in self.stages_ms.items()},
            "truth_dice": self.truth_dice
            and {name: value if value is None else round(value, 4) for name, value in self.truth_dice.items()},
        }


def run(
    source: Source,
    segment: Segment,
    sinks: Sequence[Sink] = (),
    *,
    max_frames: int | None = None,
    spacing_mm: tuple[float, float] | None = None,
    on_frame: OnFrame | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunSummary:
    """Segment the frames of a source.

    The sinks are closed at the end, however it comes, so that what was written up to then is whole.

    Args:
        source: gives the frames; it stays open.
        segment: a `Segmenter`, or anything that segments an image. A segmenter on a GPU gets the next frame while it
            computes one, so that the source is read one frame ahead.
        sinks: get every result, in order.
        max_frames: stop after so many; None runs to the end of the source.
        spacing_mm: (row, column) size of a pixel; overrides what the frames say.
        on_frame: called after each frame.
        should_stop: asked before each frame is read.

    Raises:
        BcsegError: of the source, the segmenter or a sink.
    """
    tally = _Tally()
    started_s = time.perf_counter()
    with ExitStack() as closing:
        for sink in sinks:
            closing.callback(sink.close)
        reads = _read(_spaced(source, spacing_mm), max_frames, should_stop)
        for segmented in closing.enter_context(contextlib.closing(_segment_all(reads, segment))):
            result = _process(segmented, sinks)
            tally.add(segmented, result)
            if on_frame is not None:
                on_frame(segmented.frame, segmented.segmentation, result.lesions)
    interrupted = should_stop()
    return tally.summary(time.perf_counter() - started_s, list(source.problems), interrupted)


def _spaced(source: Source, spacing_mm: tuple[float, float] | None) -> Iterable[Frame]:
    if spacing_mm is None:
        return source
    return (dataclasses.replace(frame, spacing_mm=spacing_mm) for frame in source)


class _Segmented(NamedTuple):
    """A frame, what was made of it, and how long reading and segmenting it took."""

    frame: Frame
    segmentation: Segmentation
    read_ms: float
    segment_ms: float


def _read(
    source: Iterable[Frame], max_frames: int | None, should_stop: Callable[[], bool]
) -> Iterator[tuple[Frame, float]]:
    """Frames with the ms that reading each took, until the source ends or enough is read."""
    frames, count = iter(source), 0
    while not should_stop() and (max_frames is None or count < max_frames):
        asked_s = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        count += 1
        yield frame, (time.perf_counter() - asked_s) * 1e3


def _segment_all(reads: Iterator[tuple[Frame, float]], segment: Segment) -> Generator[_Segmented, None, None]:
    """Segment frames in order: as a stream where the next frame can be uploaded while one computes."""
    if not getattr(segment, "overlaps", False):
        for frame, read_ms in reads:
            ready_s = time.perf_counter()
            segmentation = segment(frame.image)
            yield _Segmented(frame, segmentation, read_ms, (time.perf_counter() - ready_s) * 1e3)
        return
    under_way: deque[tuple[Frame, float]] = deque()

    def images() -> Iterator[UInt8Array]:
        for read in reads:
            under_way.append(read)
            yield read[0].image

    segmenter: Segmenter = segment  # type: ignore[assignment]  # which alone overlaps
    for segmentation in segmenter.stream(images()):
        frame, read_ms = under_way.popleft()
        # Between giving a frame and getting its result the next one is read: the clock is the segmenter's own.
        yield _Segmented(frame, segmentation, read_ms, segmentation.timings.total_ms)


class _Result(NamedTuple):
    """What came of one frame, and how long finding and writing it took."""

    lesions: list[Lesion]
    latency_ms: float
    lesions_ms: float
    write_ms: float


def _process(segmented: _Segmented, sinks: Sequence[Sink]) -> _Result:
    frame, segmentation = segmented.frame, segmented.segmentation
    segmented_s = time.perf_counter()
    lesions = find_lesions(segmentation, frame.spacing_mm)
    found_s = time.perf_counter()
    for sink in sinks:
        sink.write(frame, segmentation, lesions)
    written_s = time.perf_counter()
    lesions_ms = (found_s - segmented_s) * 1e3
    return _Result(lesions, segmented.segment_ms + lesions_ms, lesions_ms, (written_s - found_s) * 1e3)


@dataclass(slots=True)
class _Tally:
    """Counts that grow with the frames."""

    frames: int = 0
    frames_with_lesion: int = 0
    patches: int = 0
    patches_reused: int = 0
    lesions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES[1:], 0))
    latency_ms: list[float] = field(default_factory=list)
    stages_ms: list[tuple[float, ...]] = field(default_factory=list)
    truth: _Overlap | None = None

    def add(self, segmented: _Segmented, result: _Result) -> None:
        frame, segmentation = segmented.frame, segmented.segmentation
        self.frames += 1
        self.frames_with_lesion += bool(result.lesions)
        self.patches += segmentation.patches
        self.patches_reused += segmentation.patches_reused
        for lesion in result.lesions:
            self.lesions[lesion.name] += 1
        if frame.truth is not None:
            self.truth = self.truth or _Overlap()
            self.truth.add(frame.truth, segmentation.labels)
        of = segmentation.timings
        self.stages_ms.append(
            (
                segmented.read_ms,
                of.upload_ms + of.split_ms,
                of.network_ms,
                of.stitch_ms + of.download_ms,
                result.lesions_ms,
                result.write_ms,
            )  # as in STAGES
        )
        self.latency_ms.append(result.latency_ms)

    def summary(self, wall_s: float, problems: list[str], interrupted: bool) -> RunSummary:
        latency, stages = {}, {}
        if self.frames:
            values = np.percentile(self.latency_ms, PERCENTILES).tolist()
            latency = dict(zip(("p50", "p90", "p99", "max"), values, strict=True))
            stages = dict(zip(STAGES, np.median(self.stages_ms, axis=0).tolist(), strict=True))
        return RunSummary(
            frames=self.frames,
            lesions=self.lesions,
            frames_with_lesion=self.frames_with_lesion,
            wall_s=wall_s,
            fps=self.frames / wall_s,
            latency_ms=latency,
            stages_ms=stages,
            truth_dice=None if self.truth is None else self.truth.dice(),
            patches=self.patches,
            patches_reused=self.patches_reused,
            problems=problems,
            interrupted=interrupted,
        )


class _Overlap:
    """Pixels of truth, of labels and of both, for Dice over many frames."""

    _GROUPS = ("lesion", CLASSES[BENIGN], CLASSES[MALIGNANT])

    def __init__(self) -> None:
        self._both = np.zeros(len(self._GROUPS), np.int64)
        self._sizes = np.zeros(len(self._GROUPS), np.int64)  # truth + labels

    def add(self, truth: UInt8Array, labels: UInt8Array) -> None:
        pairs = np.bincount((truth * np.uint8(len(CLASSES)) + labels).ravel(), minlength=9).reshape(3, 3)
        self._both += (pairs[1:, 1:].sum(), pairs[BENIGN, BENIGN], pairs[MALIGNANT, MALIGNANT])
        sizes = pairs.sum(0) + pairs.sum(1)
        self._sizes += (sizes[1:].sum(), sizes[BENIGN], sizes[MALIGNANT])

    def dice(self) -> dict[str, float | None]:
        return {
            name: float(2 * both / size) if size else None
            for name, both, size in zip(self._GROUPS, self._both, self._sizes, strict=True)
        }
