"""Choosing calibration patches: deduplicated, classes in balance, and spread over what patches look like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_calibration.calibration_set import CALIBRATE_HINT, MIN_PATCHES, SAME_ABOVE, CalibrationSet, check_patches
from bcseg_calibration.features import correlate, describe, is_blank, is_noise
from bcseg_edge.errors import DataError
from bcseg_edge.frames import CLASSES, Float32Array, UInt8Array
from bcseg_edge.near_duplicates import thumbnails_of
from bcseg_edge.passport import Tiling
from bcseg_edge.segmenter import to_grey
from bcseg_edge.tiling import TileGrid

DEFAULT_COUNT = 96
CLUSTERING = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-3)
CLUSTER_ATTEMPTS = 3

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CalibrationFrame:
    """A frame to cut patches from.

    Attributes:
        name: of its image.
        image: uint8 `[H, W]` or `[H, W, 3]`.
        digest: hex SHA-256 that tells frames apart.
        truth: uint8 labels `[H, W]`, None where unknown.
    """

    name: str
    image: UInt8Array
    digest: str
    truth: UInt8Array | None = None


def choose_patches(
    frames: Iterable[CalibrationFrame],
    window_hw: tuple[int, int],
    tiling: Tiling,
    data: str,
    count: int = DEFAULT_COUNT,
    seed: int = 0,
) -> CalibrationSet:
    """Choose patches that stand for all of `frames`.

    Patches are cut as the model cuts frames. Blank and noisy ones and near-duplicates are left out; each class gets the
    same number as far as it has so many; within a class the patches are clustered by intensity and texture, and of
    each cluster the one nearest its centre is taken.

    Args:
        count: patches wanted; fewer where there are not so many different ones.
        seed: of the clustering.

    Raises:
        DataError: fewer than `MIN_PATCHES` usable patches.
    """
    cut = list(_cut(frames, window_hw, tiling))
    if not cut:
        raise DataError(f"no frame in {data}", "give a folder of images, a video, or a folder like BUSI's")
    patches = np.concatenate([patch for patch, _, _ in cut])[:, None]  # [M, 1, h, w]
    labels = np.concatenate([label for _, label, _ in cut])
    owners = [frame for patch, _, frame in cut for _ in patch]
    usable = np.flatnonzero(~(is_blank(patches) | is_noise(patches)))
    if len(usable):
        usable = usable[_first_of_each(patches[usable])]
    if len(usable) < MIN_PATCHES:
        raise DataError(
            f"{len(usable)} of {len(patches)} patches of {data} are usable (not blank, not noise, not alike), "
            f"at least {MIN_PATCHES} are needed",
            CALIBRATE_HINT,
        )
    chosen = usable[_spread(describe(patches[usable]), labels[usable], count, seed)]
    check_patches(patches[chosen])
    return CalibrationSet(
        patches=np.ascontiguousarray(patches[chosen]),
        labels=labels[chosen],
        sources=tuple(owners[index].name for index in chosen),
        frame_digests=tuple(owners[index].digest for index in chosen),
        tiling=tiling,
        data=data,
        thumbnails=thumbnails_of([to_grey(owners[index].image) for index in chosen]),
    )


def _cut(
    frames: Iterable[CalibrationFrame], window_hw: tuple[int, int], tiling: Tiling
) -> Iterator[tuple[UInt8Array, UInt8Array, CalibrationFrame]]:
    """Of each frame its patches `[n, h, w]`, the highest label in each `[n]`, and the frame itself."""
    for frame in frames:
        grey = to_grey(frame.image)
        grid = TileGrid((grey.shape[0], grey.shape[1]), window_hw, tiling)
        truth = np.zeros_like(grey) if frame.truth is None else frame.truth
        # Scaled labels blend at a lesion's edge; its inside keeps its class.
        highest = grid.split(truth).max(axis=(1, 2, 3))
        yield grid.split(grey)[:, 0], np.asarray(highest, np.uint8), frame


def _first_of_each(patches: UInt8Array) -> IntArray:
    """Indices of the patches that look like none kept before them."""
    same = correlate(patches) > SAME_ABOVE
    kept: list[int] = []
    for index in range(len(patches)):
        if not same[index, kept].any():
            kept.append(index)
    return np.array(kept, np.int64)


def _spread(features: Float32Array, labels: UInt8Array, count: int, seed: int) -> IntArray:
    """At most `count` indices, classes in balance, spread over the features; sorted."""
    members = [np.flatnonzero(labels == label) for label in range(len(CLASSES))]
    quotas = _quotas([len(of_class) for of_class in members], count)
    chosen = [
        of_class[_cluster_centres(features[of_class], quota, seed)]
        for of_class, quota in zip(members, quotas, strict=True)
        if quota
    ]
    return np.sort(np.concatenate(chosen))


def _quotas(available: list[int], count: int) -> list[int]:
    """Share `count` evenly; what a class does not have goes to the others."""
    quotas = [0] * len(available)
    for place, index in enumerate(np.argsort(available, kind="stable").tolist()):
        quotas[index] = min(available[index], (count - sum(quotas)) // (len(available) - place))
    return quotas


def _cluster_centres(features: Float32Array, clusters: int, seed: int) -> IntArray:
    """Index of the member nearest each of `clusters` centres (k-means); each index once, so sometimes fewer."""
    if clusters >= len(features):
        return np.arange(len(features))
    cv2.setRNGSeed(seed)
    _, _, centres = cv2.kmeans(
        features, clusters, np.empty(0, np.int32), CLUSTERING, CLUSTER_ATTEMPTS, cv2.KMEANS_PP_CENTERS
    )
    distances = np.linalg.norm(features[:, None] - centres[None], axis=2)  # [N, clusters]
    return np.unique(distances.argmin(axis=0))
