"""What a frame costs beside the network: `python -m bcseg_benchmarks.overhead`.

Times every stage of the host path on frames of the phantom (or any other source), after a warm-up. The target is
4 ms for all stages but the network at 640x480: a tenth of a frame interval at 25 Hz.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from itertools import cycle, islice, pairwise
from time import perf_counter_ns
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bcseg_benchmarks.timing import Latency, summarise
from bcseg_edge import open_source
from bcseg_edge.decision import decide
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.lesions import find_lesions
from bcseg_edge.models import LoadedModel, load_model
from bcseg_edge.segmenter import infer_in_batches, to_grey
from bcseg_edge.tiling import TileGrid

if TYPE_CHECKING:
    from bcseg_edge.passport import Tiling

STAGES = ("split", "network", "stitch", "decide", "lesions")
TARGET_MS = 4.0
SPACING_MM = (0.1, 0.1)
DISTINCT_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Overhead:
    """The stages of one frame.

    Attributes:
        model: name of the model.
        backend: what executed it.
        tiling: tiling used.
        frame_hw: frame size, px.
        patches: patches per frame.
        frames: frames measured.
        lesions_per_frame: mean number found; each costs about 0.1 ms.
        processor: of this machine.
        stages: latency of each of `STAGES`.
        overhead: latency of all stages but the network, summed frame by frame.
        target_ms: what the overhead's median should stay below at 640x480.
    """

    model: str
    backend: str
    tiling: Tiling
    frame_hw: tuple[int, int]
    patches: int
    frames: int
    lesions_per_frame: float
    processor: str
    stages: dict[str, Latency]
    overhead: Latency
    target_ms: float = TARGET_MS


def measure_overhead(
    model: LoadedModel,
    images: list[UInt8Array],
    tiling: Tiling | None = None,
    *,
    frames: int = 100,
    warm_up: int = 10,
) -> Overhead:
    """Time the stages of the host path.

    Args:
        model: stays open.
        images: at least one frame, uint8 `[H, W]` or `[H, W, 3]`, all of one size; taken in turn.
        tiling: None takes the model's own.
        frames: frames to measure, >= 1.
        warm_up: frames before those.

    Raises:
        DataError: no image, no frames to measure, or images of several sizes.
    """
    if not images or frames < 1:
        raise DataError(f"cannot measure {frames} frames of {len(images)} images", "give at least one of each")
    height, width = images[0].shape[:2]
    grid = TileGrid((height, width), model.window_hw, tiling or model.tiling)
    for image in islice(cycle(images), warm_up):
        _time_frame(model, grid, image)
    measured = [_time_frame(model, grid, image) for image in islice(cycle(images), frames)]
    durations_ns, lesions = zip(*measured, strict=True)  # [frames][stage], [frames]
    network = STAGES.index("network")
    return Overhead(
        model=model.passport.name,
        backend=model.backend_name,
        tiling=grid.mode,
        frame_hw=grid.frame_hw,
        patches=grid.count,
        frames=frames,
        lesions_per_frame=sum(lesions) / frames,
        processor=_processor(),
        stages={
            stage: summarise(column) for stage, column in zip(STAGES, zip(*durations_ns, strict=True), strict=True)
        },
        overhead=summarise([sum(row) - row[network] for row in durations_ns]),
    )


def _time_frame(model: LoadedModel, grid: TileGrid, image: UInt8Array) -> tuple[list[int], int]:
    """Durations of `STAGES` for one frame, ns, and the number of lesions in it."""
    marks_ns = [perf_counter_ns()]
    patches = grid.split(to_grey(image))
    marks_ns.append(perf_counter_ns())
    logits = infer_in_batches(model, patches)
    marks_ns.append(perf_counter_ns())
    frame_logits = grid.stitch(logits)
    marks_ns.append(perf_counter_ns())
    labels, confidence = decide(frame_logits)
    marks_ns.append(perf_counter_ns())
    lesions = find_lesions(Segmentation(labels, confidence), SPACING_MM)
    marks_ns.append(perf_counter_ns())
    return [end - start for start, end in pairwise(marks_ns)], len(lesions)


def _processor() -> str:
    """Name of the CPU; on Linux from /proc/cpuinfo, since platform.processor() is empty there."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def print_table(result: Overhead, console: Console) -> None:
    """Print the stages, their sum without the network, and whether that meets the target."""
    height, width = result.frame_hw
    console.print(
        f"{result.model} on {result.backend}, {result.processor}: {result.frames} frames of {width}x{height}, "
        f"tiling {result.tiling}, {result.patches} patches and {result.lesions_per_frame:.1f} lesions a frame"
    )
    table = Table()
    table.add_column("stage")
    for heading in ("median ms", "p95 ms", "variation"):
        table.add_column(heading, justify="right")
    for name, latency in {**result.stages, "all but network": result.overhead}.items():
        if name == "all but network":
            table.add_section()
        table.add_row(name, f"{latency.median_ms:.2f}", f"{latency.p95_ms:.2f}", f"{latency.variation:.2f}")
    console.print(table)
    verdict = "meets" if result.overhead.median_ms <= result.target_ms else "misses"
    console.print(f"{verdict} the target of {result.target_ms:g} ms (set for 640x480)")


def main(
    model: Annotated[str, typer.Option(help="Shipped model's name or .onnx file.")] = "edge",
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    frame_size: Annotated[str, typer.Option(help="WxH of the phantom's frames.")] = "640x480",
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; default: the model's own.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to measure.")] = 100,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the backend.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time split, network, stitch, decide and lesions on the phantom."""
    try:
        with load_model(model, backend, threads) as loaded, open_source(f"phantom:{frame_size}@30") as source:
            images = [frame.image for frame in islice(source, DISTINCT_FRAMES)]
            result = measure_overhead(loaded, images, tiling, frames=frames)  # type: ignore[arg-type]
    except BcsegError as error:
        typer.echo(f"error: {error.message}\nhint: {error.hint}", err=True)
        raise typer.Exit(error.exit_code) from error
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
    else:
        print_table(result, Console())


if __name__ == "__main__":
    typer.run(main)
