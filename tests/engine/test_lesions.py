"""Lesions of drawn shapes whose measures are known."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bcseg_edge.errors import DataError
from bcseg_edge.frames import BENIGN, MALIGNANT, Segmentation
from bcseg_edge.lesions import MIN_AREA_PX, find_lesions


def segmentation(labels, confidence=0.8):
    return Segmentation(labels, np.broadcast_to(np.float32(confidence), labels.shape).copy())


def rectangle(top, left, height, width, label=BENIGN, frame_hw=(120, 160)):
    labels = np.zeros(frame_hw, np.uint8)
    labels[top : top + height, left : left + width] = label
    return labels


def test_a_rectangle():
    (lesion,) = find_lesions(segmentation(rectangle(20, 30, 30, 40)))
    assert (lesion.label, lesion.name) == (BENIGN, "benign")
    assert lesion.area_px == 1200
    assert lesion.bbox_xywh == (30, 20, 40, 30)
    assert lesion.centroid_xy == (49.5, 34.5)
    assert lesion.long_axis_px == pytest.approx(50)  # 3-4-5: the diagonal
    assert lesion.short_axis_px == pytest.approx(2 * 30 * 40 / 50)  # both corners off the diagonal
    assert sorted(lesion.contour.tolist()) == [[30, 20], [30, 49], [69, 20], [69, 49]]
    assert lesion.contour.dtype == np.int32
    assert (lesion.area_mm2, lesion.long_axis_mm, lesion.short_axis_mm) == (None, None, None)


@given(
    radius=st.integers(8, 40),
    ratio=st.floats(0.4, 0.9),
    degrees=st.integers(0, 179),
    row_mm=st.floats(0.05, 0.5),
    column_mm=st.floats(0.05, 0.5),
)
def test_an_ellipse_drawn_in_mm_measures_its_axes_in_mm(radius, ratio, degrees, row_mm, column_mm):
    long_mm, short_mm = 2.0 * radius, 2.0 * radius * ratio
    step_mm = max(row_mm, column_mm)
    rows, cols = np.mgrid[: int(90 / row_mm), : int(90 / column_mm)]
    x, y = cols * column_mm - 45, rows * row_mm - 45
    along = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    across = y * np.cos(np.radians(degrees)) - x * np.sin(np.radians(degrees))
    labels = ((along / long_mm) ** 2 + (across / short_mm) ** 2 <= 0.25).astype(np.uint8)
    (lesion,) = find_lesions(segmentation(labels), (row_mm, column_mm))
    assert lesion.long_axis_mm == pytest.approx(long_mm, abs=1.5 * step_mm)
    assert lesion.short_axis_mm == pytest.approx(short_mm, abs=3 * step_mm)
    assert lesion.area_mm2 == pytest.approx(np.pi * long_mm * short_mm / 4, rel=0.02)


def test_square_pixels_give_mm_in_proportion():
    labels = np.zeros((120, 160), np.uint8)
    cv2.ellipse(labels, (80, 60), (50, 20), 30, 0, 360, MALIGNANT, -1)
    (lesion,) = find_lesions(segmentation(labels), (0.1, 0.1))
    assert lesion.long_axis_mm == pytest.approx(lesion.long_axis_px / 10)
    assert lesion.short_axis_mm == pytest.approx(lesion.short_axis_px / 10)
    assert lesion.area_mm2 == pytest.approx(lesion.area_px / 100)


def test_a_line_is_one_pixel_wide():
    (lesion,) = find_lesions(segmentation(rectangle(5, 5, 1, 100)))
    assert lesion.long_axis_px == pytest.approx(np.hypot(100, 1))
    assert lesion.short_axis_px == pytest.approx(2, abs=0.01)


def test_regions_of_both_labels_come_largest_first_and_touching_labels_stay_apart():
    labels = rectangle(0, 0, 10, 10)
    labels[0:10, 10:40] = MALIGNANT
    labels[50:70, 50:70] = BENIGN
    found = find_lesions(segmentation(labels))
    assert [(lesion.name, lesion.area_px) for lesion in found] == [
        ("benign", 400),
        ("malignant", 300),
        ("benign", 100),
    ]


def test_diagonal_neighbours_are_one_lesion():
    labels = rectangle(10, 10, 10, 10) + rectangle(20, 20, 10, 10)
    (lesion,) = find_lesions(segmentation(labels))
    assert lesion.area_px == 200


def flooded(labels):
    """Pixels (x, y) of each 8-connected region of one label, by flood filling, as a set of (label, pixels)."""
    left = {(int(x), int(y)): int(labels[y, x]) for y, x in zip(*np.nonzero(labels), strict=True)}
    regions = set()
    while left:
        start, label = left.popitem()
        edge, region = [start], {start}
        while edge:
            x, y = edge.pop()
            near = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)}
            fresh = {pixel for pixel in near if left.get(pixel) == label}
            edge += fresh
            region |= fresh
            for pixel in fresh:
                del left[pixel]
        regions.add((label, frozenset(region)))
    return regions


@given(labels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2)))
def test_regions_are_those_of_a_flood_fill(labels):
    expected = []
    for label, region in flooded(labels):
        x, y = np.array(sorted(region)).T
        box = (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        expected.append((label, len(region), *box, x.mean(), y.mean()))
    found = find_lesions(segmentation(labels), min_area_px=1)
    assert [lesion.area_px for lesion in found] == sorted((lesion.area_px for lesion in found), reverse=True)
    measured = sorted((lesion.label, lesion.area_px, *lesion.bbox_xywh, *lesion.centroid_xy) for lesion in found)
    # Sorted by whole numbers first: regions that share all of them are as many boxes, and differ in their centroids.
    np.testing.assert_allclose(np.array(measured), np.array(sorted(expected)), atol=1e-9)
    assert all((labels[lesion.contour[:, 1], lesion.contour[:, 0]] == lesion.label).all() for lesion in found)


def test_a_hole_counts_neither_as_area_nor_as_confidence():
    labels = rectangle(10, 10, 20, 20)
    labels[15:25, 15:25] = 0
    confidence = np.where(labels == 0, 0.4, 0.9).astype(np.float32)
    (lesion,) = find_lesions(Segmentation(labels, confidence))
    assert lesion.area_px == 300
    assert lesion.confidence == pytest.approx(0.9)


def test_a_lesion_inside_the_hole_of_another_is_found():
    labels = rectangle(10, 10, 60, 60)
    labels[20:60, 20:60] = 0
    labels[30:50, 30:50] = BENIGN
    assert [lesion.area_px for lesion in find_lesions(segmentation(labels))] == [2000, 400]


def test_confidence_is_of_the_lesions_own_pixels():
    labels = rectangle(10, 10, 10, 10) + rectangle(12, 40, 10, 20)
    confidence = np.full(labels.shape, 0.5, np.float32)
    confidence[:, 40:] = 0.75
    large, small = find_lesions(Segmentation(labels, confidence))
    assert (large.confidence, small.confidence) == (pytest.approx(0.75), pytest.approx(0.5))


def test_small_regions_are_left_out():
    labels = rectangle(0, 0, 1, MIN_AREA_PX - 1) + rectangle(5, 0, 1, MIN_AREA_PX)
    assert [lesion.area_px for lesion in find_lesions(segmentation(labels))] == [MIN_AREA_PX]
    assert len(find_lesions(segmentation(labels), min_area_px=1)) == 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (64, 48)])
def test_all_background_and_all_lesion(shape):
    assert find_lesions(segmentation(np.zeros(shape, np.uint8))) == []
    (lesion,) = find_lesions(segmentation(np.full(shape, MALIGNANT, np.uint8)), min_area_px=1)
    assert lesion.area_px == shape[0] * shape[1]
    assert lesion.bbox_xywh == (0, 0, shape[1], shape[0])
    assert lesion.long_axis_px == pytest.approx(np.hypot(*shape))


def test_the_json_form_holds_every_attribute():
    (lesion,) = find_lesions(segmentation(rectangle(20, 30, 30, 40, MALIGNANT), 0.87654), (0.1, 0.2))
    record = json.loads(json.dumps(lesion.to_dict()))
    assert list(record) == list(type(lesion).__dataclass_fields__)
    assert record["name"] == "malignant"
    assert record["confidence"] == 0.8765
    assert record["bbox_xywh"] == [30, 20, 40, 30]
    assert record["area_mm2"] == 24.0
    assert len(record["contour"]) == 4


@pytest.mark.parametrize(
    "spacing_mm",
    [
        *((0, 0.1), (0.1, -1), (float("nan"), 0.1), (0.1, float("inf")), 0, -0.1, float("nan")),
        *((0.1, 0.1, 0.1), (), "wide", ((0.1, 0.1), (0.1, 0.1)), {"row": 0.1}),
    ],
)
@pytest.mark.parametrize("label", [0, 1], ids=["no lesion", "lesion"])
def test_impossible_spacings_are_refused_before_the_first_lesion(spacing_mm, label):
    with pytest.raises(DataError, match="spacing"):
        find_lesions(segmentation(rectangle(0, 0, 20, 20, label)), spacing_mm)


@pytest.mark.parametrize("spacing_mm", [0.08, np.float32(0.08), np.array([0.08, 0.08]), [0.08, 0.08]])
def test_one_number_is_the_spacing_of_both_sides(spacing_mm):
    found = segmentation(rectangle(20, 30, 30, 40))
    (lesion,), (expected,) = find_lesions(found, spacing_mm), find_lesions(found, (0.08, 0.08))
    assert lesion.area_mm2 == pytest.approx(expected.area_mm2)
    assert lesion.long_axis_mm == pytest.approx(expected.long_axis_mm)
