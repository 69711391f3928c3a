"""Many parity reports as one table: `python -m bcseg_export.parity.table REPORT/parity.json ...`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from bcseg_edge.errors import DataError
from bcseg_edge.told import errors_told
from bcseg_export.parity.report import FORMAT_VERSION

HEAD = (
    "model",
    "precision",
    "backend",
    "ms a frame",
    "frames per second",
    "Dice benign, malignant",
    "mean IoU, %",
    "lesions lost",
    "invented",
    "reclassified",
    "gate",
)


def comparison_table(reports: Iterable[Path]) -> str:
    """Markdown: one row a report, in the order given.

    Milliseconds are the median of the whole frame path over the compared frames; a file for TensorRT that a CPU
    executed has none, since the judge executes it unoptimized.

    Args:
        reports: `parity.json` files of `bcseg-edge parity --report`, `export --report` or `make ship`.

    Raises:
        DataError: a file is not such a report.
    """
    rows = [HEAD, ("---",) * len(HEAD), *(_row(_read(path)) for path in reports)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _read(path: Path) -> dict[str, Any]:
    hint = "write it with: bcseg-edge parity REFERENCE CANDIDATE --data DIR --report DIR"
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        version = content["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no report of parity", hint) from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path} is a report of format {version}, expected {FORMAT_VERSION}", hint)
    return content


def _row(report: dict[str, Any]) -> tuple[str, ...]:
    figures, candidate = report["figures"], report["candidate"]
    judged_only = candidate["target"] == "tensorrt" and candidate["backend"] != "tensorrt"
    frame_ms = report["frame_ms"]
    dice = (figures.get(f"dice_{name}") for name in ("benign", "malignant"))
    iou = [figures.get(f"mean_iou_{of}") for of in ("reference", "candidate")]
    return (
        candidate["model"],
        candidate["precision"],
        candidate["backend"] + (" (judge)" if judged_only else ""),
        "-" if judged_only else f"{frame_ms:.1f}",
        "-" if judged_only else f"{1000 / frame_ms:.1f}",
        ", ".join("-" if value is None else f"{value:.4f}" for value in dice),
        "no truth" if None in iou else f"{100 * iou[0]:.2f} to {100 * iou[1]:.2f}",
        f"{figures['lesions_lost']:g} of {figures['lesions']:g}",
        f"{figures['lesions_invented']:g}",
        f"{figures['lesions_reclassified']:g}",
        "passed" if report["passed"] else "FAILED",
    )


def main(reports: Annotated[list[Path], typer.Argument(help="parity.json files.")]) -> None:
    """Print the table."""
    with errors_told():
        typer.echo(comparison_table(reports), nl=False)


if __name__ == "__main__":
    typer.run(main)
