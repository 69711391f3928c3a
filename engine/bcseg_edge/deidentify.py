"""Blackening what may name a patient: text burnt into the frames, and names of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from bcseg_edge.errors import DataError
from bcseg_edge.frames import Frame, UInt8Array
from bcseg_edge.sources.live import LiveSource, Read
from bcseg_edge.sources.source import Source

if TYPE_CHECKING:
    from typing_extensions import Self

Rectangle = tuple[int, int, int, int]  # left, top, width, height in px


def parse_rectangles(texts: Sequence[str]) -> tuple[Rectangle, ...]:
    """Read `LEFT,TOP,WIDTH,HEIGHT` texts.

    Raises:
        DataError: not four whole numbers, a negative corner or an empty side.
    """
    rectangles = []
    for text in texts:
        try:
            left, top, width, height = (int(part) for part in text.split(","))
        except ValueError:
            left, top, width, height = -1, -1, 0, 0
        if left < 0 or top < 0 or width < 1 or height < 1:
            raise DataError(f"--mask {text!r} is not LEFT,TOP,WIDTH,HEIGHT in px", "for example: --mask 0,0,640,40")
        rectangles.append((left, top, width, height))
    return tuple(rectangles)


def blacken(image: UInt8Array, rectangles: Sequence[Rectangle]) -> UInt8Array:
    """A copy of `image` with the rectangles black; parts of them outside of it do nothing."""
    copy = image.copy()
    for left, top, width, height in rectangles:
        copy[top : top + height, left : left + width] = 0
    return copy


def blacken_outside(image: UInt8Array, inside: Rectangle | None) -> UInt8Array:
    """A copy of `image` that is black but for `inside`; all black where that is None."""
    copy = image.copy()
    if inside is None:
        copy[...] = 0
        return copy
    left, top, width, height = inside
    copy[:top], copy[top + height :] = 0, 0
    copy[:, :left], copy[:, left + width :] = 0, 0
    return copy


class MaskedSource:
    """A `Source` whose frames have the rectangles black, and their numbers for names where these are not kept.

    Frames are blackened before they are segmented, so that the model sees what is recorded, and a replay does too.
    """

    def __init__(self, source: Source, rectangles: Sequence[Rectangle], keep_names: bool) -> None:
        self._source = source
        self._rectangles = tuple(rectangles)
        self._keep_names = keep_names
        self.description = source.description
        self.frame_hz = source.frame_hz
        self.count = source.count

    @property
    def problems(self) -> list[str]:
        """Of the source."""
        return self._source.problems

    def __iter__(self) -> Iterator[Frame]:
        return (mask_frame(frame, self._rectangles, self._keep_names) for frame in self._source)

    def close(self) -> None:
        """Close the source; a second call does nothing."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MaskedLiveSource(LiveSource):
    """The same for a live source."""

    def __init__(self, source: LiveSource, rectangles: Sequence[Rectangle], keep_names: bool) -> None:
        super().__init__(source.description, source.frame_hz, lossless=source.lossless)
        self.problems = source.problems
        self._source = source
        self._rectangles = tuple(rectangles)
        self._keep_names = keep_names

    def open(self) -> None:
        """Connect, or connect again."""
        self._source.open()
        self.frame_hz = self._source.frame_hz

    def skip_old(self) -> None:
        """Forget what came while nobody read."""
        self._source.skip_old()

    def read(self) -> Read:
        """The source's answer, its frame blackened."""
        read = self._source.read()
        if read.frame is None:
            return read
        return dataclasses.replace(read, frame=mask_frame(read.frame, self._rectangles, self._keep_names))

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        self._source.close()


def mask_frame(frame: Frame, rectangles: Sequence[Rectangle], keep_name: bool) -> Frame:
    """The frame with the rectangles black; its number for a name, since names of files often are patients'."""
    image = blacken(frame.image, rectangles) if rectangles else frame.image
    return dataclasses.replace(frame, image=image, name=frame.name if keep_name else f"{frame.index:06d}")
