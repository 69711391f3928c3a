"""Confidence against being right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_train.reliability import BINS, empty, lesion_reliability, pixel_reliability, reliability


def test_honest_confidence_has_no_error_and_overconfidence_its_own_size() -> None:
    right = np.arange(1000) < 700
    assert reliability(np.full(1000, 0.7), right).expected_calibration_error == pytest.approx(0, abs=1e-9)
    assert reliability(np.full(1000, 0.95), right).expected_calibration_error == pytest.approx(0.25)


def test_errors_of_opposite_sign_do_not_cancel_between_bins() -> None:
    confidence = np.array([0.55] * 10 + [0.95] * 10)
    right = np.array([True] * 10 + [False] * 10)
    assert reliability(confidence, right).expected_calibration_error == pytest.approx((0.45 + 0.95) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(0, 40))
def test_parts_add_up_to_the_whole(values: list[tuple[float, bool]], cut: int) -> None:
    confidence, right = np.array([v for v, _ in values]), np.array([r for _, r in values], bool)
    whole = reliability(confidence, right)
    parts = reliability(confidence[:cut], right[:cut]) + reliability(confidence[cut:], right[cut:])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal(parts.right, whole.right)
    np.testing.assert_allclose(parts.confidence_sum, whole.confidence_sum)
    assert whole.counts.sum() == len(values)


def test_no_prediction_has_no_error() -> None:
    assert np.isnan(empty().expected_calibration_error)
    assert np.isnan(empty().accuracy).all()
    assert len(empty().counts) == BINS


def test_pixels_of_background_do_not_count() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:5, :5] = 1
    labels = np.zeros_like(truth)
    labels[:5, :] = 1
    curve = pixel_reliability(truth, labels, np.full(truth.shape, 0.8, np.float32))
    assert (curve.counts.sum(), curve.right.sum()) == (50, 25)


def test_a_lesion_is_right_where_most_of_it_is() -> None:
    truth = np.zeros((60, 60), np.uint8)
    truth[0:10, 0:20] = 1
    labels = np.zeros_like(truth)
    labels[0:10, 5:25] = 1  # three quarters on it
    labels[30:40, 0:20] = 1  # on nothing
    labels[50:60, 30:50] = 2  # on nothing, the other class
    labels[58:60, 0:5] = 2  # a speck
    confidence = np.full(truth.shape, 0.95, np.float32)
    confidence[30:40, 0:20] = 0.65
    curve = lesion_reliability(truth, labels, confidence)
    assert curve.counts.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 2]
    assert curve.right.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert curve.confidence[6] == pytest.approx(0.65, abs=1e-6)


def test_the_other_class_is_not_right() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[:10] = 2
    curve = lesion_reliability(truth, (truth > 0).astype(np.uint8), np.full(truth.shape, 0.9, np.float32))
    assert (curve.counts.sum(), curve.right.sum()) == (1, 0)
