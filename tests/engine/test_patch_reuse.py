"""Reuse of patches: never another label than without it, and no patch executed whose result is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcseg_edge.backends import BACKENDS
from bcseg_edge.errors import BcsegError
from bcseg_edge.models import find_model, load_model
from bcseg_edge.patch_reuse import PatchReuse
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TILINGS, TileGrid
from tests.fixtures.tiny_model import expected_logits

WINDOW_HW = (16, 24)


class RecordingModel:
    """The tiny model in numpy; remembers every patch that it executed."""

    window_hw = WINDOW_HW
    tiling = "paper"
    max_batch = 4

    def __init__(self, *, batch_invariant=True):
        self.batch_invariant = batch_invariant
        self.calls = []
        self.fails = False

    def infer(self, patches):
        if self.fails:
            raise BcsegError("the driver is gone", "start again")
        self.calls.append(patches.copy())
        return expected_logits(patches[:, 0])

    def close(self):
        pass

    def executed(self):
        """How many patches since it was asked last."""
        count = sum(map(len, self.calls))
        self.calls.clear()
        return count


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@st.composite
def sequences(draw):
    """Frames of one size or two, each the one before with a few rectangles overwritten by noise or by one grey."""
    frames = []
    for _ in range(draw(st.integers(1, 2))):
        height, width = draw(st.integers(1, 60)), draw(st.integers(1, 80))
        frame = np.zeros((height, width), np.uint8)
        for seed in range(draw(st.integers(1, 5))):
            frame = frame.copy()
            for _ in range(draw(st.integers(0, 2))):
                top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
                part = frame[top : top + draw(st.integers(1, 60)), left : left + draw(st.integers(1, 80))]
                part[:] = draw(st.sampled_from([0, 90, 200])) if draw(st.booleans()) else noise(*part.shape, seed=seed)
            frames.append(frame)
    return frames


@settings(deadline=None)
@given(frames=sequences(), tiling=st.sampled_from(TILINGS), batch_invariant=st.booleans())
def test_results_are_those_without_reuse(frames, tiling, batch_invariant):
    with_reuse = Segmenter(RecordingModel(batch_invariant=batch_invariant), tiling, reuse=True)
    without = Segmenter(RecordingModel(), tiling)
    for frame in frames:
        found, expected = with_reuse(frame), without(frame)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.confidence, expected.confidence)


@settings(deadline=None)
@given(frames=sequences(), tiling=st.sampled_from(TILINGS))
def test_what_is_said_to_be_reused_was_not_executed(frames, tiling):
    model = RecordingModel()
    segmenter = Segmenter(model, tiling, reuse=True)
    for frame in frames:
        found = segmenter(frame)
        assert found.patches == TileGrid(frame.shape, WINDOW_HW, tiling).count
        assert model.executed() == found.patches - found.patches_reused


def test_only_the_patch_that_changed_is_executed():
    model = RecordingModel()
    segmenter = Segmenter(model, reuse=True)
    frame = noise(48, 72)
    assert segmenter(frame).patches_reused == 0
    assert [len(call) for call in model.calls] == [4, 4, 1]  # nothing is known: in batches
    model.calls.clear()
    assert segmenter(frame).patches_reused == 9
    assert model.calls == []
    frame = frame.copy()
    frame[20, 30] ^= 1  # one grey level of one pixel in the middle patch
    assert segmenter(frame).patches_reused == 8
    (call,) = model.calls
    np.testing.assert_array_equal(call[0, 0], frame[16:32, 24:48])


def test_equal_plain_patches_are_executed_once():
    model = RecordingModel()
    segmenter = Segmenter(model, reuse=True)
    frame = np.zeros((48, 72), np.uint8)
    frame[16:32, 24:48] = noise(16, 24)
    assert segmenter(frame).patches_reused == 7
    assert model.executed() == 2
    # The middle becomes as black as its neighbours: known already. A grey corner is new.
    frame = np.zeros((48, 72), np.uint8)
    frame[:16, :24] = 90
    assert segmenter(frame).patches_reused == 8
    assert model.executed() == 1


def test_where_batching_matters_every_patch_is_executed_alone():
    model = RecordingModel(batch_invariant=False)
    segmenter = Segmenter(model, reuse=True)
    segmenter(noise(48, 72))
    segmenter(noise(48, 72, seed=1))
    assert [len(call) for call in model.calls] == [1] * 18


def test_with_hardly_anything_known_the_whole_batch_is_quicker():
    model = RecordingModel()
    reuse = PatchReuse(model)
    patches = noise(20, 1, *WINDOW_HW)
    reuse.infer(patches)
    changed = patches ^ 1
    changed[7] = patches[7]
    logits, reused = reuse.infer(changed)
    assert reused == 0
    assert [len(call) for call in model.calls] == [4] * 10
    np.testing.assert_array_equal(logits, expected_logits(changed[:, 0]))


def test_another_frame_size_starts_anew():
    model = RecordingModel()
    segmenter = Segmenter(model, reuse=True)
    black = np.zeros((48, 72), np.uint8)
    segmenter(black)
    assert segmenter(black[:, :48]).patches_reused == 5
    assert segmenter(black).patches_reused == 8


def test_after_a_failure_nothing_is_known():
    model = RecordingModel()
    segmenter = Segmenter(model, reuse=True)
    frame = noise(48, 72)
    segmenter(frame)
    model.fails = True
    with pytest.raises(BcsegError, match="driver"):
        segmenter(noise(48, 72, seed=1))
    model.fails = False
    assert segmenter(frame).patches_reused == 0


def test_earlier_results_stay_as_they_are():
    segmenter = Segmenter(RecordingModel(), reuse=True)
    frame = noise(48, 72)
    first = segmenter(frame)
    labels, confidence = first.labels.copy(), first.confidence.copy()
    frame[:16, :24] ^= 255  # in place, as a driver overwrites its buffer
    second = segmenter(frame)
    assert second.patches_reused == 8
    np.testing.assert_array_equal(first.labels, labels)
    np.testing.assert_array_equal(first.confidence, confidence)
    np.testing.assert_array_equal(second.labels, Segmenter(RecordingModel())(frame).labels)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_keep_their_word_on_batches(backend, precision):
    """With the shipped model: logits by batch and one by one, and labels with and without reuse."""
    pytest.importorskip(backend)
    rng = np.random.default_rng(0)
    with load_model(find_model("edge", backend, precision), backend, threads=2) as model:
        patches = np.clip(rng.normal(90, 40, (6, 1, *model.window_hw)), 0, 255).astype(np.uint8)
        together = model.infer(patches)
        alone = np.concatenate([model.infer(patches[index : index + 1]) for index in range(len(patches))])
        if model.batch_invariant:
            np.testing.assert_array_equal(together, alone)
        else:
            np.testing.assert_allclose(together, alone, atol=1e-3)
        reuse = PatchReuse(model)
        reuse.infer(patches)
        changed = patches.copy()
        changed[2] ^= 8
        logits, reused = reuse.infer(changed)
        assert reused == 5
        expected = alone.copy()
        expected[2] = model.infer(changed[2:3])[0]
        np.testing.assert_array_equal(logits, expected)
