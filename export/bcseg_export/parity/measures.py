"""What two models say of one frame, compared: pixels, lesions, boundary, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.lesions import Float64Array, Lesion, find_lesions
from bcseg_train.lesion_metrics import BoolArray, hausdorff95_px
from bcseg_train.metrics import Confusion, confusion_matrix, dice, merge_lesions

# Less than this of a lesion and it is lost: a speck on a mass is not the mass. The least that a shipped file kept of a
# lesion above 20 px is 0.09 (edge.int8.onnx on ONNX Runtime, val of BUSI).
MIN_OVERLAP = 0.05

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FrameParity:
    """One frame, reference against candidate.

    Attributes:
        name: of the frame.
        confusion: pixels, int64 `[3, 3]`, rows reference, columns candidate.
        truth_confusions: pixels of the reference and of the candidate, each int64 `[3, 3]` with the truth in its rows;
            None where there is no truth.
        lesions_px: long axis of each lesion of the reference, px.
        overlaps: of each of them with the candidate's lesions, 0 to 1; see `_overlaps`.
        lost_px: long axis of each of them whose overlap is below `MIN_OVERLAP`.
        invented_px: long axis of each lesion of the candidate whose overlap with the reference's is as small.
        reclassified_px: long axis of each lesion of the reference that the candidate gives mostly another class.
        boundary_px: 95th percentile of the distance between the lesions' boundaries (95 % Hausdorff distance), px; NaN
            unless both hold a lesion.
        confidence_difference: mean over the pixels where the labels agree, 0 to 1.
        max_confidence_difference: the largest.
    """

    name: str
    confusion: Confusion
    truth_confusions: tuple[Confusion, Confusion] | None
    lesions_px: tuple[float, ...]
    overlaps: tuple[float, ...]
    lost_px: tuple[float, ...]
    invented_px: tuple[float, ...]
    reclassified_px: tuple[float, ...]
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
    shared = _shared_px(expected_lesions, expected, received_lesions, received)
    overlaps = _overlaps(shared)
    equal = expected == received
    difference = np.abs(reference.confidence - candidate.confidence)[equal]
    return FrameParity(
        name=name,
        confusion=confusion_matrix(expected, received),
        truth_confusions=None
        if truth is None
        else (confusion_matrix(truth, expected), confusion_matrix(truth, received)),
        lesions_px=tuple(lesion.long_axis_px for lesion in expected_lesions),
        overlaps=tuple(overlaps.tolist()),
        lost_px=_long_axes(expected_lesions, overlaps < MIN_OVERLAP),
        invented_px=_long_axes(received_lesions, _overlaps(shared.T) < MIN_OVERLAP),
        reclassified_px=_long_axes(expected_lesions, _are_reclassified(expected_lesions, received_lesions, shared)),
        boundary_px=hausdorff95_px(expected, received),
        confidence_difference=float(difference.mean()) if difference.size else 0.0,
        max_confidence_difference=float(difference.max(initial=0)),
    )


def _shared_px(
    expected_lesions: Sequence[Lesion], expected: UInt8Array, received_lesions: Sequence[Lesion], received: UInt8Array
) -> Int64Array:
    """Pixels that lesions share, int64 `[1 + N, 1 + M]`: of the reference in rows, of the candidate in columns.

    Row and column 0 are what lies outside of every lesion, specks too small to be one included.
    """
    rows, columns = 1 + len(expected_lesions), 1 + len(received_lesions)
    pairs = _number(expected_lesions, expected) * columns + _number(received_lesions, received)
    return np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)


def _overlaps(shared: Int64Array) -> Float64Array:
    """How much of each lesion in the rows of `shared` the other side has, `[N]`, 0 to 1.

    That is its IoU with the other side's lesions on it taken together, without what they cover of its neighbours: two
    lesions that the other side joins into one are both there.
    """
    inside, outside = shared[1:, 1:], shared[0, 1:]
    union = shared[1:].sum(axis=1) + (inside > 0) @ outside
    return np.asarray(inside.sum(axis=1) / union)


def _are_reclassified(
    expected_lesions: Sequence[Lesion], received_lesions: Sequence[Lesion], shared: Int64Array
) -> BoolArray:
    """Bool `[N]`: of the lesion's pixels that the candidate marks as well, more than half get another class."""
    expected = np.array([lesion.label for lesion in expected_lesions], np.uint8)
    received = np.array([lesion.label for lesion in received_lesions], np.uint8)
    inside = shared[1:, 1:]
    other = (inside * (expected[:, None] != received)).sum(axis=1)
    return np.asarray(2 * other > inside.sum(axis=1))


def _long_axes(lesions: Sequence[Lesion], chosen: BoolArray) -> tuple[float, ...]:
    return tuple(lesion.long_axis_px for lesion, is_chosen in zip(lesions, chosen, strict=True) if is_chosen)


def _number(lesions: Sequence[Lesion], labels: UInt8Array) -> Int64Array:
    """Int64 `[H, W]`: for each pixel the number of its lesion in `labels`, from 1 and in their order; 0 outside."""
    numbers = np.zeros(labels.shape, np.int64)
    # The largest box first: a lesion in the hole of another keeps its own number.
    boxes = sorted(enumerate(lesions, start=1), key=lambda item: -item[1].bbox_xywh[2] * item[1].bbox_xywh[3])
    for number, lesion in boxes:
        x, y, width, height = lesion.bbox_xywh
        box = slice(y, y + height), slice(x, x + width)
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [lesion.contour.reshape(-1, 1, 2)], -1, 1, cv2.FILLED, offset=(-x, -y))
        numbers[box][(filled > 0) & (labels[box] == lesion.label)] = number
    return numbers
