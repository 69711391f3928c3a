"""The options of `bcseg-edge run` that say where results go, and what they open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcseg_edge.errors import DataError

if TYPE_CHECKING:
    from bcseg_edge.crop import Crop
    from bcseg_edge.deidentify import Rectangle
    from bcseg_edge.live.crop import AutoCrop
    from bcseg_edge.live.results import Controls, LiveResult, LiveSink
    from bcseg_edge.live.snapshots import SnapshotSink
    from bcseg_edge.live.view import ViewSink
    from bcseg_edge.live.writer import WriterThread
    from bcseg_edge.models import Model
    from bcseg_edge.passport import Passport
    from bcseg_edge.sinks import Sink
    from bcseg_edge.sources import LiveSource, Source

LIVE = "Live: cameras, streams, and with --live a video or the phantom"  # panels of `run --help`
PAGE = "Live: a page in the browser"
IMAGE = "What of the image is used"

Display = Annotated[
    bool,
    typer.Option(
        "--display", help="A window. Keys: f freeze, s snapshot, o overlay, +/- opacity, q quit.", rich_help_panel=LIVE
    ),
]
View = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Where it is, e.g. 127.0.0.1:8080.", rich_help_panel=PAGE)
]
ViewToken = Annotated[
    str | None,
    typer.Option(
        envvar="BCSEG_VIEW_TOKEN",
        help="What the page asks for; 16 characters at least.",
        show_default=False,
        rich_help_panel=PAGE,
    ),
]
ViewCert = Annotated[Path | None, typer.Option(help="TLS certificate, PEM.", rich_help_panel=PAGE)]
ViewKey = Annotated[Path | None, typer.Option(help="TLS key, PEM.", rich_help_panel=PAGE)]
BlackBox = Annotated[
    Path | None, typer.Option(help="Folder that keeps the last seconds, for replay.", rich_help_panel=LIVE)
]
BlackBoxSeconds = Annotated[float, typer.Option(help="How many seconds it keeps.", rich_help_panel=LIVE)]
Smooth = Annotated[
    float | None,
    typer.Option(metavar="MS", help="Average over this time; masks come 0.7 times it late.", rich_help_panel=LIVE),
]
Track = Annotated[
    bool, typer.Option("--track/--no-track", help="Numbers and steady classes for lesions.", rich_help_panel=LIVE)
]
Deidentify = Annotated[
    bool,
    typer.Option(
        "--deidentify",
        help="Blacken all outside the ultrasound image; no patient tags, no file names.",
        rich_help_panel=IMAGE,
    ),
]
Mask = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X,Y,W,H", help="Blacken a rectangle before segmenting; may be repeated.", rich_help_panel=IMAGE
    ),
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What the command line says of outputs; see the options above."""

    display: bool = False
    view: str | None = None
    view_token: str | None = None
    view_cert: Path | None = None
    view_key: Path | None = None
    black_box: Path | None = None
    black_box_seconds: float = 60.0
    smooth_ms: float | None = None
    track: bool = True
    deidentify: bool = False
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What the outputs have to know of a live run.

    Attributes:
        controls: of the run.
        output: folder for files; None writes none.
        frame_hz: of the source, None where unknown.
        source: its description.
        model: the model file.
        backend: that executes it.
        tiling: of the frames.
        reuse: patches that did not change are not computed again.
        deadline_ms: oldest a shown result may be.
        lossless: the source's images do not grow old, and there is no deadline.
        crop: what is segmented, None for whole frames.
        warnings: about the model, for the page.
    """

    controls: Controls
    output: Path | None
    frame_hz: float | None
    source: str
    model: Model
    backend: str
    tiling: str
    reuse: bool
    deadline_ms: float
    lossless: bool = False
    crop: Crop | AutoCrop | None = None
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class LiveOutputs:
    """Where a live run's results go.

    Attributes:
        sinks: for `LiveLoop`.
        refine, blacken: for `LiveLoop`.
        notes: for the person who started the run: the page's address, the smoothing's delay.
    """

    sinks: list[LiveSink] = field(default_factory=list)
    refine: Callable[[LiveResult], LiveResult] | None = None
    blacken: Callable[[LiveResult], LiveResult] | None = None
    notes: list[str] = field(default_factory=list)


def patches_text(patches: int, reused: int) -> str:
    """What was saved, for the summary."""
    return f"{patches - reused} of {patches} computed, {reused / patches:.0%} saved since they had not changed"


def check_offline(given: Sequence[str]) -> None:
    """Refuse options that only a live run has.

    Args:
        given: options on the command line, e.g. `--view`.

    Raises:
        DataError: one of them is in a panel of live options.
    """
    if given:
        raise DataError(
            f"{given[0]} is for live sources", "add --live to play a video or the phantom as a camera would"
        )


def check_files(source: Source, options: OutputOptions, crop: Crop | None) -> None:
    """Refuse options that need the place of the image in one file where the source is several DICOM files.

    Raises:
        DataError: one was given.
    """
    from bcseg_edge.sources import DicomFilesSource

    if isinstance(source, DicomFilesSource) and (options.masks or options.deidentify or crop is not None):
        raise DataError(
            "--mask, --crop X,Y,W,H and --deidentify are for one DICOM file, whose region they count from",
            "run the files one by one",
        )


def live_options_given(context: typer.Context) -> list[str]:
    """The options of the live panels that the command line holds, in the order of the help."""
    return [
        option.opts[0] if context.params[option.name] or not option.secondary_opts else option.secondary_opts[0]
        for option in context.command.params
        if getattr(option, "rich_help_panel", None) in (LIVE, PAGE)
        and option.name is not None
        and (origin := context.get_parameter_source(option.name)) is not None
        and origin.name == "COMMANDLINE"
    ]


def masked_source(source: Source, options: OutputOptions, crop: Crop | None) -> Source:
    """`source` without what the options say must not be seen.

    Args:
        source: the frames.
        options: its masks are in px of the image as it is stored, of a DICOM file too.
        crop: the part that `--crop` names, px of the source's frames; None: none.

    Raises:
        DataError: rectangles that make no sense, or no way to know where the ultrasound image lies.
    """
    from bcseg_edge.deidentify import MaskedSource, in_part
    from bcseg_edge.sources import DicomSource

    rectangles = _rectangles(options)
    is_cut = False
    if isinstance(source, DicomSource):
        is_cut = source.crop_xywh != (0, 0, *source.frame_hw[::-1])
        rectangles = in_part(rectangles, source.crop_xywh, source.frame_hw)
    _require_image_known(options, is_cut or crop is not None)
    if not rectangles and not options.deidentify:
        return source
    inside = crop.xywh if crop is not None and options.deidentify else None
    return MaskedSource(source, rectangles, keep_names=not options.deidentify, inside=inside)


def masked_live_source(source: LiveSource, options: OutputOptions, crop: object) -> LiveSource:
    """The same for a live source; `crop` is what is segmented, None for whole frames.

    Raises:
        DataError: as `masked_source`.
    """
    from bcseg_edge.deidentify import MaskedLiveSource

    rectangles = _rectangles(options)
    _require_image_known(options, crop is not None)
    if not rectangles and not options.deidentify:
        return source
    return MaskedLiveSource(source, rectangles, keep_names=not options.deidentify)


def dicom_sinks(output: Path, source: Source, passport: Passport, deidentify: bool) -> list[Sink]:
    """`segmentation.dcm` and `measurements.dcm` where the source is DICOM, else nothing."""
    import bcseg_edge
    from bcseg_edge.sources import DicomSource

    if not isinstance(source, DicomSource):
        return []
    from bcseg_edge.sinks.dicom_seg import DicomSegSink
    from bcseg_edge.sinks.dicom_sr import DicomSrSink
    from bcseg_edge.sinks.dicom_text import SegmentationFacts

    facts = SegmentationFacts(passport.name, passport.sha256, bcseg_edge.__version__)
    labels = DicomSegSink(output / "segmentation.dcm", source, facts, deidentify)
    return [labels, DicomSrSink(output / "measurements.dcm", source, facts, labels, deidentify)]


def open_live_outputs(options: OutputOptions, run: LiveRun) -> LiveOutputs:
    """Open what the options ask for: files, black box, window, page.

    Raises:
        BcsegError: something cannot be opened; what was opened before it is closed again.
    """
    from bcseg_edge.live.shown import Shown
    from bcseg_edge.live.writer import WriterThread
    from bcseg_edge.sinks import open_sinks

    outputs = LiveOutputs()
    outputs.refine = _refine(options, outputs.notes)
    if options.deidentify and run.crop is not None:
        outputs.blacken = _blackener(run.crop)
    with ExitStack() as undo:
        writers: list[WriterThread] = []
        if options.black_box is not None:
            writers.append(_open_black_box(options, options.black_box, run))
            undo.callback(writers[-1].close)
        screens = _open_screens(options, run, writers, outputs.notes, undo)
        if run.output is not None:  # last: it removes what an earlier run wrote
            writers.append(WriterThread(open_sinks(run.output, run.frame_hz), run.output))
        outputs.sinks += writers
        if screens:
            outputs.sinks.append(Shown(screens, run.controls))
        undo.pop_all()
    return outputs


def _refine(options: OutputOptions, notes: list[str]) -> Callable[[LiveResult], LiveResult] | None:
    """Smoothing, then tracking."""
    steps: list[Callable[[LiveResult], LiveResult]] = []
    if options.smooth_ms is not None:
        from bcseg_edge.live.smoothing import Smoother

        smoother = Smoother(options.smooth_ms)
        steps.append(smoother)
        notes.append(f"smoothing: what changes is shown {smoother.latency_ms:.0f} ms late")
    if options.track:
        from bcseg_edge.live.tracking import Tracker

        steps.append(Tracker())
    if not steps:
        return None
    return lambda result: reduce(lambda refined, step: step(refined), steps, result)


def _blackener(crop: Crop | AutoCrop) -> Callable[[LiveResult], LiveResult]:
    """Blackens all outside the ultrasound image; all of the frame, without a mask, until that is found for good."""
    from bcseg_edge.deidentify import blacken_outside
    from bcseg_edge.live.crop import AutoCrop
    from bcseg_edge.live.results import LiveResult, Validity

    def step(result: LiveResult) -> LiveResult:
        image = result.frame.image
        known = crop.settled_for((image.shape[0], image.shape[1])) if isinstance(crop, AutoCrop) else crop
        inside = None if known is None or result.crop_xywh not in (None, known.xywh) else known.xywh
        frame = replace(result.frame, image=blacken_outside(image, inside))
        if inside is None and result.segmentation is not None:  # outlines of what was found in text would show it
            return LiveResult(frame, Validity.BLANK, None, stages_ms=result.stages_ms, hidden=True)
        return replace(result, frame=frame, hidden=inside != result.crop_xywh)

    return step


def _open_black_box(options: OutputOptions, folder: Path, run: LiveRun) -> WriterThread:
    import bcseg_edge
    from bcseg_edge.live.blackbox import BlackBoxSink, RunFacts
    from bcseg_edge.live.writer import WriterThread

    facts = RunFacts(
        model_path=str(run.model.path),
        model_sha256=run.model.passport.sha256,
        backend=run.backend,
        tiling=run.tiling,
        version=bcseg_edge.__version__,
        deidentified=options.deidentify,
        reuse=run.reuse,
    )
    return WriterThread([BlackBoxSink(folder, facts, options.black_box_seconds)], folder, name="black box")


def _open_screens(
    options: OutputOptions, run: LiveRun, writers: Sequence[WriterThread], notes: list[str], undo: ExitStack
) -> list[LiveSink]:
    from bcseg_edge.live.snapshots import SnapshotSink

    if options.view is None and not options.display:
        return []
    screens: list[LiveSink] = []
    snapshots = None
    if run.output is not None:
        snapshots = SnapshotSink(run.output / "snapshots", run.controls)
        screens.append(snapshots)
        undo.callback(snapshots.close)
    if options.display:
        from bcseg_edge.live.display import DisplaySink

        screens.append(DisplaySink(run.controls, lossless=run.lossless))
        undo.callback(screens[-1].close)
    if options.view is not None:
        view = _open_view(options, options.view, run, writers, snapshots)
        screens.append(view)
        notes.append(f"page: {view.url}{'?token=THE-VIEW-TOKEN' if options.view_token else ''}")
    return screens


def _open_view(
    options: OutputOptions, spec: str, run: LiveRun, writers: Sequence[WriterThread], snapshots: SnapshotSink | None
) -> ViewSink:
    from bcseg_edge.live.crop import AutoCrop
    from bcseg_edge.live.view import ViewFacts, ViewSink, parse_address

    address = parse_address(spec, options.view_token, options.view_cert, options.view_key)
    facts = ViewFacts(
        source="de-identified" if options.deidentify else run.source,
        model=run.model.passport.name,
        backend=run.backend,
        deadline_ms=None if run.lossless else run.deadline_ms,
        can_snapshot=snapshots is not None,
        lossless=run.lossless,
        warnings=run.warnings,
    )

    def notices() -> list[str]:
        told = [problem for writer in writers for problem in writer.problems]
        if options.deidentify and isinstance(run.crop, AutoCrop) and not run.crop.settled:
            told.append("de-identified: black until the ultrasound image is found by its motion")
        return told if snapshots is None else [*told, *snapshots.problems]

    return ViewSink(
        address,
        facts,
        run.controls,
        notices=notices,
        snapshots=lambda: 0 if snapshots is None else snapshots.count,
    )


def _rectangles(options: OutputOptions) -> tuple[Rectangle, ...]:
    from bcseg_edge.deidentify import parse_rectangles

    return parse_rectangles(options.masks)


def _require_image_known(options: OutputOptions, is_cut: bool) -> None:
    if options.deidentify and not is_cut and not options.masks:
        raise DataError(
            "--deidentify has to know where the ultrasound image lies, and nothing here says so",
            "add --crop X,Y,W,H (live also --crop auto), or name what to blacken with --mask X,Y,W,H",
        )
