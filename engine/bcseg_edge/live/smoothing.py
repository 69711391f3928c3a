"""Temporal smoothing: less flicker, at the price of a stated delay."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.frames import BACKGROUND, BENIGN, MALIGNANT, Float32Array, Segmentation
from bcseg_edge.lesions import find_lesions
from bcseg_edge.live.results import LiveResult, Validity

LONGEST_MS = 2000.0
_RESET_AFTER = 5  # time constants without a result: what was seen before says nothing any more
_CLASSES = (BACKGROUND, BENIGN, MALIGNANT)


class Smoother:
    """Averages the classes' probabilities of each pixel over time, with weights that fade exponentially.

    Only the chosen label's probability is known; the other two share the rest. A mask that appears, moves or vanishes
    is shown `latency_ms` late, and until then the mask does not fit the image by as much as the lesion moved: keep the
    time short, or freeze.

    Args:
        time_constant_ms: after this time a result counts 1/e.

    Raises:
        DataError: not above 0, or above 2000 ms.
    """

    def __init__(self, time_constant_ms: float) -> None:
        if not 0 < time_constant_ms <= LONGEST_MS:
            raise DataError(
                f"--smooth {time_constant_ms:g} ms cannot be used, above 0 and up to {LONGEST_MS:g} is",
                "try --smooth 100",
            )
        self._constant_ns = time_constant_ms * 1e6
        self.latency_ms = time_constant_ms * math.log(2)
        self._means: list[Float32Array] = []
        self._then_ns = 0

    def __call__(self, result: LiveResult) -> LiveResult:
        """The result with smoothed labels, confidence and lesions; as it is without a segmentation."""
        segmentation = result.segmentation
        if segmentation is None:
            return result
        now_ns = result.frame.captured_ns
        elapsed_ns = now_ns - self._then_ns
        fits = bool(self._means) and self._means[0].shape == segmentation.labels.shape
        if not fits or not 0 <= elapsed_ns <= _RESET_AFTER * self._constant_ns:
            self._means = _probabilities(segmentation)
        elif result.validity is not Validity.FROZEN:
            weight = 1 - math.exp(-elapsed_ns / self._constant_ns)
            for mean, new in zip(self._means, _probabilities(segmentation), strict=True):
                cv2.accumulateWeighted(new, mean, weight)
        self._then_ns = now_ns
        smoothed = self._decide(segmentation)
        return dataclasses.replace(
            result,
            segmentation=smoothed,
            lesions=tuple(find_lesions(smoothed, result.frame.spacing_mm)),
            computed_labels=segmentation.labels,
        )

    def _decide(self, segmentation: Segmentation) -> Segmentation:
        background, benign, malignant = self._means
        labels = (benign > background).view(np.uint8)
        top = cv2.max(background, benign)
        np.maximum(labels, (malignant > top).view(np.uint8) << 1, out=labels)
        confidence = np.asarray(cv2.max(top, malignant), np.float32)
        return dataclasses.replace(segmentation, labels=labels, confidence=confidence)


def _probabilities(segmentation: Segmentation) -> list[Float32Array]:
    """Float32 `[H, W]` for each class; they sum to 1."""
    rest = (1 - segmentation.confidence) / np.float32(2)
    maps = []
    for label in _CLASSES:
        probability = rest.copy()
        cv2.copyTo(segmentation.confidence, (segmentation.labels == label).view(np.uint8), probability)
        maps.append(probability)
    return maps
