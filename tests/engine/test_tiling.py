"""Tiling is pinned by identity models: what a pixel-wise model says of patches, it says of the frame."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcseg_edge.decision import decide
from bcseg_edge.errors import DataError
from bcseg_edge.tiling import TILINGS, TileGrid
from tests.fixtures.tiny_model import expected_labels, expected_logits

sides = st.integers(1, 90)
windows = st.tuples(st.integers(1, 40), st.integers(1, 40))


def noise(frame_hw, seed=0):
    return np.random.default_rng(seed).integers(0, 256, frame_hw, dtype=np.uint8)


def planes(patches):
    """Identity "logits" [N, 3, h, w]: the patch, its double and its negative."""
    return patches.astype(np.float32) * np.array([1, 2, -1], np.float32)[:, None, None]


@given(frame_hw=st.tuples(sides, sides), window_hw=windows, seed=st.integers(0, 99))
def test_paper_split_and_stitch_are_the_identity(frame_hw, window_hw, seed):
    grid, grey = TileGrid(frame_hw, window_hw, "paper"), noise(frame_hw, seed)
    assert np.array_equal(grid.stitch(planes(grid.split(grey))), planes(grey[None]))


@given(frame_hw=st.tuples(sides, sides), window_hw=windows, seed=st.integers(0, 99))
def test_overlap_split_and_stitch_are_the_identity(frame_hw, window_hw, seed):
    grid, grey = TileGrid(frame_hw, window_hw, "overlap"), noise(frame_hw, seed)
    np.testing.assert_allclose(grid.stitch(planes(grid.split(grey))), planes(grey[None]), atol=2e-4)


@given(window_hw=windows, side=sides)
def test_frame_split_and_stitch_are_the_identity_where_the_scale_is_one(window_hw, side):
    frame_hw = (window_hw[0], min(side, window_hw[1]))
    grid, grey = TileGrid(frame_hw, window_hw, "frame"), noise(frame_hw)
    assert np.array_equal(grid.stitch(planes(grid.split(grey))), planes(grey[None]))


@pytest.mark.parametrize("mode", TILINGS)
@given(frame_hw=st.tuples(sides, sides), window_hw=windows, value=st.integers(0, 255))
def test_a_constant_frame_stays_constant(mode, frame_hw, window_hw, value):
    grid = TileGrid(frame_hw, window_hw, mode)
    stitched = grid.stitch(planes(grid.split(np.full(frame_hw, value, np.uint8))))
    assert stitched.shape == (3, *frame_hw)
    np.testing.assert_allclose(stitched[0], value, rtol=1e-5)


@given(frame_hw=st.tuples(st.integers(100, 400), st.integers(100, 400)), data=st.data())
def test_frame_keeps_a_large_square_within_a_pixel_of_the_window(frame_hw, data):
    top, left = (data.draw(st.integers(0, side // 3)) for side in frame_hw)
    grey = np.zeros(frame_hw, np.uint8)
    grey[top : top + 60, left : left + 60] = 255
    grid = TileGrid(frame_hw, (128, 128), "frame")
    labels, _ = decide(grid.stitch(expected_logits(grid.split(grey)[:, 0])))
    reach = int(np.ceil(max(*np.divide(frame_hw, grid.content_hw), 1)))
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    clear = cv2.dilate(grey, square) == cv2.erode(grey, square)
    assert np.array_equal(labels[clear], expected_labels(grey)[clear])


@pytest.mark.parametrize("mode", TILINGS)
@given(frame_hw=st.tuples(sides, sides), window_hw=windows)
def test_patches_are_contiguous_and_their_own(mode, frame_hw, window_hw):
    grid, grey = TileGrid(frame_hw, window_hw, mode), noise(frame_hw)
    patches = grid.split(grey)
    assert patches.shape == (grid.count, 1, *window_hw)
    assert patches.dtype == np.uint8
    assert patches.flags.c_contiguous
    assert not np.shares_memory(patches, grey)


@given(length=st.integers(1, 3000), window=st.integers(1, 300))
def test_overlap_windows_are_spread_evenly_and_at_most_half_a_window_apart(length, window):
    starts = TileGrid((length, 1), (window, 1), "overlap").row_starts
    gaps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - window)
    assert len(gaps) == 0 or (gaps.max() <= (window + 1) // 2 and gaps.max() - gaps.min() <= 1)


@settings(max_examples=20)  # quadratic in the number of windows
@given(frame_hw=st.tuples(sides, sides), window_hw=windows)
def test_blending_weights_are_positive_and_sum_to_one(frame_hw, window_hw):
    grid = TileGrid(frame_hw, window_hw, "overlap")
    single = np.zeros((grid.count, 1, *window_hw), np.float32)
    shares = []
    for patch in range(grid.count):
        single[:] = 0
        single[patch] = 1
        shares.append(grid.stitch(single)[0])
    for share, (row, col) in zip(shares, itertools.product(grid.row_starts, grid.col_starts), strict=True):
        assert share[row : row + window_hw[0], col : col + window_hw[1]].min() > 0
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("frame_hw", "mode", "rows_cols", "padded_hw", "stride_hw", "content_hw"),
    [
        ((480, 640), "paper", (2, 3), (512, 768), (256, 256), (480, 640)),
        ((256, 256), "paper", (1, 1), (256, 256), (256, 256), (256, 256)),
        ((1, 257), "paper", (1, 2), (256, 512), (256, 256), (1, 257)),
        ((480, 640), "overlap", (3, 4), (480, 640), (112, 128), (480, 640)),
        ((100, 257), "overlap", (1, 2), (256, 257), (256, 1), (100, 257)),
        ((480, 640), "frame", (1, 1), (256, 256), (256, 256), (192, 256)),
        ((100, 50), "frame", (1, 1), (256, 256), (256, 256), (256, 128)),
        ((1, 4096), "frame", (1, 1), (256, 256), (256, 256), (1, 256)),
        ((512, 3), "frame", (1, 1), (256, 256), (256, 256), (256, 2)),  # 1.5 px: half up
    ],
)
def test_geometry(frame_hw, mode, rows_cols, padded_hw, stride_hw, content_hw):
    grid = TileGrid(frame_hw, (256, 256), mode)
    assert (grid.rows, grid.cols) == rows_cols
    assert grid.count == rows_cols[0] * rows_cols[1]
    assert (grid.padded_hw, grid.stride_hw, grid.content_hw) == (padded_hw, stride_hw, content_hw)


def test_paper_patches_are_numbered_row_by_row():
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    patches = TileGrid((4, 6), (2, 3), "paper").split(grey)
    assert patches[:, 0, 0, 0].tolist() == [0, 3, 12, 15]


def test_frame_scales_by_area_down_and_bilinearly_up_and_pads_with_zeros():
    grey = noise((80, 120)) | 1
    down = TileGrid((80, 120), (32, 32), "frame").split(grey)[0, 0]
    assert np.array_equal(down[:21], cv2.resize(grey, (32, 21), interpolation=cv2.INTER_AREA))
    assert not down[21:].any()
    up = TileGrid((80, 120), (200, 200), "frame").split(grey)[0, 0]
    assert np.array_equal(up[:133], cv2.resize(grey, (200, 133), interpolation=cv2.INTER_LINEAR))
    assert not up[133:].any()


def test_frame_crops_before_it_scales_back():
    grid = TileGrid((480, 640), (256, 256), "frame")
    logits = np.full((1, 3, 256, 256), 1e6, np.float32)
    logits[:, :, :192] = 1
    assert grid.stitch(logits).max() == 1


@pytest.mark.parametrize("frame_hw", [(1, 1), (1, 4096), (4096, 1), (4096, 4096), (4095, 2049)])
@pytest.mark.parametrize("mode", ["paper", "frame"])
def test_extreme_sizes(mode, frame_hw):
    grid = TileGrid(frame_hw, (256, 256), mode)
    stitched = grid.stitch(planes(grid.split(np.full(frame_hw, 200, np.uint8))))
    assert stitched.shape == (3, *frame_hw)
    assert stitched[0].min() == stitched[0].max() == 200


def test_overlap_of_a_large_frame_with_small_windows():
    grid, grey = TileGrid((1023, 771), (64, 48), "overlap"), noise((1023, 771))
    np.testing.assert_allclose(grid.stitch(planes(grid.split(grey)))[0], grey, atol=1e-4)


def test_grids_are_equal_by_value():
    assert TileGrid((4, 4), (2, 2), "paper") == TileGrid((4, 4), (2, 2), "paper")
    assert len({TileGrid((4, 4), (2, 2), mode) for mode in TILINGS}) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((0, 5), (2, 2), "paper"), "0x5"),
        (((5, 5), (2, 0), "paper"), "2x0"),
        (((5, 5), (2, 2), "cascade"), "cascade"),
    ],
)
def test_impossible_grids_are_refused(arguments, said):
    with pytest.raises(DataError, match=said):
        TileGrid(*arguments)


def test_arrays_of_another_size_are_refused():
    grid = TileGrid((5, 5), (2, 2), "paper")
    with pytest.raises(DataError, match=r"\(5, 6\)"):
        grid.split(noise((5, 6)))
    with pytest.raises(DataError, match=r"\(8, 3, 2, 2\)"):
        grid.stitch(np.zeros((8, 3, 2, 2), np.float32))
