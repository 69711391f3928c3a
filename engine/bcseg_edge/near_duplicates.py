"""Whether two frames show the same: cropped by a few pixels, scaled, brighter or with calipers, but one frame.

Splits, calibration and the gate all ask this; only what they share lies below them all.

Thumbnails are high-passed and levelled, so that texture and edges decide and not the bright-to-dark of every scan, and
then correlated at every shift. Plain correlation above 0.96, which made `busi_split.csv`, misses a crop of a few px.

Of all 246,051 pairs of BUSI's 702 train and val images, 242 are above 0.335. Those from 0.34 (sector against crop) to
0.78 were looked at: each shows one frame, or one lesion in neighbouring frames. The first one below, 0.33, shows two
lesions. Other planes of one lesion lie lower (0.29) among strangers and are not told. 780 images take 15 s of one core.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import Float32Array, UInt8Array

THUMBNAIL_PX = 64
MAX_SHIFT_PX = 8  # of a thumbnail, each way: an eighth of the frame
SAME_ABOVE = 0.335
BLUR_PX = 3.3  # standard deviation; coarser detail is taken out, and contrast is levelled over as much
CONTRAST_FLOOR = 2.0  # grey levels: what is flatter is not levelled up
BORDER_PX = 4  # top rows: the probe's face looks the same in every frame
TAPER = 0.25  # power of the Hann window that fades the borders

ComplexArray = npt.NDArray[np.complex64]
IntArray = npt.NDArray[np.int64]


def thumbnail(grey: UInt8Array) -> UInt8Array:
    """What frames are compared by: uint8 `[64, 64]` of a grey frame `[H, W]`."""
    return np.asarray(cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA), np.uint8)


def similarity(first: UInt8Array, second: UInt8Array) -> Float32Array:
    """Highest correlation over all shifts of thumbnails `[N, 64, 64]` with `[M, 64, 64]`.

    Returns:
        float32 `[N, M]`, -1 to 1; two blank ones have 1. The same frame: above `SAME_ABOVE`.
    """
    spectra = _spectra(second)
    return np.stack([_highest(spectrum, spectra) for spectrum in _spectra(first)])


def similar_pairs(thumbnails: UInt8Array) -> tuple[IntArray, Float32Array]:
    """All pairs among thumbnails `[N, 64, 64]` that show the same.

    Returns:
        Indices int64 `[P, 2]`, the lower first, and the similarity of each pair, float32 `[P]`.
    """
    spectra = _spectra(thumbnails)
    pairs, values = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for index in range(len(spectra) - 1):
        of_later = _highest(spectra[index], spectra[index + 1 :])
        (found,) = np.nonzero(of_later > SAME_ABOVE)
        pairs.append(np.stack([np.full(len(found), index), index + 1 + found], axis=1))
        values.append(of_later[found])
    return np.concatenate(pairs), np.concatenate(values)


def thumbnails_of(images: Sequence[UInt8Array]) -> UInt8Array:
    """Thumbnails uint8 `[N, 64, 64]` of grey images `[H, W]` of any sizes."""
    return np.stack([thumbnail(image) for image in images])


def _spectra(thumbnails: UInt8Array) -> ComplexArray:
    """Fourier transforms `[N, 64, 33]` of the levelled thumbnails, each of length 1."""
    levelled = np.stack([_level(image) for image in thumbnails])
    return np.fft.rfft2(levelled).astype(np.complex64)


def _level(image: UInt8Array) -> Float32Array:
    """Detail of a thumbnail at even contrast, float32 `[64, 64]` of length 1 and mean 0; constant where it is blank."""
    grey = image.astype(np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), BLUR_PX)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), BLUR_PX)) + CONTRAST_FLOOR
    faded = detail / contrast * _TAPERING
    faded -= faded.mean()
    length = np.linalg.norm(faded)
    levelled = faded / length if length > 1e-3 else np.full_like(faded, 1 / THUMBNAIL_PX)
    return np.asarray(levelled, np.float32)


def _highest(spectrum: ComplexArray, spectra: ComplexArray) -> Float32Array:
    """Highest value within the shifts of the correlation of one thumbnail with `N`, float32 `[N]`."""
    correlation = np.fft.irfft2(spectrum * np.conj(spectra), s=(THUMBNAIL_PX, THUMBNAIL_PX))  # [N, 64, 64]
    rows = correlation[:, _SHIFTS].max(axis=1)  # [N, 64]
    return np.asarray(rows[:, _SHIFTS].max(axis=1), np.float32)


_SHIFTS = np.arange(-MAX_SHIFT_PX, MAX_SHIFT_PX + 1)
_TAPERING = np.outer(np.hanning(THUMBNAIL_PX), np.hanning(THUMBNAIL_PX)).astype(np.float32) ** TAPER
_TAPERING[:BORDER_PX] = 0
