"""Evaluation: right figures from a model whose answers are known, and every wrong use named."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import DataError, ModelError
from bcseg_edge.passport import Accuracy, Tiling, read_passport
from bcseg_train.evaluate import EvaluateOptions, evaluate, select_images
from bcseg_train.report import PAPER_IOU_PERCENT
from tests.fixtures.checkpoints import write_checkpoint
from tests.fixtures.grey_busi import write_grey_busi, write_split
from tests.fixtures.tiny_model import write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return write_model(tmp_path / "model", (64, 64))


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    return write_grey_busi(tmp_path / "busi")


@pytest.mark.parametrize("tiling", ["paper", "overlap"])
def test_a_model_that_is_right_scores_one(model: Path, busi: Path, tiling: Tiling) -> None:
    evaluation = evaluate(EvaluateOptions(model, busi, tiling=tiling, backend="onnxruntime"))
    scores = evaluation.scores
    for pool in (scores.whole_images, scores.lesion_patches, scores.mean_over_images):
        assert {*pool.iou, *pool.dice, pool.pixel_accuracy, pool.lesion_iou, pool.lesion_dice} == {1.0}
    assert scores.lesion_sensitivity == scores.class_sensitivity == 1
    assert scores.false_lesions_per_image == scores.class_false_per_image == 0
    assert (scores.hausdorff95_px, scores.hausdorff95_images) == (0, 6)
    assert scores.images_by_class == ((3, 0, 0), (0, 3, 0), (0, 0, 3))
    assert (evaluation.tiling, evaluation.backend) == (tiling, "onnxruntime")


def test_scaled_frames_lose_only_the_edges(model: Path, busi: Path) -> None:
    scores = evaluate(EvaluateOptions(model, busi, tiling="frame")).scores
    assert 0.9 < scores.whole_images.lesion_iou < 1
    assert scores.lesion_sensitivity == 1
    assert scores.images_by_class == ((3, 0, 0), (0, 3, 0), (0, 0, 3))
    assert 0 < scores.hausdorff95_px < 3


def test_a_missed_lesion_costs_what_it_should(model: Path, busi: Path) -> None:
    image = cv2.imread(str(busi / "benign" / "benign (1).png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(busi / "benign" / "benign (1).png"), np.full_like(image, 40))
    scores = evaluate(EvaluateOptions(model, busi)).scores
    # Rectangles of 30 x 21, 22 and 23 px, and the first is not seen.
    assert scores.whole_images.iou[1] == pytest.approx((22 + 23) / (21 + 22 + 23))
    assert scores.mean_over_images.iou[1] == pytest.approx(2 / 3)
    assert scores.lesion_sensitivity == pytest.approx(5 / 6)
    assert scores.hausdorff95_images == 5
    assert scores.images_by_class[1] == (1, 2, 0)
    low, high = scores.lesion_iou_interval
    assert low < scores.whole_images.lesion_iou < high <= 1


def test_report_can_be_read_back(model: Path, busi: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    evaluation = evaluate(EvaluateOptions(model, busi, report=folder))
    report = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["pixels"]["whole_images"]["iou"]["malignant"] == 1
    assert report["images"] == 9
    assert Accuracy.model_validate(report["accuracy"]) == evaluation.accuracy()
    markdown = (folder / "report.md").read_text()
    for column in PAPER_IOU_PERCENT.values():
        assert all(f"{value:.2f}" in markdown for value in column)
    assert "does not say how it pooled" in markdown
    rows = list(csv.DictReader((folder / "images.csv").open()))
    assert [row["image"] for row in rows] == [image.name for image in evaluation.images]
    pictures = sorted(path.name for path in folder.glob("*.png"))
    *numbered, last = pictures
    assert [name.split("_")[1] for name in numbered] == ["02", "05", "10", "11", "13"]
    assert last == "reliability.png"
    assert all(f"({name})" in markdown for name in pictures)


def test_figures_that_do_not_exist_are_null_not_nan(model: Path, tmp_path: Path) -> None:
    busi = write_grey_busi(tmp_path / "only_normal", classes=("normal",))
    evaluation = evaluate(EvaluateOptions(model, busi, report=tmp_path / "report"))
    report = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert report["hausdorff95_px"] == {"mean": None, "images": 0}
    assert "lesion_iou" not in evaluation.accuracy().figures
    assert not re.search(r"\bnan\b", (tmp_path / "report" / "report.md").read_text())


def test_default_split_is_val_of_the_file_beside_the_folder(busi: Path) -> None:
    write_split(busi.parent / "busi_split.csv", {"benign (1).png": "train", "benign (2).png": "val"})
    selection = select_images(busi)
    assert [sample.name for sample in selection.samples] == ["benign (2).png"]
    assert selection.data == "busi busi_split.csv:val"
    assert not selection.notes


def test_without_a_split_file_every_image_counts_and_the_report_says_so(busi: Path) -> None:
    selection = select_images(busi)
    assert len(selection.samples) == 9
    assert "trained on" in selection.notes[0]
    assert not select_images(busi, "all").notes


def test_images_outside_the_split_are_ignored_and_a_class_may_be_missing(tmp_path: Path) -> None:
    busi = write_grey_busi(tmp_path / "other scanner", classes=("benign", "malignant"))
    split = write_split(tmp_path / "mine.csv", {"malignant (3).png": "test", "benign (1).png": "test"})
    names = {sample.name for sample in select_images(busi, f"{split}:test").samples}
    assert names == {"malignant (3).png", "benign (1).png"}


def test_missing_images_of_the_split_are_listed(busi: Path, tmp_path: Path) -> None:
    split = write_split(tmp_path / "mine.csv", {f"benign ({n}).png": "test" for n in (1, 7, 8)})
    with pytest.raises(DataError) as caught:
        select_images(busi, f"{split}:test")
    assert "benign (7).png" in caught.value.message
    assert "benign (8).png" in caught.value.message
    assert "benign (1).png" not in caught.value.message


@pytest.mark.parametrize("split", ["busi_split.csv", "busi_split.csv:", ":val", "val"])
def test_a_split_that_is_not_file_and_name_is_refused(busi: Path, split: str) -> None:
    with pytest.raises(DataError, match="is not FILE:NAME") as caught:
        select_images(busi, split)
    assert "busi_split.csv:val" in caught.value.hint


def test_unknown_split_names_the_known_ones(busi: Path, tmp_path: Path) -> None:
    split = write_split(tmp_path / "mine.csv", {"benign (1).png": "test"})
    with pytest.raises(DataError) as caught:
        select_images(busi, f"{split}:valid")
    assert "test" in caught.value.hint


def test_missing_split_file(busi: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv"):
        select_images(busi, f"{tmp_path / 'none.csv'}:val")


def test_at_most_so_many_images_of_every_class(busi: Path) -> None:
    selection = select_images(busi, "all", max_images=3)
    assert [sample.label for sample in selection.samples] == [1, 2, 0]
    assert "3 of the 9" in selection.notes[0]
    assert len(select_images(busi, "all", max_images=99).samples) == 9


def test_no_images_at_all_is_refused(model: Path, busi: Path) -> None:
    with pytest.raises(DataError, match="max-images 0"):
        evaluate(EvaluateOptions(model, busi, max_images=0))


def test_progress_counts_to_the_end(model: Path, busi: Path) -> None:
    calls: list[tuple[int, int]] = []
    evaluate(EvaluateOptions(model, busi, progress=lambda done, total: calls.append((done, total))))
    assert calls == [(done, 9) for done in range(1, 10)]


def test_recorded_figures_are_in_the_passport(model: Path, busi: Path) -> None:
    assert read_passport(model).accuracy == "not measured"
    evaluation = evaluate(EvaluateOptions(model, busi, record=True))
    recorded = read_passport(model).accuracy
    assert recorded == evaluation.accuracy()
    assert isinstance(recorded, Accuracy)
    assert recorded.figures["mean_iou"] == 1
    assert recorded.images == 9


def test_figures_of_a_few_images_are_not_recorded(model: Path, busi: Path) -> None:
    before = read_passport(model)
    with pytest.raises(DataError, match="a few images"):
        evaluate(EvaluateOptions(model, busi, record=True, max_images=3))
    assert read_passport(model) == before


def test_figures_cannot_be_recorded_in_a_checkpoint(tmp_path: Path, busi: Path) -> None:
    with pytest.raises(DataError) as caught:
        evaluate(EvaluateOptions(tmp_path / "best.ckpt", busi, record=True))
    assert "export" in caught.value.hint


def test_unwritable_report_is_named(model: Path, busi: Path, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"report"):
        evaluate(EvaluateOptions(model, busi, report=tmp_path / "report"))


def test_missing_model(busi: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx"):
        evaluate(EvaluateOptions(tmp_path / "none.onnx", busi))
    with pytest.raises(DataError, match=r"none\.ckpt"):
        evaluate(EvaluateOptions(tmp_path / "none.ckpt", busi))


def test_a_checkpoint_is_scored_by_the_same_code(tmp_path: Path, busi: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", tiling="frame")
    evaluation = evaluate(EvaluateOptions(checkpoint, busi, max_images=3))
    assert (evaluation.backend, evaluation.tiling, evaluation.model) == ("torch", "frame", "best.ckpt")
    assert np.isfinite(evaluation.scores.whole_images.mean_iou)
    assert evaluation.scores.network_ms_median > 0


def test_an_unwritable_report_is_refused_before_the_work(model: Path, busi: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done: list[int] = []
    with pytest.raises(DataError):
        evaluate(EvaluateOptions(model, busi, report=tmp_path / "file", progress=lambda n, _: done.append(n)))
    assert not done
