"""The part of the frame that is the ultrasound image, so that menus and text are never segmented."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.segmenter import to_grey

MIN_SIDE_PX = 16


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a frame, px."""

    x: int
    y: int
    width: int
    height: int

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width, height."""
        return self.x, self.y, self.width, self.height

    def fits(self, frame_hw: tuple[int, int]) -> bool:
        """Whether it lies within a frame of that size."""
        return self.x + self.width <= frame_hw[1] and self.y + self.height <= frame_hw[0]

    def cut(self, image: UInt8Array) -> UInt8Array:
        """That part of `[H, W]` or `[H, W, 3]`: a view."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]

    def paste(self, segmentation: Segmentation, frame_hw: tuple[int, int]) -> Segmentation:
        """A cut's result in the coordinates of the frame; outside is background, with confidence 1."""
        labels = np.zeros(frame_hw, np.uint8)
        confidence = np.ones(frame_hw, np.float32)
        self.cut(labels)[:] = segmentation.labels
        confidence[self.y : self.y + self.height, self.x : self.x + self.width] = segmentation.confidence
        return dataclasses.replace(segmentation, labels=labels, confidence=confidence)

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"


def parse_crop(text: str) -> Crop:
    """Read `x,y,w,h`.

    Raises:
        DataError: not four whole numbers, a negative corner, or a side below 16 px.
    """
    hint = "give --crop LEFT,TOP,WIDTH,HEIGHT in px, e.g. --crop 120,80,640,480, or --crop auto"
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(f"crop {text!r} is not four whole numbers", hint) from error
    if x < 0 or y < 0 or width < MIN_SIDE_PX or height < MIN_SIDE_PX:
        raise DataError(f"crop {text!r} has a negative corner or a side below {MIN_SIDE_PX} px", hint)
    return Crop(x, y, width, height)


class AutoCrop:
    """Finds the ultrasound image over the first frames and then keeps it.

    Speckle moves with every frame and menus do not: the image is the largest connected region of pixels that changed,
    or, as long as hardly anything did (the scanner is frozen), the largest bright one. It is settled once the
    rectangle stayed the same for `STEADY` frames, at the latest after `MOST` frames; until then `crop` is the
    best guess so far. A frame of another size starts over.

    Attributes:
        crop: the rectangle, None where nothing was found yet.
        settled: it will not change any more.
    """

    STEADY = 8
    MOST = 60
    CHANGE = 12  # grey levels: above what a frame grabber's noise and MPEG do to still pixels
    BRIGHT = 24
    LEAST_SHARE = 0.05  # of the frame: a smaller region is a logo or a clock

    def __init__(self) -> None:
        self.crop: Crop | None = None
        self.settled = False
        self._frame_hw: tuple[int, int] | None = None
        self._low: UInt8Array | None = None
        self._high: UInt8Array | None = None
        self._frames = self._same = 0

    def look(self, image: UInt8Array) -> Crop | None:
        """Take a frame into account; returns `crop`."""
        hw = (image.shape[0], image.shape[1])
        if hw != self._frame_hw:
            self.crop, self.settled, self._low, self._high, self._frames, self._same = None, False, None, None, 0, 0
            self._frame_hw = hw
        if self.settled:
            return self.crop
        grey = to_grey(image)
        self._low = grey if self._low is None else np.minimum(self._low, grey)
        self._high = grey if self._high is None else np.maximum(self._high, grey)
        found = self._find(self._low, self._high)
        self._frames += 1
        self._same = self._same + 1 if found is not None and found == self.crop else 0
        self.crop = found
        self.settled = found is not None and (self._same >= self.STEADY or self._frames >= self.MOST)
        if self.settled:
            self._low = self._high = None
        return self.crop

    def _find(self, low: UInt8Array, high: UInt8Array) -> Crop | None:
        least = self.LEAST_SHARE * low.size
        moving = (high - low) > self.CHANGE
        if np.count_nonzero(moving) >= least:
            return _largest_region(moving, least)
        return _largest_region(high > self.BRIGHT, least)


def _largest_region(members: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], least_px: float) -> Crop | None:
    """Bounding box of the largest region after closing gaps between speckles and taking off thin lines."""
    mask = members.astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)), np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8)), np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return None
    x, y, width, height, area = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())].tolist()
    if area < least_px or min(width, height) < MIN_SIDE_PX:
        return None
    return Crop(x, y, width, height)
