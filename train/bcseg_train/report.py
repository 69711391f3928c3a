"""Writes an evaluation down: report.json, report.md, images.csv and the paper's figures."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcseg_edge.files import write_text_atomic
from bcseg_edge.frames import CLASSES
from bcseg_train import charts, figures
from bcseg_train.busi import Sample
from bcseg_train.lesion_metrics import IMAGE_CLASSES, IOU_FOUND
from bcseg_train.metrics import PAPER_PATCH_PX, PixelFigures, iou
from bcseg_train.predictors import Predictor
from bcseg_train.reliability import BINS, RIGHT_SHARE, Reliability
from bcseg_train.scores import ImageResult

if TYPE_CHECKING:
    from bcseg_train.evaluate import Evaluation

FORMAT_VERSION = 1

# Katar and Yildirim 2023, Table 3 and text: IoU in %, background, benign, malignant, mean; mean Dice.
PAPER_IOU_PERCENT = {
    "ResNext-50 U-Net": (89.06, 71.44, 59.01, 73.17),
    "ResNext-101 U-Net": (87.27, 68.34, 61.11, 72.24),
    "U-Net": (84.10, 65.33, 54.79, 68.07),
}
PAPER_DICE_PERCENT = {"ResNext-50 U-Net": 83.42}
POOLINGS = {
    "whole_images": "all pixels of the whole images",
    "lesion_patches": f"{PAPER_PATCH_PX}x{PAPER_PATCH_PX} patches that hold a lesion",
    "mean_over_images": "mean over images",
}
POOLING_NOTE = (
    "The paper does not say how it pooled pixels, so ours are given in three ways: none of them is known to be "
    "the paper's, whose test images are other ones too (a random split)."
)


def write_report(
    evaluation: Evaluation, samples: Sequence[Sample], predictor: Predictor, folder: Path, model_path: Path
) -> None:
    """Write the report into `folder`, which is made if it does not exist.

    Args:
        samples: those that were scored, in the order of `evaluation.images`.
        predictor: open; segments the images that the figures show.
        model_path: the training run's curves are drawn when a `metrics.csv` lies in its run folder.

    Raises:
        DataError: the folder cannot be written.
    """
    write_text_atomic(folder / "report.json", json.dumps(to_dict(evaluation), indent=2, allow_nan=False) + "\n")
    write_text_atomic(folder / "images.csv", images_csv(evaluation.images))
    drawn = [
        *figures.draw_images(evaluation.images, samples, predictor, folder),
        charts.draw_bars(evaluation.scores, folder),
        charts.draw_reliability(evaluation.scores, folder),
        *charts.draw_curves(model_path, folder),
    ]
    write_text_atomic(folder / "report.md", markdown(evaluation, sorted(drawn)))


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON types; fractions 0 to 1, None where a figure does not exist.

    `accuracy` is what a passport keeps: `bcseg-edge export --accuracy report.json` reads it.
    """
    scores, passport = evaluation.scores, evaluation.passport
    content = {
        "format_version": FORMAT_VERSION,
        "model": {
            "name": passport.name,
            "file": evaluation.model,
            "sha256": passport.sha256,
            "architecture": passport.architecture.name,
            "precision": passport.precision,
            "window_hw": list(passport.window_hw),
            "tiling": evaluation.tiling,
            "backend": evaluation.backend,
        },
        "data": evaluation.data,
        "notes": list(evaluation.notes),
        "images": scores.images,
        "pixels": {pooling: _pixel_dict(getattr(scores, pooling)) for pooling in POOLINGS},
        "interval_95": {"mean_iou": scores.mean_iou_interval, "lesion_iou": scores.lesion_iou_interval},
        "lesions": {
            "any_class": _lesion_dict(scores.lesions, scores.lesion_sensitivity, scores.false_lesions_per_image),
            "own_class": _lesion_dict(scores.lesions_by_class, scores.class_sensitivity, scores.class_false_per_image),
        },
        "hausdorff95_px": {"mean": scores.hausdorff95_px, "images": scores.hausdorff95_images},
        "image_classes": {
            "order": IMAGE_CLASSES,
            "truth_by_predicted": scores.images_by_class,
            "accuracy": scores.image_accuracy,
        },
        "reliability": {
            "pixels": _reliability_dict(scores.pixel_reliability),
            "lesions": _reliability_dict(scores.lesion_reliability),
        },
        "median_ms": {"network": scores.network_ms_median, "frame": scores.total_ms_median},
        "accuracy": evaluation.accuracy().model_dump(),
    }
    result: dict[str, Any] = _known(content)
    return result


def markdown(evaluation: Evaluation, figure_paths: Iterable[Path] = ()) -> str:
    """The evaluation as Markdown: the paper's Table 3 beside ours, lesions, image classes, figures."""
    scores, passport = evaluation.scores, evaluation.passport
    notes = "".join(f"\n> {note}\n" for note in evaluation.notes)
    low, high = scores.mean_iou_interval
    lesion_low, lesion_high = scores.lesion_iou_interval
    parts = [
        f"# {passport.name} on {evaluation.data}",
        f"`{evaluation.model}`: {scores.images} images, tiling `{evaluation.tiling}`, backend `{evaluation.backend}`, "
        f"window {passport.window_hw[1]}x{passport.window_hw[0]} px, {passport.precision}, "
        f"median {scores.network_ms_median:.1f} ms of network and {scores.total_ms_median:.1f} ms in all per frame."
        + notes,
        "## IoU by class, %",
        _iou_table(evaluation),
        POOLING_NOTE,
        f"95 % interval (bootstrap over images, whole images): mean IoU {percent(low)} to {percent(high)}, "
        f"lesion IoU {percent(lesion_low)} to {percent(lesion_high)}.",
        "## All pixel figures, %",
        _pixel_table(evaluation),
        "A class that is in neither truth nor prediction of an image has no IoU and is left out of the mean over "
        "images; one that is only predicted counts as 0. Zero padding is not counted. Lesion: benign and malignant "
        "as one class.",
        "## Lesions",
        _lesion_table(evaluation),
        f"Found: IoU of at least {IOU_FOUND} with a predicted lesion, one to one. "
        f"95 % Hausdorff distance: {number(scores.hausdorff95_px)} px, mean over the "
        f"{scores.hausdorff95_images} images where truth and prediction both hold a lesion.",
        "## Class of the image",
        _class_table(evaluation),
        f"Right: {percent(scores.image_accuracy)} %. An image's class is the one with the larger lesion area, "
        "normal where no lesion was found.",
        "## Confidence",
        _reliability_table(evaluation),
        f"Temperature {passport.temperature:.3g}. Expected calibration error: pixels "
        f"{number(scores.pixel_reliability.expected_calibration_error)}, lesions "
        f"{number(scores.lesion_reliability.expected_calibration_error)}. A pixel labelled a lesion is right if the "
        f"truth gives it that label, a predicted lesion if more than {RIGHT_SHARE:.0%} of its pixels are.",
    ]
    pictures = [f"![{path.stem}]({path.name})" for path in figure_paths]
    if pictures:
        parts += ["## Figures", *pictures]
    return "\n\n".join(parts) + "\n"


def images_csv(images: Iterable[ImageResult]) -> str:
    """One line an image; empty fields where a figure does not exist."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["image", "width", "height", "class", "predicted_class", "lesion_iou"]
        + [f"iou_{name}" for name in CLASSES]
        + ["lesions", "lesions_found", "lesions_false", "hausdorff95_px", "network_ms"]
    )
    for image in images:
        counts = image.lesions
        writer.writerow(
            [image.name, image.hw[1], image.hw[0]]
            + [IMAGE_CLASSES[image.truth_class], IMAGE_CLASSES[image.predicted_class]]
            + [_field(value) for value in (image.lesion_iou, *iou(image.confusion).tolist())]
            + [
                counts.truth,
                counts.found,
                counts.false,
                _field(image.hausdorff95_px),
                f"{image.network_ms:.2f}",
            ]
        )
    return stream.getvalue()


def percent(fraction: float) -> str:
    """0.7317 -> `73.17`; a dash where there is no figure."""
    return f"{100 * fraction:.2f}" if math.isfinite(fraction) else "-"


def number(value: float) -> str:
    """Two decimals; a dash where there is no figure."""
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _iou_table(evaluation: Evaluation) -> str:
    pools = [getattr(evaluation.scores, pooling) for pooling in POOLINGS]
    rows = []
    for index, name in enumerate((*CLASSES, "mean")):
        paper = [f"{column[index]:.2f}" for column in PAPER_IOU_PERCENT.values()]
        ours = [percent((*pool.iou, pool.mean_iou)[index]) for pool in pools]
        rows.append([name, *paper, *ours])
    paper_dice = [
        f"{PAPER_DICE_PERCENT[name]:.2f}" if name in PAPER_DICE_PERCENT else "-" for name in PAPER_IOU_PERCENT
    ]
    rows.append(["mean Dice", *paper_dice, *(percent(pool.mean_dice) for pool in pools)])
    return table(
        [
            "",
            *(f"paper: {name}" for name in PAPER_IOU_PERCENT),
            *(f"ours: {name}" for name in POOLINGS.values()),
        ],
        rows,
    )


def _pixel_table(evaluation: Evaluation) -> str:
    rows = []
    for pooling, title in POOLINGS.items():
        pool: PixelFigures = getattr(evaluation.scores, pooling)
        ious = [*pool.iou, pool.mean_iou, pool.lesion_iou]
        dices = [*pool.dice, pool.mean_dice, pool.lesion_dice]
        rows.append([f"{title}: IoU", percent(pool.pixel_accuracy), *map(percent, ious)])
        rows.append([f"{title}: Dice", "", *map(percent, dices)])
    return table(["pooled over", "pixel accuracy", *CLASSES, "mean", "lesion"], rows)


def _lesion_table(evaluation: Evaluation) -> str:
    scores = evaluation.scores
    rows = [
        [name, str(counts.truth), str(counts.found), percent(sensitivity), number(false)]
        for name, counts, sensitivity, false in (
            ("any class", scores.lesions, scores.lesion_sensitivity, scores.false_lesions_per_image),
            (
                "its own class",
                scores.lesions_by_class,
                scores.class_sensitivity,
                scores.class_false_per_image,
            ),
        )
    ]
    return table(["matched by", "lesions", "found", "sensitivity %", "false lesions per image"], rows)


def _class_table(evaluation: Evaluation) -> str:
    rows = [
        [name, *map(str, counts)] for name, counts in zip(IMAGE_CLASSES, evaluation.scores.images_by_class, strict=True)
    ]
    return table(["truth \\ predicted", *IMAGE_CLASSES], rows)


def _reliability_table(evaluation: Evaluation) -> str:
    curves = (evaluation.scores.pixel_reliability, evaluation.scores.lesion_reliability)
    rows = []
    for index in range(BINS):
        if not any(curve.counts[index] for curve in curves):
            continue
        cells = [f"{index / BINS:.1f} to {(index + 1) / BINS:.1f}"]
        for curve in curves:
            cells += [str(curve.counts[index]), percent(curve.confidence[index]), percent(curve.accuracy[index])]
        rows.append(cells)
    header = ["confidence", "pixels", "mean %", "right %", "lesions", "mean %", "right %"]
    return table(header, rows)


def _reliability_dict(curve: Reliability) -> dict[str, Any]:
    return {
        "counts": curve.counts.tolist(),
        "confidence": curve.confidence.tolist(),
        "accuracy": curve.accuracy.tolist(),
        "expected_calibration_error": curve.expected_calibration_error,
    }


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _pixel_dict(pool: PixelFigures) -> dict[str, Any]:
    return {
        "pixel_accuracy": pool.pixel_accuracy,
        "iou": {
            **dict(zip(CLASSES, pool.iou, strict=True)),
            "mean": pool.mean_iou,
            "lesion": pool.lesion_iou,
        },
        "dice": {
            **dict(zip(CLASSES, pool.dice, strict=True)),
            "mean": pool.mean_dice,
            "lesion": pool.lesion_dice,
        },
    }


def _lesion_dict(counts: Any, sensitivity: float, false_per_image: float) -> dict[str, Any]:
    return {**dataclasses.asdict(counts), "sensitivity": sensitivity, "false_per_image": false_per_image}


def _field(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def _known(value: Any) -> Any:
    """NaN becomes None, which is all that JSON has for it."""
    if isinstance(value, dict):
        return {key: _known(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
