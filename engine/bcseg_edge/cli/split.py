"""`bcseg-edge split`: divide a data set without leaking near-duplicates, or check a split that is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from bcseg_edge.cli.extras import load_extra
from bcseg_edge.errors import DataError

FAILED = 3  # exit code of a gate that does not hold


def split(
    data: Annotated[Path, typer.Option(help="BUSI folder: benign, malignant and normal in it.")],
    output: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("busi_split.csv"),
    seed: Annotated[int, typer.Option(min=0, help="Draws among the divisions that are equally good.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT where it is there.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(help="Write nothing: list the near-duplicates that this split file divides; exit 3 if any."),
    ] = None,
) -> None:
    """Write a stratified 70/20/10 split (train, val, test) that keeps near-duplicate images together."""
    if check is not None:
        _check(data, check)
        return
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


def _check(data: Path, file: Path) -> None:
    module = load_extra("bcseg_train.split", "train")
    assignment = module.read_split(file)
    samples = load_extra("bcseg_train.busi", "train").read_busi(data, require_all_classes=False)
    crossings = module.find_crossings(samples, assignment)
    for pair in crossings:
        images = f"{pair.first} ({pair.first_split})  {pair.second} ({pair.second_split})"
        typer.echo(f"{pair.similarity:.2f}  {images}{'' if pair.same_label else '  of another class'}")
    compared = sum(sample.name in assignment for sample in samples)
    absent = f", {len(assignment) - compared} are not in {data}" if compared < len(assignment) else ""
    typer.echo(f"{file}: {len(crossings)} pairs of near-duplicates cross, {compared} images compared{absent}")
    if crossings:
        raise typer.Exit(FAILED)
