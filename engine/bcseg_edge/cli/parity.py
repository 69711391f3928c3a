"""`bcseg-edge parity`: whether a candidate finds the lesions that its reference finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra
from bcseg_edge.errors import ParityError


def parity(
    reference: Annotated[str, typer.Argument(help="A checkpoint, a model file or a shipped model's name.")],
    candidate: Annotated[str, typer.Argument(help="The one to judge: checkpoint, model file or name.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with benign, malignant and normal in it; by default phantom frames.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="FILE:NAME, or all; by default val of busi_split.csv in or beside the data.")
    ] = None,
    reference_backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    backend: Annotated[
        str, typer.Option(help="Of the candidate: auto, openvino, onnxruntime, cuda or tensorrt.")
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="Of a candidate that is a shipped model's name; by default fp32.")
    ] = None,
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; by default the reference's.")] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="JSON file of limits; by default those of the candidate's precision.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="Only so many, spread over the classes.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for parity.json, parity.md and pictures of the worst frames.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare two models frame by frame, lesion by lesion; exit 3 where the candidate fails."""
    from rich.console import Console
    from rich.progress import Progress

    module = load_extra("bcseg_export.parity.command", "export")
    reports = load_extra("bcseg_export.parity.report", "export")
    limits = load_extra("bcseg_export.parity.thresholds", "export")
    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("frames", total=None)
        result = module.parity(
            module.ParityOptions(
                reference=reference,
                candidate=candidate,
                reference_backend=reference_backend,
                backend=backend,
                precision=precision,
                data=data,
                split=split,
                max_images=max_images,
                tiling=tiling,
                thresholds=None if thresholds is None else limits.read_thresholds(thresholds),
                report=report,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        )
    typer.echo(json.dumps(reports.to_dict(result)) if as_json else reports.markdown(result))
    if report is not None:
        messages.print(f"written to {report}", highlight=False, soft_wrap=True)
    if not result.passed:
        raise ParityError(
            "the candidate does not say what its reference says: " + "; ".join(result.failures),
            "look at the worst frames: add --report DIR" if report is None else f"look at the worst frames in {report}",
        )
