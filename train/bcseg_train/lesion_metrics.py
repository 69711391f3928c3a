"""Figures about lesions instead of pixels: found and invented ones, boundary distance, class of an image.

A lesion here is an 8-connected region of at least `MIN_AREA_PX` pixels, the same limit as in
`bcseg_edge.find_lesions`, so that what is scored is what a user is shown. The limit applies to the truth
too: BUSI's masks hold 23 stray specks, all below 10 px, while its smallest lesion has 569.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bcseg_edge.frames import BENIGN, CLASSES, MALIGNANT, UInt8Array
from bcseg_edge.lesions import MIN_AREA_PX

IOU_FOUND = 0.5
IMAGE_CLASSES = ("normal", "benign", "malignant")

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class LesionCounts:
    """Lesions of one image or, added up, of many.

    Attributes:
        truth: lesions in the truth.
        predicted: lesions in the prediction.
        found: lesions of the truth with a predicted lesion of IoU >= `IOU_FOUND`, one to one.
    """

    truth: int = 0
    predicted: int = 0
    found: int = 0

    @property
    def false(self) -> int:
        """Predicted lesions that match none of the truth."""
        return self.predicted - self.found

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(self.truth + other.truth, self.predicted + other.predicted, self.found + other.found)


def match_lesions(truth: UInt8Array, predicted: UInt8Array) -> LesionCounts:
    """Count lesions found and invented whatever their class, from two label images uint8 `[H, W]`."""
    truth_regions, truth_count = _regions(truth > 0)
    predicted_regions, predicted_count = _regions(predicted > 0)
    overlap = _region_iou(truth_regions, truth_count, predicted_regions, predicted_count)
    # One to one without further ado: two regions with an IoU of one half with the same third would have to tile
    # it, and so would touch and be one region.
    found = int((overlap >= IOU_FOUND).any(axis=1).sum())
    return LesionCounts(truth_count, predicted_count, found)


def match_lesions_by_class(truth: UInt8Array, predicted: UInt8Array) -> LesionCounts:
    """Count as `match_lesions` does, but a lesion is found only by one of its own class."""
    return sum(
        (
            match_lesions((truth == label).view(np.uint8), (predicted == label).view(np.uint8))
            for label in (BENIGN, MALIGNANT)
        ),
        LesionCounts(),
    )


def hausdorff95_px(truth: UInt8Array, predicted: UInt8Array) -> float:
    """95 % Hausdorff distance between the lesion masks, whatever their class, in px.

    The larger of the two directed 95th percentiles of the distances between boundary pixels, as in MONAI
    and in Metrics Reloaded (Maier-Hein et al. 2024). NaN unless both images hold a lesion.

    Args:
        truth, predicted: uint8 `[H, W]` labels.
    """
    truth_mask, predicted_mask = _regions(truth > 0)[0] > 0, _regions(predicted > 0)[0] > 0
    if not (truth_mask.any() and predicted_mask.any()):
        return float("nan")
    # Both boundaries lie within the box around both masks, so cropping to it changes no distance.
    x, y, width, height = cv2.boundingRect((truth_mask | predicted_mask).view(np.uint8))
    box = (slice(y, y + height), slice(x, x + width))
    truth_edge, predicted_edge = _boundary(truth_mask[box]), _boundary(predicted_mask[box])
    to_predicted = ndimage.distance_transform_edt(~predicted_edge)[truth_edge]
    to_truth = ndimage.distance_transform_edt(~truth_edge)[predicted_edge]
    return float(max(np.percentile(to_predicted, 95), np.percentile(to_truth, 95)))


def image_class(labels: UInt8Array) -> int:
    """Class of a whole image: 0 normal, 1 benign, 2 malignant (`IMAGE_CLASSES`).

    The class with the larger summed lesion area; normal where no lesion is left; malignant where the areas
    tie, since that is the safer call.
    """
    areas = [int(np.count_nonzero(_regions(labels == label)[0])) for label in (BENIGN, MALIGNANT)]
    if not any(areas):
        return 0
    return MALIGNANT if areas[1] >= areas[0] else BENIGN


def image_confusion(truth: list[int], predicted: list[int]) -> npt.NDArray[np.int64]:
    """Count images by truth (row) and predicted class (column): `[3, 3]` in the order of `IMAGE_CLASSES`."""
    counts = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    np.add.at(counts, (np.asarray(truth, dtype=int), np.asarray(predicted, dtype=int)), 1)
    return counts


def _regions(mask: BoolArray) -> tuple[IntArray, int]:
    """Number the regions of at least `MIN_AREA_PX` from 1; the rest becomes 0."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= MIN_AREA_PX
    keep[0] = False
    numbers = np.zeros(count, dtype=np.int32)
    numbers[keep] = np.arange(1, keep.sum() + 1)
    return numbers[regions], int(keep.sum())


def _region_iou(
    truth: IntArray, truth_count: int, predicted: IntArray, predicted_count: int
) -> npt.NDArray[np.float64]:
    """IoU of every region of the truth with every predicted one: `[truth_count, predicted_count]`."""
    columns = predicted_count + 1
    pairs = np.bincount((truth * columns + predicted).ravel(), minlength=(truth_count + 1) * columns).reshape(
        truth_count + 1, columns
    )
    union = pairs.sum(axis=1, keepdims=True) + pairs.sum(axis=0, keepdims=True) - pairs
    return np.asarray(pairs[1:, 1:] / union[1:, 1:])


def _boundary(mask: BoolArray) -> BoolArray:
    """Pixels of `mask` with a 4-neighbour outside it; the image's own edge counts as outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask))
