"""The gate of an export: one reference, segmented once, against every candidate on every backend."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcseg_calibration.calibration_set import CalibrationSet
from bcseg_edge.backends import available_backends, create_backend
from bcseg_edge.errors import BackendUnavailable, DataError, ParityError
from bcseg_edge.frames import Segmentation
from bcseg_edge.models import LoadedModel
from bcseg_edge.near_duplicates import SAME_ABOVE, similarity, thumbnails_of
from bcseg_edge.passport import Parity, Passport
from bcseg_edge.segmenter import Segmenter, to_grey
from bcseg_export.parity.comparison import Comparison, compare, median_ms, segment_all
from bcseg_export.parity.frames import GateFrames
from bcseg_export.parity.report import ParityReport, Subject, key_figures
from bcseg_export.parity.thresholds import DEFAULTS, find_failures
from bcseg_train.models import SegmentationNet
from bcseg_train.predictors import TORCH, TorchBackend

REFERENCE = "PyTorch float32"
OVERLAP_HINT = "calibrate on train and compare on val: see bcseg-edge calibrate --split and export --split"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What every backend made of a candidate.

    Attributes:
        reports: one a backend.
        received: the candidate's segmentations by backend, in the order of the gate's frames.
    """

    reports: dict[str, ParityReport]
    received: dict[str, list[Segmentation]]

    @property
    def failures(self) -> tuple[str, ...]:
        """What was not reached, with the backend; empty where the gate holds."""
        return tuple(f"{name}: {text}" for name, report in self.reports.items() for text in report.failures)

    @property
    def worst(self) -> ParityReport:
        """The report of the backend with the lowest Dice."""
        return min(self.reports.values(), key=lambda report: _lowest_dice(report.comparison))

    @property
    def lowest_dice(self) -> float:
        """Of any class on any backend, against the reference."""
        return _lowest_dice(self.worst.comparison)

    def parity(self) -> Parity:
        """For the passport: the figures of the worst backend."""
        comparison = self.worst.comparison
        return Parity(
            reference=REFERENCE,
            backends=tuple(self.reports),
            data=comparison.data,
            frames=len(comparison.frames),
            labels_equal=comparison.labels_equal,
            figures=key_figures(comparison, self.worst.limits.lesion_px),
            failures=self.failures,
            passed=not self.failures,
        )


class Gate:
    """Judges candidates against a network in float32, through the whole frame path.

    Args:
        network: the reference, with the weights that the candidate was made from.
        passport: of the reference: window, tiling.
        frames: to compare on.

    Attributes:
        frames: as given.
        expected: what the reference says of them.

    Raises:
        DataError: the network finds no lesion in the frames.
    """

    def __init__(self, network: SegmentationNet, passport: Passport, frames: GateFrames) -> None:
        self.frames = frames
        with Segmenter(LoadedModel(passport, TorchBackend(network))) as segmenter:
            self.expected: list[Segmentation] = segment_all(segmenter, frames.frames)
        compare(self.expected, self.expected, frames)

    def judge(self, path: Path, passport: Passport) -> Judgement:
        """Run a candidate on every installed backend that executes files for its target.

        Args:
            path: the file, which may have a temporary name.
            passport: its passport; its precision chooses the limits, its target the backends.

        Raises:
            BackendUnavailable: none is installed for that target.
        """
        backends = available_backends(passport.target)
        if not backends:
            raise BackendUnavailable(
                f"no installed backend can judge a file for {passport.target}", 'pip install "bcseg-edge[export]"'
            )
        received = {name: self._segment(name, path, passport) for name in backends}
        return Judgement({name: self._report(name, passport, received[name]) for name in received}, received)

    def _segment(self, backend: str, path: Path, passport: Passport) -> list[Segmentation]:
        with Segmenter(LoadedModel(passport, create_backend(backend, path, passport))) as segmenter:
            return segment_all(segmenter, self.frames.frames)

    def _report(self, backend: str, passport: Passport, received: list[Segmentation]) -> ParityReport:
        comparison = compare(self.expected, received, self.frames)
        limits = DEFAULTS[passport.precision]
        failures = find_failures(comparison, limits)
        reference = Subject(passport.name, "fp32", "any", TORCH, passport.tiling)
        candidate = Subject(passport.name, passport.precision, passport.target, backend, passport.tiling)
        return ParityReport(reference, candidate, comparison, limits, failures, median_ms(received))


def refuse_overlap(frames: GateFrames, chosen: CalibrationSet) -> None:
    """Refuse a gate on frames that the candidate was calibrated on, or on near-duplicates of them.

    Raises:
        DataError: it shares frames, or holds some that look the same; the message names the first.
    """
    known = set(chosen.frame_digests)
    shared = [frame.name for frame in frames.frames if frame.digest in known]
    if shared:
        raise DataError(
            f"{len(shared)} of the {len(frames.frames)} gate frames are in the calibration set, first {shared[0]}",
            OVERLAP_HINT,
        )
    thumbnails = thumbnails_of([to_grey(frame.image) for frame in frames.frames])
    alike = similarity(thumbnails, chosen.thumbnails) > SAME_ABOVE  # [gate frames, calibration patches]
    if alike.any():
        frame, patch = (int(index) for index in np.argwhere(alike)[0])
        count = int(alike.any(axis=1).sum())
        raise DataError(
            f"{count} of the {len(frames.frames)} gate frames look like frames of the calibration set, "
            f"first {frames.frames[frame].name} like {chosen.sources[patch]}",
            OVERLAP_HINT,
        )


def refusal(judgement: Judgement, tried: Iterable[str] = ()) -> ParityError:
    """The error for a candidate that fails, with everything it fails at."""
    attempts = "".join(f"; {attempt}" for attempt in tried)
    return ParityError(
        f"the candidate does not find what its reference finds: {'; '.join(judgement.failures)}{attempts}",
        "nothing was written; calibrate on more patches, choose other --ranges, or accept the loss with "
        "--accept-parity-loss (the passport will say so)",
    )


def _lowest_dice(comparison: Comparison) -> float:
    return min(value for value in comparison.dice if math.isfinite(value))
