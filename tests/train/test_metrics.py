"""Metrics: against definitions written out pixel by pixel, and against cases worked out by hand."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_train.lesion_metrics import (
    LesionCounts,
    hausdorff95_px,
    image_class,
    image_confusion,
    match_lesions,
    match_lesions_by_class,
)
from bcseg_train.metrics import (
    bootstrap_interval,
    confusion_matrix,
    dice,
    iou,
    lesion_patch_confusion,
    mean_over_images,
    pixel_accuracy,
    pooled,
    pooled_lesion_iou,
    pooled_mean_iou,
)
from bcseg_train.scores import measure_image, score
from tests.fixtures.segmentations import segmented

Labels = npt.NDArray[np.uint8]


def random_labels(seed: int, hw: tuple[int, int] = (9, 13), classes: int = 3) -> Labels:
    return np.random.default_rng(seed).integers(0, classes, hw, dtype=np.uint8)


def blobs(seed: int, hw: tuple[int, int] = (60, 70), count: int = 4) -> Labels:
    """Rectangles of random class, place and size, some of them below the smallest lesion area."""
    random = np.random.default_rng(seed)
    labels = np.zeros(hw, np.uint8)
    for _ in range(count):
        y, x = random.integers(0, hw[0] - 4), random.integers(0, hw[1] - 4)
        height, width = random.integers(2, 25, 2)
        labels[y : y + height, x : x + width] = random.integers(1, 3)
    return labels


def box(top: int, left: int, height: int, width: int, label: int = 1, hw: tuple[int, int] = (60, 70)) -> Labels:
    labels = np.zeros(hw, np.uint8)
    labels[top : top + height, left : left + width] = label
    return labels


@given(seed=st.integers(0, 10_000), classes=st.integers(1, 3))
def test_pixel_figures_follow_their_definition(seed: int, classes: int) -> None:
    truth, predicted = random_labels(seed, classes=classes), random_labels(seed + 1, classes=classes)
    confusion = confusion_matrix(truth, predicted)
    pairs = list(zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True))
    assert pixel_accuracy(confusion) == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))
    for label in range(3):
        true_positive = sum(t == label and p == label for t, p in pairs)
        false_positive = sum(t != label and p == label for t, p in pairs)
        false_negative = sum(t == label and p != label for t, p in pairs)
        union = true_positive + false_positive + false_negative
        if not union:
            assert math.isnan(iou(confusion)[label])
            assert math.isnan(dice(confusion)[label])
            continue
        assert iou(confusion)[label] == pytest.approx(true_positive / union)
        assert dice(confusion)[label] == pytest.approx(2 * true_positive / (true_positive + union))


def test_hand_computed_image() -> None:
    truth = np.array([[0, 0, 1, 1], [0, 2, 2, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [0, 2, 1, 0]], np.uint8)
    figures = pooled(confusion_matrix(truth, predicted)[None])
    assert figures.pixel_accuracy == 5 / 8
    assert figures.iou == (2 / 4, 2 / 4, 1 / 3)
    assert figures.dice == pytest.approx((4 / 6, 4 / 6, 2 / 4))
    assert figures.mean_iou == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert figures.lesion_iou == 4 / 6
    assert figures.lesion_dice == 8 / 10


def test_pooling_and_mean_over_images_differ_as_defined() -> None:
    small = confusion_matrix(np.array([1, 1], np.uint8), np.array([1, 0], np.uint8))
    large = confusion_matrix(np.ones(8, np.uint8), np.ones(8, np.uint8))
    both = np.stack([small, large])
    assert pooled(both).iou[1] == 9 / 10
    assert mean_over_images(both).iou[1] == (1 / 2 + 1) / 2


def test_absent_class_is_left_out_and_invented_class_counts_as_zero() -> None:
    nothing = confusion_matrix(np.zeros(4, np.uint8), np.zeros(4, np.uint8))
    invented = confusion_matrix(np.zeros(4, np.uint8), np.array([0, 0, 0, 2], np.uint8))
    figures = mean_over_images(np.stack([nothing, invented]))
    assert math.isnan(figures.iou[1])
    assert figures.iou[2] == 0
    assert figures.mean_iou == pytest.approx(((1 + 3 / 4) / 2 + 0) / 2)
    assert figures.lesion_iou == 0


@given(seed=st.integers(0, 10_000), hw=st.tuples(st.integers(1, 23), st.integers(1, 23)))
def test_lesion_patches_follow_their_definition(seed: int, hw: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    truth = np.where(random.random(hw) < 0.03, 2, 0).astype(np.uint8)
    predicted = random_labels(seed, hw)
    expected = np.zeros((3, 3), np.int64)
    for top in range(0, hw[0], 8):
        for left in range(0, hw[1], 8):
            part = np.s_[top : top + 8, left : left + 8]
            if truth[part].any():
                expected += confusion_matrix(truth[part], predicted[part])
    assert np.array_equal(lesion_patch_confusion(truth, predicted, patch_px=8), expected)


@given(seed=st.integers(0, 2_000))
def test_matching_follows_its_definition(seed: int) -> None:
    truth, predicted = blobs(seed), blobs(seed + 50_000)
    predicted = np.where(np.random.default_rng(seed).random() < 0.5, np.roll(truth, 2, axis=1), predicted)
    truth_lesions, predicted_lesions = lesions_of(truth > 0), lesions_of(predicted > 0)
    found = sum(
        any(len(lesion & other) / len(lesion | other) >= 0.5 for other in predicted_lesions) for lesion in truth_lesions
    )
    assert match_lesions(truth, predicted) == LesionCounts(len(truth_lesions), len(predicted_lesions), found)


def test_a_lesion_of_the_wrong_class_is_found_but_not_as_its_own_class() -> None:
    truth, predicted = box(10, 10, 20, 20, label=1), box(10, 10, 20, 20, label=2)
    assert match_lesions(truth, predicted) == LesionCounts(truth=1, predicted=1, found=1)
    assert match_lesions_by_class(truth, predicted) == LesionCounts(truth=1, predicted=1, found=0)
    assert match_lesions_by_class(truth, truth) == LesionCounts(truth=1, predicted=1, found=1)


@pytest.mark.parametrize(
    ("shift", "found"),
    [(6, 1), (7, 0)],  # 20 px wide: IoU 14/26 = 0.54 and 13/27 = 0.48
)
def test_iou_of_one_half_divides_found_from_missed(shift: int, found: int) -> None:
    counts = match_lesions(box(10, 10, 20, 20), box(10, 10 + shift, 20, 20))
    assert (counts.found, counts.false) == (found, 1 - found)


def test_one_prediction_over_two_lesions_finds_neither() -> None:
    truth = box(10, 10, 10, 10) + box(10, 21, 10, 10)
    predicted = box(10, 10, 10, 21)  # IoU 100/210 with each
    assert match_lesions(truth, predicted) == LesionCounts(truth=2, predicted=1, found=0)


def test_regions_that_touch_at_a_corner_are_one_lesion() -> None:
    touching = box(0, 0, 10, 10) + box(10, 10, 10, 10)
    assert match_lesions(touching, touching) == LesionCounts(truth=1, predicted=1, found=1)


def test_specks_are_no_lesions() -> None:
    speck, lesion = box(40, 40, 3, 3, label=2), box(5, 5, 20, 20, label=1)
    assert match_lesions(lesion, lesion + speck) == LesionCounts(truth=1, predicted=1, found=1)
    assert match_lesions(speck, np.zeros_like(speck)) == LesionCounts()
    assert image_class(speck) == 0
    assert math.isnan(hausdorff95_px(speck, lesion))


@given(seed=st.integers(0, 2_000))
def test_hausdorff_follows_its_definition(seed: int) -> None:
    truth, predicted = blobs(seed), blobs(seed + 50_000)
    first, second = (set().union(*lesions_of(labels > 0)) for labels in (truth, predicted))
    measured = hausdorff95_px(truth, predicted)
    if not (first and second):
        assert math.isnan(measured)
        return
    first_edge, second_edge = np.array(edge_of(first), float), np.array(edge_of(second), float)
    distances = np.linalg.norm(first_edge[:, None] - second_edge[None], axis=-1)
    expected = max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))
    assert measured == pytest.approx(expected)


def test_hausdorff_of_a_shifted_box_is_its_shift() -> None:
    lesion = box(10, 10, 20, 20)
    assert hausdorff95_px(lesion, lesion) == 0
    assert hausdorff95_px(lesion, box(10, 17, 20, 20)) == 7


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.zeros((60, 70), np.uint8), 0),
        (box(5, 5, 20, 20, label=1), 1),
        (box(5, 5, 20, 20, label=1) + box(30, 30, 21, 20, label=2), 2),
        (box(5, 5, 20, 21, label=1) + box(30, 30, 20, 20, label=2), 1),
        (box(5, 5, 20, 20, label=1) + box(30, 30, 20, 20, label=2), 2),
    ],
    ids=["none", "benign", "malignant larger", "benign larger", "tie"],
)
def test_class_of_an_image(labels: Labels, expected: int) -> None:
    assert image_class(labels) == expected


def test_image_confusion_has_truth_in_rows() -> None:
    assert image_confusion([0, 1, 1, 2], [0, 1, 2, 2]).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_bootstrap_holds_the_figure_and_is_seeded() -> None:
    confusions = np.stack([confusion_matrix(random_labels(s), random_labels(s + 99)) for s in range(20)])
    low, high = bootstrap_interval(confusions, pooled_mean_iou, seed=3)
    assert low < pooled(confusions).mean_iou < high
    assert (low, high) == bootstrap_interval(confusions, pooled_mean_iou, seed=3)
    same = np.repeat(confusions[:1], 20, axis=0)
    assert bootstrap_interval(same, pooled_lesion_iou) == pytest.approx((pooled(same).lesion_iou,) * 2)


def test_bootstrap_of_images_without_lesions_is_unknown() -> None:
    empty = confusion_matrix(np.zeros(4, np.uint8), np.zeros(4, np.uint8))[None]
    assert all(map(math.isnan, bootstrap_interval(empty, pooled_lesion_iou)))


def test_scores_add_up_over_images() -> None:
    lesion, empty = box(10, 10, 20, 20, label=1), np.zeros((60, 70), np.uint8)
    scores = score(
        [
            measure_image("hit", 1, lesion, segmented(lesion)),
            measure_image("miss", 2, box(10, 10, 20, 20, label=2), segmented(empty)),
            measure_image("invented", 0, empty, segmented(lesion)),
        ]
    )
    assert scores.lesion_sensitivity == 1 / 2
    assert scores.false_lesions_per_image == 1 / 3
    assert (scores.hausdorff95_px, scores.hausdorff95_images) == (0, 1)
    assert scores.images_by_class == ((0, 1, 0), (0, 1, 0), (1, 0, 0))
    assert scores.image_accuracy == 1 / 3
    assert scores.whole_images.lesion_iou == 1 / 3


def lesions_of(mask: npt.NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """8-connected regions of at least 30 px, by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        start = left.pop()
        region, queue = {start}, deque([start])
        while queue:
            y, x = queue.popleft()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            region |= near
            queue.extend(near)
        if len(region) >= 30:
            regions.append(region)
    return regions


def edge_of(region: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pixels with a 4-neighbour that is not in the region."""
    return [(y, x) for y, x in region if not {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} <= region]
