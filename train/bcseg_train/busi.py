"""BUSI as people download it: one folder a class, an image with one or several masks beside it.

Al-Dhabyani, Gomaa, Khaled, Fahmy: Dataset of breast ultrasound images. Data in Brief 28, 2020.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array

FOLDERS = ("normal", "benign", "malignant")  # position: the value of the folder's mask pixels
ARCHIVE_FOLDERS = ("busi", "dataset_busi_with_gt")  # what the archive unpacks to, in lower case
IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")
MASK_STEM = re.compile(r"^(?P<image>.+?)_mask(_\d+)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One BUSI image and its masks.

    Attributes:
        name: file name as in `busi_split.csv`, in the archive's own case: `benign (1).png`.
        label: 0 normal, 1 benign, 2 malignant: the class its mask pixels get.
        image_path: the image.
        mask_paths: one or more masks, merged by maximum; may be empty for a normal image.
    """

    name: str
    label: int
    image_path: Path
    mask_paths: tuple[Path, ...]

    def load(self) -> tuple[UInt8Array, UInt8Array]:
        """Read the image and its truth.

        Returns:
            Grey image uint8 `[H, W]` and labels uint8 `[H, W]` (0 background, 1 benign, 2 malignant).

        Raises:
            DataError: a file cannot be decoded or a mask's size is not the image's.
        """
        image = _read_grey(self.image_path)
        lesion = np.zeros(image.shape, bool)
        for path in self.mask_paths:
            mask = _read_grey(path)
            if mask.shape != image.shape:
                raise DataError(f"{path}: mask is {_size(mask)}, its image is {_size(image)}", _DOWNLOAD_HINT)
            lesion |= mask > mask.max() // 2  # 0 and 255, 0 and 1, and what JPEG makes of them
        return image, lesion.astype(np.uint8) * np.uint8(self.label)


_DOWNLOAD_HINT = (
    "restore these files from BUSI's archive: folders benign, malignant, normal with NAME.png, NAME_mask.png"
)


def read_busi(data: Path, *, require_all_classes: bool = True) -> list[Sample]:
    """List the images of a BUSI folder, sorted by class and number, after checking every file.

    Args:
        data: the folder that holds `benign`, `malignant` and `normal` (any letter case), or one that
            holds such a folder under the archive's name.
        require_all_classes: refuse a folder where a class is missing. A held-out set may lack one.

    Raises:
        DataError: one error that lists every missing mask, mask without its image, size mismatch, unreadable file,
            empty class and unknown folder.
    """
    root = _class_root(data)
    problems = []
    samples = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folder.name.lower() not in FOLDERS:
            problems.append(f"{folder}: unknown folder, expected one of {', '.join(FOLDERS)}")
            continue
        found, orphans = _read_class(folder, FOLDERS.index(folder.name.lower()))
        samples += found
        problems += orphans if found else [f"{folder}: no images", *orphans]
    if require_all_classes:
        present = {path.name.lower() for path in root.iterdir() if path.is_dir()}
        problems += [f"{root / name}: folder is missing" for name in FOLDERS if name not in present]
    problems += [problem for sample in samples for problem in _check(sample)]
    first_of: dict[str, Sample] = {}
    for sample in samples:
        first = first_of.setdefault(sample.name, sample)
        if first is not sample:
            problems.append(f"{sample.image_path}: same name as {first.image_path} but for letter case or folder")
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise DataError("\n  ".join([f"BUSI at {root}: {count}:", *problems]), _DOWNLOAD_HINT)
    return samples


def _class_root(data: Path) -> Path:
    if not data.is_dir():
        raise DataError(f"no folder at {data}", "--data takes the folder with benign, malignant and normal in it")
    folders = {path.name.lower(): path for path in data.iterdir() if path.is_dir()}
    if not folders.keys() & set(FOLDERS):
        for name in ARCHIVE_FOLDERS:
            if name in folders:
                return folders[name]
        raise DataError(
            f"{data} has none of the folders {', '.join(FOLDERS)}",
            "--data takes the folder with benign, malignant and normal in it",
        )
    return data


def _read_class(folder: Path, label: int) -> tuple[list[Sample], list[str]]:
    """Samples of a folder, and its masks that belong to no image, in words."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    masks: dict[str, list[Path]] = {}
    images = []
    for path in files:
        match = MASK_STEM.match(path.stem)
        if match:
            masks.setdefault(match["image"].lower(), []).append(path)
        else:
            images.append(path)
    samples = [
        Sample(path.name.lower(), label, path, tuple(sorted(masks.get(path.stem.lower(), ()))))
        for path in sorted(images, key=_natural_key)
    ]
    lonely = masks.keys() - {path.stem.lower() for path in images}
    orphans = [f"{path}: mask without its image" for stem in sorted(lonely) for path in sorted(masks[stem])]
    return samples, orphans


def _check(sample: Sample) -> list[str]:
    if not sample.mask_paths and sample.label != 0:
        return [f"{sample.image_path}: mask is missing"]
    try:
        sample.load()
    except DataError as error:
        return [error.message]
    return []


def _read_grey(path: Path) -> UInt8Array:
    """Grey uint8 `[H, W]` from grey, palette, RGB, RGBA, 1-bit or 16-bit files."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", _DOWNLOAD_HINT) from error
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if image is None:
        raise DataError(f"{path}: not a readable image ({data.size} bytes)", _DOWNLOAD_HINT)
    return image  # type: ignore[return-value]


def _size(image: UInt8Array) -> str:
    height, width = image.shape
    return f"{width}x{height} px"


def _natural_key(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name
