"""`bcseg-edge average`: one checkpoint from several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra


def average(
    checkpoints: Annotated[list[Path], typer.Argument(help="best.ckpt of two or more runs of one model.")],
    data: Annotated[Path, typer.Option(help="BUSI folder: benign, malignant and normal in it.")],
    output: Annotated[Path, typer.Option(help="The .ckpt file to write.")],
    split: Annotated[
        Path | None, typer.Option(help="Split CSV; by default busi_split.csv in or beside the data.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the order of training images.")] = 0,
) -> None:
    """Average the weights of several runs into one checkpoint that costs no more than one of them."""
    module = load_extra("bcseg_train.average", "train")
    temperature = module.average(module.AverageOptions(checkpoints, data, output, split, seed))
    typer.echo(f"{len(checkpoints)} runs averaged into {output}; temperature {temperature:.2f}")
