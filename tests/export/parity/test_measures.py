"""One frame of a comparison: what was lost, invented and moved is known in advance."""

from __future__ import annotations

import numpy as np
import pytest

from bcseg_edge.frames import BENIGN, MALIGNANT, Segmentation, UInt8Array
from bcseg_export.parity.measures import FrameParity, measure_frame

HW = (120, 160)
LESION = (slice(20, 50), slice(30, 80))
OTHER = (slice(70, 100), slice(90, 120))


def labels(*regions: tuple[tuple[slice, slice], int]) -> UInt8Array:
    image = np.zeros(HW, np.uint8)
    for box, label in regions:
        image[box] = label
    return image


def segmentation(image: UInt8Array, confidence: float = 0.9) -> Segmentation:
    return Segmentation(image, np.full(image.shape, confidence, np.float32))


def measure(expected: UInt8Array, received: UInt8Array, truth: UInt8Array | None = None) -> FrameParity:
    return measure_frame("frame", segmentation(expected), segmentation(received), truth)


def test_the_same_differs_in_nothing() -> None:
    image = labels((LESION, BENIGN), (OTHER, MALIGNANT))
    record = measure(image, image, image)
    assert (record.labels_equal, record.dice, record.lesion_dice) == (1, (1, 1, 1), 1)
    assert (record.lost_px, record.invented_px, record.reclassified_px) == ((), (), ())
    assert (record.boundary_px, record.confidence_difference) == (0, 0)
    assert record.truth_confusions is not None
    assert np.array_equal(*record.truth_confusions)


def test_a_lost_lesion_is_measured() -> None:
    record = measure(labels((LESION, BENIGN), (OTHER, BENIGN)), labels((LESION, BENIGN)))
    assert record.lost_px == (pytest.approx(np.hypot(30, 30)),)
    assert record.invented_px == ()
    assert len(record.lesions_px) == 2


def test_an_invented_lesion_is_the_mirror_of_a_lost_one() -> None:
    first, second = labels((LESION, BENIGN)), labels((LESION, BENIGN), (OTHER, MALIGNANT))
    assert measure(first, second).invented_px == measure(second, first).lost_px != ()


def test_a_speck_on_a_lesion_does_not_save_it() -> None:
    record = measure(labels((LESION, BENIGN)), labels(((slice(30, 33), slice(40, 43)), BENIGN)))
    assert len(record.lost_px) == 1


@pytest.mark.parametrize(("side_px", "found"), [(8, False), (9, True)])  # of 30x50 px: 0.043 and 0.054
def test_a_lesion_is_lost_below_a_twentieth_of_it(side_px: int, found: bool) -> None:
    record = measure(labels((LESION, BENIGN)), labels(((slice(30, 30 + side_px), slice(40, 40 + side_px)), BENIGN)))
    assert (len(record.lost_px), len(record.invented_px)) == ((0, 0) if found else (1, 1))


def test_a_candidate_that_marks_the_whole_frame_finds_nothing() -> None:
    small = (slice(20, 40), slice(30, 60))
    record = measure(labels((small, BENIGN)), np.full(HW, BENIGN, np.uint8))
    assert (len(record.lost_px), len(record.invented_px)) == (1, 1)


def test_lesions_that_are_joined_are_both_there() -> None:
    """One of two classes, the other the frame's smallest: the candidate says benign of both."""
    big, small = (slice(20, 80), slice(20, 120)), (slice(80, 90), slice(40, 60))
    record = measure(labels((big, BENIGN), (small, MALIGNANT)), labels((big, BENIGN), (small, BENIGN)))
    assert (record.lost_px, record.invented_px, len(record.reclassified_px)) == ((), (), 1)


def test_an_island_is_a_lesion_of_its_own_even_where_it_is_larger_than_its_ring() -> None:
    around, gap, island = (
        (slice(20, 80), slice(30, 110)),
        (slice(22, 78), slice(32, 108)),
        (slice(26, 74), slice(36, 104)),
    )
    ring = labels((around, BENIGN), (gap, 0))
    both = labels((around, BENIGN), (gap, 0), (island, BENIGN))
    assert measure(both, ring).lost_px == (pytest.approx(np.hypot(48, 68)),)
    assert measure(both, labels((island, BENIGN))).lost_px == (pytest.approx(np.hypot(60, 80)),)


def test_a_lesion_inside_the_hole_of_another_is_not_the_other() -> None:
    ring = labels((LESION, BENIGN))
    ring[25:45, 40:70] = 0
    inside = labels(((slice(30, 40), slice(48, 60)), BENIGN))
    record = measure(inside, ring)
    assert (len(record.lost_px), len(record.invented_px)) == (1, 1)


def test_another_class_is_no_loss_but_is_counted() -> None:
    record = measure(labels((LESION, BENIGN), (OTHER, BENIGN)), labels((LESION, MALIGNANT), (OTHER, BENIGN)))
    assert (record.lost_px, record.reclassified_px) == ((), (pytest.approx(np.hypot(30, 50)),))
    assert record.lesion_dice == 1
    assert record.dice[2] == 0


def test_the_boundary_distance_is_in_pixels() -> None:
    moved = (LESION[0], slice(37, 87))
    assert measure(labels((LESION, BENIGN)), labels((moved, BENIGN))).boundary_px == 7


def test_confidence_is_compared_where_labels_agree() -> None:
    image = labels((LESION, BENIGN))
    expected = segmentation(image)
    received = Segmentation(labels(), np.where(image == 0, np.float32(0.7), np.float32(0.1)))
    record = measure_frame("frame", expected, received)
    assert record.confidence_difference == pytest.approx(0.2)
    assert record.max_confidence_difference == pytest.approx(0.2)


def test_without_lesions_there_is_no_dice() -> None:
    record = measure(labels(), labels())
    assert np.isnan(record.dice[1:]).all()
    assert np.isnan(record.boundary_px)
    assert record.distance == (0, 0)


def test_a_lost_lesion_ranks_above_any_dice() -> None:
    lost = measure(labels((LESION, BENIGN), (OTHER, BENIGN)), labels((LESION, BENIGN)))
    moved = measure(labels((LESION, BENIGN)), labels(((slice(20, 50), slice(70, 120)), BENIGN)))
    assert lost.distance > moved.distance
