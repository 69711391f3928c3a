"""A training run: it learns, it resumes after a kill as if nothing had happened, and it refuses early."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bcseg_edge.errors import DataError
from bcseg_edge.passport import file_sha256
from bcseg_train import train as train_module
from bcseg_train.busi import Sample
from bcseg_train.encoder_weights import load_pretrained
from bcseg_train.evaluate import EvaluateOptions, evaluate
from bcseg_train.metrics import confusion_matrix, pooled
from bcseg_train.models import SegmentationNet, find_spec, load_checkpoint
from bcseg_train.module import SegmentationModule
from bcseg_train.pretrain import pretrain
from bcseg_train.resume import AtomicCheckpoints
from bcseg_train.split import read_split
from bcseg_train.train import TrainOptions, notes, train
from tests.fixtures.pretraining import write_pretraining_sets

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
    """24 images: dark ellipses in speckle, wide ones benign, tall ones malignant; tissue tells each from the others."""
    rng = np.random.default_rng(0)
    for folder, axes in (("benign", (18, 9)), ("malignant", (9, 18)), ("normal", None)):
        (tmp_path / "busi" / folder).mkdir(parents=True)
        for number in range(8):
            tissue = cv2.resize(rng.normal(130, 35, (12, 16)), (80, 60), interpolation=cv2.INTER_CUBIC)
            image = (tissue + rng.normal(0, 30, (60, 80))).clip(0, 255).astype(np.uint8)
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
import torch
from bcseg_train.train import TrainOptions, train
torch.set_num_threads(1)
busi, output = Path(sys.argv[1]), Path(sys.argv[2])
train(TrainOptions(busi, output, recipe=str(busi.parent / "recipe.toml"), precision="32-true", accelerator="cpu",
                   progress=False))
"""


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_result(small_busi: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # as in the process: the order of a sum depends on it
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


def test_last_is_the_last_epoch_and_not_the_last_improvement(small_busi: Path, tmp_path: Path) -> None:
    recipe = small_busi.parent / "recipe.toml"
    recipe.write_text(RECIPE.replace("2e-3", "1e-12").replace("epochs = 3", "epochs = 2"))
    result = train(options(small_busi, tmp_path / "run", workers=0))
    assert torch.load(result.best, weights_only=True)["epoch"] == 0
    assert torch.load(result.last, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf17"}, {"accelerator": "abacus"}, {"devices": "0"}, {"devices": "many"}, {"strategy": "hope"}],
)
def test_settings_that_lightning_refuses_are_a_data_error(small_busi: Path, tmp_path: Path, changes: dict) -> None:
    with pytest.raises(DataError, match="Lightning refuses"):
        train(options(small_busi, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_processes_that_would_train_one_by_one_are_refused(
    small_busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="2 processes were started, but these settings train with 1"):
        train(options(small_busi, tmp_path / "run"))


def test_a_run_that_was_moved_still_knows_its_best(small_busi: Path, tmp_path: Path) -> None:
    first = train(options(small_busi, tmp_path / "run", workers=0, epochs=1))
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = options(small_busi, tmp_path / "moved", workers=0, epochs=1, resume=True)
    assert train(moved).best_mean_iou == first.best_mean_iou

    last = tmp_path / "moved" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert sum(key.startswith("ModelCheckpoint{") for key in content["callbacks"]) == 2  # as Lightning's own
    for state in content["callbacks"].values():
        if state.get("monitor"):  # as if the first epoch had been better than any other can be
            state["best_model_score"] = torch.tensor(2.0)
            state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(2.0))
    torch.save(content, last)
    (tmp_path / "moved").rename(tmp_path / "again")
    result = train(options(small_busi, tmp_path / "again", workers=0, epochs=2, resume=True))
    assert result.best_mean_iou == 2
    assert torch.load(result.best, weights_only=True)["epoch"] == 0
    assert torch.load(result.last, weights_only=True)["epoch"] == 1


def test_a_smoke_run_learns_and_is_calibrated_on_as_few_images_of_every_class(
    small_busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated: list[Sample] = []
    monkeypatch.setattr(train_module, "calibrate_checkpoint", lambda _, samples: calibrated.extend(samples))
    train(options(small_busi, tmp_path / "run", workers=0, epochs=1, max_images=3))
    assert [sample.label for sample in calibrated] == [1, 2, 0]
    images = read_split(tmp_path / "run" / "split.csv")
    assert {sample.name for sample in calibrated} == {name for name, part in images.items() if part == "val"}
    assert list(images.values()).count("train") == 3


def test_a_run_says_how_it_was_made(small_busi: Path, tmp_path: Path) -> None:
    first = train(options(small_busi, tmp_path / "first", workers=0, epochs=1))
    second = options(small_busi, tmp_path / "second", workers=0, epochs=1, pretrained=first.last)
    train(second)
    written = (tmp_path / "second" / "options.json").read_text()
    record = json.loads(written)
    assert record["options"]["pretrained"] == str(first.last)
    assert record["sha256"]["pretrained"] == file_sha256(first.last)
    assert record["recipe"]["learning_rate"] == 2e-3
    assert {"torch", "lightning"} <= record["versions"].keys()
    train(replace(second, resume=True, epochs=1, pretrained=None))
    assert (tmp_path / "second" / "options.json").read_text() == written


def test_a_recipe_that_wants_other_lesions_says_so(tmp_path: Path) -> None:
    wanting = TrainOptions(tmp_path, tmp_path, recipe="strong")
    assert "--other-lesions" in notes(wanting)[0]
    assert notes(replace(wanting, other_lesions=tmp_path)) == notes(replace(wanting, recipe="paper")) == []


def test_val_figures_leave_out_a_class_that_is_nowhere_as_evaluate_does(
    small_busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame holds or gets a malignant pixel: its IoU is unknown, not 0, and the best epoch is still kept."""
    matrices = []

    def validate(module: SegmentationModule, positions: torch.Tensor, _: int) -> None:
        for position in positions.tolist():
            truth = np.minimum(module.validation.frames[position][1], 1)
            predicted = np.roll(truth, 3, axis=1)
            matrices.append(confusion_matrix(truth, predicted))
            module.confusion.update(torch.from_numpy(predicted).long(), torch.from_numpy(truth).long())

    monkeypatch.setattr(SegmentationModule, "validation_step", validate)
    monkeypatch.setattr(train_module, "calibrate_checkpoint", lambda *_: 1.0)
    run = tmp_path / "run"
    for epochs, resume in ((1, False), (2, True)):
        matrices.clear()
        result = train(options(small_busi, run, workers=0, epochs=epochs, resume=resume))
    expected = pooled(np.array(matrices))
    assert math.isnan(expected.iou[2])
    for name, value in zip(("background", "benign", "malignant"), expected.iou, strict=True):
        assert column(run, f"val_iou_{name}") == pytest.approx([value] * 2, nan_ok=True)
    for name in ("mean_iou", "mean_dice", "lesion_iou"):
        assert column(run, f"val_{name}") == pytest.approx([getattr(expected, name)] * 2)
    assert result.best_mean_iou == pytest.approx(expected.mean_iou)
    assert result.best.is_file()


def test_an_output_that_is_a_file_is_refused(small_busi: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write to the output folder"):
        train(options(small_busi, tmp_path / "file"))


def test_resume_refuses_another_run_and_a_damaged_checkpoint(small_busi: Path, tmp_path: Path) -> None:
    recipe, run = small_busi.parent / "recipe.toml", tmp_path / "run"
    train(options(small_busi, run, workers=0, epochs=1))
    with pytest.raises(DataError, match="model edge, not unet"):
        train(options(small_busi, run, resume=True, model="unet"))
    recipe.write_text(RECIPE.replace("[64, 64]", "[96, 96]").replace("2e-3", "1e-3"))
    with pytest.raises(DataError, match="other values of window_hw, learning_rate"):
        train(options(small_busi, run, resume=True))
    (run / "last.ckpt").write_bytes((run / "last.ckpt").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last\.ckpt is not a checkpoint"):
        train(options(small_busi, run, resume=True))


def test_resume_refuses_another_seed_and_other_images(small_busi: Path, tmp_path: Path) -> None:
    sets, recipe, run = write_pretraining_sets(tmp_path / "sets", videos=4), tmp_path / "mixed.toml", tmp_path / "run"
    recipe.write_text(RECIPE.replace("[loss]", "other_lesions = 0.25\n[loss]"))

    def go_on(**changes: object) -> None:
        values = {"recipe": str(recipe), "other_lesions": sets, "seed": 3, "workers": 0, "stop_after_epochs": 2}
        train(options(small_busi, run, **{**values, "resume": True, **changes}))

    go_on(resume=False, stop_after_epochs=1)
    before = {path: path.read_bytes() for path in run.iterdir()}
    split = tmp_path / "other.csv"
    names = [f"{folder} ({number}).png" for folder in ("benign", "malignant", "normal") for number in range(8)]
    split.write_text("image,split\n" + "".join(f"{name},{'val' if '(7)' in name else 'train'}\n" for name in names))
    with pytest.raises(DataError, match=r"differs in seed \(3, not 0\), training images, val images, ") as caught:
        go_on(seed=0)
    assert "--seed 3" in caught.value.hint
    with pytest.raises(DataError, match=r"differs in training images, val images$"):
        go_on(split=split)
    with pytest.raises(DataError, match=r"differs in training images, val images$"):
        go_on(max_images=3)
    with pytest.raises(DataError, match=r"differs in other lesions$"):
        go_on(other_lesions=None)
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    go_on()
    assert torch.load(run / "last.ckpt", weights_only=True)["epoch"] == 1


def test_a_pre_training_is_not_resumed_by_another_hold_out(small_busi: Path, tmp_path: Path) -> None:
    sets = write_pretraining_sets(tmp_path / "sets", videos=10)
    start = replace(options(small_busi, tmp_path / "run", workers=0, epochs=1), data=sets)
    pretrain(start)
    with pytest.raises(DataError, match=r"differs in seed \(0, not 1\), training images, val images$"):
        pretrain(replace(start, resume=True, seed=1, epochs=2))
    assert pretrain(replace(start, resume=True, epochs=2)).epochs == 2


def test_a_checkpoint_from_before_seed_and_images_were_kept_is_resumed(small_busi: Path, tmp_path: Path) -> None:
    result = train(options(small_busi, tmp_path / "run", workers=0, epochs=1))
    content = torch.load(result.last, weights_only=True)
    del content["hyper_parameters"]["seed"], content["hyper_parameters"]["images"]
    torch.save(content, result.last)
    again = options(small_busi, tmp_path / "run", workers=0, epochs=2, seed=1, resume=True)
    assert train(again).epochs == 2
    with pytest.raises(DataError, match=r"differs in seed \(1, not 0\)"):
        train(replace(again, seed=0))


def command(busi: Path, output: Path, *arguments: str) -> list[str]:
    recipe = ("--recipe", str(busi.parent / "recipe.toml"), "--precision", "32-true", "--accelerator", "cpu")
    start = (sys.executable, "-m", "bcseg_edge", "train", "--data", str(busi), "--output", str(output))
    return [*start, *recipe, "--workers", "0", *arguments]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expect"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(small_busi: Path, tmp_path: Path, number: int, expect: int) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        command(small_busi, run, "--epochs", "500"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (run / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == expect, error
    assert "Traceback" not in error
    assert "--resume" in error
    assert torch.load(run / "last.ckpt", weights_only=True)["epoch"] >= 0


@pytest.mark.slow
def test_two_processes_validate_every_frame_once_and_say_so_once(small_busi: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = [f"{folder} ({number}).png" for folder in ("benign", "malignant") for number in range(8)]
    parts = ["val" if name in names[::3][:5] else "train" for name in names]
    rows = [f"{name},{part}" for name, part in zip(names, parts, strict=True)]
    (small_busi / "busi_split.csv").write_text("\n".join(["image,split", *rows]) + "\n")
    assert parts.count("val") == 5, "an odd number, which two processes cannot share evenly"
    arguments = ("--devices", "2", "--strategy", "ddp", "--epochs", "1", "--json")
    done = subprocess.run(command(small_busi, run, *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 1, "one line, of one process"
    assert "Tip" not in done.stderr
    evaluation = evaluate(EvaluateOptions(run / "last.ckpt", small_busi))
    figures = evaluation.scores.whole_images
    assert len(evaluation.images) == 5
    assert column(run, "val_mean_iou")[-1] == pytest.approx(figures.mean_iou, abs=1e-5)
    assert column(run, "val_mean_dice")[-1] == pytest.approx(figures.mean_dice, abs=1e-5)


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpoints().save_checkpoint({"epoch": 2, "unpicklable": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_pretraining_then_training_with_other_lesions_starts_from_the_pretrained_weights(
    small_busi: Path, tmp_path: Path
) -> None:
    sets = write_pretraining_sets(tmp_path / "sets", videos=10)
    pretrained = pretrain(options(sets, tmp_path / "pretrain", epochs=1))
    recipe = small_busi.parent / "mixed.toml"
    recipe.write_text(RECIPE.replace("[loss]", "other_lesions = 0.25\n[loss]").replace("epochs = 3", "epochs = 1"))
    mixed = options(small_busi, tmp_path / "run", recipe=str(recipe), other_lesions=sets, pretrained=pretrained.last)
    result = train(mixed)
    network, _ = load_checkpoint(result.best)
    assert network.class_head is not None
    assert float(network.temperature) != 1  # calibrated on val at the end

    start = SegmentationNet(find_spec("edge"))
    load_pretrained(start, pretrained.last)
    stored = torch.load(pretrained.last, weights_only=True)["state_dict"]
    for name, value in start.state_dict().items():
        if name.startswith(("unet.encoder.", "unet.decoder.")):
            assert torch.equal(value, stored[f"model.{name}"]), name
    again = SegmentationNet(find_spec("edge"))
    load_pretrained(again, result.best)  # a run of the same task: the heads too
    assert float(again.temperature) == 1
    trained = torch.load(result.best, weights_only=True)["state_dict"]
    assert torch.equal(again.class_head.local[0].weight, trained["model.class_head.local.0.weight"])


def test_other_lesions_without_a_place_in_the_recipe_are_refused(small_busi: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mixes in no images"):
        train(options(small_busi, tmp_path / "run", other_lesions=tmp_path))
