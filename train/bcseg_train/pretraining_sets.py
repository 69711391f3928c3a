"""Ultrasound of other organs with masks, for pre-training: `index.csv` names set, file, organ, has_mask.

DDTI, thyroid nodules: Pedraza et al. 2015. HC18, fetal heads: van den Heuvel et al. 2018. USGRA, nerves and vessels.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array
from bcseg_train.thinning import thin

INDEX = "index.csv"
SETS = ("ddti", "usgra", "hc18")  # position + 1: the value of a set's mask pixels
CLASSES = ("background", "thyroid nodule", "nerve or vessel", "fetal head")
MOST_IMAGES = 500  # of one set: 998 fetal heads, easy and alike, would outvote the nodules
HELD_OUT = 0.12  # share of each set's videos kept for validation


@dataclass(frozen=True, slots=True)
class MaskedImage:
    """An image of another organ and its mask.

    Attributes:
        source: name of the set.
        group: frames of one video or patient share it; never split them.
        image_path, mask_path: of equal size.
        value: label of the mask's pixels, 1 to 3.
    """

    source: str
    group: str
    image_path: Path
    mask_path: Path
    value: int

    @property
    def name(self) -> str:
        """Set and file name."""
        return f"{self.source}/{self.image_path.name}"

    @property
    def label(self) -> int:
        """That of its mask's pixels."""
        return self.value

    def load(self) -> tuple[UInt8Array, UInt8Array]:
        """Grey image uint8 `[H, W]`, labels uint8 `[H, W]` of 0 and `value`; DataError where a file cannot be read."""
        image, mask = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in (self.image_path, self.mask_path))
        if image is None or mask is None or image.shape != mask.shape:
            raise DataError(f"{self.image_path} and its mask cannot be read as one pair", "restore both files")
        return np.asarray(image, np.uint8), (mask > 0).astype(np.uint8) * np.uint8(self.value)


def read_pretraining_sets(data: Path) -> list[MaskedImage]:
    """The images with masks of the sets in `SETS`, in the order of the index, at most `MOST_IMAGES` a set, evenly.

    Args:
        data: folder with `index.csv`; a file `SET/images/X.jpg` has its mask at `SET/masks/X.png`.

    Raises:
        DataError: no index, a column of it is missing, or no image of these sets is in it.
    """
    try:
        with (data / INDEX).open(newline="") as stream:
            rows = csv.DictReader(stream)
            found = [(row["set"], Path(row["file"])) for row in rows if row["set"] in SETS and row["has_mask"] == "1"]
    except (OSError, KeyError, TypeError) as error:  # the latter two: no such column, a row that ends before it
        raise DataError(
            f"no usable {INDEX} in {data}", f"it lists set, file, has_mask; sets: {', '.join(SETS)}"
        ) from error
    images = [
        MaskedImage(
            source=source,
            group=f"{source}/{_group(file.stem)}",
            image_path=data / file,
            mask_path=data / source / "masks" / f"{file.stem}.png",
            value=SETS.index(source) + 1,
        )
        for source, file in found
    ]
    if not images:
        raise DataError(f"{data / INDEX} lists no image with a mask", f"sets: {', '.join(SETS)}")
    return [image for name in SETS for image in thin([one for one in images if one.source == name], MOST_IMAGES)]


def hold_out(images: list[MaskedImage], seed: int) -> tuple[list[MaskedImage], list[MaskedImage]]:
    """Training and validation images; `HELD_OUT` of the groups are for validation, drawn by `seed`."""
    groups = sorted({image.group for image in images})
    drawn = np.random.default_rng(seed).random(len(groups)) < HELD_OUT
    held = {group for group, out in zip(groups, drawn, strict=True) if out}
    return [image for image in images if image.group not in held], [image for image in images if image.group in held]


def lesions_elsewhere(data: Path, seed: int) -> tuple[list[MaskedImage], list[MaskedImage]]:
    """The thyroid nodules alone, training and validation as in `hold_out`: a proxy for breasts on other scanners."""
    training, validation = hold_out(read_pretraining_sets(data), seed)
    return [one for one in training if one.source == "ddti"], [one for one in validation if one.source == "ddti"]


def _group(stem: str) -> str:
    """`ddti_106_2` -> `ddti_106`, `tr_010_2HC` -> `tr_010`; a stem of one number is its own group."""
    match = re.match(r"^(.*?\d+)_\d*(HC)?$", stem)
    return match[1] if match else stem
