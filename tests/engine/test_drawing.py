"""What is drawn over a frame: in place, inside, legible, and nothing where there is nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge import drawing
from bcseg_edge.drawing import COLOURS_BGR, draw_overlay, label_lines
from bcseg_edge.frames import BENIGN, MALIGNANT, Segmentation
from bcseg_edge.lesions import find_lesions


def discs(size_wh, *circles):
    """Labels with (x, y, radius, label) discs, and their lesions."""
    labels = np.zeros(size_wh[::-1], np.uint8)
    for x, y, radius, label in circles:
        cv2.circle(labels, (x, y), radius, label, cv2.FILLED)
    return labels, lesions_of(labels)


def lesions_of(labels, spacing_mm=None):
    return find_lesions(Segmentation(labels, np.full(labels.shape, 0.87, np.float32)), spacing_mm, min_area_px=1)


def grey(size_wh, value=90):
    return np.full(size_wh[::-1], value, np.uint8)


def test_nothing_found_leaves_the_frame_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    overlay = draw_overlay(image, np.zeros_like(image), [])
    np.testing.assert_array_equal(overlay, np.dstack([image] * 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_input_is_not_touched(channels):
    image = grey((200, 150)) if channels == 1 else np.dstack([grey((200, 150))] * 3)
    before = image.copy()
    labels, lesions = discs((200, 150), (100, 75, 30, BENIGN))
    overlay = draw_overlay(image, labels, lesions)
    np.testing.assert_array_equal(image, before)
    assert overlay.shape == (150, 200, 3)
    assert overlay.dtype == np.uint8


def test_tint_and_contour_have_the_colour_of_the_class():
    labels, lesions = discs((600, 480), (150, 300, 60, BENIGN), (450, 300, 60, MALIGNANT))
    overlay = draw_overlay(grey((600, 480)), labels, lesions).astype(int)
    for x, label in ((150, BENIGN), (450, MALIGNANT)):
        colour = np.array(COLOURS_BGR[label])
        tint = overlay[300, x]
        np.testing.assert_allclose(tint, 0.75 * 90 + 0.25 * colour, atol=1)
        np.testing.assert_allclose(overlay[360, x], colour, atol=40)  # the lowest point of the outline


def test_opacity_zero_draws_no_tint():
    labels, lesions = discs((600, 480), (300, 300, 100, BENIGN))
    overlay = draw_overlay(grey((600, 480)), labels, lesions, opacity=0)
    assert (overlay[300, 300] == 90).all()


@pytest.mark.parametrize(("spacing_mm", "unit"), [(None, "px"), ((0.1, 0.1), "mm")])
def test_size_names_its_unit(spacing_mm, unit):
    labels, _ = discs((200, 150), (100, 75, 30, MALIGNANT))
    (lesion,) = lesions_of(labels, spacing_mm)
    most, *_ = label_lines(lesion)
    assert most[0] == "malignant 87%"
    assert most[1].endswith(unit)
    assert (unit == "mm") == ("6.1 x 6.1" in most[1])


def label_boxes(monkeypatch, size_wh, *circles):
    """The boxes that `draw_overlay` writes labels in."""
    boxes = []
    monkeypatch.setattr(drawing, "_write", lambda canvas, label, colour, scale: boxes.append(label.box))
    labels, lesions = discs(size_wh, *circles)
    draw_overlay(grey(size_wh), labels, lesions)
    return boxes, lesions


def test_labels_keep_off_each_other_and_off_lesions(monkeypatch):
    circles = ((150, 200, 40, BENIGN), (260, 210, 40, MALIGNANT), (420, 60, 30, BENIGN), (620, 460, 15, MALIGNANT))
    boxes, lesions = label_boxes(monkeypatch, (640, 480), *circles)
    assert len(boxes) == len(circles)
    areas = boxes + [lesion.bbox_xywh for lesion in lesions]
    canvas = np.zeros((480, 640), int)
    for left, top, width, height in areas:
        canvas[top : top + height, left : left + width] += 1
    assert canvas.max() == 1


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    circles=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 60), st.sampled_from([BENIGN, MALIGNANT])),
        max_size=5,
    ),
)
def test_labels_stay_inside_frames_of_any_size(width, height, circles):
    placed = [(int(x * (width - 1)), int(y * (height - 1)), radius, label) for x, y, radius, label in circles]
    with pytest.MonkeyPatch.context() as monkeypatch:
        boxes, _ = label_boxes(monkeypatch, (width, height), *placed)
    for left, top, box_width, box_height in boxes:
        assert left >= 0
        assert left + box_width <= width
        assert top >= 0
        assert top + box_height <= height


def test_text_is_inside_its_box_and_legible():
    """White strokes of at least eight pixels' height, none of them outside the coloured box."""
    size_wh = (190, 150)  # BUSI's narrowest image
    labels, lesions = discs(size_wh, (60, 90, 30, BENIGN))
    overlay = draw_overlay(grey(size_wh, 0), labels, lesions)
    rows, columns = np.nonzero((overlay > 150).all(axis=2))
    assert np.ptp(rows) >= 8
    box = (np.abs(overlay.astype(int) - COLOURS_BGR[BENIGN]) <= 2).all(axis=2)
    box_rows, box_columns = np.nonzero(box[:60])
    assert box_rows.min() < rows.min() <= rows.max() < box_rows.max()
    assert box_columns.min() < columns.min() <= columns.max() < box_columns.max()
