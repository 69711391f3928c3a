"""The frame path on a GPU: `python -m bcseg_benchmarks.gpu` times it, with percentiles and a roofline.

Throughput is that of a stream of host frames, uploads under computation; latency is one frame at a time, by CUDA
events. The targets: 300 frames per second at 640x480, and everything but the network at most 5 % of a frame.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Protocol, cast

import numpy as np
import typer

from bcseg_edge import open_source
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.frames import CLASSES, Segmentation, Timings, UInt8Array
from bcseg_edge.models import LoadedModel, load_model
from bcseg_edge.nvidia import nvidia_facts
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TileGrid

if TYPE_CHECKING:
    from bcseg_edge.passport import Precision, Tiling

STAGES = ("upload_ms", "split_ms", "network_ms", "stitch_ms", "download_ms")
PERCENTILES = (50, 90, 95, 99, 100)
DISTINCT_FRAMES = 10
TARGET_FPS, TARGET_SHARE = 300.0, 0.05
RESULT_BYTES, LOGIT_BYTES = 5, 4  # of a pixel: a label and a float32 confidence; a float32 logit


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """What was measured.

    Attributes:
        machine: GPU, driver, power mode.
        model: name, with the backend and the tiling below.
        backend: what executed it.
        tiling: used.
        frame_hw: px.
        patches: per frame.
        frames: measured, each way.
        fps: of the stream, the frames' own cost not included.
        latency_ms: percentiles of upload to download, one frame at a time.
        variation: of the latency: standard deviation over mean; above 0.1 the machine was busy.
        stages_ms: median of each stage.
        kernel_share: split and stitch as a share of all stages, medians.
        tera_operations: per second inside the network, 2 for a multiply-accumulate; None where GMAC are not given.
        network_gbytes: per second that the network moves, 1e9; None where its MB are not given.
        kernel_gbytes: per second that split and stitch move, 1e9: what they read and write once.
        bus_bytes: across the bus for a frame, up and down; 0 on an integrated GPU in truth, where nothing is copied.
        fps_without_graph: as `fps`, each frame queued call by call; None where the backend cannot be captured.
        network_ms_without_graph: as the stage of that name.
    """

    machine: dict[str, str]
    model: str
    backend: str
    tiling: Tiling
    frame_hw: tuple[int, int]
    patches: int
    frames: int
    fps: float
    latency_ms: dict[str, float]
    variation: float
    stages_ms: dict[str, float]
    kernel_share: float
    tera_operations: float | None
    network_gbytes: float | None
    kernel_gbytes: float
    bus_bytes: int
    fps_without_graph: float | None = None
    network_ms_without_graph: float | None = None


class Frames(Protocol):
    """What is measured: a `Segmenter`, or a `FramePath` with or without graphs."""

    def __call__(self, frame: UInt8Array) -> Segmentation:
        """Segment one frame."""

    def stream(self, frames: Iterable[UInt8Array]) -> Iterator[Segmentation]:
        """Segment frames, uploads under computation."""


def measure(
    segmenter: Frames, images: list[UInt8Array], frames: int, *, warm_up: int = 20
) -> tuple[float, list[Timings]]:
    """Frames per second of a stream, and the timings of frames one by one.

    Raises:
        DataError: nothing to measure.
    """
    if not images or frames < 1:
        raise DataError(f"cannot measure {frames} frames of {len(images)} images", "give at least one of each")
    for _ in segmenter.stream(islice(cycle(images), warm_up)):
        pass
    started_s = perf_counter()
    for _ in segmenter.stream(islice(cycle(images), frames)):
        pass
    fps = frames / (perf_counter() - started_s)
    return fps, [segmenter(image).timings for image in islice(cycle(images), frames)]


def figures(
    segmenter: Segmenter,
    names: tuple[str, str],
    images: list[UInt8Array],
    frames: int,
    gmac_per_patch: float | None = None,
    megabytes_per_patch: float | None = None,
) -> GpuFigures:
    """Measure and summarise; `names` are those of model and backend.

    Args:
        megabytes_per_patch: that the network reads and writes; every layer's input, output and weights as a ceiling.
    """
    fps, timings = measure(segmenter, images, frames)
    total_ms = np.array([timing.total_ms for timing in timings])
    stages_ms = {stage: float(np.median([getattr(timing, stage) for timing in timings])) for stage in STAGES}
    frame_hw = (images[0].shape[0], images[0].shape[1])
    patches = TileGrid(frame_hw, segmenter.model.window_hw, segmenter.tiling).count
    work = None if gmac_per_patch is None else 2e9 * gmac_per_patch * patches
    traffic = None if megabytes_per_patch is None else 1e6 * megabytes_per_patch * patches
    frame_px, window_px = math.prod(frame_hw), math.prod(segmenter.model.window_hw)
    bus_bytes = images[0].nbytes + RESULT_BYTES * frame_px
    kernel_bytes = bus_bytes + patches * window_px * (1 + len(CLASSES) * LOGIT_BYTES)
    kernels_s, network_s = (stages_ms["split_ms"] + stages_ms["stitch_ms"]) * 1e-3, stages_ms["network_ms"] * 1e-3
    latency = (f"p{percentile}" for percentile in PERCENTILES)
    return GpuFigures(
        machine=nvidia_facts(),
        model=names[0],
        backend=names[1],
        tiling=segmenter.tiling,
        frame_hw=frame_hw,
        patches=patches,
        frames=frames,
        fps=fps,
        latency_ms=dict(zip(latency, np.percentile(total_ms, PERCENTILES).tolist(), strict=True)),
        variation=float(total_ms.std() / total_ms.mean()),
        stages_ms=stages_ms,
        kernel_share=(stages_ms["split_ms"] + stages_ms["stitch_ms"]) / sum(stages_ms.values()),
        tera_operations=None if work is None else work / network_s / 1e12,
        network_gbytes=None if traffic is None else traffic / network_s / 1e9,
        kernel_gbytes=kernel_bytes / kernels_s / 1e9,
        bus_bytes=bus_bytes,
    )


def without_graph(model: LoadedModel, with_graph: GpuFigures, images: list[UInt8Array], frames: int) -> GpuFigures:
    """Add what the same frames take where each is queued call by call, if the backend can be captured at all.

    Args:
        model: that `with_graph` was measured with.
        with_graph: figures to complete.
    """
    if with_graph.backend != "tensorrt":  # ONNX Runtime's provider cannot be captured: there is nothing to compare
        return with_graph
    path = model.open_frame_path(with_graph.tiling, graphs=False)
    if path is None:
        return with_graph
    with contextlib.closing(path):
        fps, timings = measure(path, images, frames)
    network_ms = float(np.median([timing.network_ms for timing in timings]))
    return replace(with_graph, fps_without_graph=fps, network_ms_without_graph=network_ms)


def main(
    model: Annotated[str, typer.Option(help="Shipped model's name, .onnx or .engine file.")] = "edge",
    backend: Annotated[str, typer.Option(help="cuda or tensorrt.")] = "cuda",
    frame_size: Annotated[str, typer.Option(help="WxH of the phantom's frames.")] = "640x480",
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; default: the model's own.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to measure.")] = 1000,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or int8; by default fp16 where there.")] = None,
    gmac_per_patch: Annotated[float | None, typer.Option(help="10.84 for resnext50 at 256x256.")] = None,
    megabytes_per_patch: Annotated[float | None, typer.Option(help="What the network reads and writes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Time the CUDA frame path on the phantom."""
    try:
        wanted = cast("Precision | None", precision)
        with load_model(model, backend, precision=wanted) as loaded, open_source(f"phantom:{frame_size}@30") as source:
            images = [frame.image for frame in islice(source, DISTINCT_FRAMES)]
            names = (loaded.passport.name, loaded.backend_name)
            with Segmenter(loaded, cast("Tiling | None", tiling)) as segmenter:
                result = figures(segmenter, names, images, frames, gmac_per_patch, megabytes_per_patch)
                result = without_graph(loaded, result, images, frames)
    except BcsegError as error:
        typer.echo(f"error: {error.message}\nhint: {error.hint}", err=True)
        raise typer.Exit(error.exit_code) from error
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    for name, value in asdict(result).items():
        typer.echo(f"{name}: {value}")
    met = result.fps >= TARGET_FPS and result.kernel_share <= TARGET_SHARE
    typer.echo(f"{'meets' if met else 'misses'} {TARGET_FPS:g} frames per second and {TARGET_SHARE:.0%} (at 640x480)")


if __name__ == "__main__":
    typer.run(main)
