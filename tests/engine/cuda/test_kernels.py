"""The kernels' own source, compiled for the CPU, against the numpy path of `TileGrid` and `decide`."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge.cuda.launches import place_tables, split_launch, stitch_launch
from bcseg_edge.cuda.tables import FrameLayout, make_tables
from bcseg_edge.decision import decide
from bcseg_edge.errors import DataError
from bcseg_edge.segmenter import to_grey
from bcseg_edge.tiling import TILINGS, TileGrid
from tests.fixtures.host_kernels import launch

sides = st.integers(1, 90)
windows = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 2**16)
exact_tilings = pytest.mark.parametrize("mode", ["paper", "overlap"])


class HostGrid:
    """A tile grid whose tables lie in host memory, where the kernels on the CPU read them."""

    def __init__(self, grid):
        self.grid = grid
        tables = make_tables(grid)
        self._kept = tables.arrays()
        assert all(array.flags.c_contiguous for array in self._kept)
        self.axes = place_tables(grid, tables, [array.ctypes.data for array in self._kept])

    def split(self, frame):
        patches = np.full((self.grid.count, 1, *self.grid.window_hw), 99, np.uint8)
        channels = 1 if frame.ndim == 2 else 3
        layout = FrameLayout(frame.ctypes.data, *frame.strides[:2], channels)
        _run(split_launch(self.axes, layout, patches.ctypes.data))
        return patches

    def decide(self, logits):
        labels = np.full(self.grid.frame_hw, 99, np.uint8)
        confidence = np.full(self.grid.frame_hw, np.nan, np.float32)
        addresses = labels.ctypes.data, confidence.ctypes.data
        _run(stitch_launch(self.axes, logits.ctypes.data, logits.dtype, *addresses))
        return labels, confidence


def _run(launched):
    launch(launched.kernel, launched.grid, launched.block, launched.arguments)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_logits(grid, dtype, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    shape = (grid.count, 3, *grid.window_hw)
    # Few levels make ties common.
    values = rng.integers(-levels, levels + 1, shape) if levels else rng.normal(scale=4, size=shape)
    return values.astype(dtype)


@exact_tilings
@given(frame_hw=st.tuples(sides, sides), window_hw=windows, colour=st.booleans(), seed=seeds)
def test_patches_are_those_of_the_host_path(mode, frame_hw, window_hw, colour, seed):
    grid = TileGrid(frame_hw, window_hw, mode)
    frame = noise(*frame_hw, *([3] if colour else []), seed=seed)
    assert np.array_equal(HostGrid(grid).split(frame), grid.split(to_grey(frame)))


@given(frame_hw=st.tuples(sides, sides), window_hw=windows, colour=st.booleans(), seed=seeds)
def test_scaled_patches_are_within_one_grey_level(frame_hw, window_hw, colour, seed):
    grid = TileGrid(frame_hw, window_hw, "frame")
    frame = noise(*frame_hw, *([3] if colour else []), seed=seed)
    received, expected = HostGrid(grid).split(frame), grid.split(to_grey(frame))
    assert np.abs(received.astype(int) - expected).max() <= 1
    height, width = grid.content_hw
    assert not received[..., height:, :].any()
    assert not received[..., width:].any()


@pytest.mark.parametrize("mode", TILINGS)
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda frame: frame[:, 5:60], id="cropped"),
        pytest.param(lambda frame: frame[::2, ::3], id="strided"),
        pytest.param(lambda frame: frame[::-1, ::-1], id="backwards"),
        pytest.param(lambda frame: frame.swapaxes(0, 1), id="transposed"),
        pytest.param(lambda frame: frame[3:4, 7:8], id="one px"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_pitch(mode, view, channels):
    frame = noise(70, 80, 4)[..., :3] if channels == 3 else noise(70, 80)
    frame = view(frame)
    grid = TileGrid(frame.shape[:2], (24, 16), mode)
    expected = grid.split(to_grey(np.ascontiguousarray(frame)))
    tolerance = 1 if mode == "frame" else 0
    np.testing.assert_allclose(HostGrid(grid).split(frame).astype(int), expected, atol=tolerance)


def test_every_colour_has_opencvs_grey():
    blue, green, red = np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 3, indexing="ij", sparse=False)
    frame = np.stack([blue, green, red], axis=-1)[::3].reshape(-1, 256 * 16, 3)  # a third of them: 5.6 million
    grid = TileGrid(frame.shape[:2], (256, 256), "paper")
    expected = grid.split(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    assert np.array_equal(HostGrid(grid).split(frame), expected)


@exact_tilings
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@given(frame_hw=st.tuples(sides, sides), window_hw=windows, levels=st.sampled_from([None, 1, 3]), seed=seeds)
def test_labels_are_those_of_the_host_path_bit_for_bit(mode, dtype, frame_hw, window_hw, levels, seed):
    grid = TileGrid(frame_hw, window_hw, mode)
    logits = random_logits(grid, dtype, seed, levels)
    labels, confidence = HostGrid(grid).decide(logits)
    expected_labels, expected_confidence = decide(grid.stitch(logits.astype(np.float32)))
    assert np.array_equal(labels, expected_labels)
    np.testing.assert_allclose(confidence, expected_confidence, rtol=2e-6)


@given(frame_hw=st.tuples(st.integers(20, 90), st.integers(20, 90)), seed=seeds)
def test_labels_are_equal_where_the_rounding_of_a_sum_decides(frame_hw, seed):
    """The classes differ by the last bit, so another order of the sums, or a fused product, gives other labels."""
    grid = TileGrid(frame_hw, (16, 12), "overlap")
    rng = np.random.default_rng(seed)
    logits = random_logits(grid, np.float32, seed)
    for number in (1, 2):
        step = rng.integers(-1, 2, logits[:, 0].shape).astype(np.float32)
        logits[:, number] = np.where(step == 0, logits[:, 0], np.nextafter(logits[:, 0], np.float32(100) * step))
    labels, _ = HostGrid(grid).decide(logits)
    assert np.array_equal(labels, decide(grid.stitch(logits))[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@given(frame_hw=st.tuples(st.integers(1, 200), st.integers(1, 200)), window_hw=windows, seed=seeds)
def test_scaled_labels_agree_where_no_rounding_decides(dtype, frame_hw, window_hw, seed):
    grid = TileGrid(frame_hw, window_hw, "frame")
    logits = random_logits(grid, dtype, seed)
    labels, confidence = HostGrid(grid).decide(logits)
    stitched = grid.stitch(logits.astype(np.float32))
    expected_labels, expected_confidence = decide(stitched)
    # A frame has few px here, so instead of a share: all of those that no rounding decides.
    top, second = -np.sort(-stitched, axis=0)[:2]
    clear = top - second > 1e-4
    assert np.array_equal(labels[clear], expected_labels[clear])
    np.testing.assert_allclose(confidence, expected_confidence, atol=1e-4)


@pytest.mark.parametrize("mode", TILINGS)
@pytest.mark.parametrize("frame_hw", [(480, 640), (1, 4096), (4096, 1), (1080, 1920), (255, 257)])
def test_large_frames_with_the_papers_window(mode, frame_hw):
    grid = TileGrid(frame_hw, (256, 256), mode)
    host = HostGrid(grid)
    frame = cv2.GaussianBlur(noise(*frame_hw), (0, 0), 3)
    np.testing.assert_allclose(host.split(frame).astype(int), grid.split(frame), atol=1 if mode == "frame" else 0)
    logits = random_logits(grid, np.float32)
    labels, _ = host.decide(logits)
    expected, _ = decide(grid.stitch(logits))
    assert (labels == expected).mean() >= (0.999 if mode == "frame" else 1)


def test_every_half_is_converted_exactly():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    for sign in (1, -1):
        logits = np.zeros((1, 3, 1, len(finite)), np.float16)
        logits[0, 1], logits[0, 2] = finite, -finite * sign
        grid = TileGrid((1, len(finite)), (1, len(finite)), "paper")
        labels, confidence = HostGrid(grid).decide(logits)
        expected = decide(grid.stitch(logits.astype(np.float32)))
        assert np.array_equal(labels, expected[0])
        np.testing.assert_allclose(confidence, expected[1], rtol=2e-6)


def test_infinite_logits_win_and_lose():
    logits = np.array([[0, np.inf, -np.inf], [-np.inf, 0, 5], [-np.inf, 1, np.inf]], np.float16)  # [class, px]
    labels, confidence = HostGrid(TileGrid((1, 3), (1, 3), "paper")).decide(logits[None, :, None].copy())
    assert labels.tolist() == [[0, 0, 2]]
    np.testing.assert_allclose(confidence, 1)


def test_infinities_stay_infinite():
    """Two of them have no difference; a half's largest finite neighbour would have one."""
    logits = np.full((1, 3, 1, 1), np.inf, np.float16)
    _, confidence = HostGrid(TileGrid((1, 1), (1, 1), "paper")).decide(logits)
    assert np.isnan(confidence).all()


def test_structures_have_the_layout_of_the_kernels():
    assert ctypes.sizeof(FrameLayout) == 32
    axes = HostGrid(TileGrid((4, 4), (2, 2), "paper")).axes
    assert (ctypes.sizeof(axes.split_vertical), ctypes.sizeof(axes.stitch_vertical)) == (40, 24)


def test_a_grid_that_cannot_be_indexed_is_refused():
    with pytest.raises(DataError, match="more than the CUDA path can index") as caught:
        make_tables(TileGrid((1000, 1000), (2, 2), "paper"))
    assert "larger windows" in caught.value.hint
