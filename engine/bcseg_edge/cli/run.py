"""`bcseg-edge run`: frames in, lesions out."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from bcseg_edge.cli import run_outputs as out
from bcseg_edge.cli.live import DEADLINE_MS, LiveArguments, run_live
from bcseg_edge.told import remark

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console
    from rich.table import Table

    from bcseg_edge.crop import Crop, Segment
    from bcseg_edge.passport import Passport, Precision, Tiling
    from bcseg_edge.pipeline import OnFrame, RunSummary
    from bcseg_edge.segmenter import Segmenter
    from bcseg_edge.sources import Source

_SOURCE_HELP = (
    "An image, a video or DICOM file, a folder or glob (in quotes) of images or DICOM files, phantom:640x480@30 (a "
    "simulated cine; options as in 'phantom:640x480@30?seed=1&lesion=malignant&frames=300'), or live: "
    "'camera:0?size=1280x720&fps=30&format=MJPG', /dev/video0, csi:0, rtsp://..., igtl://HOST:18944, watch:FOLDER."
)


_MODEL = "Model and backend"  # a panel of the help


def run(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help=_SOURCE_HELP, show_default=False)] = "",
    model: Annotated[
        str, typer.Option(help="A shipped model's name or a model file.", rich_help_panel=_MODEL)
    ] = "edge",
    backend: Annotated[
        str,
        typer.Option(help="auto (the CPU), openvino, onnxruntime, cuda or tensorrt.", rich_help_panel=_MODEL),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16 or int8; by default int8 on the CPU and fp16 on a GPU, where there.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    tiling: Annotated[
        str | None, typer.Option(help="paper, overlap or frame; by default the model's.", rich_help_panel=_MODEL)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the network.", rich_help_panel=_MODEL)
    ] = None,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse/--no-reuse",
            help="On a CPU: no patch is computed again that did not change.",
            rich_help_panel=_MODEL,
        ),
    ] = True,
    output: Annotated[Path | None, typer.Option(help="Folder for overlay, labels and results.jsonl.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one line of JSON.")] = False,
    spacing: Annotated[
        float | None,
        typer.Option(help="Size of a pixel in mm; overrides what the source knows.", rich_help_panel=out.IMAGE),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            help="Segment x,y,w,h only, auto to find the image, or none; single images: auto.",
            rich_help_panel=out.IMAGE,
        ),
    ] = None,
    mask: out.Mask = None,
    deidentify: out.Deidentify = False,
    camera: Annotated[
        str | None, typer.Option(metavar="[N|DEVICE]", help="A camera; 0 by default.", rich_help_panel=out.LIVE)
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Play SOURCE as a camera would.", rich_help_panel=out.LIVE)
    ] = False,
    deadline: Annotated[
        float, typer.Option(help="Oldest a shown result may be, ms.", rich_help_panel=out.LIVE)
    ] = DEADLINE_MS,
    health: Annotated[
        Path | None, typer.Option(help="JSON file with the state, replaced each second.", rich_help_panel=out.LIVE)
    ] = None,
    reconnect: Annotated[
        float,
        typer.Option(help="Seconds without a frame until it gives up; 0 at the first loss.", rich_help_panel=out.LIVE),
    ] = math.inf,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process", help="No process of its own for the backend, no supervision.", rich_help_panel=out.LIVE
        ),
    ] = False,
    lanes: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Frames computed at once; 2 on a CPU.", rich_help_panel=out.LIVE),
    ] = None,
    display: out.Display = False,
    view: out.View = None,
    view_token: out.ViewToken = None,
    view_cert: out.ViewCert = None,
    view_key: out.ViewKey = None,
    black_box: out.BlackBox = None,
    black_box_seconds: out.BlackBoxSeconds = 60.0,
    smooth: out.Smooth = None,
    track: out.Track = True,
) -> None:
    """Segment frames; write overlays, labels and JSON lines; print what was found and how fast.

    Cameras and streams, and with --live a video or the phantom, run until they end or Ctrl-C comes: the newest frame
    wins, and no result is shown that is older than --deadline.

    Exits with 2 where the source could not be read completely, with 4 where a live one is gone, and with 130 after
    Ctrl-C; what was written is whole.
    """
    from rich.console import Console

    from bcseg_edge import Segmenter, load_model, open_source, pipeline
    from bcseg_edge.errors import DataError, SourceError
    from bcseg_edge.sinks import open_sinks
    from bcseg_edge.sources.devices import is_live

    if camera is not None:
        if source:
            raise SourceError(f"two sources: {source} and --camera {camera}", "leave one of them out")
        source = f"camera:{camera}"
    if not source:
        raise SourceError(
            "run needs a SOURCE", "without data or hardware: bcseg-edge run phantom:640x480@30 --output out"
        )
    if spacing is not None and not 0 < spacing < math.inf:
        raise DataError(f"--spacing {spacing:g} mm is not a pixel's size", "give millimetres per pixel, e.g. 0.08")
    messages = Console(stderr=True)
    wanted = cast("Precision | None", precision)  # `find_model` refuses any other text
    outputs = out.OutputOptions(
        display=display,
        view=view,
        view_token=view_token,
        view_cert=view_cert,
        view_key=view_key,
        black_box=black_box,
        black_box_seconds=black_box_seconds,
        smooth_ms=smooth,
        track=track,
        deidentify=deidentify,
        masks=tuple(mask or ()),
    )
    if live or is_live(source):
        arguments = LiveArguments(
            model=model,
            backend=backend,
            precision=wanted,
            tiling=tiling,
            threads=threads,
            output=output,
            spacing_mm=spacing,
            max_frames=max_frames,
            deadline_ms=deadline,
            crop=crop,
            health=health,
            reconnect_s=reconnect,
            in_process=in_process,
            reuse=reuse,
            lanes=lanes,
            as_json=as_json,
            outputs=outputs,
        )
        with _stop_signals() as stopped_by:
            raise typer.Exit(run_live(source, arguments, messages, stopped_by))
    out.check_offline(out.live_options_given(context))
    with ExitStack() as opened:
        given = opened.enter_context(open_source(source))
        if deidentify and crop == "auto":
            raise DataError(
                "only a live run can tell where --crop auto ends before it records",
                "name the part that --deidentify keeps: --crop X,Y,W,H, or play the file with --live",
            )
        part = _part(crop, given)
        out.check_files(given, outputs, part)
        frames = out.masked_source(given, outputs, part)
        file = model_file(model, backend, wanted)
        loaded = opened.enter_context(load_model(file, backend, threads, wanted))
        segmenter = opened.enter_context(Segmenter(loaded, cast("Tiling | None", tiling), reuse=reuse))
        segment = _cropped(segmenter, crop, part, given)
        warnings = passport_warnings(loaded.passport)
        for warning in warnings:
            remark(messages, f"warning: {warning}")
        dicom = [] if output is None else out.dicom_sinks(output, given, loaded.passport, deidentify)
        sinks = [] if output is None else [*open_sinks(output, frames.frame_hz), *dicom]
        on_frame = opened.enter_context(_progress(messages, frames, max_frames))
        should_stop = opened.enter_context(_stop_signals())
        summary = pipeline.run(
            frames,
            segment,
            sinks,
            max_frames=max_frames,
            spacing_mm=(spacing, spacing) if spacing else None,
            on_frame=on_frame,
            should_stop=lambda: bool(should_stop()),
        )
    for problem in summary.problems:
        remark(messages, f"problem: {problem}")
    facts = {
        "source": frames.description,
        "model": loaded.passport.name,
        "precision": loaded.passport.precision,
        "backend": loaded.backend_name,
        "tiling": segmenter.tiling,
        "output": None if output is None else str(output),
    }
    if as_json:
        typer.echo(json.dumps({**facts, **summary.to_dict(), "warnings": warnings}))
    else:
        Console(markup=False).print(_table(facts, summary))
    raise typer.Exit(_exit_code(summary, should_stop()))


def model_file(model: str, backend: str, precision: Precision | None) -> Path:
    """The model file that fits; with `tensorrt` its plan, built on first use."""
    from bcseg_edge.models import find_model

    return _plan_of(model, precision) if backend == "tensorrt" else find_model(model, backend, precision)


def _plan_of(model: str, precision: Precision | None = None) -> Path:
    """The TensorRT plan of a model file, built on first use and kept; a plan is itself."""
    from bcseg_edge.backends import PLAN_SUFFIX, require_machine_for
    from bcseg_edge.cli.extras import load_extra
    from bcseg_edge.files import cache_folder
    from bcseg_edge.models import read_model

    require_machine_for("tensorrt")
    found = read_model(model, "tensorrt", precision)
    if found.path.suffix == PLAN_SUFFIX:
        return found.path
    module = load_extra("bcseg_export.build", "tensorrt")
    output = cache_folder("plans") / f"{found.path.stem}-{found.passport.sha256[:12]}{PLAN_SUFFIX}"
    built: Path = module.build(module.BuildOptions(model=found.path, output=output)).path
    return built


def _part(crop: str | None, source: Source) -> Crop | None:
    """The part of the frames that `--crop` names, px; None where it names none.

    Of a DICOM file `--crop` counts from the corner of the stored image; frames are its ultrasound region.
    """
    from bcseg_edge.errors import DataError
    from bcseg_edge.live.crop import parse_crop
    from bcseg_edge.sources import DicomSource

    if crop in (None, "auto", "none"):
        return None
    part = parse_crop(crop)
    if not isinstance(source, DicomSource):
        return part
    left, top, width, height = source.crop_xywh
    moved = replace(part, x=part.x - left, y=part.y - top)
    if moved.x < 0 or moved.y < 0 or not moved.fits((height, width)):
        raise DataError(
            f"--crop {part} is no part of the file's ultrasound region {left},{top},{width},{height}", "leave it out"
        )
    return moved


def _cropped(segmenter: Segmenter, crop: str | None, part: Crop | None, source: Source) -> Segment:
    """The segmenter for what `--crop` says; without it, single images lose their black margins (see `crop.py`)."""
    from bcseg_edge.crop import cropped, without_margins
    from bcseg_edge.live.crop import AutoCrop
    from bcseg_edge.sources import ImageSource

    single = isinstance(source, ImageSource)
    if part is not None:
        return cropped(segmenter, part.of)
    if crop == "none" or (crop is None and not (single and segmenter.tiling == "frame")):
        return segmenter
    if crop is None or single:
        return without_margins(segmenter)
    return cropped(segmenter, AutoCrop().look)


def _exit_code(summary: RunSummary, stopped_by: int) -> int:
    if summary.interrupted:
        return 128 + stopped_by  # what a shell makes of a signal: 130 for Ctrl-C
    return 2 if summary.problems or not summary.frames else 0


def passport_warnings(passport: Passport) -> list[str]:
    """What a user has to know of a model before relying on it, one sentence each."""
    if isinstance(passport.parity, str):
        return [f"model {passport.name}: parity with its reference is not measured; do not rely on its labels"]
    if not passport.parity.passed:
        return [f"model {passport.name}: parity failed and was accepted: {'; '.join(passport.parity.failures)}"]
    return []


@contextmanager
def _stop_signals() -> Iterator[Callable[[], int]]:
    """Turn the first Ctrl-C or SIGTERM into a number to ask for (0 before it); a second Ctrl-C ends at once."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _progress(messages: Console, source: Source, max_frames: int | None) -> Iterator[OnFrame]:
    """A bar on stderr; nothing where that is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    totals = [count for count in (source.count, max_frames) if count is not None]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("frames", total=min(totals, default=None))
        yield lambda frame, segmentation, lesions: bar.advance(task)


def _table(facts: dict[str, str | None], summary: RunSummary) -> Table:
    from rich.table import Table

    table = Table(title="interrupted" if summary.interrupted else None, show_header=False)
    table.add_row("source", facts["source"])
    table.add_row("model", f"{facts['model']} {facts['precision']}, {facts['backend']}, tiling {facts['tiling']}")
    table.add_row("frames", f"{summary.frames} in {summary.wall_s:.1f} s, {summary.fps:.1f} frames per second")
    found = ", ".join(f"{count} {name}" for name, count in summary.lesions.items())
    table.add_row("lesions", f"{found}; in {summary.frames_with_lesion} of {summary.frames} frames")
    if summary.latency_ms:
        table.add_row("latency, ms", "  ".join(f"{name}={value:.1f}" for name, value in summary.latency_ms.items()))
        table.add_row(
            "stages, median ms", "  ".join(f"{name}={value:.1f}" for name, value in summary.stages_ms.items())
        )
    if summary.patches_reused:
        table.add_row("patches", out.patches_text(summary.patches, summary.patches_reused))
    if summary.truth_dice is not None:
        dice = (f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in summary.truth_dice.items())
        table.add_row("Dice with the truth", "  ".join(dice))
    if summary.problems:
        table.add_row("problems", str(len(summary.problems)))
    table.add_row("written to", facts["output"] or "nothing written; add --output DIR")
    return table
