"""The paper's Table 3 beside our runs: every figure stands in its row, and what was not run is a dash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcseg_edge.errors import DataError
from bcseg_train.paper_table import paper_table


def a_run(runs: Path, model: str, architecture: str | None = None) -> None:
    """A run of three epochs whose figures differ by pooling and class."""
    pixels = {
        pooling: {
            "iou": {
                kind: (10 * row + column) / 100
                for column, kind in enumerate(("background", "benign", "malignant", "mean"))
            },
            "dice": {"mean": (10 * row + 9) / 100},
        }
        for row, pooling in enumerate(("whole_images", "lesion_patches", "mean_over_images"), start=1)
    }
    report = runs / f"paper-{model}" / "report" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"model": {"architecture": architecture or model}, "pixels": pixels}))
    (report.parents[1] / "metrics.csv").write_text("epoch,val_mean_iou\n0,0.1\n1,0.2\n2,0.2\n2,\n")


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_each_model_has_the_papers_row_and_ours_in_three_poolings(tmp_path: Path) -> None:
    a_run(tmp_path, "resnext50")
    rows = cells(paper_table(tmp_path))
    ours = [row for row in rows if row[:2] == ["resnext50", "ours"]]
    assert [row[2] for row in ours] == ["3"] * 3
    assert [row[4:] for row in ours] == [[f"{tens}{ones}.00" for ones in (0, 1, 2, 3, 9)] for tens in (1, 2, 3)]
    assert ["resnext50", "paper", "100", "not told", "89.06", "71.44", "59.01", "73.17", "83.42"] in rows
    assert ["unet", "ours", "0", *["-"] * 6] in rows  # not run


def test_a_report_of_another_model_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run of the paper's recipe"):
        paper_table(tmp_path)
    a_run(tmp_path, "unet", architecture="edge")
    with pytest.raises(DataError, match="is of model edge, not unet"):
        paper_table(tmp_path)
    (tmp_path / "paper-unet" / "metrics.csv").unlink()
    with pytest.raises(DataError, match="is not a run with a report"):
        paper_table(tmp_path)
