"""What more work costs: larger frames, larger batches, more threads, other tilings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bcseg_benchmarks.stages import measure_latency
from bcseg_benchmarks.subjects import Subject
from bcseg_benchmarks.timing import Record, collect, summarise, warm_up
from bcseg_benchmarks.workload import Workload, resized
from bcseg_edge.models import load_model
from bcseg_edge.passport import Tiling
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TILINGS, TileGrid

FRAME_SIZES_HW = ((128, 128), (256, 256), (480, 640), (768, 1024), (1080, 1920), (1440, 2560), (2160, 3840))
BATCHES = (1, 2, 4, 8, 16)
SETTLE_S = 0.5

Said = Callable[[str], None]


class Point(Record):
    """One measurement.

    Attributes:
        model: `edge fp32`.
        tiling: used.
        frame_hw: px.
        patches: per frame, or per call where a batch is measured.
        threads: of the network.
        frames: measured; fewer than in the main measurement, so that the whole takes minutes.
        total_ms: median of a frame, or of a call.
        network_ms: median of the network's part.
        overhead_ms: median of the rest.
        variation: of the total.
    """

    model: str
    tiling: Tiling
    frame_hw: tuple[int, int]
    patches: int
    threads: int
    frames: int
    total_ms: float
    network_ms: float
    overhead_ms: float
    variation: float


class Slope(Record):
    """A line through points on doubly logarithmic axes, by least squares.

    Attributes:
        what: what grows with what.
        exponent: 1 is linear growth.
        residual: largest factor between a point and the line.
    """

    what: str
    exponent: float
    residual: float


class Scaling(Record):
    """All of it.

    Attributes:
        frame_sizes: each tiling over the frame sizes.
        batches: patches per call of the network alone.
        threads: the measured tiling on 1, 2, 4, ... threads and on all that the run may use.
        slopes: fitted to the first: network over patches, and the rest over the frame's pixels.
        seconds_per_point: at least so long was each point measured, and at least `min_frames`.
        min_frames: see there.
    """

    frame_sizes: tuple[Point, ...]
    batches: tuple[Point, ...]
    threads: tuple[Point, ...]
    slopes: tuple[Slope, ...]
    seconds_per_point: float
    min_frames: int


def measure_scaling(
    subject: Subject,
    workload: Workload,
    backend: str,
    measured_tiling: Tiling,
    threads: int,
    min_frames: int,
    seconds: float,
    say: Said,
    frame_sizes_hw: Sequence[tuple[int, int]] = FRAME_SIZES_HW,
) -> Scaling:
    """Measure one model in all directions, each point for at least `min_frames` frames and `seconds`."""

    def point(tiling: Tiling, frame_hw: tuple[int, int], count: int) -> Point:
        say(f"scaling {subject.title}: {tiling}, {frame_hw[1]}x{frame_hw[0]}, {count} threads")
        with Segmenter(load_model(subject.path, backend, count), tiling) as segmenter:
            run = measure_latency(segmenter, resized(workload, frame_hw, 2), min_frames, seconds, SETTLE_S)
        return Point(
            model=subject.title,
            tiling=tiling,
            frame_hw=frame_hw,
            patches=TileGrid(frame_hw, subject.passport.window_hw, tiling).count,
            threads=count,
            frames=run.total.count,
            total_ms=run.total.p50_ms,
            network_ms=run.stages["network"].p50_ms,
            overhead_ms=run.overhead.p50_ms,
            variation=run.total.variation,
        )

    sizes = tuple(point(tiling, frame_hw, threads) for tiling in TILINGS for frame_hw in frame_sizes_hw)
    return Scaling(
        frame_sizes=sizes,
        batches=tuple(_batches(subject, backend, threads, min_frames, seconds, say)),
        threads=tuple(point(measured_tiling, workload.frame_hw, count) for count in thread_counts(threads)),
        slopes=tuple(_slopes(sizes)),
        seconds_per_point=seconds,
        min_frames=min_frames,
    )


def thread_counts(most: int) -> list[int]:
    """Powers of two below `most`, and `most`."""
    return [2**power for power in range((most - 1).bit_length())] + [most]


def _batches(
    subject: Subject, backend: str, threads: int, min_frames: int, seconds: float, say: Said
) -> Iterator[Point]:
    window_hw = subject.passport.window_hw
    noise = np.random.default_rng(0)
    for batch in BATCHES:
        if batch > subject.passport.profile.max_batch:
            return
        say(f"scaling {subject.title}: {batch} patches a call")
        patches = noise.integers(0, 256, (batch, 1, *window_hw), np.uint8)
        with load_model(subject.path, backend, threads) as model:
            call = lambda model=model, patches=patches: model.infer(patches)  # noqa: E731
            warm_up(call, SETTLE_S)
            measured = summarise(collect(call, min_frames, seconds))
        yield Point(
            model=subject.title,
            tiling=subject.passport.tiling,
            frame_hw=window_hw,
            patches=batch,
            threads=threads,
            frames=measured.count,
            total_ms=measured.p50_ms,
            network_ms=measured.p50_ms,
            overhead_ms=0.0,
            variation=measured.variation,
        )


def _slopes(points: Sequence[Point]) -> Iterator[Slope]:
    for tiling in TILINGS:
        of_tiling = [point for point in points if point.tiling == tiling]
        pixels = [point.frame_hw[0] * point.frame_hw[1] for point in of_tiling]
        counts = [point.patches for point in of_tiling]
        if len(set(counts)) > 1:
            yield fit_slope(f"{tiling}: network over patches", counts, [point.network_ms for point in of_tiling])
        if len(set(pixels)) > 1:
            yield fit_slope(f"{tiling}: all else over pixels", pixels, [point.overhead_ms for point in of_tiling])


def fit_slope(what: str, x: Sequence[float], y: Sequence[float]) -> Slope:
    """Fit `y = c * x ** exponent` to positive values, x not all equal."""
    log_x, log_y = np.log(x), np.log(y)
    exponent, offset = np.polyfit(log_x, log_y, 1)
    residual = np.exp(np.abs(log_y - (exponent * log_x + offset)).max())
    return Slope(what=what, exponent=float(exponent), residual=float(residual))
