"""The frame path on a GPU: `python -m bcseg_benchmarks.gpu` times it, with percentiles and a roofline.

Every model in every precision asked for; with TensorRT from plans that it builds for exactly these frames. Throughput
is that of a stream of host frames, uploads under computation; latency is one frame at a time, by CUDA events. The
targets: 300 frames per second at 640x480, and split and stitch at most 5 % of a frame.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, cycle, islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import numpy as np
import typer

from bcseg_benchmarks.gpu_peak import GpuPeak, measure_gpu_peak, share_of_roof
from bcseg_benchmarks.subjects import Subject, open_subjects
from bcseg_benchmarks.work import work_of
from bcseg_benchmarks.workload import parse_size
from bcseg_edge import open_source
from bcseg_edge.backends import require_machine_for
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.frames import CLASSES, Segmentation, Timings, UInt8Array
from bcseg_edge.models import LoadedModel, load_model
from bcseg_edge.nvidia import nvidia_facts
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TileGrid
from bcseg_edge.told import errors_told

if TYPE_CHECKING:
    from bcseg_edge.passport import Tiling

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
        tera_operations: per second inside the network, 2 for a multiply-accumulate; None where they are not known.
        network_gbytes: per second that the network moves, 1e9, no layer fused; None where it is not known.
        kernel_gbytes: per second that split and stitch move, 1e9: what they read and write once.
        bus_bytes: across the bus for a frame, up and down; 0 on an integrated GPU in truth, where nothing is copied.
        fps_without_graph: as `fps`, each frame queued call by call; None where the backend cannot be captured.
        network_ms_without_graph: as the stage of that name.
        precision: of the file's arithmetic.
        weights: where they come from; what only shows speed says so.
        peak: of the GPU; None where PyTorch is not there to measure it.
        share_of_roof: of the operations that the peak allows at the network's operations per byte.
        targets: each by name, met or missed.
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
    precision: str = ""
    weights: str = ""
    peak: GpuPeak | None = None
    share_of_roof: float | None = None
    targets: dict[str, bool] = field(default_factory=dict)


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


def subject_figures(
    subject: Subject, backend: str, tiling: Tiling, images: list[UInt8Array], frames: int, peak: GpuPeak | None
) -> GpuFigures:
    """Measure a model file, under the GPU's roof where that is known."""
    work = work_of(subject)
    gmac = None if work is None else work.mac / 1e9
    megabytes = None if work is None else work.traffic_bytes / 1e6
    with load_model(subject.path, backend) as loaded, Segmenter(loaded, tiling) as segmenter:
        result = figures(segmenter, (subject.name, loaded.backend_name), images, frames, gmac, megabytes)
        result = without_graph(loaded, result, images, frames)
    return replace(
        result,
        precision=subject.precision,
        weights=subject.weights,
        peak=peak,
        share_of_roof=share_of_roof(result.tera_operations, result.network_gbytes, subject.precision, peak),
        targets={
            f"{TARGET_FPS:g} frames per second": result.fps >= TARGET_FPS,
            f"split and stitch at most {TARGET_SHARE:.0%} of a frame": result.kernel_share <= TARGET_SHARE,
        },
    )


def with_plan(subject: Subject, tiling: Tiling, frame_hw: tuple[int, int], folder: Path) -> Subject:
    """`subject` as a TensorRT plan for exactly the patches of such frames; a plan stays what it is."""
    if subject.path.suffix != ".onnx":
        return subject
    from bcseg_export.build import BuildOptions, build

    size = (frame_hw[1], frame_hw[0])
    output = folder / f"{subject.path.stem}.engine"
    built = build(BuildOptions(model=subject.path, output=output, frame_sizes=(size,), tiling=tiling))
    return replace(subject, path=built.path, passport=built.passport)


def main(
    model: Annotated[
        list[str] | None, typer.Option(help="Shipped model's name, .onnx or .engine file; may be repeated.")
    ] = None,
    random_weights: Annotated[
        list[str] | None, typer.Option(help="Architecture to add with random weights: its speed only.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16 or int8, may be repeated; by default fp16 where there.")
    ] = None,
    backend: Annotated[str, typer.Option(help="cuda or tensorrt.")] = "cuda",
    frame_size: Annotated[str, typer.Option(help="WxH of the phantom's frames.")] = "640x480",
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; default: the model's own.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames to measure.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Time the CUDA frame path on the phantom."""
    models = tuple(model or (() if random_weights else ("edge",)))
    with errors_told():
        frame_hw = parse_size(frame_size)
        require_machine_for(backend)
        with tempfile.TemporaryDirectory() as folder, open_source(f"phantom:{frame_size}@30") as source:
            images = [frame.image for frame in islice(source, DISTINCT_FRAMES)]
            subjects = open_subjects(models, tuple(random_weights or ()), tuple(precision or ()), Path(folder), backend)
            peak = measure_gpu_peak()
            results: list[dict[str, Any]] = []
            for subject in subjects:
                chosen = cast("Tiling", subject.tiling or tiling or subject.passport.tiling)
                try:
                    ready = with_plan(subject, chosen, frame_hw, Path(folder)) if backend == "tensorrt" else subject
                    results.append(asdict(subject_figures(ready, backend, chosen, images, frames, peak)))
                except BcsegError as error:  # the others are measured all the same: a GPU is rare
                    results.append({"model": subject.name, "precision": subject.precision, "problem": error.message})
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        for name, value in chain.from_iterable(result.items() for result in results):
            typer.echo(f"{name}: {value}")
    if any("problem" in result for result in results):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
