"""The part of the frame that is the ultrasound image, so that menus and text are never segmented."""

from __future__ import annotations

import cv2
import numpy as np

from bcseg_edge.crop import MIN_SIDE_PX, Crop
from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array
from bcseg_edge.live.blank import is_blank
from bcseg_edge.segmenter import to_grey

_Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


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
    """Finds the ultrasound image in what moves, and then keeps it.

    Speckle moves all the time, menus do not, and a screen that comes up or is paged changes once: the image is the
    largest connected region of pixels that changed in `VOTES` of the blocks of `BLOCK` frames since the motion began.
    It is settled once the rectangle stayed the same for `STEADY` blocks, at the latest after `MOST`; a block in which
    hardly anything moved starts over. A still picture never settles, however long it stays, since nothing tells its
    image from the text around it.

    Until then `crop` is a guess: what moved of late, or else what is bright. Blank frames say nothing, and a frame
    of another size starts over.

    Attributes:
        crop: the rectangle, None where nothing was found yet.
        settled: it will not change any more.
    """

    BLOCK = 8
    VOTES = 3
    STEADY = 2
    MOST = 15  # a sweep over a liver, at 25 frames per second, took 13 to move in all of its image
    CHANGE = 12  # grey levels: above what a frame grabber's noise and MPEG do to still pixels
    BRIGHT = 24
    LEAST_SHARE = 0.05  # of the frame: a smaller region is a logo or a clock

    def __init__(self) -> None:
        self._start_over(None)

    def _start_over(self, frame_hw: tuple[int, int] | None) -> None:
        self.crop: Crop | None = None
        self._found: Crop | None = None
        self.settled = False
        self._frame_hw = frame_hw
        self._low: UInt8Array | None = None
        self._high: UInt8Array | None = None
        self._votes = np.zeros(frame_hw or (0, 0), np.uint8)
        self._frames = self._blocks = self._same = 0

    def settled_for(self, frame_hw: tuple[int, int]) -> Crop | None:
        """The rectangle of frames of that size, None as long as it may still change."""
        return self.crop if self.settled and frame_hw == self._frame_hw else None

    def look(self, image: UInt8Array) -> Crop | None:
        """Take a frame, uint8 `[H, W]` or `[H, W, 3]`, into account; returns `crop`."""
        hw = (image.shape[0], image.shape[1])
        if hw != self._frame_hw:
            self._start_over(hw)
        if self.settled or is_blank(image):
            return self.crop
        grey = to_grey(image)
        low = self._low = grey if self._low is None else np.minimum(self._low, grey)
        high = self._high = grey if self._high is None else np.maximum(self._high, grey)
        self._frames += 1
        if self._frames % self.BLOCK == 0:
            self._end_block(low, high)
        elif self._frames < self.BLOCK:
            self.crop = self._guess((high - low) > self.CHANGE, high)
        return self.crop

    def _end_block(self, low: UInt8Array, high: UInt8Array) -> None:
        changed = (high - low) > self.CHANGE
        if np.count_nonzero(changed) >= self.LEAST_SHARE * changed.size:
            self._votes += changed
            self._blocks += 1
        else:
            self._votes[...] = 0
            self._blocks = 0
        found = self._region(self._votes >= self.VOTES)
        self._same = self._same + 1 if found is not None and found == self._found else 0
        self._found = found
        self.settled = found is not None and (self._same >= self.STEADY or self._blocks >= self.MOST)
        self.crop = found if self.settled else self._guess(self._votes > 0, high)
        self._low = self._high = None

    def _guess(self, moved: _Mask, high: UInt8Array) -> Crop | None:
        return self._region(moved) or self._region(high > self.BRIGHT)

    def _region(self, members: _Mask) -> Crop | None:
        return _largest_region(members, self.LEAST_SHARE * members.size)


def _largest_region(members: _Mask, least_px: float) -> Crop | None:
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
