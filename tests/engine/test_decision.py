"""Labels and confidence against a plain argmax and softmax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bcseg_edge import decision
from bcseg_edge.decision import decide


def softmax_of_the_choice(logits):
    wide = logits.astype(np.float64)
    return 1 / np.exp(wide - wide.max(0)).sum(0)


shapes = st.tuples(st.just(3), st.integers(1, 12), st.integers(1, 12))
# Few distinct values, so that ties are common; the large ones overflow a naive exponential.
values = st.sampled_from([-1e4, -3.5, -1.0, 0.0, 0.25, 1.0, 7.0, 1e4])


@given(logits=hnp.arrays(np.float32, shapes, elements=values))
def test_labels_are_the_first_argmax_and_confidence_its_softmax(logits):
    labels, confidence = decide(logits)
    assert labels.dtype == np.uint8
    assert confidence.dtype == np.float32
    assert np.array_equal(labels, logits.argmax(0))
    np.testing.assert_allclose(confidence, softmax_of_the_choice(logits), rtol=2e-6)


@pytest.mark.parametrize("block_px", [1, 7, 100, 10**6])
def test_blocks_do_not_show(monkeypatch, block_px):
    monkeypatch.setattr(decision, "BLOCK_PX", block_px)
    logits = np.random.default_rng(0).normal(size=(3, 37, 23)).astype(np.float32)
    labels, confidence = decide(logits)
    assert np.array_equal(labels, logits.argmax(0))
    np.testing.assert_allclose(confidence, softmax_of_the_choice(logits), rtol=2e-6)


def test_a_cropped_view_is_read_and_left_as_it_was():
    padded = np.random.default_rng(0).normal(size=(3, 40, 50)).astype(np.float32)
    before = padded.copy()
    labels, confidence = decide(padded[:, :33, :41])
    assert np.array_equal(labels, before[:, :33, :41].argmax(0))
    assert labels.flags.c_contiguous
    assert confidence.flags.c_contiguous
    assert np.array_equal(padded, before)


def test_equal_logits_are_background_at_one_third():
    labels, confidence = decide(np.full((3, 5, 5), 2.5, np.float32))
    assert not labels.any()
    np.testing.assert_allclose(confidence, 1 / 3, rtol=1e-6)


def test_lesions_in_some_blocks_only(monkeypatch):
    monkeypatch.setattr(decision, "BLOCK_PX", 5 * 23)
    logits = np.random.default_rng(0).normal(size=(3, 37, 23)).astype(np.float32)
    logits[0] += 9
    logits[1, 12:14, 3:9] += 20
    logits[2, 30, 4] += 20
    labels, confidence = decide(logits)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.array_equal(labels, logits.argmax(0))
    np.testing.assert_allclose(confidence, softmax_of_the_choice(logits), rtol=2e-6)


@pytest.mark.parametrize("difference", [70.0, 95.0, 1e4, 1e30])
def test_certainty_of_any_size_is_one_and_exact_labels(difference):
    logits = np.zeros((3, 6, 7), np.float32)
    logits[2, ::2] = difference
    labels, confidence = decide(logits)
    assert np.array_equal(labels, logits.argmax(0))
    assert (confidence[::2] == 1).all()
    np.testing.assert_allclose(confidence[1::2], 1 / 3, rtol=1e-6)
