"""`bcseg-edge evaluate`: score a model on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint, a model file or a shipped model's name.")],
    data: Annotated[Path, typer.Option(help="Folder with benign, malignant and normal in it.")],
    split: Annotated[
        str | None, typer.Option(help="FILE:NAME, or all; by default val of busi_split.csv in or beside the data.")
    ] = None,
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; by default the model's.")] = None,
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.json, report.md, images.csv and figures.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="Only so many, spread over the classes.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Write the figures into the passport.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run a model over labelled images through the frame path of `run`, and print its figures."""
    from rich.console import Console
    from rich.progress import Progress

    module = load_extra("bcseg_train.evaluate", "train")
    reports = load_extra("bcseg_train.report", "train")
    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("images", total=None)
        evaluation = module.evaluate(
            module.EvaluateOptions(
                model=model,
                data=data,
                split=split,
                tiling=tiling,
                backend=backend,
                report=report,
                max_images=max_images,
                record=record,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        )
    if as_json:
        typer.echo(json.dumps(reports.to_dict(evaluation)))
    else:
        typer.echo(reports.markdown(evaluation))
    if report is not None:
        messages.print(f"written to {report}", highlight=False, soft_wrap=True)
