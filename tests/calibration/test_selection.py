"""Choosing calibration patches: classes in balance, no duplicates, the same every time, and poison refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bcseg_calibration.calibration_set import CalibrationSet, check_patches, load, save
from bcseg_calibration.features import correlate, is_blank, is_noise
from bcseg_calibration.selection import CalibrationFrame, choose_patches
from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array
from tests.fixtures.speckle import speckle, thumbnails

WINDOW_HW = (64, 96)


def frames(count: int, seed: int = 0) -> list[CalibrationFrame]:
    """Frames of which every third has a benign and every third a malignant lesion."""
    result = []
    for index in range(count):
        image = speckle((80, 110), seed * 1000 + index)
        truth = np.zeros(image.shape, np.uint8)
        truth[20:40, 30:60] = index % 3
        result.append(CalibrationFrame(f"{index}.png", image, f"{seed}-{index}", truth))
    return result


def same(image: UInt8Array, count: int) -> list[CalibrationFrame]:
    return [CalibrationFrame(f"{index}.png", image, "one") for index in range(count)]


@pytest.fixture(scope="module")
def chosen() -> CalibrationSet:
    return choose_patches(frames(60), WINDOW_HW, "frame", "speckle", count=30)


def test_patches_classes_and_sources(chosen: CalibrationSet) -> None:
    assert chosen.patches.shape[1:] == (1, *WINDOW_HW)
    assert chosen.patches.dtype == np.uint8
    assert len(chosen.patches) == len(chosen.labels) == len(chosen.sources) == len(set(chosen.frame_digests))
    counts = np.bincount(chosen.labels, minlength=3)
    assert counts.max() <= 10
    assert counts.min() >= 7  # of ten clusters two may have the same nearest patch


def test_the_same_every_time(chosen: CalibrationSet) -> None:
    again = choose_patches(frames(60), WINDOW_HW, "frame", "speckle", count=30)
    assert again.digest == chosen.digest


def test_another_choice_has_another_digest(chosen: CalibrationSet) -> None:
    assert choose_patches(frames(60, seed=1), WINDOW_HW, "frame", "speckle", count=30).digest != chosen.digest


def test_duplicates_are_left_out() -> None:
    few = frames(20)
    chosen = choose_patches([*few, *few, *few], WINDOW_HW, "frame", "speckle", count=60)
    assert len(chosen.patches) == 20
    assert (correlate(chosen.patches) > 0.96).sum() == 20


def test_a_class_that_is_rare_leaves_its_share_to_the_others() -> None:
    rare = [frame for index, frame in enumerate(frames(60)) if index % 3 != 2 or index < 6]
    chosen = choose_patches(rare, WINDOW_HW, "frame", "speckle", count=40)
    assert np.bincount(chosen.labels, minlength=3)[2] == 2
    assert len(chosen.patches) > 30


NOISE = np.random.default_rng(0).integers(0, 256, (40, 80, 110), dtype=np.uint8)


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param([CalibrationFrame(f"{i}.png", image, f"{i}") for i, image in enumerate(NOISE)], id="noise"),
        pytest.param(same(np.zeros((80, 110), np.uint8), 40), id="all black"),
        pytest.param(same(speckle((80, 110), 5), 500), id="one image 500 times"),
        pytest.param(frames(8), id="too few"),
        pytest.param([], id="nothing"),
    ],
)
def test_poison_is_refused(poison: list[CalibrationFrame]) -> None:
    with pytest.raises(DataError, match=r"usable|no frame") as caught:
        choose_patches(poison, WINDOW_HW, "frame", "poison")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("patches", "message"),
    [
        (NOISE[:, None], "are noise"),
        (np.zeros((40, 1, 80, 110), np.uint8), "are blank"),
        (np.repeat(speckle((80, 110), 5)[None, None], 500, axis=0), "look like another"),
        (NOISE[:3, None], "3 calibration patches"),
    ],
)
def test_a_poisoned_file_is_refused_too(patches: UInt8Array, message: str, tmp_path: Path) -> None:
    """Whoever writes the file, with a digest that fits."""
    count = len(patches)
    names, labels = ("x",) * count, np.zeros(count, np.uint8)
    poisoned = CalibrationSet(patches, labels, names, names, "frame", "poison", thumbnails(patches))
    save(poisoned, tmp_path / "poison.npz")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "poison.npz")


def test_saved_and_loaded(chosen: CalibrationSet, tmp_path: Path) -> None:
    save(chosen, tmp_path / "set.npz")
    loaded = load(tmp_path / "set.npz")
    assert loaded.digest == chosen.digest
    assert np.array_equal(loaded.labels, chosen.labels)
    assert (loaded.sources, loaded.tiling, loaded.data) == (chosen.sources, "frame", "speckle")


def test_a_changed_file_is_refused(chosen: CalibrationSet, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    save(chosen, path)
    with np.load(path) as content:
        parts = dict(content)
    parts["patches"] = 255 - parts["patches"]
    np.savez(path, **parts)
    with pytest.raises(DataError, match="was changed"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text"])
def test_what_is_no_set_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a calibration set"):
        load(path)
    with pytest.raises(DataError, match="no calibration set at"):
        load(tmp_path / "none.npz")


def test_ultrasound_is_neither_blank_nor_noise() -> None:
    patches = np.stack([speckle(WINDOW_HW, seed) for seed in range(20)])[:, None]
    assert not (is_blank(patches) | is_noise(patches)).any()
    check_patches(patches)


@pytest.mark.data
def test_busi_gives_a_balanced_set(busi_dir: Path) -> None:
    from bcseg_export.calibrate import choose_from

    chosen = choose_from(str(busi_dir), (256, 320), "frame", count=48)
    assert np.bincount(chosen.labels).tolist() == [16, 16, 16]
