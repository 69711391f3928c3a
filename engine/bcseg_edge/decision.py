"""From logits to labels and confidence."""

from __future__ import annotations

import cv2
import numpy as np

from bcseg_edge.frames import Float32Array, UInt8Array

# Blocks keep the scratch small and in the cache whatever the frame size: 1 MB with its results.
BLOCK_PX = 65536

# exp of less is subnormal in float32: 30 times as slow (38 instead of 1.3 ms a frame), and 1 + it is 1 anyway.
LEAST_EXPONENT = -80.0


def decide(logits: Float32Array) -> tuple[UInt8Array, Float32Array]:
    """Choose the label of every pixel, and say how sure the choice is.

    The three classes are written out: `top` being the largest logit and `other` and `rest` the other two, the softmax
    of the choice is `1 / (1 + exp(other - top) + exp(rest - top))`: two exponentials a pixel, none that overflows.

    Args:
        logits: float32 `[3, H, W]`, any strides.

    Returns:
        labels: uint8 `[H, W]`, the argmax over the classes; ties go to the lowest class.
        confidence: float32 `[H, W]`, softmax probability of the label, 1/3 to 1.
    """
    _, height, width = logits.shape
    labels = np.empty((height, width), np.uint8)
    confidence = np.empty((height, width), np.float32)
    block_rows = max(1, BLOCK_PX // width)
    scratch = np.empty((2 * min(block_rows, height), width), np.float32)
    for first in range(0, height, block_rows):
        rows = slice(first, first + block_rows)
        _decide_block(logits[:, rows], labels[rows], confidence[rows], scratch)
    return labels, confidence


def _decide_block(logits: Float32Array, labels: UInt8Array, confidence: Float32Array, scratch: Float32Array) -> None:
    """Fill `labels` and `confidence` `[h, W]` from `logits` `[3, h, W]`; `scratch` is `[>= 2 h, W]`."""
    background, benign, malignant = logits
    exponents = scratch[: 2 * len(labels)]  # both planes in one, since OpenCV takes two axes
    others = exponents.reshape(2, *labels.shape)
    lesion = np.maximum(benign, malignant, out=confidence)
    np.greater(lesion, background, out=labels.view(np.bool_))
    if labels.any():
        np.left_shift(labels, (malignant > benign).view(np.uint8), out=labels)  # 1 becomes 2, 0 stays
        np.minimum(benign, malignant, out=others[0])
        np.minimum(background, lesion, out=others[1])
        others -= np.maximum(background, lesion, out=lesion)
    else:  # most of a frame: nothing to sort, a third of the time saved
        np.subtract(logits[1:], background, out=others)
    if exponents.min() < LEAST_EXPONENT:  # looking takes a seventh of the time of clamping
        np.maximum(exponents, LEAST_EXPONENT, out=exponents)
    # cv2.exp is vectorised on every CPU and takes a third of np.exp's time.
    cv2.exp(exponents, dst=exponents)
    np.add(others[0], others[1], out=confidence)
    confidence += 1
    np.reciprocal(confidence, out=confidence)
