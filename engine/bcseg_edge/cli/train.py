"""`bcseg-edge train`: train a model on BUSI."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcseg_edge.cli.extras import load_extra

if TYPE_CHECKING:
    from bcseg_train.train import TrainResult

_DATA, _START, _LENGTH, _MACHINE = "Images", "Where it starts", "Length and seed", "Machine"  # panels of the help


# What `pretrain` takes as well.
Epochs = Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's number.", rich_help_panel=_LENGTH)]
Seed = Annotated[
    int,
    typer.Option(min=0, max=2**32 - 1, help="Of weights, order, augmentation, hold-out.", rich_help_panel=_LENGTH),
]
Precision = Annotated[
    str, typer.Option(help="As Lightning names it: bf16-mixed, 16-mixed, 32-true.", rich_help_panel=_MACHINE)
]
Workers = Annotated[int, typer.Option(min=0, help="Loader processes.", rich_help_panel=_MACHINE)]
Accelerator = Annotated[str, typer.Option(help="As Lightning names it: auto, cpu, gpu.", rich_help_panel=_MACHINE)]
Devices = Annotated[str, typer.Option(help="How many, or which: auto, 2, 0,1.", rich_help_panel=_MACHINE)]
Nodes = Annotated[int, typer.Option(min=1, help="Machines; start each with torchrun.", rich_help_panel=_MACHINE)]
Strategy = Annotated[str, typer.Option(help="As Lightning names it: auto, ddp.", rich_help_panel=_MACHINE)]
StopAfterEpochs = Annotated[
    int | None,
    typer.Option(min=1, help="End early with the schedule unchanged; go on with --resume.", rich_help_panel=_LENGTH),
]


def train(
    data: Annotated[Path, typer.Option(help="BUSI folder: benign, malignant and normal in it.")],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, logs, options.")],
    model: Annotated[str, typer.Option(help="unet, resnext50, resnext101 or edge.")] = "edge",
    recipe: Annotated[
        str, typer.Option(help="paper, strong, strong-scratch, strong-patches, or a TOML file.")
    ] = "strong",
    split: Annotated[
        Path | None,
        typer.Option(help="Split CSV; by default busi_split.csv in or beside the data.", rich_help_panel=_DATA),
    ] = None,
    encoder_weights: Annotated[
        str, typer.Option(help="imagenet (downloads), none, or a file.", rich_help_panel=_START)
    ] = "none",
    pretrained: Annotated[
        Path | None,
        typer.Option(
            help="Start from a checkpoint of pretrain or train, or from a model file, e.g. models/edge/edge.onnx.",
            rich_help_panel=_START,
        ),
    ] = None,
    other_lesions: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pre-training sets: mix thyroid nodules in, class unknown.", rich_help_panel=_DATA
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from OUTPUT/last.ckpt.", rich_help_panel=_START)
    ] = False,
    epochs: Epochs = None,
    seed: Seed = 0,
    precision: Precision = "bf16-mixed",
    workers: Workers = 1,
    accelerator: Accelerator = "auto",
    devices: Devices = "auto",
    nodes: Nodes = 1,
    strategy: Strategy = "auto",
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Only so many of each split: a smoke run.", rich_help_panel=_DATA)
    ] = None,
    stop_after_epochs: StopAfterEpochs = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Train a model; the best checkpoint on val and the last one are in OUTPUT."""
    module = load_extra("bcseg_train.train", "train")
    load_extra("bcseg_train.logs", "train").quiet_lightning()
    options = module.TrainOptions(
        data=data,
        output=output,
        model=model,
        recipe=recipe,
        split=split,
        encoder_weights=encoder_weights,
        pretrained=pretrained,
        other_lesions=other_lesions,
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
    for note in module.notes(options):
        typer.echo(f"note: {note}", err=True)
    tell(module.train(options), as_json)


def tell(result: TrainResult, as_json: bool) -> None:
    """Print where the checkpoints are; one process of several speaks for all."""
    if result.rank != 0:
        return
    if as_json:
        best_mean_iou = None if math.isnan(result.best_mean_iou) else result.best_mean_iou
        facts = {"epochs": result.epochs, "best_mean_iou": best_mean_iou}
        typer.echo(json.dumps({**facts, "best": str(result.best), "last": str(result.last)}))
        return
    typer.echo(f"{result.epochs} epochs; best mean IoU on val {result.best_mean_iou:.4f}")
    typer.echo(f"best: {result.best}")
    typer.echo(f"last: {result.last}")
