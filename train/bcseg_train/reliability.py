"""Whether confidence means what it says: reliability curve and expected calibration error (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import BENIGN, MALIGNANT, Float32Array, UInt8Array
from bcseg_edge.lesions import MIN_AREA_PX

BINS = 10  # of equal width over 0..1
RIGHT_SHARE = 0.5  # a predicted lesion is right if more of its pixels than this are lesion of its class

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Predictions by confidence, `BINS` bins.

    Attributes:
        counts: int64 `[BINS]`, predictions.
        right: int64 `[BINS]`, of which right.
        confidence_sum: float64 `[BINS]`, sum of their confidences.
    """

    counts: Int64Array
    right: Int64Array
    confidence_sum: Float64Array

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.counts + other.counts, self.right + other.right, self.confidence_sum + other.confidence_sum
        )

    @property
    def confidence(self) -> Float64Array:
        """Mean confidence of each bin, NaN where it is empty."""
        return _ratio(self.confidence_sum, self.counts)

    @property
    def accuracy(self) -> Float64Array:
        """Share of right predictions of each bin, NaN where it is empty."""
        return _ratio(self.right.astype(np.float64), self.counts)

    @property
    def expected_calibration_error(self) -> float:
        """Mean of |accuracy - confidence| over the predictions, 0..1; NaN without predictions."""
        if not self.counts.sum():
            return float("nan")
        return float(np.abs(self.right - self.confidence_sum).sum() / self.counts.sum())


def _ratio(parts: Float64Array, wholes: Int64Array) -> Float64Array:
    ratio: Float64Array = np.divide(parts, wholes, out=np.full(BINS, np.nan), where=wholes > 0)
    return ratio


def reliability(confidence: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Reliability:
    """Sort predictions into bins.

    Args:
        confidence: float `[N]`, 0..1.
        right: bool `[N]`.
    """
    index = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return Reliability(
        np.bincount(index, minlength=BINS),
        np.bincount(index[right], minlength=BINS),
        np.bincount(index, confidence.astype(np.float64), BINS).astype(np.float64),  # without weights: int64
    )


def empty() -> Reliability:
    """No prediction."""
    return reliability(np.zeros(0), np.zeros(0, bool))


def pixel_reliability(truth: UInt8Array, labels: UInt8Array, confidence: Float32Array) -> Reliability:
    """Over the pixels that are labelled a lesion: background, the easy nine tenths of a frame, would hide them.

    Args:
        truth, labels: uint8 `[H, W]`.
        confidence: float32 `[H, W]`, probability of the label.
    """
    lesion = labels > 0
    return reliability(confidence[lesion], (truth == labels)[lesion])


def lesion_reliability(truth: UInt8Array, labels: UInt8Array, confidence: Float32Array) -> Reliability:
    """Over the predicted lesions of at least `MIN_AREA_PX`: mean confidence against being right (`RIGHT_SHARE`)."""
    total = empty()
    for label in (BENIGN, MALIGNANT):
        count, regions = cv2.connectedComponents((labels == label).view(np.uint8), connectivity=8)
        areas = np.bincount(regions.ravel(), minlength=count)[1:]
        mean = np.bincount(regions.ravel(), confidence.ravel(), count)[1:] / np.maximum(areas, 1)
        overlap = np.bincount(regions[truth == label], minlength=count)[1:]
        large = areas >= MIN_AREA_PX
        total += reliability(mean[large], (overlap > RIGHT_SHARE * areas)[large])
    return total
