"""`bcseg-edge export`: from a checkpoint to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A training checkpoint, or a shipped .onnx file.")],
    output: Annotated[Path, typer.Option(help="FILE.onnx to write; its passport goes beside it.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 (for TensorRT) or int8.")] = "fp32",
    target: Annotated[str | None, typer.Option(help="Of int8: cpu (the default) or tensorrt.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="BUSI folder that the gate compares on; by default phantom frames.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="FILE:NAME or all, for fp16 and int8; by default val of busi_split.csv.")
    ] = None,
    patches: Annotated[int, typer.Option(min=1, help="How many patches the gate of fp32 compares on.")] = 32,
    max_images: Annotated[
        int | None, typer.Option(min=1, help="How many images the gate of fp16 and int8 compares on; by default all.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="For fp16 and int8: set of `calibrate`, or a folder or video to choose from.")
    ] = None,
    ranges: Annotated[str, typer.Option(help="Of int8: minmax, entropy or percentile.")] = "minmax",
    grouped: Annotated[bool, typer.Option(help="Quantize convolutions with several groups too.")] = True,
    rescue: Annotated[
        bool, typer.Option(help="Keep the layers precise that lose lesions until the gate holds.")
    ] = True,
    accept_parity_loss: Annotated[
        bool, typer.Option("--accept-parity-loss", help="Write a file that fails the gate; every run will say so.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder for the gate's report and the damage by layer, for fp16 and int8.")
    ] = None,
    accuracy: Annotated[
        Path | None, typer.Option(help="report.json of evaluate on this checkpoint, for the passport.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model; by default the output's stem.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport as JSON.")] = False,
) -> None:
    """Export to ONNX and compare with PyTorch; where they differ there is no file, and exit 3."""
    from rich.console import Console
    from rich.progress import Progress

    from bcseg_edge.models import read_model

    module = load_extra("bcseg_export.export", "export")
    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("ranking layers", total=None, visible=precision == "int8")
        path = module.export(
            module.ExportOptions(
                checkpoint=checkpoint,
                output=output,
                precision=precision,
                target=target,
                data=data,
                split=split,
                patches=patches,
                max_images=max_images,
                calibration=calibration,
                ranges=ranges,
                grouped=grouped,
                rescue=rescue,
                accept_parity_loss=accept_parity_loss,
                report=report,
                accuracy=accuracy,
                name=name,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        )
    if as_json:
        typer.echo(read_model(path).passport.model_dump_json(indent=2))
        return
    typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB); see it with: bcseg-edge inspect {path}")
