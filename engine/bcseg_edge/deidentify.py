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


def in_part(rectangles: Sequence[Rectangle], part: Rectangle, whole_hw: tuple[int, int]) -> tuple[Rectangle, ...]:
    """Rectangles of a whole image, in the coordinates of a part of it; those that miss the part are gone.

    Raises:
        DataError: a rectangle lies outside the whole image.
    """
    _require_hit(rectangles, whole_hw)
    left, top, width, height = part
    shifted = []
    for x, y, w, h in rectangles:
        x0, y0 = max(0, x - left), max(0, y - top)
        x1, y1 = min(width, x + w - left), min(height, y + h - top)
        if x0 < x1 and y0 < y1:
            shifted.append((x0, y0, x1 - x0, y1 - y0))
    return tuple(shifted)


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

    Args:
        source: owned from now on.
        rectangles: what becomes black, px of the source's frames.
        keep_names: False names frames by number.
        inside: the only part that stays; None: all.

    Raises:
        DataError: while iterating, a frame that a rectangle or `inside` misses: it would not hide what it should.
    """

    def __init__(
        self, source: Source, rectangles: Sequence[Rectangle], keep_names: bool, inside: Rectangle | None = None
    ) -> None:
        self._source = source
        self._rectangles = tuple(rectangles)
        self._keep_names = keep_names
        self._inside = inside
        self._to_hit = self._rectangles if inside is None else (*self._rectangles, inside)
        self.description = source.description
        self.frame_hz = source.frame_hz
        self.count = source.count

    @property
    def problems(self) -> list[str]:
        """Of the source."""
        return self._source.problems

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            _require_hit(self._to_hit, frame.image.shape[:2])
            yield mask_frame(frame, self._rectangles, self._keep_names, self._inside)

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
    """The same for a live source. A frame that a rectangle misses is black as a whole, and a problem says so once.

    A capture card may change its size in the middle of a run, which must neither end it nor uncover a name.
    """

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
        rectangles = self._rectangles
        height, width = read.frame.image.shape[:2]
        if missing := _misses(rectangles, (height, width)):
            rectangles = ((0, 0, width, height),)
            problem = f"frames of {width}x{height} px are black: --mask {_text(missing[0])} lies outside of them"
            if problem not in self.problems:
                self.problems.append(problem)
        return dataclasses.replace(read, frame=mask_frame(read.frame, rectangles, self._keep_names))

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        self._source.close()


def mask_frame(
    frame: Frame, rectangles: Sequence[Rectangle], keep_name: bool, inside: Rectangle | None = None
) -> Frame:
    """The frame with the rectangles, and all outside of `inside`, black; its number for a name if it is not kept.

    Names of files often are patients'.
    """
    image = blacken(frame.image, rectangles) if rectangles else frame.image
    if inside is not None:
        image = blacken_outside(image, inside)
    return dataclasses.replace(frame, image=image, name=frame.name if keep_name else f"{frame.index:06d}")


def _misses(rectangles: Sequence[Rectangle], frame_hw: tuple[int, ...]) -> list[Rectangle]:
    """Those that cover no pixel of a frame."""
    return [one for one in rectangles if one[0] >= frame_hw[1] or one[1] >= frame_hw[0]]


def _require_hit(rectangles: Sequence[Rectangle], frame_hw: tuple[int, ...]) -> None:
    if missing := _misses(rectangles, frame_hw):
        raise DataError(
            f"{_text(missing[0])} lies outside a frame of {frame_hw[1]}x{frame_hw[0]} px, so it would hide nothing",
            "give --mask and --crop in px of the frame, from its upper left corner",
        )


def _text(rectangle: Rectangle) -> str:
    return ",".join(map(str, rectangle))
