"""From a frame to its segmentation: on the host, or on the GPU where the model's backend has a frame path there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from bcseg_edge.decision import decide
from bcseg_edge.errors import DataError
from bcseg_edge.frames import CLASSES, Float32Array, Segmentation, Timings, UInt8Array, check_frame
from bcseg_edge.patch_reuse import PatchReuse
from bcseg_edge.tiling import TILINGS, TileGrid

if TYPE_CHECKING:
    from typing_extensions import Self

    from bcseg_edge.cuda.frame_path import FramePath
    from bcseg_edge.passport import Tiling


class PatchModel(Protocol):
    """What a `Segmenter` needs of a model; `bcseg_edge.models.LoadedModel` is one."""

    @property
    def window_hw(self) -> tuple[int, int]:
        """Size of its patches, px."""

    @property
    def tiling(self) -> Tiling:
        """The tiling it was trained for."""

    @property
    def max_batch(self) -> int:
        """Most patches per call of `infer`, >= 1."""

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array; a BcsegError once closed."""

    def close(self) -> None:
        """Release what it holds; a second call does nothing."""


class Segmenter:
    """Segments frames, one after the other: split, network, stitch, decide.

    With a backend on a GPU (`cuda`, `tensorrt`) all four happen there, in `bcseg_edge.cuda.frame_path`.
    It owns `model`: closing one closes the other. Not thread-safe: one segmenter per thread.
    Frame sizes may change from call to call; a new size costs what the backend needs for another batch size.

    Args:
        model: from `bcseg_edge.load_model`.
        tiling: `paper`, `overlap` or `frame`; None takes the one the model was trained for.
        reuse: do not execute patches whose logits are known from the frame before; see `bcseg_edge.patch_reuse`. The
            labels are the same. On a GPU it does nothing.

    Raises:
        DataError: an unknown tiling.
    """

    def __init__(self, model: PatchModel, tiling: Tiling | None = None, *, reuse: bool = False) -> None:
        if tiling is not None and tiling not in TILINGS:
            raise DataError(f"unknown tiling {tiling!r}", f"choose one of: {', '.join(TILINGS)}")
        self.model = model
        self.tiling: Tiling = tiling or model.tiling
        self._grid: TileGrid | None = None
        self._frame_logits: Float32Array | None = None
        self._reuse = PatchReuse(model) if reuse else None
        open_frame_path = getattr(model, "open_frame_path", None)  # a `PatchModel` need not have it
        self._cuda_path: FramePath | None = open_frame_path(self.tiling) if open_frame_path else None

    @property
    def overlaps(self) -> bool:
        """Whether `stream` uploads a frame while the one before it computes: with a backend on a GPU."""
        return self._cuda_path is not None

    def __call__(self, frame: UInt8Array) -> Segmentation:
        """Segment one frame.

        Args:
            frame: uint8 `[H, W]` (grey) or `[H, W, 3]` (BGR), any H, W >= 1, any strides; with a backend on a GPU
                also an array there with `__cuda_array_interface__` (PyCUDA, CuPy, PyTorch).

        Returns:
            Labels and confidence in arrays of their own, and the ms that split, network and stitch
            (with the decision) took.

        Raises:
            DataError: `frame` is something else.
            BcsegError: the model was closed.
        """
        if self._cuda_path is not None:
            return self._cuda_path(frame)
        started_ns = perf_counter_ns()
        grey = to_grey(frame)
        grid = self._grid_for((grey.shape[0], grey.shape[1]))
        patches = grid.split(grey)  # [N, 1, h, w]
        split_ns = perf_counter_ns()
        logits, reused = self._infer(patches)  # [N, 3, h, w]
        network_ns = perf_counter_ns()
        labels, confidence = decide(grid.stitch(logits, self._frame_logits))
        stitch_ns = perf_counter_ns()
        timings = Timings(
            split_ms=(split_ns - started_ns) / 1e6,
            network_ms=(network_ns - split_ns) / 1e6,
            stitch_ms=(stitch_ns - network_ns) / 1e6,
        )
        return Segmentation(labels, confidence, timings, len(patches), reused)

    def stream(self, frames: Iterable[UInt8Array]) -> Iterator[Segmentation]:
        """Segment frames in order; on a GPU each is uploaded while the one before it computes.

        Raises:
            BcsegError: as calling the segmenter does.
        """
        return map(self, frames) if self._cuda_path is None else self._cuda_path.stream(frames)

    def close(self) -> None:
        """Close the model; a second call does nothing."""
        if self._cuda_path is not None:
            self._cuda_path.close()
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _infer(self, patches: UInt8Array) -> tuple[Float32Array, int]:
        """Logits, and how many patches were not executed."""
        if self._reuse is not None:
            return self._reuse.infer(patches)
        return infer_in_batches(self.model, patches), 0

    def _grid_for(self, frame_hw: tuple[int, int]) -> TileGrid:
        if self._grid is None or self._grid.frame_hw != frame_hw:
            self._grid = TileGrid(frame_hw, self.model.window_hw, self.tiling)
            # Kept: as 900 fresh pages a frame it can cost 1 ms of page faults at 640x480.
            self._frame_logits = np.empty((len(CLASSES), *frame_hw), np.float32)
        return self._grid


def infer_in_batches(model: PatchModel, patches: UInt8Array) -> Float32Array:
    """Execute any number of patches, at most `model.max_batch` at a time.

    Args:
        model: see `PatchModel`.
        patches: uint8 `[N, 1, h, w]`, N >= 1.

    Returns:
        logits: float32 `[N, 3, h, w]`, a fresh array.
    """
    batch = model.max_batch
    if len(patches) <= batch:
        return model.infer(patches)
    logits = np.empty((len(patches), len(CLASSES), *patches.shape[2:]), np.float32)
    for first in range(0, len(patches), batch):
        logits[first : first + batch] = model.infer(patches[first : first + batch])
    return logits


def to_grey(frame: UInt8Array) -> UInt8Array:
    """Validate a frame and make it grey.

    Args:
        frame: uint8 `[H, W]` or `[H, W, 3]` in BGR order.

    Returns:
        uint8 `[H, W]`; `frame` itself where it is grey already. Colours are weighted as in ITU-R BT.601.

    Raises:
        DataError: not an array, not uint8, not of those shapes, or empty.
    """
    if check_frame(frame).ndim == 2:
        return frame
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
