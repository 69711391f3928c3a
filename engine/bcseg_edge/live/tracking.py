"""The same lesion keeps its number and its class from frame to frame.

A lesion here is a connected region of benign and malignant pixels together: a malignant sliver at the rim of a benign
mass is no second lesion. Its class is the one with more evidence, pooled over the last second of its track.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import BENIGN, MALIGNANT, Segmentation, UInt8Array
from bcseg_edge.lesions import MIN_AREA_PX, Lesion, find_lesions
from bcseg_edge.live.results import LiveResult, Validity

GAP_S = 1.0  # a lesion that was out of sight for longer is a new one
POOL_S = 1.0  # evidence fades to 1/e in this time
# The other class has to be ahead by this factor: two equally likely ones must not alternate.
SWITCH_FACTOR = 1.2
_LEAST_OVERLAP = 0.1
_LARGEST_STEP = 0.75  # of a lesion's size, from one sight to the next


@dataclass(slots=True)
class _Region:
    """A connected region of labelled pixels in one frame."""

    number: int
    bbox_xywh: tuple[int, int, int, int]
    centroid_xy: tuple[float, float]
    area_px: int
    evidence: npt.NDArray[np.float64]  # [benign, malignant]: mean confidence over the region, 0 to 1


@dataclass(slots=True)
class _Track:
    """A lesion over time."""

    track_id: int
    region: _Region
    evidence: npt.NDArray[np.float64]
    label: int
    seen_ns: int


class Tracker:
    """Gives the lesions of live results their track ids, and steadies their class; for `LiveLoop`'s `refine`.

    Of a frozen image the numbers and measurements stay what they were when it was live. Where the class is changed, the
    confidence of a pixel that said otherwise becomes the most that it can have left for the other class, one minus what
    it was.

    Args:
        gap_s: how long a lesion may be out of sight, by capture times.
    """

    def __init__(self, gap_s: float = GAP_S) -> None:
        self._gap_ns = int(gap_s * 1e9)
        self._tracks: list[_Track] = []
        self._next_id = 1
        self._shape: tuple[int, ...] = ()
        self._last: tuple[UInt8Array, LiveResult] | None = None  # labels that came in, result that went out

    def __call__(self, result: LiveResult) -> LiveResult:
        """The result with track ids and steadied classes; as it is where it has no segmentation."""
        segmentation = result.segmentation
        if segmentation is None:
            return result
        if result.validity is Validity.FROZEN and self._last is not None:
            came_in, went_out = self._last
            if np.array_equal(came_in, segmentation.labels):
                return dataclasses.replace(
                    result,
                    segmentation=went_out.segmentation,
                    lesions=went_out.lesions,
                    track_ids=went_out.track_ids,
                    computed_labels=went_out.computed_labels,
                )
        if segmentation.labels.shape != self._shape:
            self._tracks, self._shape = [], segmentation.labels.shape
        numbers, regions = _regions(segmentation)
        matched = self._match(regions, result.frame.captured_ns)
        refined = _refined(result, segmentation, numbers, matched)
        self._last = (segmentation.labels, refined)
        return refined

    def _match(self, regions: Sequence[_Region], now_ns: int) -> list[_Track]:
        """A track for each region, in their order; those that were not seen for too long end."""
        self._tracks = [track for track in self._tracks if 0 <= now_ns - track.seen_ns <= self._gap_ns]
        pairs = sorted(
            (
                (_likeness(track.region, region), track_index, region_index)
                for track_index, track in enumerate(self._tracks)
                for region_index, region in enumerate(regions)
            ),
            reverse=True,
        )
        found: dict[int, _Track] = {}
        used: set[int] = set()
        for likeness, track_index, region_index in pairs:
            if likeness > 0 and track_index not in used and region_index not in found:
                used.add(track_index)
                found[region_index] = self._tracks[track_index]
        return [self._continue(found.get(index), region, now_ns) for index, region in enumerate(regions)]

    def _continue(self, track: _Track | None, region: _Region, now_ns: int) -> _Track:
        if track is None:
            label = BENIGN if region.evidence[0] >= region.evidence[1] else MALIGNANT
            track = _Track(self._next_id, region, region.evidence.copy(), label, now_ns)
            self._next_id += 1
            self._tracks.append(track)
            return track
        fading = math.exp(-(now_ns - track.seen_ns) / (POOL_S * 1e9))
        track.evidence = track.evidence * fading + region.evidence
        own, other = track.evidence if track.label == BENIGN else track.evidence[::-1]
        if other > own * SWITCH_FACTOR:
            track.label = BENIGN + MALIGNANT - track.label
        track.region, track.seen_ns = region, now_ns
        return track


def _regions(segmentation: Segmentation) -> tuple[npt.NDArray[np.int32], list[_Region]]:
    """Numbers of the connected regions, int32 `[H, W]`, and those large enough to be lesions."""
    labels, confidence = segmentation.labels, segmentation.confidence
    numbers = np.zeros(labels.shape, np.int32)
    x, y, columns, rows = cv2.boundingRect(labels)
    if columns == 0:
        return numbers, []
    # OpenCV's parallel algorithm, its choice, took 17 ms of a loaded machine with two cores; this one 0.2 ms.
    count, part, stats, centroids = cv2.connectedComponentsWithStatsWithAlgorithm(
        labels[y : y + rows, x : x + columns], 8, cv2.CV_32S, cv2.CCL_SAUF
    )
    numbers[y : y + rows, x : x + columns] = part
    regions = []
    for number in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[number])
        if area < MIN_AREA_PX:
            continue
        left, top = left + x, top + y
        box = (slice(top, top + height), slice(left, left + width))
        member = numbers[box] == number
        weights = confidence[box]
        evidence = [float(weights[member & (labels[box] == label)].sum()) / area for label in (BENIGN, MALIGNANT)]
        centroid = (float(centroids[number][0]) + x, float(centroids[number][1]) + y)
        regions.append(_Region(number, (left, top, width, height), centroid, area, np.array(evidence)))
    return numbers, regions


def _likeness(a: _Region, b: _Region) -> float:
    """How likely two regions are the same lesion, 0 (not at all) to 2: overlap of the boxes and nearness."""
    left, top = max(a.bbox_xywh[0], b.bbox_xywh[0]), max(a.bbox_xywh[1], b.bbox_xywh[1])
    right = min(a.bbox_xywh[0] + a.bbox_xywh[2], b.bbox_xywh[0] + b.bbox_xywh[2])
    bottom = min(a.bbox_xywh[1] + a.bbox_xywh[3], b.bbox_xywh[1] + b.bbox_xywh[3])
    shared = max(0, right - left) * max(0, bottom - top)
    boxes = a.bbox_xywh[2] * a.bbox_xywh[3] + b.bbox_xywh[2] * b.bbox_xywh[3]
    overlap = shared / (boxes - shared)
    distance = math.dist(a.centroid_xy, b.centroid_xy)
    nearness = 1 - distance / (_LARGEST_STEP * math.sqrt(max(a.area_px, b.area_px)))
    if overlap < _LEAST_OVERLAP and nearness <= 0:
        return 0.0
    return overlap + max(nearness, 0.0)


def _refined(
    result: LiveResult, segmentation: Segmentation, numbers: npt.NDArray[np.int32], tracks: Sequence[_Track]
) -> LiveResult:
    """`result` with one class for each region, its lesions measured anew, largest first, and their track ids."""
    labels, confidence = segmentation.labels.copy(), segmentation.confidence
    changed = False
    for track in tracks:
        left, top, width, height = track.region.bbox_xywh
        box = (slice(top, top + height), slice(left, left + width))
        otherwise = (numbers[box] == track.region.number) & (labels[box] != track.label)
        if not otherwise.any():
            continue
        if not changed:
            confidence, changed = confidence.copy(), True
        labels[box][otherwise] = track.label
        confidence[box][otherwise] = 1 - confidence[box][otherwise]
    if changed:
        computed = segmentation.labels if result.computed_labels is None else result.computed_labels
        segmentation = dataclasses.replace(segmentation, labels=labels, confidence=confidence)
        lesions = tuple(find_lesions(segmentation, result.frame.spacing_mm))
        result = dataclasses.replace(result, segmentation=segmentation, lesions=lesions, computed_labels=computed)
    ids = {track.region.number: track.track_id for track in tracks}
    return dataclasses.replace(
        result, track_ids=tuple(ids.get(_number_of(lesion, numbers), 0) for lesion in result.lesions)
    )


def _number_of(lesion: Lesion, numbers: npt.NDArray[np.int32]) -> int:
    x, y = lesion.contour[0]
    return int(numbers[y, x])
