"""`bcseg-edge export`: from a checkpoint to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A training checkpoint, or a shipped .onnx file.")],
    output: Annotated[Path, typer.Option(help="FILE.onnx to write; its passport goes beside it.")],
    precision: Annotated[str, typer.Option(help="fp32.")] = "fp32",
    data: Annotated[
        Path | None, typer.Option(help="BUSI folder whose patches the gate compares on; by default phantom frames.")
    ] = None,
    patches: Annotated[int, typer.Option(min=1, help="How many patches the gate compares on.")] = 32,
    accuracy: Annotated[
        Path | None, typer.Option(help="report.json of evaluate on this checkpoint, for the passport.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model; by default the output's stem.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport as JSON.")] = False,
) -> None:
    """Export to ONNX and compare with PyTorch; where they differ there is no file, and exit 3."""
    from bcseg_edge.models import read_model

    module = load_extra("bcseg_export.export", "export")
    path = module.export(
        module.ExportOptions(
            checkpoint=checkpoint,
            output=output,
            precision=precision,
            data=data,
            patches=patches,
            accuracy=accuracy,
            name=name,
        )
    )
    if as_json:
        typer.echo(read_model(path).passport.model_dump_json(indent=2))
        return
    typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB); see it with: bcseg-edge inspect {path}")
