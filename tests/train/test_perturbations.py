"""Changed frames: truth goes along, and the change is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcseg_train.perturbations import PERTURBATIONS


@pytest.mark.parametrize("name", PERTURBATIONS)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 9))
@settings(max_examples=12, deadline=None)
def test_any_frame_keeps_truth_of_its_size_and_is_drawn_by_the_seed(
    name: str, height: int, width: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    frame = generator.integers(0, 256, (height, width), np.uint8)
    truth = generator.integers(0, 3, (height, width), np.uint8)
    before = frame.copy(), truth.copy()
    changed, labels = PERTURBATIONS[name](frame, truth, np.random.default_rng(seed))
    again, same = PERTURBATIONS[name](frame, truth, np.random.default_rng(seed))
    assert changed.shape[:2] == labels.shape
    assert (changed.dtype, labels.dtype) == (np.uint8, np.uint8)
    assert set(np.unique(labels)) <= {0, 1, 2}
    np.testing.assert_array_equal(changed, again)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_array_equal(frame, before[0])  # the caller's arrays stay
    np.testing.assert_array_equal(truth, before[1])


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name != "as it is"])
def test_every_one_changes_something(name: str) -> None:
    generator = np.random.default_rng(1)
    frame = generator.integers(20, 230, (120, 150), np.uint8)
    truth = np.zeros_like(frame)
    truth[50:70, 60:90] = 2
    changed, _ = PERTURBATIONS[name](frame, truth, generator)
    assert changed.shape != frame.shape or not np.array_equal(changed, frame)


def test_letterbox_and_scale_keep_the_lesion_whole() -> None:
    frame = np.full((100, 140), 99, np.uint8)
    truth = np.zeros_like(frame)
    truth[40:60, 50:90] = 1
    for name, factor in (("letterbox 30 %", 1), ("scale 2", 4), ("scale 0.5", 0.25)):
        _, labels = PERTURBATIONS[name](frame, truth, np.random.default_rng(0))
        assert labels.sum() == truth.sum() * factor
