"""Each shipped model does what its passport and its card say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bcseg_edge.backends import available_backends
from bcseg_edge.models import find_model, list_models, load_model, read_model
from bcseg_edge.passport import Accuracy, Parity
from bcseg_edge.pipeline import run
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.sources import open_source


@dataclass(frozen=True)
class Promise:
    """What must hold of a shipped model: size of its weights, IoU on val (pooled over whole images), phantom frames."""

    name: str
    max_weights_bytes: float
    mean_iou: float
    lesion_iou: float
    phantom_dice: float

    def __str__(self) -> str:
        return self.name


PROMISES = (Promise("edge", 10e6, 0.62, 0.58, 0.6), Promise("resnext50", 64 * 2**20, 0.58, 0.53, 0.6))
each_model = pytest.mark.parametrize("promise", PROMISES, ids=str)


def test_every_shipped_model_is_promised() -> None:
    assert list_models() == tuple(promise.name for promise in PROMISES)


@each_model
def test_it_is_small_measured_and_in_parity(promise: Promise) -> None:
    path, passport = find_model(promise.name, precision="fp32"), read_model(promise.name, precision="fp32").passport
    assert path.stat().st_size <= promise.max_weights_bytes
    assert isinstance(passport.parity, Parity)
    assert passport.parity.passed
    assert isinstance(passport.accuracy, Accuracy)
    assert passport.accuracy.figures["mean_iou"] >= promise.mean_iou
    assert passport.accuracy.figures["lesion_iou"] >= promise.lesion_iou


@each_model
def test_its_card_states_its_figures(promise: Promise) -> None:
    card = (find_model(promise.name, precision="fp32").parent / "README.md").read_text(encoding="utf-8")
    accuracy = read_model(promise.name, precision="fp32").passport.accuracy
    assert isinstance(accuracy, Accuracy)
    for name in ("mean_iou", "lesion_iou", "iou_benign", "iou_malignant"):
        assert f"{100 * accuracy.figures[name]:.2f}" in card, name


@pytest.mark.slow
@pytest.mark.parametrize("lesion", ["benign", "malignant"])
@each_model
def test_it_finds_the_phantoms_lesion(promise: Promise, lesion: str) -> None:
    with Segmenter(load_model(promise.name)) as segmenter, open_source(f"phantom:640x480@30?lesion={lesion}") as source:
        summary = run(source, segmenter, max_frames=12)
    assert summary.truth_dice is not None
    assert summary.truth_dice["lesion"] is not None
    assert summary.truth_dice["lesion"] >= promise.phantom_dice
    assert summary.frames_with_lesion == 12


@pytest.mark.slow
@pytest.mark.parametrize("size", [(480, 640), (1, 1), (37, 900), (1080, 1920)])
@each_model
def test_backends_give_the_same_labels_on_any_size(promise: Promise, size: tuple[int, int]) -> None:
    with open_source("phantom:640x480@30") as source:
        frame = cv2.resize(next(iter(source)).image, size[::-1], interpolation=cv2.INTER_AREA)
    labels = {}
    for backend in available_backends():
        with Segmenter(load_model(promise.name, backend, precision="fp32")) as segmenter:
            labels[backend] = segmenter(frame).labels
    first, *others = labels.values()
    assert first.shape == size
    for other in others:
        assert np.mean(first == other) >= 0.9999


@each_model
def test_training_reads_the_same_weights(promise: Promise) -> None:
    from bcseg_train.models import load_checkpoint

    network, info = load_checkpoint(find_model(promise.name, precision="fp32"))
    assert info.sha256 == read_model(promise.name, precision="fp32").passport.sha256
    patches = np.random.default_rng(0).integers(0, 256, (1, 1, *info.window_hw), np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).numpy()
    for backend in available_backends():
        with load_model(promise.name, backend, precision="fp32") as model:
            np.testing.assert_allclose(model.infer(patches), expected, atol=1e-3)


@pytest.mark.data
@pytest.mark.slow
@each_model
def test_its_figures_on_val_are_the_passports(promise: Promise, busi_dir: Path) -> None:
    from bcseg_train.evaluate import EvaluateOptions, evaluate

    recorded = read_model(promise.name, precision="fp32").passport.accuracy
    assert isinstance(recorded, Accuracy)
    measured = evaluate(EvaluateOptions(promise.name, busi_dir)).accuracy()
    assert (measured.images, measured.tiling) == (recorded.images, recorded.tiling)
    for name, value in recorded.figures.items():
        assert measured.figures[name] == pytest.approx(value, rel=0.005, abs=0.002), name
