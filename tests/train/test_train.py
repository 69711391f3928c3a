"""A training run: it learns, it resumes after a kill as if nothing had happened, and it refuses early."""

from __future__ import annotations

import csv
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bcseg_edge.errors import DataError
from bcseg_train.models import load_checkpoint
from bcseg_train.train import TrainOptions, train

RECIPE = """
description = "small and quick, with everything that has a state"
tiling = "frame"
window_hw = [64, 64]
sampling = "whole_frame"
epochs = 3
batch_size = 4
optimizer = "adamw"
learning_rate = 2e-3
schedule = "cosine"
warmup_epochs = 1
gradient_clip = 1.0
average_decay = 0.5
[loss]
dice = 1.0
cross_entropy = 1.0
[augmentation]
horizontal_flip = 0.5
zoom = 0.5
affine = 0.5
elastic = 0.5
gain_contrast = 0.5
speckle = 0.5
"""


@pytest.fixture
def small_busi(tmp_path: Path) -> Path:
    """24 images: dark ellipses in speckle, wide ones benign, tall ones malignant."""
    rng = np.random.default_rng(0)
    for folder, axes in (("benign", (18, 9)), ("malignant", (9, 18)), ("normal", None)):
        (tmp_path / "busi" / folder).mkdir(parents=True)
        for number in range(8):
            image = rng.normal(130, 30, (60, 80)).clip(0, 255).astype(np.uint8)
            mask = np.zeros((60, 80), np.uint8)
            if axes is not None:
                centre = (int(rng.integers(25, 55)), int(rng.integers(22, 38)))
                cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
                image[mask > 0] //= 4
            cv2.imwrite(str(tmp_path / "busi" / folder / f"{folder} ({number}).png"), image)
            cv2.imwrite(str(tmp_path / "busi" / folder / f"{folder} ({number})_mask.png"), mask)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path / "busi"


def options(busi: Path, output: Path, **changes: object) -> TrainOptions:
    values = {
        "recipe": str(busi.parent / "recipe.toml"),
        "precision": "32-true",
        "accelerator": "cpu",
        "progress": False,
    }
    return TrainOptions(busi, output, **{**values, **changes})  # type: ignore[arg-type]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


TRAIN_IN_A_PROCESS = """
import sys
from pathlib import Path
from bcseg_train.train import TrainOptions, train
busi, output = Path(sys.argv[1]), Path(sys.argv[2])
train(TrainOptions(busi, output, recipe=str(busi.parent / "recipe.toml"), precision="32-true", accelerator="cpu",
                   progress=False))
"""


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_result(small_busi: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    result = train(options(small_busi, whole))
    assert result.epochs == 3

    process = subprocess.Popen([sys.executable, "-c", TRAIN_IN_A_PROCESS, str(small_busi), str(killed)])
    deadline = time.monotonic() + 120
    while not (killed / "last.ckpt").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    interrupted_at = torch.load(killed / "last.ckpt", weights_only=True)["epoch"]
    assert interrupted_at < 2, "the run was over before it could be killed"

    resumed = train(options(small_busi, killed, resume=True, workers=0))
    assert resumed.epochs == 3
    one, other = weights(whole / "last.ckpt"), weights(killed / "last.ckpt")
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key
    assert column(whole, "val_mean_iou") == column(killed, "val_mean_iou")


@pytest.mark.slow
def test_training_learns_and_its_best_checkpoint_loads(small_busi: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = train(options(small_busi, output, epochs=12))
    losses = column(output, "train_loss")
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]
    assert not math.isnan(result.best_mean_iou)
    assert result.best_mean_iou == pytest.approx(max(column(output, "val_mean_iou")), abs=1e-6)
    model, info = load_checkpoint(result.best)
    assert (info.window_hw, info.tiling, info.spec.name) == ((64, 64), "frame", "edge")
    assert not model.training
    assert list(output.glob("events.out.tfevents*"))


def test_refusals_come_before_training(small_busi: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to resume"):
        train(options(small_busi, tmp_path / "run", resume=True))
    with pytest.raises(DataError, match="no model"):
        train(options(small_busi, tmp_path / "run", model="resnet"))
    with pytest.raises(DataError, match="no recipe"):
        train(options(small_busi, tmp_path / "run", recipe="missing"))
    (small_busi / "benign" / "benign (3)_mask.png").unlink()
    with pytest.raises(DataError, match="mask is missing"):
        train(options(small_busi, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "last.ckpt").write_bytes(b"x")
    with pytest.raises(DataError, match="holds a run already"):
        train(options(small_busi, tmp_path / "old"))
