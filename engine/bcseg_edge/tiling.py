"""The windows that cover one frame: cutting a frame into patches and putting logits together again.

Three tilings, one way: the frame becomes *content* (itself, or scaled into one window), the content is
zero-padded at the right and at the bottom, and windows are cut from it. Backwards, the logits of the windows are joined
or blended, cropped to the content and scaled back to the frame.

- `paper`: native resolution, windows side by side (Katar and Yildirim 2023, with a 256x256 window).
- `overlap`: native resolution, windows spread evenly, at most half a window apart, blended by a Hann weight.
  The spread is nnU-Net's `compute_steps_for_sliding_window` (Isensee et al. 2021): no shifted last window.
- `frame`: the whole frame scaled into one window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bcseg_edge.errors import DataError
from bcseg_edge.frames import Float32Array, UInt8Array

if TYPE_CHECKING:
    from bcseg_edge.passport import Tiling

TILINGS: tuple[Tiling, ...] = ("paper", "overlap", "frame")


@dataclass(frozen=True)
class TileGrid:
    """The grid of windows for frames of one size. Immutable; equal where its three parameters are.

    Attributes:
        frame_hw: height and width of the frames in px, each >= 1.
        window_hw: the model's input size in px, each >= 1.
        mode: `paper`, `overlap` or `frame`; see the module.

    Raises:
        DataError: a size below 1, or an unknown mode.
    """

    frame_hw: tuple[int, int]
    window_hw: tuple[int, int]
    mode: Tiling

    def __post_init__(self) -> None:
        if min(*self.frame_hw, *self.window_hw) < 1:
            raise DataError(
                f"cannot tile a frame of {_size(self.frame_hw)} px in windows of {_size(self.window_hw)} px",
                "give sizes of at least 1x1",
            )
        if self.mode not in TILINGS:
            raise DataError(f"unknown tiling {self.mode!r}", f"choose one of: {', '.join(TILINGS)}")

    @property
    def rows(self) -> int:
        """Windows from top to bottom."""
        return len(self.vertical.starts)

    @property
    def cols(self) -> int:
        """Windows from left to right."""
        return len(self.horizontal.starts)

    @property
    def count(self) -> int:
        """Patches per frame, `rows * cols`; they are numbered row by row."""
        return self.rows * self.cols

    @property
    def row_starts(self) -> tuple[int, ...]:
        """Top edge of each row of windows in the padded content, px."""
        return tuple(self.vertical.starts.tolist())

    @property
    def col_starts(self) -> tuple[int, ...]:
        """Left edge of each column of windows in the padded content, px."""
        return tuple(self.horizontal.starts.tolist())

    @property
    def stride_hw(self) -> tuple[int, int]:
        """Largest distance between neighbouring windows in px; the window itself where there is only one."""
        return self.vertical.stride, self.horizontal.stride

    @cached_property
    def content_hw(self) -> tuple[int, int]:
        """Size of the frame as the windows see it, px: `frame_hw`, or in `frame` mode the scaled size."""
        if self.mode != "frame":
            return self.frame_hw
        # Fractions, since training and the CUDA path must round the same halves up.
        scale = min(Fraction(self.window_hw[0], self.frame_hw[0]), Fraction(self.window_hw[1], self.frame_hw[1]))
        height, width = (max(1, math.floor(side * scale + Fraction(1, 2))) for side in self.frame_hw)
        return height, width

    @property
    def padded_hw(self) -> tuple[int, int]:
        """Size of the content with its zero padding, px: what the windows cover exactly."""
        return self.vertical.padded, self.horizontal.padded

    @cached_property
    def vertical(self) -> Axis:
        """Windows from top to bottom."""
        return Axis(self.content_hw[0], self.window_hw[0], overlapping=self.mode == "overlap")

    @cached_property
    def horizontal(self) -> Axis:
        """Windows from left to right."""
        return Axis(self.content_hw[1], self.window_hw[1], overlapping=self.mode == "overlap")

    def split(self, grey: UInt8Array) -> UInt8Array:
        """Cut a frame into patches.

        Args:
            grey: uint8 `[H, W]`, of `frame_hw`.

        Returns:
            uint8 `[count, 1, h, w]`, contiguous, sharing no memory with `grey`.

        Raises:
            DataError: `grey` is not of `frame_hw`.
        """
        if grey.shape != self.frame_hw:
            raise DataError(
                f"the tile grid is for grey frames [{_size(self.frame_hw)}], got shape {grey.shape}",
                "make a TileGrid for each frame size",
            )
        if self.count == 1:
            return self._single_patch(grey)
        padded = _pad(grey, self.padded_hw)
        windows = sliding_window_view(padded, self.window_hw)  # [H' - h + 1, W' - w + 1, h, w]
        patches: UInt8Array = windows[np.ix_(self.vertical.starts, self.horizontal.starts)]  # [rows, cols, h, w]
        return patches.reshape(self.count, 1, *self.window_hw)

    def stitch(self, logits: Float32Array, scratch: Float32Array | None = None) -> Float32Array:
        """Put the logits of a frame's patches together, the inverse of `split`.

        Args:
            logits: float32 `[count, classes, h, w]`, in the order of `split`'s patches.
            scratch: float32 `[classes, H, W]` for what has to be scaled; None allocates it.

        Returns:
            float32 `[classes, H, W]`; `scratch` where it was scaled, a view of `logits` where nothing had to be moved.
            In `overlap` mode the peak extra memory is the result and about half of `logits`.

        Raises:
            DataError: `logits` does not have that shape.
        """
        if logits.ndim != 4 or (len(logits), *logits.shape[2:]) != (self.count, *self.window_hw):
            raise DataError(
                f"expected logits [{self.count}, 3, {_size(self.window_hw, ', ')}], got shape {logits.shape}",
                "pass the logits of all patches of one frame, in the order of TileGrid.split",
            )
        mosaic = self._blend(logits) if self.mode == "overlap" else self._join(logits)
        height, width = self.content_hw
        return self._unscale(mosaic[:, :height, :width], scratch)

    def _single_patch(self, grey: UInt8Array) -> UInt8Array:
        """The only window, scaled into its place: half the time of scaling, padding and cutting."""
        height, width = self.content_hw
        patch = np.zeros((1, 1, *self.window_hw), np.uint8)
        content = patch[0, 0, :height, :width]
        if self.content_hw == self.frame_hw:
            content[:] = grey
            return patch
        shrinks = height < self.frame_hw[0] or width < self.frame_hw[1]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cv2.resize(grey, (width, height), dst=content, interpolation=interpolation)
        return patch

    def _unscale(self, logits: Float32Array, scratch: Float32Array | None) -> Float32Array:
        if self.content_hw == self.frame_hw:
            return logits
        frame_logits = np.empty((len(logits), *self.frame_hw), np.float32) if scratch is None else scratch
        # OpenCV resizes interleaved channels only: a plane at a time saves transposing to and fro.
        for plane, target in zip(logits, frame_logits, strict=True):
            cv2.resize(plane, self.frame_hw[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        return frame_logits

    def _join(self, logits: Float32Array) -> Float32Array:
        classes = logits.shape[1]
        grid = logits.reshape(self.rows, self.cols, classes, *self.window_hw)
        return grid.transpose(2, 0, 3, 1, 4).reshape(classes, *self.padded_hw)

    def _blend(self, logits: Float32Array) -> Float32Array:
        vertical, horizontal = self.vertical, self.horizontal
        classes = logits.shape[1]
        grid = logits.reshape(self.rows, self.cols, classes, *self.window_hw).transpose(2, 0, 1, 3, 4)
        mosaic = np.zeros((classes, *self.padded_hw), np.float32)
        windows = sliding_window_view(mosaic, self.window_hw, axis=(1, 2), writeable=True)
        # Every depth-th window of an axis is clear of the others, so each step adds to a pixel once.
        for phase in np.ndindex(vertical.depth, horizontal.depth):
            rows, cols = (slice(p, None, axis.depth) for p, axis in zip(phase, (vertical, horizontal), strict=True))
            weighted = grid[:, rows, cols] * horizontal.weights[cols, None, :]  # [classes, rows', cols', h, w]
            weighted *= vertical.weights[rows, None, :, None]
            windows[:, vertical.starts[rows, None], horizontal.starts[cols]] += weighted
        return mosaic


class Axis:
    """The windows along one axis of a grid.

    Attributes:
        length: px of the content.
        window: px of a window.
        starts: int64 `[n]`, first px of each window.
        padded: px the windows cover together, >= the content's length.
        stride: largest distance between neighbouring windows, px.
        depth: smallest step in which no two windows touch the same px (1 to 3).
    """

    def __init__(self, length: int, window: int, *, overlapping: bool) -> None:
        self.length = length
        self.window = window
        self.starts = _spread(length, window) if overlapping else np.arange(0, length, window)
        self.padded = int(self.starts[-1]) + window
        self.stride = int(np.diff(self.starts).max(initial=0)) or window
        first_clear = np.searchsorted(self.starts, self.starts + window)
        self.depth = int((first_clear - np.arange(len(self.starts))).max())

    @cached_property
    def weights(self) -> Float32Array:
        """float32 `[n, window]`, > 0: each window's share of its px; the shares of a px sum to one."""
        # A Hann window sampled at pixel centres is never zero; half a window apart two of them sum to one.
        hann = np.sin(np.pi * (np.arange(self.window) + 0.5) / self.window) ** 2
        covered = self.starts[:, None] + np.arange(self.window)  # [n, window]
        total = np.bincount(covered.ravel(), weights=np.tile(hann, len(self.starts)), minlength=self.padded)
        shares: Float32Array = (hann / total[covered]).astype(np.float32)
        return shares


def _spread(length: int, window: int) -> npt.NDArray[np.int64]:
    """Starts of windows from 0 to `length - window`, at most half a window apart, rounded half up."""
    room = length - window
    if room <= 0:
        return np.zeros(1, np.int64)
    gaps = -(-2 * room // window)
    return (2 * np.arange(gaps + 1, dtype=np.int64) * room + gaps) // (2 * gaps)


def _pad(content: UInt8Array, padded_hw: tuple[int, int]) -> UInt8Array:
    """Zero-pad at the right and at the bottom; `content` itself where it already fits."""
    if content.shape == padded_hw:
        return content
    padded = np.zeros(padded_hw, np.uint8)
    padded[: content.shape[0], : content.shape[1]] = content
    return padded


def _size(size_hw: tuple[int, int], separator: str = "x") -> str:
    return separator.join(str(side) for side in size_hw)
