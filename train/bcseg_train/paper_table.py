"""`python -m bcseg_train.paper_table RUNS`: Table 3 of Katar and Yildirim 2023 beside our runs of their recipe."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bcseg_edge.errors import DataError
from bcseg_edge.frames import CLASSES
from bcseg_edge.told import errors_told
from bcseg_train.report import PAPER_DICE_PERCENT, PAPER_IOU_PERCENT, POOLINGS, percent, table
from bcseg_train.run_files import METRICS

PAPER_NAMES = {"unet": "U-Net", "resnext50": "ResNext-50 U-Net", "resnext101": "ResNext-101 U-Net"}
PAPER_EPOCHS = 100


def paper_table(runs: Path) -> str:
    """For each of the paper's models its own figures, then ours in the three poolings; a dash where a run is missing.

    Args:
        runs: folder with `paper-MODEL/metrics.csv` and `paper-MODEL/report/report.json`, as `train/reproduce.sh`
            leaves them.

    Returns:
        A Markdown table; IoU and Dice in percent.

    Raises:
        DataError: no run is there, or a report is of another model or cannot be read.
    """
    reports = {model: runs / f"paper-{model}" / "report" / "report.json" for model in PAPER_NAMES}
    if not any(report.is_file() for report in reports.values()):
        raise DataError(f"no run of the paper's recipe in {runs}", "make them with: make paper RUNS=FOLDER")
    header = ["model", "whose", "epochs", "pooled over", *(f"{c} IoU" for c in CLASSES), "mean IoU", "mean Dice"]
    rows = []
    for model, report in reports.items():
        name = PAPER_NAMES[model]
        dice = PAPER_DICE_PERCENT.get(name)
        theirs = [f"{value:.2f}" for value in PAPER_IOU_PERCENT[name]]
        rows.append([model, "paper", str(PAPER_EPOCHS), "not told", *theirs, f"{dice:.2f}" if dice else "-"])
        if report.is_file():
            rows += [[model, "ours", *figures] for figures in _ours(report, model)]
        else:
            rows.append([model, "ours", "0"] + ["-"] * (len(header) - 3))
    return table(header, rows)


def _ours(report: Path, model: str) -> list[list[str]]:
    """A run's cells from its epochs on, a row for each pooling."""
    pixels, epochs = _read(report, model)
    rows = []
    for pooling, title in POOLINGS.items():
        iou, dice = pixels[pooling]["iou"], pixels[pooling]["dice"]
        rows.append([str(epochs), title, *(percent(iou[kind]) for kind in (*CLASSES, "mean")), percent(dice["mean"])])
    return rows


def _read(report: Path, model: str) -> tuple[dict[str, Any], int]:
    """The pixel figures of a report, and how many epochs its run was trained."""
    metrics = report.parents[1] / METRICS
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        architecture, pixels = content["model"]["architecture"], content["pixels"]
        with metrics.open(encoding="utf-8", newline="") as lines:
            epochs = 1 + max(int(row["epoch"]) for row in csv.DictReader(lines))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{report.parent.parent} is not a run with a report: {error}", "see train/reproduce.sh"
        ) from error
    if architecture != model:
        raise DataError(f"{report} is of model {architecture}, not {model}", "see train/reproduce.sh")
    return pixels, epochs


def main(runs: Annotated[Path, typer.Argument(help="Folder with the runs paper-MODEL.")]) -> None:
    """Print the paper's Table 3 beside ours."""
    with errors_told():
        typer.echo(paper_table(runs))


if __name__ == "__main__":
    typer.run(main)
