"""Pixel figures from confusion matrices, in the three poolings that the paper leaves open.

Everything starts from one int64 `[3, 3]` confusion matrix per image (rows truth, columns prediction), so
that pooling, averaging and the bootstrap are sums over matrices and never touch pixels again.

A class that is absent from both truth and prediction has no IoU or Dice: it is NaN and is left out of
means (torchmetrics, MONAI `ignore_empty=True`). A class that is only predicted scores 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import CLASSES, UInt8Array

Confusion = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

PAPER_PATCH_PX = 256
BOOTSTRAP_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """Pixel figures of one pooling, fractions 0 to 1, NaN where a class never occurs.

    Attributes:
        pixel_accuracy: share of the pixels whose label is right.
        iou, dice: by class, in the order of `CLASSES`.
        lesion_iou, lesion_dice: with benign and malignant as one class.
    """

    pixel_accuracy: float
    iou: tuple[float, ...]
    dice: tuple[float, ...]
    lesion_iou: float
    lesion_dice: float

    @property
    def mean_iou(self) -> float:
        return float(mean_known(np.array(self.iou)))

    @property
    def mean_dice(self) -> float:
        return float(mean_known(np.array(self.dice)))


def confusion_matrix(truth: UInt8Array, predicted: UInt8Array) -> Confusion:
    """Count pixels by truth (row) and predicted class (column).

    Args:
        truth, predicted: uint8 of one shape, values below `len(CLASSES)`.
    """
    classes = len(CLASSES)
    pairs = truth.ravel() * np.uint8(classes) + predicted.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def lesion_patch_confusion(truth: UInt8Array, predicted: UInt8Array, patch_px: int = PAPER_PATCH_PX) -> Confusion:
    """Count pixels as `confusion_matrix` does, over the paper's patches that hold a lesion in the truth.

    The image is cut from the top left into squares of `patch_px`, whatever window the model has. What lies
    in the zero padding of the last row and column is not counted.

    Args:
        truth, predicted: uint8 `[H, W]`.
    """
    inside = _lesion_patches(truth, patch_px)  # [H, W]
    return confusion_matrix(truth[inside], predicted[inside])


def _lesion_patches(truth: UInt8Array, patch_px: int) -> npt.NDArray[np.bool_]:
    """Bool `[H, W]`: True on every pixel of a patch that holds a lesion."""
    height, width = truth.shape
    rows, columns = -(-height // patch_px), -(-width // patch_px)
    padded = np.zeros((rows * patch_px, columns * patch_px), dtype=bool)
    padded[:height, :width] = truth > 0
    holds = padded.reshape(rows, patch_px, columns, patch_px).any(axis=(1, 3))  # [rows, columns]
    return holds.repeat(patch_px, axis=0).repeat(patch_px, axis=1)[:height, :width]


def iou(confusion: Confusion) -> FloatArray:
    """Intersection over union by class: `[..., C, C]` -> `[..., C]`."""
    hit, truth, predicted = _totals(confusion)
    return _ratio(hit, truth + predicted - hit)


def dice(confusion: Confusion) -> FloatArray:
    """Dice coefficient by class: `[..., C, C]` -> `[..., C]`."""
    hit, truth, predicted = _totals(confusion)
    return _ratio(2 * hit, truth + predicted)


def pixel_accuracy(confusion: Confusion) -> FloatArray:
    """Share of right pixels: `[..., C, C]` -> `[...]`."""
    return _ratio(_totals(confusion)[0].sum(axis=-1), confusion.sum(axis=(-2, -1)))


def merge_lesions(confusion: Confusion) -> Confusion:
    """All classes but background as one: `[..., C, C]` -> `[..., 2, 2]`."""
    return np.add.reduceat(np.add.reduceat(confusion, [0, 1], axis=-2), [0, 1], axis=-1)


def pooled(confusions: Confusion) -> PixelFigures:
    """Figures over all pixels of all images together, from `[n, 3, 3]`."""
    total = confusions.sum(axis=0)
    merged = merge_lesions(total)
    return PixelFigures(
        pixel_accuracy=float(pixel_accuracy(total)),
        iou=tuple(iou(total).tolist()),
        dice=tuple(dice(total).tolist()),
        lesion_iou=float(iou(merged)[1]),
        lesion_dice=float(dice(merged)[1]),
    )


def mean_over_images(confusions: Confusion) -> PixelFigures:
    """Figures of each image, averaged by class over the images in which the class occurs, from `[n, 3, 3]`.

    The mean over classes is the mean of these averages, so that every class weighs the same however many
    images hold it.
    """
    merged = merge_lesions(confusions)
    return PixelFigures(
        pixel_accuracy=float(mean_known(pixel_accuracy(confusions))),
        iou=tuple(mean_known(iou(confusions), axis=0).tolist()),
        dice=tuple(mean_known(dice(confusions), axis=0).tolist()),
        lesion_iou=float(mean_known(iou(merged)[:, 1])),
        lesion_dice=float(mean_known(dice(merged)[:, 1])),
    )


def pooled_mean_iou(total: Confusion) -> FloatArray:
    """Mean IoU over classes: `[..., 3, 3]` -> `[...]`."""
    return mean_known(iou(total))


def pooled_lesion_iou(total: Confusion) -> FloatArray:
    """IoU with benign and malignant as one: `[..., 3, 3]` -> `[...]`."""
    return iou(merge_lesions(total))[..., 1]


def bootstrap_interval(
    confusions: Confusion,
    figure: Callable[[Confusion], FloatArray],
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a pooled figure, by drawing images with replacement (Efron 1979).

    Args:
        confusions: int64 `[n, 3, 3]`, one per image.
        figure: `[..., 3, 3]` -> `[...]`, e.g. `pooled_mean_iou`.

    Returns:
        (2.5th, 97.5th) percentile; NaN twice where the figure never exists.
    """
    images = len(confusions)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    totals = np.tensordot(draws, confusions, axes=1)  # [resamples, 3, 3]
    values = figure(totals)
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def mean_known(values: FloatArray, axis: int = -1) -> FloatArray:
    """Mean over `axis` without NaN; NaN where nothing is known (numpy's nanmean warns there)."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def _totals(confusion: Confusion) -> tuple[Confusion, Confusion, Confusion]:
    """Right pixels, pixels in the truth and pixels predicted, by class: three `[..., C]`."""
    return np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1), confusion.sum(axis=-2)


def _ratio(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> FloatArray:
    """`part / whole`, NaN where `whole` is 0."""
    result: FloatArray = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=result, where=np.asarray(whole) > 0)
    return result
