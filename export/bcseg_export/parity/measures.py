"""What two models say of one frame, compared: pixels, lesions, boundary, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion, find_lesions
from bcseg_train.lesion_metrics import BoolArray, hausdorff95_px
from bcseg_train.metrics import Confusion, confusion_matrix, dice, merge_lesions


@dataclass(frozen=True, slots=True)
class FrameParity:
    """One frame, reference against candidate.

    Attributes:
        name: of the frame.
        confusion: pixels, int64 `[3, 3]`, rows reference, columns candidate.
        truth_confusions: pixels of the reference and of the candidate, each int64 `[3, 3]` with the truth in its rows;
            None where there is no truth.
        lesions_px: long axis of each lesion of the reference, px.
        lost_px: long axis of each of them that no lesion of the candidate touches.
        invented_px: long axis of each lesion of the candidate that none of the reference touches.
        reclassified: lesions of the reference that the candidate gives mostly another class.
        boundary_px: 95th percentile of the distance between the lesions' boundaries (95 % Hausdorff distance), px; NaN
            unless both hold a lesion.
        confidence_difference: mean over the pixels where the labels agree, 0 to 1.
        max_confidence_difference: the largest.
    """

    name: str
    confusion: Confusion
    truth_confusions: tuple[Confusion, Confusion] | None
    lesions_px: tuple[float, ...]
    lost_px: tuple[float, ...]
    invented_px: tuple[float, ...]
    reclassified: int
    boundary_px: float
    confidence_difference: float
    max_confidence_difference: float

    @property
    def labels_equal(self) -> float:
        """Share of the pixels with the same label."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def dice(self) -> tuple[float, ...]:
        """Of the candidate against the reference, by class; NaN where neither has it."""
        return tuple(dice(self.confusion).tolist())

    @property
    def lesion_dice(self) -> float:
        """Benign and malignant as one class; NaN where neither has a lesion."""
        return float(dice(merge_lesions(self.confusion))[1])

    @property
    def distance(self) -> tuple[int, float]:
        """What frames are ranked by, the largest being the worst: lesions lost or invented, then Dice missing."""
        missing = [1 - value for value in self.dice[1:] if np.isfinite(value)]
        return len(self.lost_px) + len(self.invented_px), max(missing, default=1 - self.labels_equal)


def measure_frame(
    name: str, reference: Segmentation, candidate: Segmentation, truth: UInt8Array | None = None
) -> FrameParity:
    """Compare two segmentations of one frame.

    Args:
        truth: uint8 labels of the frame's size, where they are known.
    """
    expected, received = reference.labels, candidate.labels
    expected_lesions, received_lesions = find_lesions(reference), find_lesions(candidate)
    expected_mask, received_mask = lesion_mask(expected_lesions, expected), lesion_mask(received_lesions, received)
    equal = expected == received
    difference = np.abs(reference.confidence - candidate.confidence)[equal]
    return FrameParity(
        name=name,
        confusion=confusion_matrix(expected, received),
        truth_confusions=None
        if truth is None
        else (confusion_matrix(truth, expected), confusion_matrix(truth, received)),
        lesions_px=tuple(lesion.long_axis_px for lesion in expected_lesions),
        lost_px=_untouched(expected_lesions, expected, received_mask),
        invented_px=_untouched(received_lesions, received, expected_mask),
        reclassified=sum(_is_reclassified(lesion, expected, received, received_mask) for lesion in expected_lesions),
        boundary_px=hausdorff95_px(expected, received),
        confidence_difference=float(difference.mean()) if difference.size else 0.0,
        max_confidence_difference=float(difference.max(initial=0)),
    )


def lesion_mask(lesions: Sequence[Lesion], labels: UInt8Array) -> BoolArray:
    """Bool `[H, W]`: the pixels of `lesions`, found in `labels`; specks too small to be lesions are left out."""
    filled = np.zeros_like(labels)
    # One by one: drawn together, a lesion inside another's hole would count as the hole.
    for lesion in lesions:
        cv2.drawContours(filled, [lesion.contour.reshape(-1, 1, 2)], -1, 1, cv2.FILLED)
    return np.asarray((filled > 0) & (labels > 0))


def _untouched(lesions: Sequence[Lesion], labels: UInt8Array, others: BoolArray) -> tuple[float, ...]:
    """Long axis of each lesion, found in `labels`, that has no pixel in common with `others`."""
    boxes = ((lesion, *_pixels(lesion, labels)) for lesion in lesions)
    return tuple(lesion.long_axis_px for lesion, box, mask in boxes if not (others[box] & mask).any())


def _is_reclassified(lesion: Lesion, labels: UInt8Array, received: UInt8Array, others: BoolArray) -> bool:
    """Whether of the lesion's pixels that the candidate marks as well, more than half get another class."""
    box, mask = _pixels(lesion, labels)
    marked = received[box][mask & others[box]]
    return 2 * int(np.count_nonzero(marked != lesion.label)) > marked.size


def _pixels(lesion: Lesion, labels: UInt8Array) -> tuple[tuple[slice, slice], BoolArray]:
    """The lesion's bounding box in `labels`, where it was found, and its pixels therein."""
    x, y, width, height = lesion.bbox_xywh
    box = slice(y, y + height), slice(x, x + width)
    filled = np.zeros((height, width), np.uint8)
    cv2.drawContours(filled, [lesion.contour.reshape(-1, 1, 2)], -1, 1, cv2.FILLED, offset=(-x, -y))
    return box, np.asarray((filled > 0) & (labels[box] == lesion.label))
