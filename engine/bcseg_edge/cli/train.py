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


def train(
    data: Annotated[Path, typer.Option(help="BUSI folder: benign, malignant and normal in it.")],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, logs, options.")],
    model: Annotated[str, typer.Option(help="unet, resnext50, resnext101 or edge.")] = "edge",
    recipe: Annotated[str, typer.Option(help="paper, strong, or a TOML file.")] = "strong",
    split: Annotated[
        Path | None,
        typer.Option(help="Split CSV; by default busi_split.csv in or beside the data.", rich_help_panel=_DATA),
    ] = None,
    encoder_weights: Annotated[
        str, typer.Option(help="imagenet (downloads), none, or a file.", rich_help_panel=_START)
    ] = "none",
    pretrained: Annotated[
        Path | None,
        typer.Option(help="Start from a checkpoint of pretrain, or of another train run.", rich_help_panel=_START),
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
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's number.", rich_help_panel=_LENGTH)
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of weights, order and augmentation.", rich_help_panel=_LENGTH)
    ] = 0,
    precision: Annotated[
        str, typer.Option(help="As Lightning names it: bf16-mixed, 16-mixed, 32-true.", rich_help_panel=_MACHINE)
    ] = "bf16-mixed",
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.", rich_help_panel=_MACHINE)] = 1,
    accelerator: Annotated[
        str, typer.Option(help="As Lightning names it: auto, cpu, gpu.", rich_help_panel=_MACHINE)
    ] = "auto",
    devices: Annotated[str, typer.Option(help="How many, or which: auto, 2, 0,1.", rich_help_panel=_MACHINE)] = "auto",
    nodes: Annotated[
        int, typer.Option(min=1, help="Machines; start each with torchrun.", rich_help_panel=_MACHINE)
    ] = 1,
    strategy: Annotated[str, typer.Option(help="As Lightning names it: auto, ddp.", rich_help_panel=_MACHINE)] = "auto",
    max_images: Annotated[
        int | None, typer.Option(min=1, help="Only so many of each split: a smoke run.", rich_help_panel=_DATA)
    ] = None,
    stop_after_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="End early with the schedule unchanged; go on with --resume.", rich_help_panel=_LENGTH
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Train a model; the best checkpoint on val and the last one are in OUTPUT."""
    module = load_extra("bcseg_train.train", "train")
    load_extra("bcseg_train.logs", "train").quiet_lightning()
    result = module.train(
        module.TrainOptions(
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
    )
    tell(result, as_json)


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
