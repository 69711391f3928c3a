"""Charts of figures: metric bars (the paper's figure 11) and training curves (its figure 9)."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bcseg_edge.frames import CLASSES
from bcseg_train.palette import CLASS_COLOURS, LINE_COLOURS, save_figure
from bcseg_train.run_files import METRICS
from bcseg_train.scores import Scores

MIN_EPOCHS = 2  # a curve needs two points


@dataclass(frozen=True, slots=True)
class Series:
    """One logged quantity: epochs and values, in order."""

    name: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def draw_bars(scores: Scores, folder: Path) -> Path:
    """Pixel accuracy, IoU and Dice by class in the three poolings: `figure_11_metrics.png`."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, 3, sharey=True)
    pools = (
        ("all pixels of the whole images", scores.whole_images),
        ("patches that hold a lesion", scores.lesion_patches),
        ("mean over images", scores.mean_over_images),
    )
    for axis, (title, pool) in zip(axes, pools, strict=True):
        groups = {
            "IoU": [*pool.iou, pool.mean_iou, pool.lesion_iou],
            "Dice": [*pool.dice, pool.mean_dice, pool.lesion_dice],
        }
        _draw_groups(axis, groups)
        axis.set_title(f"{title}\npixel accuracy {100 * pool.pixel_accuracy:.1f} %", fontsize=10)
    axes[0].set_ylabel("%")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return save_figure(figure, folder / "figure_11_metrics.png")


def _draw_groups(axis: Axes, groups: dict[str, list[float]]) -> None:
    names = (*CLASSES, "mean over classes", "lesion (benign or malignant)")
    colours = (*CLASS_COLOURS, "#333333", "#CC79A7")
    width = 0.8 / len(names)
    for index, (name, colour) in enumerate(zip(names, colours, strict=True)):
        heights = [100 * values[index] for values in groups.values()]
        places = np.arange(len(groups)) + (index - (len(names) - 1) / 2) * width
        bars = axis.bar(places, np.nan_to_num(heights), width, color=colour, label=name)
        axis.bar_label(bars, [f"{h:.0f}" if math.isfinite(h) else "-" for h in heights], fontsize=8, padding=1)
    axis.set_xticks(np.arange(len(groups)), list(groups))
    axis.set_ylim(0, 108)
    axis.set_yticks(range(0, 101, 20))
    axis.spines[["top", "right"]].set_visible(False)


def draw_reliability(scores: Scores, folder: Path) -> Path:
    """Share of right predictions against their confidence, for pixels and for lesions: `reliability.png`."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    curves = (("pixels labelled a lesion", scores.pixel_reliability), ("lesions", scores.lesion_reliability))
    for axis, (title, curve) in zip(axes, curves, strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--", label="honest")
        known = curve.counts > 0
        sizes = 20 + 180 * curve.counts[known] / curve.counts.max(initial=1)
        axis.plot(curve.confidence[known], curve.accuracy[known], color=LINE_COLOURS[0], lw=1.6)
        axis.scatter(curve.confidence[known], curve.accuracy[known], s=sizes, color=LINE_COLOURS[0], label="measured")
        error = curve.expected_calibration_error
        shown = f"{error:.3f}" if math.isfinite(error) else "-"
        axis.set_title(f"{title}\n{curve.counts.sum()} predictions, calibration error {shown}", fontsize=10)
        axis.set_xlabel("confidence")
        axis.set_xlim(0.3, 1.02)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share that is right")
    axes[0].legend(frameon=False, fontsize=9, markerscale=0.5)
    return save_figure(figure, folder / "reliability.png")


def draw_curves(model_path: Path, folder: Path) -> list[Path]:
    """Loss and IoU by epoch from the run's `metrics.csv`: `figure_09_training.png`.

    Returns:
        The figure, or nothing where the model has no run folder or fewer than two epochs were logged.
    """
    log = find_metrics(model_path)
    series = [] if log is None else read_metrics(log)
    losses = [line for line in series if "loss" in line.name]
    ious = [line for line in series if "iou" in line.name]
    if not losses and not ious:
        return []
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, 2)
    _draw_lines(axes[0], "IoU", ious)
    _draw_lines(axes[1], "loss", losses)
    return [save_figure(figure, folder / "figure_09_training.png")]


def find_metrics(model_path: Path) -> Path | None:
    """The run's `metrics.csv`: beside its checkpoint, or one up where that lies in Lightning's `checkpoints`."""
    folder = model_path.resolve().parent
    path = (folder.parent if folder.name == "checkpoints" else folder) / METRICS
    return path if path.is_file() else None


def read_metrics(path: Path) -> list[Series]:
    """Read Lightning's CSV log: for every column its values by epoch, averaged where an epoch has several.

    Lightning leaves a field empty on the lines that log other quantities.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in (rows[0] if rows else {}) if name not in ("epoch", "step")]
    series = (_column(rows, name) for name in columns)
    return [line for line in series if len(line.epochs) >= MIN_EPOCHS]


def _column(rows: list[dict[str, str]], name: str) -> Series:
    by_epoch: dict[float, list[float]] = {}
    for row in rows:
        if row.get(name) and row.get("epoch"):
            by_epoch.setdefault(float(row["epoch"]), []).append(float(row[name]))
    return Series(name, tuple(by_epoch), tuple(float(np.mean(values)) for values in by_epoch.values()))


def _draw_lines(axis: Axes, title: str, lines: Sequence[Series]) -> None:
    others = cycle(LINE_COLOURS)
    for line in lines:
        of_class = [colour for name, colour in zip(CLASSES, CLASS_COLOURS, strict=True) if line.name.endswith(name)]
        axis.plot(line.epochs, line.values, color=of_class[0] if of_class else next(others), label=line.name, lw=1.6)
    axis.set_title(title)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if lines:
        axis.legend(frameon=False, fontsize=9)
    else:
        axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center")
