"""Figures: the right images in them, and files that hold a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bcseg_train.busi import Sample, read_busi
from bcseg_train.charts import draw_bars, draw_curves, draw_reliability, read_metrics
from bcseg_train.figures import choose_predictions, choose_resolutions, choose_samples, draw_padding
from bcseg_train.palette import CLASS_COLOURS, LINE_COLOURS
from bcseg_train.scores import ImageResult, measure_image, score
from tests.fixtures.grey_busi import write_grey_busi
from tests.fixtures.segmentations import segmented

# Lightning's CSV log: one line after training, one after validation of each epoch.
LOG = """epoch,step,train_loss,val_iou_benign,val_loss,val_mean_iou
0,9,,0.2,1.1,0.3
0,9,1.2,,,
1,19,,0.4,0.9,0.5
1,19,0.8,,,
"""


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return read_busi(write_grey_busi(tmp_path / "busi", images=5))


@pytest.fixture
def pairs(samples: list[Sample]) -> list[tuple[ImageResult, Sample]]:
    """The n-th image of a class is missed by n columns."""
    pairs = []
    for number, sample in enumerate(samples):
        _, truth = sample.load()
        predicted = np.roll(truth, number % 5, axis=1)
        pairs.append((measure_image(sample.name, sample.label, truth, segmented(predicted)), sample))
    return pairs


def test_predictions_show_best_median_and_worst_of_each_class(pairs: list[tuple[ImageResult, Sample]]) -> None:
    titles = {item.title: item.sample.name for item in choose_predictions(pairs)}
    assert titles == {
        "best benign": "benign (1).png",
        "median benign": "benign (3).png",
        "worst benign": "benign (5).png",
        "best malignant": "malignant (1).png",
        "median malignant": "malignant (3).png",
        "worst malignant": "malignant (5).png",
        "worst normal": "normal (1).png",
    }


def test_few_images_are_shown_once(pairs: list[tuple[ImageResult, Sample]]) -> None:
    one_of_each = [pairs[0], pairs[5]]
    assert len(choose_predictions(one_of_each)) == 2
    assert len(choose_samples(one_of_each)) == 2
    assert len(choose_resolutions(one_of_each)) == 2


def test_resolutions_go_from_smallest_to_largest(pairs: list[tuple[ImageResult, Sample]]) -> None:
    areas = [item.result.hw[0] * item.result.hw[1] for item in choose_resolutions(pairs)]
    every = [result.hw[0] * result.hw[1] for result, _ in pairs]
    assert areas == sorted(areas)
    assert (areas[0], areas[-1]) == (min(every), max(every))


def test_samples_show_every_class(pairs: list[tuple[ImageResult, Sample]]) -> None:
    assert [item.title for item in choose_samples(pairs)] == ["normal"] * 3 + ["benign"] * 3 + ["malignant"] * 3


def test_padding_is_drawn(samples: list[Sample], tmp_path: Path) -> None:
    assert_picture(draw_padding(samples[0], tmp_path / "padding.png"))


def test_bars_survive_figures_that_do_not_exist(tmp_path: Path) -> None:
    empty = np.zeros((40, 40), np.uint8)
    scores = score([measure_image("normal", 0, empty, segmented(empty))])
    assert_picture(draw_bars(scores, tmp_path))
    assert_picture(draw_reliability(scores, tmp_path))


def test_log_is_read_by_epoch(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(LOG)
    series = {line.name: (line.epochs, line.values) for line in read_metrics(tmp_path / "metrics.csv")}
    assert series["train_loss"] == ((0, 1), (1.2, 0.8))
    assert series["val_mean_iou"] == ((0, 1), (0.3, 0.5))
    assert "step" not in series


@pytest.mark.parametrize("checkpoint", ["best.ckpt", "checkpoints/epoch=1.ckpt"])
def test_curves_are_drawn_from_the_run_folder(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "metrics.csv").write_text(LOG)
    (drawn,) = draw_curves(tmp_path / checkpoint, tmp_path / "report")
    assert_picture(drawn)


@pytest.mark.parametrize("log", [None, "", LOG.split("1,19")[0]], ids=["no log", "empty log", "one epoch"])
def test_no_curves_without_two_epochs(tmp_path: Path, log: str | None) -> None:
    if log is not None:
        (tmp_path / "metrics.csv").write_text(log)
    assert draw_curves(tmp_path / "best.ckpt", tmp_path) == []


def test_colours_of_classes_and_lines_are_all_different() -> None:
    colours = [colour.lower() for colour in (*CLASS_COLOURS, *LINE_COLOURS)]
    assert len(set(colours)) == len(colours)


def assert_picture(path: Path) -> None:
    """The file holds a picture with more than one colour."""
    image = cv2.imread(str(path))
    assert image is not None
    assert min(image.shape[:2]) > 200
    assert np.ptp(image) > 100
