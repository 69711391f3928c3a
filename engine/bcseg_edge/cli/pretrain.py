"""`bcseg-edge pretrain`: teach a network the ultrasound of other organs before breasts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra
from bcseg_edge.cli.train import tell


def pretrain(
    data: Annotated[Path, typer.Option(help="Folder with index.csv and the sets ddti, usgra, hc18.")],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, logs, options.")],
    model: Annotated[str, typer.Option(help="unet, resnext50, resnext101 or edge.")] = "edge",
    recipe: Annotated[str, typer.Option(help="pretrain, or a TOML file.")] = "pretrain",
    encoder_weights: Annotated[str, typer.Option(help="imagenet (downloads), none, or a file.")] = "none",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUTPUT/last.ckpt.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's number.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, order and hold-out.")] = 0,
    precision: Annotated[
        str, typer.Option(help="As Lightning names it: bf16-mixed, 16-mixed, 32-true.")
    ] = "bf16-mixed",
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 1,
    max_images: Annotated[int | None, typer.Option(min=1, help="Only so many: a smoke run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Train a model on thyroid nodules, nerves and vessels, and fetal heads; `train --pretrained` starts from it."""
    module = load_extra("bcseg_train.train", "train")
    load_extra("bcseg_train.logs", "train").quiet_lightning()
    options = module.TrainOptions(
        data=data,
        output=output,
        model=model,
        recipe=recipe,
        encoder_weights=encoder_weights,
        resume=resume,
        epochs=epochs,
        seed=seed,
        precision=precision,
        workers=workers,
        max_images=max_images,
    )
    tell(load_extra("bcseg_train.pretrain", "train").pretrain(options), as_json)
