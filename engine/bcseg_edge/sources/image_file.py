"""Image files and their pages: the directories of a TIFF file, the frames of an animated PNG or WebP, or one image."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import UInt8Array

# Byte order, whether offsets have 8 bytes (BigTIFF).
_TIFF_STARTS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_NEW_SUBFILE_TYPE, _REDUCED, _SHORT = 254, 1, 3  # a tag, its bit for smaller copies of other pages, a type (TIFF 6.0)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file; iterating decodes its pages one after the other.

    Pages are uint8 `[H, W]` or, with colour, `[H, W, 3]` BGR, each of its own size; transparent parts are black.
    A page that is damaged, or of more than 8 bits, ends the iteration with a SourceError; the end of a file that is cut
    does so too.

    Attributes:
        path: the file.
        count: number of pages.
    """

    path: Path
    count: int
    _data: UInt8Array
    _directories: tuple[int, ...]  # where a TIFF file's pages start, if it has several
    _animation: tuple[UInt8Array, ...]  # frames of an animated file
    _missing: str  # what of the file is not there, empty where all is

    def __iter__(self) -> Iterator[UInt8Array]:
        if self._directories:
            for number, offset in enumerate(self._directories, 1):
                _write_first_directory(self._data, offset)
                yield self._checked(_decode(self.path, self._data), number)
        elif self._animation:
            for number, image in enumerate(self._animation, 1):
                yield self._checked(image, number)
        else:
            yield self._checked(_decode(self.path, self._data), 1)
        if self._missing:
            raise SourceError(f"{self.path} {self._missing}", "export or download it again")

    def _checked(self, image: UInt8Array | None, number: int) -> UInt8Array:
        where = f"{self.path}, page {number}," if self.count > 1 else str(self.path)
        if image is None:
            raise SourceError(f"{where} is not an image, or damaged", "export or download it again")
        if image.dtype != np.uint8:
            raise SourceError(
                f"{where} has {image.dtype} pixels; 8 bits are expected", "export it as 8-bit PNG or JPEG"
            )
        return _without_alpha(np.asarray(image, np.uint8))


def open_image(path: Path) -> ImageFile:
    """Read an image file and find its pages; a TIFF file's smaller copies of other pages are left out.

    Raises:
        SourceError: missing or empty.
    """
    try:
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    if not content:
        raise SourceError(f"{path} is empty (0 bytes)", "export or download it again")
    data = np.frombuffer(content, np.uint8)
    if bytes(content[:4]) in _TIFF_STARTS:
        directories, is_whole = _tiff_directories(content)
        missing = "" if is_whole else f"breaks off after page {len(directories)}; it may be cut"
        several = directories if len(directories) > 1 else ()
        return ImageFile(path, max(1, len(directories)), data, several, (), missing)
    named = _animation_length(content)
    if named > 1:
        frames = _decode_animation(path, data)
        told = f"is an animation of {named} frames, of which OpenCV {cv2.__version__} reads {len(frames)}"
        return ImageFile(path, len(frames), data, (), frames, told if len(frames) < named else "")
    return ImageFile(path, 1, data, (), (), "")


def read_image(path: Path) -> UInt8Array:
    """Read an image, the first page where it has several, as uint8 `[H, W]` or, with colour, `[H, W, 3]` BGR.

    Transparent parts become black.

    Raises:
        SourceError: missing, empty, not an image, or of more than 8 bits per channel (how to map those to
            grey depends on the device; guessing would change what the model sees).
    """
    return next(iter(open_image(path)))


def _decode(path: Path, data: UInt8Array) -> UInt8Array | None:
    """An image of any type; None where it cannot be read."""
    try:
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)  # type: ignore[return-value]
    except cv2.error as error:  # more pixels than OpenCV decodes
        raise SourceError(f"{path} cannot be decoded: {error.err}", "export it again as 8-bit PNG") from error


def _decode_animation(path: Path, data: UInt8Array) -> tuple[UInt8Array, ...]:
    """All frames; the first alone where the rest is damaged, or OpenCV is older than 4.11."""
    try:
        is_read, frames = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        is_read, frames = False, ()
    if is_read and len(frames):
        return tuple(frames)  # type: ignore[arg-type]
    image = _decode(path, data)
    return () if image is None else (image,)


def _animation_length(content: bytearray) -> int:
    """Frames that an animated PNG (its acTL chunk) or WebP (its ANMF chunks) says it has; 0 for other files."""
    if content.startswith(b"\x89PNG"):
        control = content.find(b"acTL", 0, max(content.find(b"IDAT"), 0))
        return 0 if control < 0 else _number(content, ">I", control + 4) or 0
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0
    frames, position = 0, 12
    while (size := _number(content, "<I", position + 4)) is not None:
        frames += content[position : position + 4] == b"ANMF"
        position += 8 + size + size % 2
    return frames


def _tiff_directories(content: bytearray) -> tuple[tuple[int, ...], bool]:
    """Where the pages of a TIFF file start, and whether their chain comes to its end."""
    order, is_big = _TIFF_STARTS[bytes(content[:4])]
    count_format, offset_format, entry_size = (
        (order + "Q", order + "Q", 20) if is_big else (order + "H", order + "I", 12)
    )
    pages: list[int] = []
    seen: set[int] = set()
    position = 8 if is_big else 4
    while offset := _number(content, offset_format, position):
        entries = _number(content, count_format, offset)
        if entries is None or offset in seen:
            return tuple(pages), False
        seen.add(offset)
        first_entry = offset + struct.calcsize(count_format)
        if not pages or not _is_reduced(content, order, first_entry, 12 if is_big else 8):
            pages.append(offset)
        position = first_entry + entries * entry_size
    return tuple(pages), offset == 0


def _is_reduced(content: bytearray, order: str, entry: int, value_at: int) -> bool:
    """Whether a directory is of a smaller copy of another page; the tag that says so is the first where it is there."""
    if _number(content, order + "H", entry) != _NEW_SUBFILE_TYPE:
        return False
    kind = _number(content, order + "H", entry + 2)
    value = _number(content, order + ("H" if kind == _SHORT else "I"), entry + value_at)
    return bool((value or 0) & _REDUCED)


def _write_first_directory(data: UInt8Array, offset: int) -> None:
    """Make the page at `offset` a TIFF file's first: of a file in memory, OpenCV 4.8 decodes that one or all."""
    order, is_big = _TIFF_STARTS[data[:4].tobytes()]
    start = 8 if is_big else 4
    data[start : 2 * start] = np.frombuffer(struct.pack(order + ("Q" if is_big else "I"), offset), np.uint8)


def _number(content: bytearray, number_format: str, position: int) -> int | None:
    """The number at a position, None beyond the end."""
    if position + struct.calcsize(number_format) > len(content):
        return None
    return int(struct.unpack_from(number_format, content, position)[0])


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
