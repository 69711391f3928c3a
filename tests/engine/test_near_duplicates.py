"""The same frame is told however it was cropped, scaled or marked; another one is not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from bcseg_edge.frames import UInt8Array
from bcseg_edge.near_duplicates import SAME_ABOVE, similar_pairs, similarity, thumbnail, thumbnails_of
from bcseg_edge.sources import open_source

SEEDS = range(8)


@pytest.fixture(scope="module")
def frames() -> list[UInt8Array]:
    """Grey frames of eight phantoms, uint8 `[360, 480]`: other tissue, lesion and depth."""
    taken = []
    for seed in SEEDS:
        lesion = ("benign", "malignant", "none")[seed % 3]
        with open_source(f"phantom:480x360@2?seed={seed}&lesion={lesion}&depth={30 + 4 * seed}") as source:
            taken.append(next(iter(source)).image)
    return taken


def calipers(frame: UInt8Array) -> UInt8Array:
    marked = cv2.line(frame.copy(), (180, 150), (300, 220), 255, 2)
    return np.asarray(cv2.putText(marked, "RT UOQ", (20, 330), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2), np.uint8)


# Correlation of unshifted thumbnails, the test before this one, stays below its 0.96 for each of these.
COPIES: dict[str, Callable[[UInt8Array], UInt8Array]] = {
    "cropped left": lambda frame: frame[:, 25:],
    "cropped on top": lambda frame: frame[20:],
    "cropped all round": lambda frame: frame[14:-6, 10:-22],
    "shifted": lambda frame: np.roll(frame, (18, -30), (0, 1)),
    "cropped, scaled, brighter": lambda frame: np.clip(
        cv2.resize(frame[:, 25:], (700, 560), interpolation=cv2.INTER_CUBIC) * 0.9 + 20.0, 0, 255
    ).astype(np.uint8),
    "cropped, calipers": lambda frame: calipers(frame)[:, :-25],
}


def plain_correlation(first: UInt8Array, second: UInt8Array) -> float:
    return float(np.corrcoef(thumbnail(first).ravel(), thumbnail(second).ravel())[0, 1])


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_its_frame_and_no_other(frames: list[UInt8Array], copy: Callable[[UInt8Array], UInt8Array]) -> None:
    copies = [copy(frame) for frame in frames]
    assert max(map(plain_correlation, frames, copies)) < 0.96
    alike = similarity(thumbnails_of(frames), thumbnails_of(copies)) > SAME_ABOVE
    assert np.array_equal(alike, np.eye(len(frames), dtype=bool))


def test_other_frames_are_not_alike(frames: list[UInt8Array]) -> None:
    pairs, values = similar_pairs(thumbnails_of(frames))
    assert pairs.shape == (0, 2)
    assert values.shape == (0,)


def test_pairs_are_those_of_the_similarity(frames: list[UInt8Array]) -> None:
    thumbnails = thumbnails_of([*frames[:3], frames[1][:, 25:], frames[0][20:], frames[1]])
    pairs, values = similar_pairs(thumbnails)
    assert pairs.tolist() == [[0, 4], [1, 3], [1, 5], [3, 5]]
    full = similarity(thumbnails, thumbnails)
    np.testing.assert_allclose(values, full[tuple(pairs.T)], atol=1e-5)
    np.testing.assert_allclose(full, full.T, atol=1e-5)
    np.testing.assert_allclose(np.diag(full), 1, atol=1e-5)


def test_blank_frames_are_alike_and_like_nothing_else(frames: list[UInt8Array]) -> None:
    blank = np.stack([np.full((64, 64), grey, np.uint8) for grey in (0, 90, 255)])
    np.testing.assert_allclose(similarity(blank, blank), 1, atol=1e-5)
    assert similarity(blank, thumbnails_of(frames)).max() < 0.1


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (5000, 3)])
def test_any_size(hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, hw, np.uint8)
    assert thumbnail(image).shape == (64, 64)
    pairs, _ = similar_pairs(thumbnails_of([image, image]))
    assert pairs.tolist() == [[0, 1]]
