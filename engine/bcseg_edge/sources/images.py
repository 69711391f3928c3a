"""Image files, one after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import Frame
from bcseg_edge.sources.image_file import open_image

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)  # BUSI: `benign (1)_mask.png`, `benign (98)_mask_1.png`


class ImageSource:
    """Still images in the order given; each page of a TIFF stack or of an animated PNG or WebP is a frame.

    A single image that cannot be read is an error at once. Among several, an unreadable one is skipped and listed in
    `problems`: one damaged file must not cost the results of the other hundreds, and `run` still exits with 2 at
    the end, so that no script takes the results for complete. So are pages that are missing or cannot be read.

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
        # To count the pages of many files would be to read them all.
        self.count: int | None = len(self.paths) if not any(map(_may_have_pages, self.paths)) else None
        self.problems: list[str] = []
        self._names = unique_names(self.paths)
        if len(self.paths) == 1:
            file = open_image(self.paths[0])
            next(iter(file))
            self.count = file.count

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        index = 0
        for path, name in zip(self.paths, self._names, strict=True):
            pages = 0
            try:
                file = open_image(path)
                page_names = name_parts(name, file.count, self._names)
                for image in file:
                    yield Frame(image, index, time.monotonic_ns(), name=page_names[pages])
                    index, pages = index + 1, pages + 1
            except SourceError as error:
                if len(self.paths) == 1 and pages == 0:
                    raise
                self.problems.append(f"{error.message}; pages read: {pages}" if pages else f"skipped: {error.message}")

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts `2.png` before `10.png`."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def name_parts(name: str, count: int, others: Sequence[str]) -> list[str]:
    """Output names of the parts of one of several files: its own where it has one part, else with their numbers.

    Args:
        name: of the file.
        count: of its parts.
        others: the names of all files.
    """
    if count == 1:
        return [name]
    taken = {other.casefold() for other in others}
    parts = [f"{name}_{number:06d}" for number in range(count)]
    while not taken.isdisjoint(part.casefold() for part in parts):
        parts = [f"{part}_" for part in parts]
    return parts


def _may_have_pages(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def choose_images(paths: Sequence[Path]) -> list[Path]:
    """The images among `paths` in natural order, without BUSI's masks."""
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted((path for path in images if not _is_mask(path)), key=lambda path: natural_key(str(path)))


def _is_mask(path: Path) -> bool:
    """Whether this is the mask of an image that lies beside it."""
    stem = _MASK.sub("", path.stem)
    return stem != path.stem and any(
        path.with_name(stem + suffix).is_file() for suffix in {path.suffix, *IMAGE_SUFFIXES}
    )


def unique_names(paths: Sequence[Path]) -> list[str]:
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
