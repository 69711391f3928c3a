"""The pre-training sets: found by their index, split by video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import DataError
from bcseg_train.pretraining_sets import SETS, hold_out, lesions_elsewhere, read_pretraining_sets
from tests.fixtures.pretraining import write_pretraining_sets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pretraining_sets(tmp_path / "sets", videos=12, frames=2)


def test_images_come_with_their_masks_and_the_value_of_their_set(folder: Path) -> None:
    images = read_pretraining_sets(folder)
    assert len(images) == len(SETS) * 24
    for image in images:
        frame, labels = image.load()
        assert frame.shape == labels.shape
        assert set(np.unique(labels)) == {0, image.value}
        assert SETS[image.value - 1] == image.source


def test_frames_of_one_video_stay_together(folder: Path) -> None:
    images = read_pretraining_sets(folder)
    for seed in range(4):
        training, validation = hold_out(images, seed)
        assert len(training) + len(validation) == len(images)
        assert not {image.group for image in training} & {image.group for image in validation}
    assert len({image.group for image in images}) == len(SETS) * 12
    assert hold_out(images, 0) == hold_out(images, 0)


def test_lesions_elsewhere_are_the_nodules_split_alike(folder: Path) -> None:
    training, validation = lesions_elsewhere(folder, 1)
    all_training, all_validation = hold_out(read_pretraining_sets(folder), 1)
    assert training == [image for image in all_training if image.source == "ddti"]
    assert validation == [image for image in all_validation if image.source == "ddti"]


def test_a_folder_without_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"index\.csv"):
        read_pretraining_sets(tmp_path)


@pytest.mark.parametrize("text", ["set,has_mask\nddti,1\n", "set,has_mask,file\nddti,1\n"])
def test_an_index_without_files_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DataError, match=r"no usable index\.csv"):
        read_pretraining_sets(tmp_path)


def test_an_index_without_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("set,file,organ,has_mask\nddti,ddti/images/a.jpg,thyroid,0\n")
    with pytest.raises(DataError, match="no image with a mask"):
        read_pretraining_sets(tmp_path)


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    image = read_pretraining_sets(folder)[0]
    cv2.imwrite(str(image.mask_path), np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match="one pair"):
        image.load()
