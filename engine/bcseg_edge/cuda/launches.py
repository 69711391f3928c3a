"""The two launches of a frame: kernel name, grid, block and arguments, ready for `cuLaunchKernel`."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcseg_edge.cuda.tables import FrameLayout, GridTables, SplitAxis, StitchAxis
from bcseg_edge.tiling import TileGrid

BLOCK = (32, 8, 1)  # a warp reads 32 neighbouring px; 8 rows of them hide the latency of memory
STITCH_KERNELS = {"float32": "stitch_float32", "float16": "stitch_float16"}

Dim3 = tuple[int, int, int]


class Launch:
    """A kernel with its arguments, which it keeps alive.

    Attributes:
        kernel: name in `kernels.cu`.
        grid: blocks along x, y, z.
        block: threads of a block.
    """

    def __init__(self, kernel: str, threads: Dim3, *arguments: ctypes.Structure | ctypes._SimpleCData[Any]) -> None:
        self.kernel = kernel
        self.grid: Dim3 = (-(-threads[0] // BLOCK[0]), -(-threads[1] // BLOCK[1]), threads[2])
        self.block = BLOCK
        self._arguments = arguments
        self._addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))

    @property
    def arguments(self) -> int:
        """Address of an array that holds the address of each argument."""
        return ctypes.addressof(self._addresses)


@dataclass(frozen=True, slots=True)
class GridAxes:
    """A tile grid whose tables lie on the device.

    Attributes:
        grid: the tile grid.
        split_vertical, split_horizontal, stitch_vertical, stitch_horizontal: its axes, as the kernels take them.
    """

    grid: TileGrid
    split_vertical: SplitAxis
    split_horizontal: SplitAxis
    stitch_vertical: StitchAxis
    stitch_horizontal: StitchAxis


def split_launch(axes: GridAxes, frame: FrameLayout, patches: int) -> Launch:
    """Cut the frame into uint8 patches `[count, 1, h, w]` at the device address `patches`."""
    height, width = axes.grid.window_hw
    return Launch(
        "split_frame",
        (width, height, axes.grid.count),
        frame,
        axes.split_vertical,
        axes.split_horizontal,
        ctypes.c_int(axes.grid.cols),
        ctypes.c_void_p(patches),
    )


def stitch_launch(axes: GridAxes, logits: int, dtype: np.dtype[Any], labels: int, confidence: int) -> Launch:
    """Turn logits `[count, 3, h, w]` into labels uint8 and confidence float32 `[H, W]`; all device addresses.

    Args:
        axes: of the frame's grid.
        logits: written by the network.
        dtype: of the logits, float32 or float16.
        labels: to write.
        confidence: to write.
    """
    (height, width), window_hw = axes.grid.frame_hw, axes.grid.window_hw
    return Launch(
        STITCH_KERNELS[dtype.name],
        (width, height, 1),
        ctypes.c_void_p(logits),
        ctypes.c_int(window_hw[0] * window_hw[1]),
        axes.stitch_vertical,
        axes.stitch_horizontal,
        ctypes.c_void_p(labels),
        ctypes.c_void_p(confidence),
    )


def place_tables(grid: TileGrid, tables: GridTables, addresses: list[int]) -> GridAxes:
    """The axes of `grid`, given where each of `tables.arrays()` lies on the device."""
    return GridAxes(grid, *tables.device_axes(addresses))
