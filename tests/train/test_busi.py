"""The BUSI reader: what people download is read, what is broken is named before any training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import DataError
from bcseg_train.busi import read_busi


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    """Two images a class, 40x30 px; the lesion is a rectangle."""
    for folder in ("benign", "malignant", "normal"):
        (tmp_path / folder).mkdir()
        for number in (1, 2):
            image = np.full((30, 40), 90 + number, np.uint8)
            mask = np.zeros((30, 40), np.uint8)
            if folder != "normal":
                mask[5:15, 10:20] = 255
            cv2.imwrite(str(tmp_path / folder / f"{folder} ({number}).png"), image)
            cv2.imwrite(str(tmp_path / folder / f"{folder} ({number})_mask.png"), mask)
    return tmp_path


def test_lesion_pixels_get_the_class_of_their_folder(busi: Path) -> None:
    samples = read_busi(busi)
    assert [sample.name for sample in samples][:3] == ["benign (1).png", "benign (2).png", "malignant (1).png"]
    expected = {"benign": 1, "malignant": 2, "normal": 0}
    for sample in samples:
        _, labels = sample.load()
        assert labels[10, 15] == expected[sample.name.split()[0]]
        assert labels[0, 0] == 0


def test_several_masks_are_merged(busi: Path) -> None:
    second = np.zeros((30, 40), np.uint8)
    second[20:25, 30:35] = 1  # 1-bit masks are read as 0 and 1 by some tools
    cv2.imwrite(str(busi / "benign" / "benign (1)_mask_1.png"), second)
    _, labels = read_busi(busi)[0].load()
    assert labels[22, 32] == 1
    assert labels[10, 15] == 1
    assert labels.sum() == 100 + 25


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_images_and_masks_are_read_as_grey(busi: Path, channels: int) -> None:
    image = np.full((30, 40, channels), 120, np.uint8)
    mask = np.zeros((30, 40, channels), np.uint8)
    mask[5:15, 10:20, :3] = 255
    if channels == 4:
        mask[..., 3] = 255
    cv2.imwrite(str(busi / "benign" / "benign (1).png"), image)
    cv2.imwrite(str(busi / "benign" / "benign (1)_mask.png"), mask)
    grey, labels = read_busi(busi)[0].load()
    assert grey.shape == (30, 40)
    assert grey[0, 0] == 120
    assert labels.sum() == 100


def test_letter_case_and_the_archives_own_folder(busi: Path) -> None:
    archive = busi / "Dataset_BUSI_with_GT"
    archive.mkdir()
    for folder in ("benign", "malignant", "normal"):
        (busi / folder).rename(archive / folder.upper())
    (archive / "BENIGN" / "benign (1).png").rename(archive / "BENIGN" / "Benign (1).PNG")
    (archive / "BENIGN" / "benign (1)_mask.png").rename(archive / "BENIGN" / "Benign (1)_Mask.PNG")
    samples = read_busi(busi)
    assert len(samples) == 6
    assert samples[0].name == "benign (1).png"


def test_every_problem_is_listed_in_one_error(busi: Path) -> None:
    (busi / "benign" / "benign (1)_mask.png").unlink()
    (busi / "malignant" / "malignant (1).png").write_bytes(b"")
    (busi / "malignant" / "malignant (2).png").write_text("not an image")
    cv2.imwrite(str(busi / "benign" / "benign (2)_mask.png"), np.zeros((31, 40), np.uint8))
    (busi / "other").mkdir()
    (busi / "malignant" / "malignant (9)_mask_1.png").write_bytes(b"x")
    for path in (busi / "normal").iterdir():
        path.unlink()
    with pytest.raises(DataError) as caught:
        read_busi(busi)
    message = caught.value.message
    assert "7 problems" in message
    for part in (
        "benign (1).png: mask is missing",
        "benign (2)_mask.png: mask is 40x31 px, its image is 40x30 px",
        "malignant (1).png: not a readable image (0 bytes)",
        "malignant (2).png: not a readable image",
        "other: unknown folder",
        "normal: no images",
        "malignant (9)_mask_1.png: mask without its image",
    ):
        assert part in message


def test_a_missing_class_is_refused_for_training_only(busi: Path) -> None:
    for path in (busi / "normal").iterdir():
        path.unlink()
    (busi / "normal").rmdir()
    with pytest.raises(DataError, match="folder is missing"):
        read_busi(busi)
    assert len(read_busi(busi, require_all_classes=False)) == 4


@pytest.mark.parametrize("make", [lambda path: path / "nowhere", lambda path: path])
def test_a_folder_that_is_not_busi(tmp_path: Path, make) -> None:
    with pytest.raises(DataError) as caught:
        read_busi(make(tmp_path))
    assert "benign, malignant" in caught.value.message + caught.value.hint


@pytest.mark.data
def test_the_real_folder(busi_dir: Path) -> None:
    samples = read_busi(busi_dir)
    assert len(samples) == 702
    assert sum(len(sample.mask_paths) > 1 for sample in samples) > 5
    assert {sample.label for sample in samples} == {0, 1, 2}


def test_names_that_differ_in_letter_case_only_are_refused(busi: Path) -> None:
    (busi / "benign" / "BENIGN (1).PNG").write_bytes((busi / "benign" / "benign (1).png").read_bytes())
    with pytest.raises(DataError, match="same name as"):
        read_busi(busi)
