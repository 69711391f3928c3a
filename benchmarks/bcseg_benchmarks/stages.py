"""What each stage of a frame costs, on the runtime's own frame path: one frame at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from bcseg_benchmarks.sensors import Power, PowerMeter
from bcseg_benchmarks.timing import Distribution, Record, WarmUp, summarise, warm_up
from bcseg_benchmarks.workload import SPACING_MM, Workload, write_video
from bcseg_edge import open_source
from bcseg_edge.drawing import draw_overlay
from bcseg_edge.frames import Frame
from bcseg_edge.lesions import find_lesions
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.sinks import open_sinks

STAGES = ("upload", "split", "network", "stitch", "download", "lesions")
NETWORK = STAGES.index("network")


class LatencyRun(Record):
    """Frames that wait in memory, one after the other: from having a frame to knowing its lesions.

    Attributes:
        warm_up: what came before.
        total: latency of a frame, wall time: its stages and what lies between them.
        stages: each of `STAGES`; stitch holds the decision (argmax and confidence), upload and download are 0 on a CPU.
        overhead: all stages but the network, summed frame by frame.
        lesions_per_frame: mean number found; each costs about 0.1 ms.
        power: energy and temperature of the measured stretch.
        energy_per_frame_j: None where the machine does not show it.
        seconds: the measured stretch took.
        totals_ms: latency of every frame in the order of measurement.
    """

    warm_up: WarmUp
    total: Distribution
    stages: dict[str, Distribution]
    overhead: Distribution
    lesions_per_frame: float
    power: Power
    energy_per_frame_j: float | None
    seconds: float
    totals_ms: tuple[float, ...]


class ThroughputRun(Record):
    """Frames as fast as they go through `Segmenter.stream`, with their lesions; on a GPU uploads overlap with work.

    Attributes:
        frames: that went through.
        seconds: they took.
        fps: frames per second.
        energy_per_frame_j: None where the machine does not show it.
    """

    frames: int
    seconds: float
    fps: float
    energy_per_frame_j: float | None


class RecordingRun(Record):
    """What `bcseg-edge run VIDEO --output DIR` adds to a frame, stage by stage.

    Attributes:
        source: what was read.
        capture: reading and decoding a frame.
        draw: drawing the overlay.
        write: encoding the overlay video, writing labels (PNG) and the line of JSON, without drawing.
        fps: frames per second with everything: capture, segment, lesions, draw, write.
    """

    source: str
    capture: Distribution
    draw: Distribution
    write: Distribution
    fps: float


def measure_latency(
    segmenter: Segmenter, workload: Workload, min_frames: int, min_seconds: float, warm_up_s: float
) -> LatencyRun:
    """Time frames one by one, after a warm-up."""
    images = workload.in_turn()
    warm = warm_up(lambda: _stage_times(segmenter, next(images)), warm_up_s)
    rows: list[tuple[float, ...]] = []
    totals_ns: list[int] = []
    lesions = 0
    started_ns = perf_counter_ns()
    with PowerMeter() as meter:
        while len(rows) < min_frames or perf_counter_ns() - started_ns < min_seconds * 1e9:
            image = next(images)
            frame_ns = perf_counter_ns()
            row, found = _stage_times(segmenter, image)
            totals_ns.append(perf_counter_ns() - frame_ns)
            rows.append(row)
            lesions += found
    seconds = (perf_counter_ns() - started_ns) / 1e9
    durations_ns = np.array(rows) * 1e6  # [frames, stages]
    return LatencyRun(
        warm_up=warm,
        total=summarise(totals_ns),
        stages={stage: summarise(column.tolist()) for stage, column in zip(STAGES, durations_ns.T, strict=True)},
        overhead=summarise((totals_ns - durations_ns[:, NETWORK]).tolist()),
        lesions_per_frame=lesions / len(rows),
        power=meter.power,
        energy_per_frame_j=meter.power.per_frame_j(len(rows)),
        seconds=seconds,
        totals_ms=tuple(round(total / 1e6, 4) for total in totals_ns),
    )


def _stage_times(segmenter: Segmenter, image: np.ndarray) -> tuple[tuple[float, ...], int]:
    """Milliseconds of each of `STAGES`, and the number of lesions."""
    segmentation = segmenter(image)
    started_ns = perf_counter_ns()
    lesions = find_lesions(segmentation, SPACING_MM)
    lesions_ms = (perf_counter_ns() - started_ns) / 1e6
    of = segmentation.timings
    return (of.upload_ms, of.split_ms, of.network_ms, of.stitch_ms, of.download_ms, lesions_ms), len(lesions)


def measure_throughput(segmenter: Segmenter, workload: Workload, min_frames: int, min_seconds: float) -> ThroughputRun:
    """Frames per second of an endless stream, after what `measure_latency` has warmed up."""
    frames = 0
    with PowerMeter() as meter:
        started_ns = perf_counter_ns()
        for segmentation in segmenter.stream(workload.in_turn()):
            find_lesions(segmentation, SPACING_MM)
            frames += 1
            seconds = (perf_counter_ns() - started_ns) / 1e9
            if frames >= min_frames and seconds >= min_seconds:
                break
    return ThroughputRun(
        frames=frames, seconds=seconds, fps=frames / seconds, energy_per_frame_j=meter.power.per_frame_j(frames)
    )


def measure_recording(segmenter: Segmenter, workload: Workload, frames: int) -> RecordingRun:
    """Capture, draw and write `frames` frames of a Motion JPEG video of the workload."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "workload.avi"
        write_video(workload, video, frames)
        sinks = open_sinks(Path(folder) / "out", 30.0)
        first = segmenter(workload.images[0])
        draw_overlay(workload.images[0], first.labels, find_lesions(first, SPACING_MM))  # the first loads the font
        with open_source(str(video)) as source:
            started_ns = perf_counter_ns()
            drawn_ns = 0
            for captured_ns, frame in _captured(iter(source)):
                segmentation = segmenter(frame.image)
                lesions = find_lesions(segmentation, SPACING_MM)
                before_ns = perf_counter_ns()
                draw_overlay(frame.image, segmentation.labels, lesions)  # the sink draws it again, and writes
                draw_ns = perf_counter_ns() - before_ns
                for sink in sinks:
                    sink.write(frame, segmentation, lesions)
                both_ns = perf_counter_ns() - before_ns
                drawn_ns += draw_ns
                rows.append((captured_ns, draw_ns, both_ns - 2 * draw_ns))
            seconds = (perf_counter_ns() - started_ns - drawn_ns) / 1e9
        for sink in sinks:
            sink.close()
    capture, draw, write = (summarise(column) for column in zip(*rows, strict=True))
    height, width = workload.frame_hw
    return RecordingRun(
        source=f"Motion JPEG, {width}x{height}, {len(rows)} frames",
        capture=capture,
        draw=draw,
        write=write,
        fps=len(rows) / seconds,
    )


def _captured(frames: Iterator[Frame]) -> Iterator[tuple[int, Frame]]:
    """Each frame with the ns that reading it took."""
    while True:
        started_ns = perf_counter_ns()
        for frame in islice(frames, 1):
            yield perf_counter_ns() - started_ns, frame
            break
        else:
            return
