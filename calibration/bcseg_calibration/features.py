"""Cheap features of patches: what they look like, and whether they are ultrasound at all."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import Float32Array, UInt8Array

THUMBNAIL_PX = 32
BLANK_BELOW = 4.0  # grey levels: standard deviation of a patch
# Correlation of horizontal neighbours: above 0.9 in BUSI and the phantom, 0 in white noise.
NOISE_BELOW = 0.5
PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
SCALES = (1, 2, 4, 8)  # px: texture is the energy between one blur and the next

BoolArray = npt.NDArray[np.bool_]


def describe(patches: UInt8Array) -> Float32Array:
    """Intensity and texture of each patch, standardised over the patches.

    Args:
        patches: uint8 `[N, 1, h, w]`.

    Returns:
        float32 `[N, F]`: percentiles of the grey values, standard deviation, energy of four frequency bands, and the
        mean of each third of the depth (gain).
    """
    features = np.stack([_describe(patch[0]) for patch in patches]).astype(np.float32)
    spread = features.std(axis=0)
    standardised: Float32Array = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return standardised


def is_blank(patches: UInt8Array) -> BoolArray:
    """Bool `[N]`: patches without contrast, such as all black."""
    return np.asarray(patches.std(axis=(1, 2, 3)) < BLANK_BELOW)


def is_noise(patches: UInt8Array) -> BoolArray:
    """Bool `[N]`: patches whose neighbouring pixels know nothing of each other; blank ones are not noise."""
    correlations = np.array([_neighbour_correlation(patch[0]) for patch in patches])
    return np.asarray((correlations < NOISE_BELOW) & ~is_blank(patches))


def correlate(patches: UInt8Array) -> Float32Array:
    """Pearson correlation of the patches' thumbnails, float32 `[N, N]`; two blank patches correlate fully."""
    thumbnails = [cv2.resize(patch[0], (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA) for patch in patches]
    standardised = _standardise(np.stack(thumbnails))
    result: Float32Array = standardised @ standardised.T
    return result


def _standardise(thumbnails: UInt8Array) -> Float32Array:
    """Vectors of mean 0 and length 1, float32 `[N, s * s]`."""
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    blank = np.float32(1 / np.sqrt(vectors.shape[1]))
    standardised: Float32Array = np.where(lengths > 0, vectors / np.maximum(lengths, 1e-6), blank)
    return standardised


def _describe(patch: UInt8Array) -> Float32Array:
    grey = patch.astype(np.float32)
    blurred = [grey, *(cv2.GaussianBlur(grey, (0, 0), scale) for scale in SCALES)]
    bands = [float(np.std(fine - coarse)) for fine, coarse in pairwise(blurred)]
    depths = [float(part.mean()) for part in np.array_split(grey, 3)]
    return np.array([*np.percentile(grey, PERCENTILES), grey.std(), *bands, *depths], np.float32)


def _neighbour_correlation(patch: UInt8Array) -> float:
    grey = patch.astype(np.float32)
    grey -= grey.mean()
    power = float((grey * grey).mean())
    return float((grey[:, 1:] * grey[:, :-1]).mean()) / power if power > 0 else 1.0
