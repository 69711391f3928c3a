"""Patches to compare engines on: of labelled images where there are some, else of the seeded phantom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array
from bcseg_edge.passport import Tiling
from bcseg_edge.sources import open_source
from bcseg_edge.tiling import TileGrid
from bcseg_train.busi import read_busi
from bcseg_train.thinning import thin

PHANTOM = "phantom:640x480@30"
PHANTOM_FRAMES = 60


def collect_patches(
    data: Path | None, window_hw: tuple[int, int], tiling: Tiling, count: int
) -> tuple[UInt8Array, str]:
    """Cut frames, spread evenly over the source, as the model's tiling does.

    Args:
        data: BUSI-like folder; None takes phantom frames.
        count: patches wanted, at least 1; fewer where the source has no more.

    Returns:
        uint8 `[N, 1, h, w]` and what they are, in words.

    Raises:
        DataError: the folder is not sound, or `count` is below 1.
    """
    if count < 1:
        raise DataError(f"{count} patches were asked for", "compare on at least 1")
    frames, name = (_phantom_frames(), PHANTOM) if data is None else (_busi_frames(data, count), data.resolve().name)
    patches = np.concatenate(list(_cut(frames, window_hw, tiling, count)))[:count]
    return np.ascontiguousarray(patches), name


def _cut(frames: Iterable[UInt8Array], window_hw: tuple[int, int], tiling: Tiling, count: int) -> Iterator[UInt8Array]:
    found = 0
    for frame in frames:
        patches = TileGrid((frame.shape[0], frame.shape[1]), window_hw, tiling).split(frame)  # [n, 1, h, w]
        yield patches
        found += len(patches)
        if found >= count:
            return


def _busi_frames(data: Path, count: int) -> Iterator[UInt8Array]:
    samples = read_busi(data, require_all_classes=False)
    return (sample.load()[0] for sample in thin(samples, count))


def _phantom_frames() -> Iterator[UInt8Array]:
    with open_source(PHANTOM) as source:
        for frame in islice(source, PHANTOM_FRAMES):
            yield frame.image
