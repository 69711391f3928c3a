"""Candidates that pooled Dice cannot tell from their reference, each refused in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from bcseg_edge.frames import BENIGN, MALIGNANT, Segmentation
from bcseg_edge.passport import Precision
from bcseg_export.parity.comparison import compare
from bcseg_export.parity.frames import GateFrame, GateFrames
from bcseg_export.parity.thresholds import DEFAULTS, find_failures

HW = (480, 640)
LARGE = {BENIGN: (slice(20, 270), slice(20, 270)), MALIGNANT: (slice(20, 270), slice(340, 590))}
SMALL = {BENIGN: (slice(320, 360), slice(60, 100)), MALIGNANT: (slice(320, 360), slice(400, 440))}
ELSEWHERE = (slice(440, 460), slice(240, 260))

Change = Callable[[Segmentation], Segmentation]


def reference() -> Segmentation:
    """Two large masses, which decide Dice, and two of 40x40 px."""
    labels = np.zeros(HW, np.uint8)
    for regions in (LARGE, SMALL):
        for label, box in regions.items():
            labels[box] = label
    return Segmentation(labels, np.where(labels > 0, np.float32(0.6), np.float32(0.95)))


def sure(frame: Segmentation) -> Segmentation:
    return Segmentation(frame.labels, np.ones(HW, np.float32))


def sure_of_lesions(frame: Segmentation) -> Segmentation:
    return Segmentation(frame.labels, np.where(frame.labels > 0, np.float32(1), frame.confidence))


def invent(frame: Segmentation) -> Segmentation:
    labels = frame.labels.copy()
    labels[ELSEWHERE] = BENIGN
    return Segmentation(labels, frame.confidence)


def flip_small(frame: Segmentation) -> Segmentation:
    labels = frame.labels.copy()
    labels[SMALL[BENIGN]] = MALIGNANT
    return Segmentation(labels, frame.confidence)


def shrink_small(frame: Segmentation, side: int) -> Segmentation:
    labels = frame.labels.copy()
    for label, (rows, columns) in SMALL.items():
        labels[rows, columns] = 0
        labels[rows.start : rows.start + side, columns.start : columns.start + side] = label
    return Segmentation(labels, frame.confidence)


def judge(change: Change, precision: Precision) -> tuple[str, ...]:
    frames = GateFrames(tuple(GateFrame(f"{index}", np.zeros(HW, np.uint8)) for index in range(3)), "masses")
    expected = [reference() for _ in frames.frames]
    return find_failures(compare(expected, [change(frame) for frame in expected], frames), DEFAULTS[precision])


@pytest.mark.parametrize("precision", DEFAULTS)
@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (sure, ("mean difference of confidence, at most",)),
        (sure_of_lesions, ("mean difference of confidence, at most",)),
        (invent, ("3 lesions invented beside 12 above 20 px, at most",)),
        (flip_small, ("3 lesions reclassified of 12 above 20 px, at most",)),
        (partial(shrink_small, side=20), ("mean overlap of a lesion, at least",)),
        (
            partial(shrink_small, side=8),
            ("mean overlap of a lesion, at least", "6 lesions lost of 12 above 20 px, at most"),
        ),
    ],
)
def test_a_worse_candidate_is_refused(change: Change, reasons: tuple[str, ...], precision: Precision) -> None:
    failures = judge(change, precision)
    for reason in reasons:
        assert any(reason in failure for failure in failures)
    if precision == "int8":
        assert len(failures) == len(reasons), f"another limit refuses it too: {failures}"


@pytest.mark.parametrize("precision", DEFAULTS)
def test_the_reference_itself_passes(precision: Precision) -> None:
    assert judge(lambda frame: frame, precision) == ()
