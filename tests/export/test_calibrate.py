"""Calibration frames: none that a gate on another split of the same file would refuse."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from bcseg_export.calibrate import choose_from
from bcseg_export.gate import refuse_overlap
from bcseg_export.parity.frames import collect_frames
from tests.fixtures.grey_busi import write_split
from tests.fixtures.speckle import speckle

TRAINING = 20
TWIN = 3  # of the training images: val holds it too, cropped


def test_twins_of_another_split_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "busi" / "benign"
    folder.mkdir(parents=True)
    images = [speckle((80, 110), seed) for seed in range(TRAINING)]
    images += [images[TWIN][3:, :-4], speckle((80, 110), 100)]
    names = [f"benign ({number}).png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), image)
        cv2.imwrite(str(folder / name.replace(".png", "_mask.png")), np.full_like(image, 255))
    splits = {name: "train" if number < TRAINING else "val" for number, name in enumerate(names)}
    write_split(tmp_path / "busi_split.csv", splits)
    chosen = choose_from(str(tmp_path / "busi"), (64, 96), "frame")
    assert set(chosen.sources) == set(names[:TRAINING]) - {names[TWIN]}
    refuse_overlap(collect_frames(tmp_path / "busi"), chosen)
