"""Blackening what may name a patient: text burnt into the frames, and names of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bcseg_edge.errors import DataError
from bcseg_edge.frames import Frame, UInt8Array

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


def without_names(frame: Frame, rectangles: Sequence[Rectangle]) -> Frame:
    """The frame with the rectangles black and its number for a name, since names of files often are patients'.

    It is blackened before it is segmented, so that the model sees what is recorded, and a replay does too.
    """
    image = blacken(frame.image, rectangles) if rectangles else frame.image
    return dataclasses.replace(frame, image=image, name=f"{frame.index:06d}")
