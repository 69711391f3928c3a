"""`bcseg-edge split`: divide a data set without leaking near-duplicates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra
from bcseg_edge.errors import DataError


def split(
    data: Annotated[Path, typer.Option(help="BUSI folder: benign, malignant and normal in it.")],
    output: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("busi_split.csv"),
    seed: Annotated[int, typer.Option(min=0, help="Draws among the divisions that are equally good.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT where it is there.")] = False,
) -> None:
    """Write a stratified 70/20/10 split (train, val, test) that keeps near-duplicate images together."""
    if output.exists() and not force:
        raise DataError(
            f"{output} exists, and models were measured by it: another split moves training images into val",
            "give another --output, or --force",
        )
    rows = load_extra("bcseg_train.split", "train").write_split(data, output, seed)
    counts = Counter(row.split for row in rows)
    groups = len({row.group for row in rows})
    parts = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test"))
    typer.echo(f"{output}: {len(rows)} images in {groups} groups: {parts}")
