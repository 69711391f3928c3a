"""`bcseg-edge run` on a live source: the part of the command that `run.py` hands over to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bcseg_edge.cli.run_outputs import LiveOutputs, OutputOptions, masked_live_source, patches_text
from bcseg_edge.told import remark

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bcseg_edge.crop import Crop
    from bcseg_edge.live.backend import LiveBackend
    from bcseg_edge.live.crop import AutoCrop
    from bcseg_edge.live.loop import LiveOptions
    from bcseg_edge.live.results import Controls
    from bcseg_edge.live.summary import LiveSummary
    from bcseg_edge.models import Model
    from bcseg_edge.passport import Precision
    from bcseg_edge.sources import LiveSource

DEADLINE_MS = 200.0
PHANTOM_FRAMES = 150  # rendered where the source does not say how many
MOST_PHANTOM_FRAMES = 300  # they play to and fro; rendering 640x480 takes about 10 s and 90 MB


@dataclass(frozen=True, slots=True)
class LiveArguments:
    """What the command line says of a live run; see the options of `run`."""

    model: str
    backend: str
    precision: Precision | None
    tiling: str | None
    threads: int | None
    output: Path | None
    spacing_mm: float | None
    max_frames: int | None
    deadline_ms: float
    crop: str | None
    health: Path | None
    reconnect_s: float
    in_process: bool
    reuse: bool
    lanes: int | None
    as_json: bool
    outputs: OutputOptions


def open_live_source(
    spec: str,
    max_frames: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda line: None,
) -> LiveSource:
    """The live source of `spec`; the phantom, rendered beforehand, and videos play in real time.

    Args:
        spec: see `open_source`.
        max_frames: no more of the phantom are rendered.
        should_stop: asked before each of them; what was rendered is then all.
        tell: is told that it renders, which takes seconds.

    Raises:
        SourceError: not there, or of still images.
    """
    from bcseg_edge.sources import LiveSource, PhantomSource, open_source
    from bcseg_edge.sources.paced import PacedSource, pace, to_and_fro

    source = open_source(spec)
    if isinstance(source, LiveSource):
        return source
    paced = pace(source)
    if isinstance(source, PhantomSource):
        # Simulating takes most of a frame's time; a cine that plays to and fro has no end, as a camera has none.
        count = min(source.spec.frames or PHANTOM_FRAMES, max_frames or MOST_PHANTOM_FRAMES, MOST_PHANTOM_FRAMES)
        tell(f"rendering {count} frames of the phantom, which then play to and fro")
        frames = [replace(source.frame(0), truth=None)]
        while len(frames) < count and not should_stop():
            frames.append(replace(source.frame(len(frames)), truth=None))
        paced = PacedSource(source.description, source.spec.frame_hz, lambda: to_and_fro(frames))
    paced.open()
    return paced


def live_outputs(
    arguments: LiveArguments,
    options: LiveOptions,
    source: LiveSource,
    model: Model,
    facts: dict[str, str],
    controls: Controls,
) -> LiveOutputs:
    """Where the results of a live run go.

    Raises:
        BcsegError: something cannot be opened.
    """
    from bcseg_edge.cli.run import passport_warnings
    from bcseg_edge.cli.run_outputs import LiveRun, open_live_outputs

    run = LiveRun(
        controls=controls,
        output=arguments.output,
        frame_hz=source.frame_hz,
        source=source.description,
        model=model,
        backend=facts["backend"],
        tiling=facts["tiling"],
        reuse=arguments.reuse,
        deadline_ms=options.deadline_ms,
        lossless=source.lossless,
        crop=options.crop,
        warnings=tuple(passport_warnings(model.passport)),
    )
    return open_live_outputs(arguments.outputs, run)


def run_live(spec: str, arguments: LiveArguments, messages: Console, stopped_by: Callable[[], int]) -> int:
    """Run until the source ends, a person quits or a signal comes; prints the summary.

    Returns:
        Exit code: 0, 2 where the source had problems or nothing was seen, 4 where it was given up, 128 + signal.

    Raises:
        BcsegError: something cannot be opened.
    """
    from bcseg_edge.cli.run import model_file, passport_warnings
    from bcseg_edge.live.health import health_file
    from bcseg_edge.live.loop import LiveLoop
    from bcseg_edge.live.results import Controls
    from bcseg_edge.models import read_model

    controls = Controls()
    with ExitStack() as opened:
        health = opened.enter_context(health_file(arguments.health))
        options = _options(arguments)
        file = model_file(arguments.model, arguments.backend, arguments.precision)
        arguments = replace(arguments, model=str(file))
        source = opened.enter_context(
            open_live_source(
                spec, arguments.max_frames, lambda: bool(stopped_by()), lambda line: remark(messages, line)
            )
        )
        source = masked_live_source(source, arguments.outputs, options.crop)
        model = read_model(arguments.model, arguments.backend, arguments.precision)
        backends, facts = _open_backends(arguments, source.lossless, opened)
        warnings = passport_warnings(model.passport)
        for warning in warnings:
            remark(messages, f"warning: {warning}")
        source.skip_old()  # loading a model takes seconds
        outputs = live_outputs(arguments, options, source, model, facts, controls)
        for note in outputs.notes:
            remark(messages, note)
        if health is not None:
            outputs.sinks.append(health)
        loop = LiveLoop(
            source,
            backends,
            outputs.sinks,
            options,
            controls=controls,
            refine=outputs.refine,
            blacken=outputs.blacken,
        )
        summary = loop.run(lambda: bool(stopped_by()))
    problems = [*summary.problems, *(problem for sink in outputs.sinks for problem in getattr(sink, "problems", ()))]
    if arguments.outputs.deidentify and _is_unsettled(options.crop):
        problems.append("the ultrasound image was not found, so every frame is black: nothing moved for long enough")
    for problem in problems:
        remark(messages, f"problem: {problem}")
    output = None if arguments.output is None else str(arguments.output)
    facts = {"source": source.description, **facts}
    if arguments.as_json:
        record = {**facts, "output": output, **summary.to_dict(), "problems": problems, "warnings": warnings}
        typer.echo(json.dumps(record))
    else:
        from rich.console import Console

        Console(markup=False).print(_table(facts, summary, problems, output))
    return _exit_code(summary, problems, stopped_by())


def _open_backends(
    arguments: LiveArguments, lossless: bool, closing: ExitStack
) -> tuple[list[LiveBackend], dict[str, str]]:
    """A backend for each lane, started side by side, and what they are; a lossless source has one lane."""
    from concurrent.futures import ThreadPoolExecutor

    from bcseg_edge.live.backend import InProcessBackend
    from bcseg_edge.live.lanes import plan_lanes
    from bcseg_edge.live.supervisor import SupervisedBackend
    from bcseg_edge.live.worker import SegmenterFactory

    only_one = arguments.in_process or lossless
    wanted = 1 if only_one else arguments.lanes
    lanes, threads = plan_lanes(arguments.backend, arguments.model, arguments.threads, wanted)
    factory = SegmenterFactory(arguments.model, arguments.backend, threads, arguments.tiling, arguments.reuse)
    if arguments.in_process:
        segmenter, facts = factory()
        closing.callback(segmenter.close)
        return [InProcessBackend(segmenter)], facts
    with ThreadPoolExecutor(lanes) as starting:
        starts = [starting.submit(SupervisedBackend, factory) for _ in range(lanes)]
    for start in starts:
        if start.exception() is None:
            closing.callback(start.result().close)
    backends = [start.result() for start in starts]
    return list(backends), backends[0].facts


def _options(arguments: LiveArguments) -> LiveOptions:
    from bcseg_edge.errors import DataError
    from bcseg_edge.live.capture import Reconnect
    from bcseg_edge.live.loop import LiveOptions

    if not 0 < arguments.deadline_ms < math.inf:
        raise DataError(f"--deadline {arguments.deadline_ms:g} ms is no time", "give milliseconds, e.g. 100")
    if not arguments.reconnect_s >= 0:
        raise DataError(f"--reconnect {arguments.reconnect_s:g} s is no time", "give seconds, 0 or inf")
    if arguments.in_process and arguments.lanes not in (None, 1):
        raise DataError(f"--in-process has one lane, not {arguments.lanes}", "leave --lanes out")
    spacing = arguments.spacing_mm
    return LiveOptions(
        deadline_ms=arguments.deadline_ms,
        crop=_crop(arguments.crop),
        spacing_mm=(spacing, spacing) if spacing else None,
        reconnect=Reconnect(give_up_s=arguments.reconnect_s),
        max_frames=arguments.max_frames,
    )


def _crop(text: str | None) -> Crop | AutoCrop | None:
    from bcseg_edge.live.crop import AutoCrop, parse_crop

    if text in (None, "none"):
        return None
    return AutoCrop() if text == "auto" else parse_crop(text)


def _is_unsettled(crop: Crop | AutoCrop | None) -> bool:
    from bcseg_edge.live.crop import AutoCrop

    return isinstance(crop, AutoCrop) and not crop.settled


def _exit_code(summary: LiveSummary, problems: Sequence[str], stopped_by: int) -> int:
    if summary.interrupted:
        return 128 + stopped_by
    if summary.gave_up:
        return 4
    return 2 if problems or not summary.health.ledger.captured else 0


def _table(facts: dict[str, str], summary: LiveSummary, problems: Sequence[str], output: str | None) -> Table:
    from rich.table import Table

    health, ledger = summary.health, summary.health.ledger
    table = Table(title="interrupted" if summary.interrupted else None, show_header=False)
    table.add_row("source", facts["source"])
    table.add_row("model", f"{facts.get('model')}, {facts.get('backend')}, tiling {facts.get('tiling')}")
    table.add_row("captured", f"{ledger.captured} frames in {health.uptime_s:.1f} s, {ledger.dropped} dropped")
    table.add_row(
        "results",
        f"{ledger.shown} shown, {summary.results_hz:.1f} per second; {ledger.segmented} segmented, "
        f"{ledger.reused} frozen, {ledger.late} late, {ledger.blank} blank, {ledger.failed} failed",
    )
    if summary.age_ms:
        table.add_row("age, ms", "  ".join(f"{name}={value:.1f}" for name, value in summary.age_ms.items()))
        table.add_row(
            "stages, median ms", "  ".join(f"{name}={value:.1f}" for name, value in summary.stages_ms.items())
        )
    if health.patches_reused:
        table.add_row("patches", patches_text(health.patches, health.patches_reused))
    if summary.crop is not None:
        table.add_row("crop", f"--crop {summary.crop}")
    table.add_row("restarts", f"source {health.source_restarts}, backend {health.backend_restarts}")
    table.add_row("memory, MB", f"{health.memory_mb:.0f}")
    if summary.gave_up:
        table.add_row("given up", summary.gave_up)
    if problems:
        table.add_row("problems", str(len(problems)))
    table.add_row("written to", output or "nothing written; add --output DIR")
    return table
