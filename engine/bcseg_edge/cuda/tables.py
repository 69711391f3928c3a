"""What the kernels need to know of a tile grid: one small table per axis, in place of arithmetic in every thread.

The structures mirror those of `kernels.cu` field by field. A table is made once per frame size.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bcseg_edge.errors import DataError
from bcseg_edge.frames import CLASSES, Float32Array
from bcseg_edge.tiling import Axis, TileGrid

Int32Array = npt.NDArray[np.int32]
_Number = TypeVar("_Number", np.int32, np.float32)

MAX_PATCHES = 65535  # CUDA's largest grid along z
MAX_LOGITS = 2**31 - 1  # offsets are int32


class FrameLayout(ctypes.Structure):
    """A frame on the device; see `kernels.cu`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("row_pitch", ctypes.c_longlong),
        ("pixel_pitch", ctypes.c_longlong),
        ("channels", ctypes.c_int),
    )


class SplitAxis(ctypes.Structure):
    """A `SplitTable` on the device; see `kernels.cu`."""

    _fields_ = (
        ("starts", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("taps", ctypes.c_int),
        ("content", ctypes.c_int),
        ("window", ctypes.c_int),
    )


class StitchAxis(ctypes.Structure):
    """A `StitchTable` on the device; see `kernels.cu`."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("taps", ctypes.c_int),
        ("frame", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class SplitTable:
    """How one axis of the frame becomes one axis of the patches.

    Attributes:
        starts: int32 `[windows]`, first px of each window in the content.
        first: int32 `[content]`, first frame px that a px of the content is made of.
        weights: float32 `[content, taps]`, shares of that px and of the ones after it; they sum to one.
        window: px.
    """

    starts: Int32Array
    first: Int32Array
    weights: Float32Array
    window: int


@dataclass(frozen=True, slots=True)
class StitchTable:
    """How one axis of the windows becomes one axis of the frame.

    Attributes:
        offsets: int32 `[taps, frame]`, where the logit lies along this axis, in elements.
        weights: float32 `[taps, frame]`, its share; 0 where there is none.
    """

    offsets: Int32Array
    weights: Float32Array


@dataclass(frozen=True, slots=True)
class GridTables:
    """The tables of one tile grid."""

    split_vertical: SplitTable
    split_horizontal: SplitTable
    stitch_vertical: StitchTable
    stitch_horizontal: StitchTable

    def arrays(self) -> tuple[npt.NDArray[np.int32] | Float32Array, ...]:
        """All arrays, in the order in which `device_axes` takes their addresses."""
        splits = (self.split_vertical, self.split_horizontal)
        stitches = (self.stitch_vertical, self.stitch_horizontal)
        return (
            *(array for table in splits for array in (table.starts, table.first, table.weights)),
            *(array for table in stitches for array in (table.offsets, table.weights)),
        )

    def device_axes(self, addresses: list[int]) -> tuple[SplitAxis, SplitAxis, StitchAxis, StitchAxis]:
        """The kernels' arguments, given where each of `arrays()` lies on the device."""
        vertical, horizontal = self.split_vertical, self.split_horizontal
        return (
            SplitAxis(*addresses[0:3], vertical.weights.shape[1], len(vertical.first), vertical.window),
            SplitAxis(*addresses[3:6], horizontal.weights.shape[1], len(horizontal.first), horizontal.window),
            StitchAxis(*addresses[6:8], *self.stitch_vertical.offsets.shape),
            StitchAxis(*addresses[8:10], *self.stitch_horizontal.offsets.shape),
        )


def make_tables(grid: TileGrid) -> GridTables:
    """Make the tables of `grid`.

    Raises:
        DataError: the grid is larger than the kernels can index.
    """
    height, width = grid.window_hw
    logits_per_patch = len(CLASSES) * height * width
    if grid.count > MAX_PATCHES or grid.count * logits_per_patch > MAX_LOGITS:
        raise DataError(
            f"{grid.count} windows of {height}x{width} px in one frame are more than the CUDA path can index",
            "use larger windows or smaller frames, or a CPU backend",
        )
    frame_h, frame_w = grid.frame_hw
    return GridTables(
        _split_table(grid.vertical, frame_h, grid.content_hw[0]),
        _split_table(grid.horizontal, frame_w, grid.content_hw[1]),
        _stitch_table(grid, grid.vertical, frame_h, grid.cols * logits_per_patch, width),
        _stitch_table(grid, grid.horizontal, frame_w, logits_per_patch, 1),
    )


def _split_table(axis: Axis, frame: int, content: int) -> SplitTable:
    first, weights = _area(frame, content) if content < frame else _linear(frame, content)
    return SplitTable(axis.starts.astype(np.int32), first, weights, axis.window)


def _area(source: int, target: int) -> tuple[Int32Array, Float32Array]:
    """First source px and shares `[target, taps]` of the px that each target px covers."""
    edges = np.arange(target + 1) * (source / target)
    taps = min(source, int(np.ceil(source / target)) + 1)
    first = np.minimum(np.floor(edges[:-1]), source - taps).astype(np.int64)
    left = first[:, None] + np.arange(taps)  # [target, taps]
    covered = np.clip(np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left), 0, 1)
    return first.astype(np.int32), (covered / covered.sum(1, keepdims=True)).astype(np.float32)


def _linear(source: int, target: int) -> tuple[Int32Array, Float32Array]:
    """First source px and shares `[target, taps]` of bilinear scaling with half-pixel centres."""
    taps = min(source, 2) if source != target else 1
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.minimum(np.floor(centre), source - taps).astype(np.int64)
    weights = 1 - np.abs(centre[:, None] - (first[:, None] + np.arange(taps)))  # [target, taps]
    return first.astype(np.int32), np.clip(weights, 0, 1).astype(np.float32)


def _stitch_table(grid: TileGrid, axis: Axis, frame: int, window_step: int, pixel_step: int) -> StitchTable:
    """Offsets and shares of the logits of each frame px; elements from window to window and from px to px given."""
    if grid.mode == "frame":
        first, weights = _linear(axis.length, frame)
        taps = np.arange(weights.shape[1])
        offsets = (first[:, None] + taps) * pixel_step  # [frame, taps]
        return StitchTable(_rows(offsets.astype(np.int32)), _rows(weights))
    # Windows that share a tap never touch the same px, and taps are in the order in which TileGrid adds windows.
    offsets = np.zeros((axis.depth, axis.padded), np.int32)
    weights = np.zeros((axis.depth, axis.padded), np.float32)
    shares = axis.weights if grid.mode == "overlap" else np.ones((len(axis.starts), axis.window), np.float32)
    numbers = np.arange(len(axis.starts))[:, None]  # [windows, 1]
    pixels = np.arange(axis.window)  # [window]
    covered = axis.starts[:, None] + pixels  # [windows, window]
    offsets[numbers % axis.depth, covered] = numbers * window_step + pixels * pixel_step
    weights[numbers % axis.depth, covered] = shares
    return StitchTable(_rows(offsets[:, :frame].T), _rows(weights[:, :frame].T))


def _rows(columns: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """`[frame, taps]` -> contiguous `[taps, frame]`, which neighbouring threads read side by side."""
    return np.ascontiguousarray(columns.T)
