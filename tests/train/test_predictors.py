"""Predictors: a checkpoint and a model file go the same way, the runtime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.passport import file_sha256
from bcseg_edge.tiling import TileGrid
from bcseg_train.predictors import TorchBackend, model_path, open_predictor
from tests.fixtures.checkpoints import WINDOW_HW, random_network, write_checkpoint
from tests.fixtures.tiny_model import expected_labels, write_model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "best.ckpt")


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 210), dtype=np.uint8)


def test_torch_backend_is_the_network_in_float32() -> None:
    network = random_network()
    patches = np.random.default_rng(0).integers(0, 256, (3, 1, *WINDOW_HW), dtype=np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).numpy()
    received = TorchBackend(network).infer(patches)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_checkpoint_goes_through_split_and_stitch(checkpoint: Path, frame: np.ndarray) -> None:
    grid = TileGrid(frame.shape, WINDOW_HW, "paper")
    logits = TorchBackend(random_network()).infer(grid.split(frame))
    expected = grid.stitch(logits).argmax(axis=0)
    with open_predictor(checkpoint) as predictor:
        segmentation = predictor(frame)
    assert np.mean(segmentation.labels == expected) > 0.9999  # batches of another size round differently
    assert segmentation.timings.network_ms > 0


def test_passport_of_a_checkpoint_says_what_it_is(checkpoint: Path) -> None:
    with open_predictor(checkpoint, tiling="overlap") as predictor:
        passport = predictor.passport
        assert predictor.tiling == "overlap"
        assert predictor.backend_name == "torch"
    assert passport.sha256 == passport.source_sha256 == file_sha256(checkpoint)
    assert (passport.window_hw, passport.tiling, passport.temperature) == (WINDOW_HW, "paper", 1.5)
    assert (passport.architecture.name, passport.architecture.encoder) == ("edge", "mobilenet_v2")
    assert passport.parity == "not measured"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_model_file_runs_on_a_backend(tmp_path: Path, frame: np.ndarray, backend: str) -> None:
    pytest.importorskip(backend)
    with open_predictor(write_model(tmp_path, (64, 64)), backend=backend) as predictor:
        assert predictor.backend_name == backend
        assert np.array_equal(predictor(frame).labels, expected_labels(frame))


def test_a_closed_predictor_refuses_and_closes_twice(checkpoint: Path, frame: np.ndarray) -> None:
    predictor = open_predictor(checkpoint)
    predictor.close()
    predictor.close()
    with pytest.raises(BcsegError, match="closed"):
        predictor(frame)


def test_a_checkpoint_runs_on_no_other_backend(checkpoint: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_predictor(checkpoint, backend="openvino")
    assert "export" in caught.value.hint


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"broken\.ckpt"):
        open_predictor(path)


def test_path_of_a_model(checkpoint: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path, (64, 64))
    assert model_path(str(checkpoint)) == checkpoint
    assert model_path(str(model)) == model
