"""`bcseg-edge robustness`: score a model on frames as other scanners and operators would give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra


def robustness(
    model: Annotated[str, typer.Argument(help="A checkpoint, a model file or a shipped model's name.")],
    data: Annotated[Path, typer.Option(help="Folder with benign, malignant and normal in it.")],
    split: Annotated[
        str | None, typer.Option(help="FILE:NAME, or all; by default val of busi_split.csv in or beside the data.")
    ] = None,
    tiling: Annotated[str | None, typer.Option(help="paper, overlap or frame; by default the model's.")] = None,
    backend: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    other_lesions: Annotated[
        Path | None, typer.Option(help="Folder of the pre-training sets: also find held-out thyroid nodules.")
    ] = None,
    max_images: Annotated[int | None, typer.Option(min=1, help="Only so many, spread over the classes.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the changes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Change gain, speckle, blur, scale, crop, annotations and more, one at a time, and print what it costs."""
    from rich.console import Console
    from rich.progress import Progress

    module = load_extra("bcseg_train.robustness", "train")
    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("images", total=None)
        result = module.robustness(
            module.RobustnessOptions(
                model=model,
                data=data,
                split=split,
                tiling=tiling,
                backend=backend,
                other_lesions=other_lesions,
                max_images=max_images,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        )
    typer.echo(json.dumps(module.to_dict(result)) if as_json else module.markdown(result))
