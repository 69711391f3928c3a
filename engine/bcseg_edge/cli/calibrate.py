"""`bcseg-edge calibrate`: choose the patches that INT8 ranges are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra


def calibrate(
    data: Annotated[str, typer.Option(help="Folder like BUSI's, folder of images, glob, video or phantom:...")],
    output: Annotated[Path, typer.Option(help="calibration.npz to write.")],
    model: Annotated[
        str, typer.Option(help="Whose window and tiling cut the frames: checkpoint, file or name.")
    ] = "edge",
    split: Annotated[
        str | None, typer.Option(help="FILE:NAME, or all; by default train of busi_split.csv in or beside the data.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Patches wanted.")] = 96,
    seed: Annotated[int, typer.Option(help="Of the clustering.")] = 0,
) -> None:
    """Choose representative patches: no duplicates, classes in balance, spread over intensity and texture."""
    module = load_extra("bcseg_export.calibrate", "export")
    chosen = module.calibrate(
        module.CalibrateOptions(data=data, output=output, model=model, split=split, count=count, seed=seed)
    )
    by_class = ", ".join(f"{(chosen.labels == label).sum()} {name}" for label, name in enumerate(_CLASS_NAMES))
    typer.echo(f"{output}: {len(chosen.patches)} patches of {chosen.data} ({by_class}), digest {chosen.digest[:12]}")


_CLASS_NAMES = ("without lesion", "benign", "malignant")
