"""A reference and a candidate over many frames: the figures, and running both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_export.parity.frames import GateFrame, GateFrames
from bcseg_export.parity.measures import FrameParity, measure_frame
from bcseg_train.metrics import Confusion, dice, pooled, pooled_mean_iou

Segment = Callable[[UInt8Array], Segmentation]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Comparison:
    """Figures of a candidate against its reference. Fractions 0 to 1; NaN where nothing can be said.

    Attributes:
        data: the frames, in words.
        frames: one record a frame, at least one.
    """

    data: str
    frames: tuple[FrameParity, ...]

    @cached_property
    def confusion(self) -> Confusion:
        """Pixels of all frames, int64 `[3, 3]`, rows reference, columns candidate."""
        total: Confusion = np.sum([frame.confusion for frame in self.frames], axis=0)
        return total

    @property
    def labels_equal(self) -> float:
        """Share of all pixels with the same label."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def dice(self) -> tuple[float, ...]:
        """Of the candidate against the reference by class, over all pixels of all frames."""
        return tuple(dice(self.confusion).tolist())

    def worst_dice(self, label: int) -> tuple[float, str]:
        """The lowest Dice of one frame for class `label`, and that frame's name; (NaN, "") where no frame has it."""
        known = [(frame.dice[label], frame.name) for frame in self.frames if np.isfinite(frame.dice[label])]
        return min(known, default=(float("nan"), ""))

    @cached_property
    def truth_confusions(self) -> Confusion | None:
        """Pixels against the truth, int64 `[2, 3, 3]` (reference, candidate), over the frames that have one."""
        known = [frame.truth_confusions for frame in self.frames if frame.truth_confusions is not None]
        return np.sum(known, axis=0) if known else None

    @property
    def mean_iou(self) -> tuple[float, float]:
        """Mean IoU against the truth, over all pixels, of reference and candidate."""
        if self.truth_confusions is None:
            return float("nan"), float("nan")
        reference, candidate = pooled_mean_iou(self.truth_confusions).tolist()
        return reference, candidate

    @property
    def mean_dice(self) -> tuple[float, float]:
        """Mean Dice against the truth, over all pixels, of reference and candidate."""
        if self.truth_confusions is None:
            return float("nan"), float("nan")
        reference, candidate = (pooled(confusion[None]).mean_dice for confusion in self.truth_confusions)
        return reference, candidate

    @property
    def iou_loss(self) -> float:
        """Points (hundredths) of mean IoU that the candidate loses against the truth; negative where it gains."""
        reference, candidate = self.mean_iou
        return 100 * (reference - candidate)

    def count_lesions(self, longer_px: float = 0) -> int:
        """Lesions of the reference whose long axis is above `longer_px`."""
        return _count((frame.lesions_px for frame in self.frames), longer_px)

    def mean_overlap(self, longer_px: float = 0) -> float:
        """Mean over such lesions of their overlap with the candidate's, a small one as much as a mass; NaN of none."""
        overlaps = [
            overlap
            for frame in self.frames
            for length, overlap in zip(frame.lesions_px, frame.overlaps, strict=True)
            if length > longer_px
        ]
        return float(np.mean(overlaps)) if overlaps else float("nan")

    def count_lost(self, longer_px: float = 0) -> int:
        """Lesions of the reference that the candidate does not find; see `FrameParity.lost_px`."""
        return _count((frame.lost_px for frame in self.frames), longer_px)

    def count_invented(self, longer_px: float = 0) -> int:
        """Lesions of the candidate that the reference does not find; see `FrameParity.invented_px`."""
        return _count((frame.invented_px for frame in self.frames), longer_px)

    def count_reclassified(self, longer_px: float = 0) -> int:
        """Lesions of the reference to which the candidate gives another class."""
        return _count((frame.reclassified_px for frame in self.frames), longer_px)

    @property
    def boundary_p95_px(self) -> float:
        """95th percentile over the frames of their boundary distance, px."""
        distances = np.array([frame.boundary_px for frame in self.frames])
        known = distances[np.isfinite(distances)]
        return float(np.percentile(known, 95)) if known.size else float("nan")

    @property
    def confidence_difference(self) -> float:
        """Mean over the frames."""
        return float(np.mean([frame.confidence_difference for frame in self.frames]))

    @property
    def max_confidence_difference(self) -> float:
        """The largest of any pixel on which the labels agree."""
        return max(frame.max_confidence_difference for frame in self.frames)

    def worst(self, count: int) -> tuple[int, ...]:
        """Indices of the frames that differ most, the worst first."""
        ranked = sorted(range(len(self.frames)), key=lambda index: self.frames[index].distance, reverse=True)
        return tuple(ranked[:count])


def segment_all(segment: Segment, frames: Sequence[GateFrame], progress: Progress | None = None) -> list[Segmentation]:
    """Segment every frame, in order."""
    segmentations = []
    for done, frame in enumerate(frames, start=1):
        segmentations.append(segment(frame.image))
        if progress is not None:
            progress(done, len(frames))
    return segmentations


def median_ms(segmentations: Sequence[Segmentation]) -> float:
    """Median over the frames of what splitting, network and stitching took."""
    return float(np.median([segmentation.timings.total_ms for segmentation in segmentations]))


def compare(expected: Sequence[Segmentation], received: Sequence[Segmentation], frames: GateFrames) -> Comparison:
    """Compare what two models say of the same frames.

    Raises:
        DataError: the reference finds no lesion in any frame, so that nothing would be proved.
    """
    triples = zip(frames.frames, expected, received, strict=True)
    records = tuple(measure_frame(frame.name, first, second, frame.truth) for frame, first, second in triples)
    comparison = Comparison(frames.data, records)
    if not comparison.count_lesions():
        raise DataError(
            f"the reference finds no lesion in {len(records)} frames of {frames.data}: that proves nothing",
            "give frames with lesions: --data DIR takes a folder like BUSI's",
        )
    return comparison


def _count(lengths_px: Iterable[tuple[float, ...]], longer_px: float) -> int:
    return sum(length > longer_px for frame in lengths_px for length in frame)
