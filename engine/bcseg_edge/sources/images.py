"""Image files, one after the other."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import Frame, UInt8Array

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)  # BUSI: `benign (1)_mask.png`, `benign (98)_mask_1.png`


class ImageSource:
    """Still images in the order given.

    A single image that cannot be read is an error at once. Among several, an unreadable one is skipped and listed in
    `problems`: one damaged file must not cost the results of the other hundreds, and `run` still exits with 2 at
    the end, so that no script takes the results for complete.

    Args:
        paths: image files, at least one.
        description: for people.

    Raises:
        SourceError: the only image cannot be read.
    """

    def __init__(self, paths: Sequence[Path], description: str) -> None:
        self.paths = list(paths)
        self.description = description
        self.frame_hz: float | None = None
        self.count: int | None = len(self.paths)
        self.problems: list[str] = []
        self._names = _unique_names(self.paths)
        if len(self.paths) == 1:
            read_image(self.paths[0])

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        index = 0
        for path, name in zip(self.paths, self._names, strict=True):
            try:
                image = read_image(path)
            except SourceError as error:
                if len(self.paths) == 1:
                    raise
                self.problems.append(f"skipped: {error.message}")
                continue
            yield Frame(image, index, time.monotonic_ns(), name=name)
            index += 1

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_image(path: Path) -> UInt8Array:
    """Read an image as uint8 `[H, W]` or, with colour, `[H, W, 3]` BGR. Transparent parts become black.

    Raises:
        SourceError: missing, empty, not an image, or of more than 8 bits per channel (how to map those to
            grey depends on the device; guessing would change what the model sees).
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    if data.size == 0:
        raise SourceError(f"{path} is empty (0 bytes)", "export or download it again")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # more pixels than OpenCV decodes
        raise SourceError(f"{path} cannot be decoded: {error.err}", "export it again as 8-bit PNG") from error
    if image is None:
        raise SourceError(f"{path} is not an image, or damaged", "export or download it again")
    if image.dtype != np.uint8:
        raise SourceError(f"{path} has {image.dtype} pixels; 8 bits are expected", "export it as 8-bit PNG or JPEG")
    return _without_alpha(np.asarray(image, np.uint8))


def find_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order, without BUSI's masks; subfolders are not entered.

    Raises:
        SourceError: the folder holds none, or cannot be listed.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"cannot list {folder}: {error.strerror}", "check its permissions") from error
    images = _choose(entries)
    if not images:
        inner = sorted((entry.name for entry in entries if entry.is_dir()), key=natural_key)
        raise SourceError(
            f"no image in {folder} ({', '.join(IMAGE_SUFFIXES)})",
            f"name one of its folders: {', '.join(inner[:5])}" if inner else "name a folder that holds images",
        )
    return images


def glob_images(pattern: str) -> list[Path]:
    """The images that match a glob (`**` enters subfolders), in natural order, without BUSI's masks.

    Raises:
        SourceError: no image matches.
    """
    images = _choose([Path(match) for match in glob.glob(pattern, recursive=True)])
    if not images:
        raise SourceError(f"no image matches {pattern!r}", "put the glob in quotes and check the folder")
    return images


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _choose(paths: Sequence[Path]) -> list[Path]:
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted((path for path in images if not _is_mask(path)), key=lambda path: natural_key(str(path)))


def _is_mask(path: Path) -> bool:
    """Whether this is the mask of an image that lies beside it."""
    stem = _MASK.sub("", path.stem)
    return stem != path.stem and any(
        path.with_name(stem + suffix).is_file() for suffix in {path.suffix, *IMAGE_SUFFIXES}
    )


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Output names: stems; where two are equal (in any letter case), longer ones for all."""

    def dotless(path: Path) -> str:
        return "_".join(path.parts[-2:]).replace(".", "_")

    schemes: tuple[Callable[[Path], str], ...] = (
        lambda path: path.stem,
        lambda path: path.name.replace(".", "_"),
        dotless,
    )
    for scheme in schemes:
        names = [scheme(path) for path in paths]
        if len({name.casefold() for name in names}) == len(names):
            return names
    return [f"{index:06d}_{path.stem}" for index, path in enumerate(paths)]


def _without_alpha(image: UInt8Array) -> UInt8Array:
    """`[H, W]`, `[H, W, 1|3|4]` -> `[H, W]` or `[H, W, 3]`."""
    if image.ndim == 2 or image.shape[2] == 3:
        return image
    if image.shape[2] != 4:
        return np.ascontiguousarray(image[..., 0])
    alpha = image[..., 3:]
    colour = np.ascontiguousarray(image[..., :3])
    if alpha.min() == 255:
        return colour
    return (colour * (alpha / np.float32(255)) + np.float32(0.5)).astype(np.uint8)
