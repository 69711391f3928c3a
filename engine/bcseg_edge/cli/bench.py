"""`bcseg-edge bench`: how fast it is here, against what one would use instead."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra

_EXTRA = "bench"
_WHAT, _HOW_LONG, _ALSO = "What is measured", "How long", "What is measured beside it"  # panels of the help


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped model's name or a model file, @TILING behind it or not; may be repeated.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    random_weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Architecture, or ARCHITECTURE@TILING, with random weights: speed only.", rich_help_panel=_WHAT
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 or int8, may be repeated; by default files as they are.", rich_help_panel=_WHAT),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto, openvino, onnxruntime, cuda or tensorrt.", rich_help_panel=_WHAT)
    ] = "auto",
    tiling: Annotated[
        str | None, typer.Option(help="paper, overlap or frame; by default each model's.", rich_help_panel=_WHAT)
    ] = None,
    frame_size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the frames.", rich_help_panel=_WHAT)] = "640x480",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of every contender; by default all cores.", rich_help_panel=_WHAT)
    ] = None,
    frames: Annotated[
        int, typer.Option(min=1, help="Measure at least so many frames,", rich_help_panel=_HOW_LONG)
    ] = 100,
    seconds: Annotated[float, typer.Option(min=0, help="and at least so long.", rich_help_panel=_HOW_LONG)] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds of warm-up at most.", rich_help_panel=_HOW_LONG)] = 5.0,
    peers: Annotated[
        str,
        typer.Option(help="all, none, or ways by name with commas: see benchmarks/README.md.", rich_help_panel=_ALSO),
    ] = "none",
    rounds: Annotated[
        int, typer.Option(min=1, help="Of the interleaved run of the peers.", rich_help_panel=_HOW_LONG)
    ] = 5,
    cold_starts: Annotated[int, typer.Option(min=0, help="Fresh processes a model.", rich_help_panel=_HOW_LONG)] = 5,
    recording: Annotated[
        int, typer.Option(min=0, help="Frames of capture, draw and write.", rich_help_panel=_HOW_LONG)
    ] = 100,
    scaling: Annotated[
        bool, typer.Option(help="Measure frame sizes, batches and threads.", rich_help_panel=_ALSO)
    ] = False,
    roofline: Annotated[bool, typer.Option(help="Measure the processor's peak.", rich_help_panel=_ALSO)] = True,
    report: Annotated[Path | None, typer.Option(help="Folder for report.html, report.json and report.md.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="A former report.json: say what changed beyond the noise.")
    ] = None,
    check: Annotated[Path | None, typer.Option(help="TOML file of ratios; exit 3 where one is missed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure latency, throughput, cold start and peers on this machine, and write one report."""
    from rich.console import Console

    options = load_extra("bcseg_benchmarks.options", _EXTRA)
    command = load_extra("bcseg_benchmarks.command", _EXTRA)
    output = load_extra("bcseg_benchmarks.output", _EXTRA)
    size = load_extra("bcseg_benchmarks.workload", _EXTRA).parse_size(frame_size)
    old = output.read_old(compare)
    messages = Console(stderr=True)
    with messages.status("measuring", spinner="line") as status:
        result = command.bench(
            options.BenchOptions(
                models=tuple(model or (() if random_weights else ("edge",))),
                random_weights=tuple(random_weights or ()),
                precisions=tuple(precision or ()),
                backend=backend,
                tiling=tiling,
                frame_hw=size,
                threads=threads,
                min_frames=frames,
                min_seconds=seconds,
                warm_up_s=warm_up,
                peers=peers,
                peer_rounds=rounds,
                cold_starts=cold_starts,
                recording_frames=recording,
                scaling=scaling,
                roofline=roofline,
                check=check,
                command=shlex.join(("bcseg-edge", *sys.argv[1:])),
                say=status.update,
            )
        )
    typer.echo(output.printed(result, old, as_json=as_json))
    if report is not None:
        output.write_report(result, report)
        messages.print(f"written to {report}", highlight=False, soft_wrap=True)
    output.require_ratios(result)
