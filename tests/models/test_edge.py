"""The shipped model does what its passport and its card say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bcseg_edge.backends import available_backends
from bcseg_edge.models import find_model, load_model, read_model
from bcseg_edge.passport import Accuracy, Parity
from bcseg_edge.pipeline import run
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.sources import open_source

MAX_MB = 30


def test_it_is_small_measured_and_in_parity() -> None:
    path, passport = find_model("edge", precision="fp32"), read_model("edge", precision="fp32").passport
    assert sum(file.stat().st_size for file in path.parent.rglob("*")) < MAX_MB * 1e6
    assert isinstance(passport.parity, Parity)
    assert passport.parity.passed
    assert isinstance(passport.accuracy, Accuracy)
    assert passport.accuracy.figures["mean_iou"] >= 0.62
    assert passport.accuracy.figures["lesion_iou"] >= 0.58


@pytest.mark.slow
@pytest.mark.parametrize("lesion", ["benign", "malignant"])
def test_it_finds_the_phantoms_lesion(lesion: str) -> None:
    with Segmenter(load_model("edge")) as segmenter, open_source(f"phantom:640x480@30?lesion={lesion}") as source:
        summary = run(source, segmenter, max_frames=12)
    assert summary.truth_dice is not None
    assert summary.truth_dice["lesion"] is not None
    assert summary.truth_dice["lesion"] >= 0.6
    assert summary.frames_with_lesion == 12


@pytest.mark.slow
@pytest.mark.parametrize("size", [(480, 640), (1, 1), (37, 900), (1080, 1920)])
def test_backends_give_the_same_labels_on_any_size(size: tuple[int, int]) -> None:
    with open_source("phantom:640x480@30") as source:
        frame = cv2.resize(next(iter(source)).image, size[::-1], interpolation=cv2.INTER_AREA)
    labels = {}
    for backend in available_backends():
        with Segmenter(load_model("edge", backend, precision="fp32")) as segmenter:
            labels[backend] = segmenter(frame).labels
    first, *others = labels.values()
    assert first.shape == size
    for other in others:
        assert np.mean(first == other) >= 0.9999


def test_training_reads_the_same_weights() -> None:
    from bcseg_train.models import load_checkpoint

    network, info = load_checkpoint(find_model("edge", precision="fp32"))
    assert info.sha256 == read_model("edge", precision="fp32").passport.sha256
    patches = np.random.default_rng(0).integers(0, 256, (1, 1, *info.window_hw), np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).numpy()
    for backend in available_backends():
        with load_model("edge", backend, precision="fp32") as model:
            np.testing.assert_allclose(model.infer(patches), expected, atol=1e-3)


@pytest.mark.data
@pytest.mark.slow
def test_its_figures_on_val_are_the_passports(busi_dir: Path) -> None:
    from bcseg_train.evaluate import EvaluateOptions, evaluate

    recorded = read_model("edge", precision="fp32").passport.accuracy
    assert isinstance(recorded, Accuracy)
    measured = evaluate(EvaluateOptions("edge", busi_dir)).accuracy()
    assert (measured.images, measured.tiling) == (recorded.images, recorded.tiling)
    for name, value in recorded.figures.items():
        assert measured.figures[name] == pytest.approx(value, rel=0.005, abs=0.002), name
