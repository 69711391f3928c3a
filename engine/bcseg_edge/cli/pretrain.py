"""`bcseg-edge pretrain`: teach a network the ultrasound of other organs before breasts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra
from bcseg_edge.cli.train import (
    Accelerator,
    Devices,
    Epochs,
    Nodes,
    Precision,
    Seed,
    StopAfterEpochs,
    Strategy,
    Workers,
    tell,
)


def pretrain(
    data: Annotated[Path, typer.Option(help="Folder with index.csv and the sets ddti, usgra, hc18.")],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, logs, options.")],
    model: Annotated[str, typer.Option(help="unet, resnext50, resnext101 or edge.")] = "edge",
    recipe: Annotated[str, typer.Option(help="pretrain, or a TOML file.")] = "pretrain",
    encoder_weights: Annotated[str, typer.Option(help="imagenet (downloads), none, or a file.")] = "none",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUTPUT/last.ckpt.")] = False,
    epochs: Epochs = None,
    seed: Seed = 0,
    precision: Precision = "bf16-mixed",
    workers: Workers = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = "auto",
    nodes: Nodes = 1,
    strategy: Strategy = "auto",
    max_images: Annotated[int | None, typer.Option(min=1, help="Only so many: a smoke run.")] = None,
    stop_after_epochs: StopAfterEpochs = None,
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
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        max_images=max_images,
        stop_after_epochs=stop_after_epochs,
    )
    tell(load_extra("bcseg_train.pretrain", "train").pretrain(options), as_json)
