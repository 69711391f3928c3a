"""Frames without an image: a black screen, a blue one, a cable that was pulled from the scanner."""

from __future__ import annotations

import numpy as np

from bcseg_edge.frames import UInt8Array

# A frame grabber's black carries noise up to about 20 grey levels; the dimmest B-mode image has highlights far above.
DARK_BELOW = 28
BRIGHT_SHARE = 0.001  # of the pixels; an ultrasound image has more, some hot pixels have less
FLAT_BELOW = 1.5  # standard deviation in grey levels: one colour, compression included
STEP_PX = 4  # each fourth row and column tells the same in a sixteenth of the time


def is_blank(image: UInt8Array) -> bool:
    """Whether a frame is dark or of one grey level, so that there is nothing to segment.

    Args:
        image: uint8 `[H, W]` or `[H, W, 3]`.
    """
    sample = image[::STEP_PX, ::STEP_PX]
    if np.count_nonzero(sample >= DARK_BELOW) <= BRIGHT_SHARE * sample.size:
        return True
    # Of each channel: a plain blue screen has one value per channel, not one in all.
    return bool(sample.std(axis=(0, 1)).max() < FLAT_BELOW)
