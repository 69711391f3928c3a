"""The path of one frame, through a model that says what each pixel holds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bcseg_edge.backends import BACKENDS
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.models import load_model
from bcseg_edge.segmenter import Segmenter, to_grey
from tests.fixtures.tiny_model import expected_labels, expected_logits, write_model


class CountingModel:
    """The tiny model in numpy; remembers the batches it was given."""

    window_hw = (16, 16)
    tiling = "paper"
    max_batch = 4

    def __init__(self):
        self.batches = []
        self.closed = 0

    def infer(self, patches):
        self.batches.append(len(patches))
        return expected_logits(patches[:, 0])

    def close(self):
        self.closed += 1


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tiling", ["paper", "overlap"])
@pytest.mark.parametrize("frame_hw", [(1, 1), (32, 32), (100, 131)])
def test_labels_and_confidence_through_a_backend(tmp_path, backend, tiling, frame_hw):
    pytest.importorskip(backend)
    grey = noise(*frame_hw)
    path = write_model(tmp_path, (32, 32), max_batch=8)
    with Segmenter(load_model(path, backend), tiling) as segmenter:
        segmentation = segmenter(grey)
    logits = expected_logits(grey).astype(np.float64)
    assert np.array_equal(segmentation.labels, expected_labels(grey))
    np.testing.assert_allclose(segmentation.confidence, 1 / np.exp(logits - logits.max(0)).sum(0), rtol=1e-4)


def test_patches_go_in_batches_that_the_model_takes():
    model = CountingModel()
    grey = noise(48, 60)
    assert np.array_equal(Segmenter(model)(grey).labels, expected_labels(grey))
    assert model.batches == [4, 4, 4]
    assert Segmenter(model)(noise(16, 70)).labels.shape == (16, 70)
    assert model.batches[3:] == [4, 1]


def test_the_model_chooses_the_tiling_unless_told(tmp_path):
    path = write_model(tmp_path, (32, 32), "frame")
    with load_model(path) as model:
        assert Segmenter(model).tiling == "frame"
        assert Segmenter(model, "overlap").tiling == "overlap"
        with pytest.raises(DataError, match="cascade"):
            Segmenter(model, "cascade")


def test_colour_frames_are_taken_as_bgr():
    colour = noise(20, 30, 3)
    grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(Segmenter(CountingModel())(colour).labels, expected_labels(grey))


def test_strided_frames_and_changes_of_size():
    segmenter, frame = Segmenter(CountingModel()), noise(64, 80)
    for view in (frame[::2, ::-1], frame.T, frame[5:6, 7:9], frame):
        assert np.array_equal(segmenter(view).labels, expected_labels(view))


def test_results_are_arrays_of_their_own():
    segmenter = Segmenter(CountingModel())
    first = segmenter(np.zeros((16, 16), np.uint8))
    second = segmenter(np.full((16, 16), 255, np.uint8))
    assert not first.labels.any()
    assert (second.labels == 2).all()
    assert not np.shares_memory(first.confidence, second.confidence)


def test_timings_are_measured():
    timings = Segmenter(CountingModel())(noise(64, 64)).timings
    assert min(timings.split_ms, timings.network_ms, timings.stitch_ms) > 0
    assert timings.total_ms == pytest.approx(timings.split_ms + timings.network_ms + timings.stitch_ms)


def test_closing_twice_and_using_after(tmp_path):
    segmenter = Segmenter(load_model(write_model(tmp_path, (16, 16))))
    segmenter.close()
    segmenter.close()
    with pytest.raises(BcsegError, match="closed") as caught:
        segmenter(noise(16, 16))
    assert "load_model" in caught.value.hint


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ([[1, 2]], "list"),
        (None, "NoneType"),
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((4, 4), np.uint16), "uint16"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 1), np.uint8), r"\(4, 4, 1\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (np.zeros((4, 0, 3), np.uint8), r"\(4, 0, 3\)"),
    ],
)
def test_other_frames_are_refused_with_what_was_received(frame, said):
    with pytest.raises(DataError, match=f"a frame is a uint8 array .*{said}"):
        to_grey(frame)


def test_a_segmentation_outlives_the_next_frames():
    segmenter = Segmenter(CountingModel(), "frame")
    grey = noise(48, 60)
    first = segmenter(grey)
    kept = first.labels.copy(), first.confidence.copy()
    for other in (255 - grey, noise(30, 20), grey):
        last = segmenter(other)
    for segmentation in (first, last):
        assert np.array_equal(segmentation.labels, kept[0])
        assert np.array_equal(segmentation.confidence, kept[1])
