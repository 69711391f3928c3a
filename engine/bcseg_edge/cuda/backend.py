"""A backend whose network runs on the GPU: for whole frames through a `FramePath`, for patches through `infer`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from bcseg_edge.cuda.driver import Cuda
from bcseg_edge.cuda.executor import Executor, Lane, split_batches
from bcseg_edge.cuda.frame_path import FramePath
from bcseg_edge.cuda.memory import Arena
from bcseg_edge.frames import CLASSES, Float32Array, UInt8Array

if TYPE_CHECKING:
    from bcseg_edge.passport import Tiling


class CudaBackend:
    """Executes patches or frames on the GPU. Not thread-safe.

    Args:
        cuda: the GPU.
        executor: of the network; owned from now on.
        window_hw: of the network, px.
    """

    def __init__(self, cuda: Cuda, executor: Executor, window_hw: tuple[int, int]) -> None:
        self.name = executor.name
        self._cuda = cuda
        self._executor: Executor | None = executor
        self._window_hw = window_hw
        self._lane: Lane | None = None

    def open_frame_path(self, tiling: Tiling, *, graphs: bool = True) -> FramePath:
        """The frame path for `tiling`, see there; to be closed before the backend."""
        assert self._executor is not None  # LoadedModel refuses a closed backend
        return FramePath(self._cuda, self._executor, self._window_hw, tiling, graphs=graphs)

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array.

        For comparing models: it allocates and copies at each call. Frames go through `open_frame_path`.
        """
        executor = self._executor
        assert executor is not None  # LoadedModel refuses a closed backend
        self._cuda.use()
        batches = split_batches(len(patches), executor.profile)
        rooms = sum(batches[-1])
        shape = (rooms, len(CLASSES), *self._window_hw)
        window_px = self._window_hw[0] * self._window_hw[1]
        logits_size = len(CLASSES) * window_px * executor.logits_dtype.itemsize  # of one patch
        sizes = {"patches": rooms * window_px, "logits": rooms * logits_size}
        with contextlib.ExitStack() as release:
            device = Arena(self._cuda, sizes)
            release.callback(device.close)
            pinned = Arena(self._cuda, sizes, pinned=True)
            release.callback(pinned.close)
            stream = self._cuda.create_stream()
            release.callback(self._cuda.destroy_stream, stream)
            release.callback(self._cuda.synchronize, stream)
            if self._lane is None:
                self._lane = executor.open_lane()
            self._lane.prepare({size for _, size in batches})
            filled = pinned.view("patches", (rooms, 1, *self._window_hw), np.uint8)
            filled[: len(patches)] = patches
            filled[len(patches) :] = 0
            self._cuda.copy(device.addresses["patches"], pinned.addresses["patches"], sizes["patches"], stream)
            for first, size in batches:
                source = device.addresses["patches"] + first * window_px
                target = device.addresses["logits"] + first * logits_size
                self._lane.enqueue(source, target, size, stream)
            self._cuda.copy(pinned.addresses["logits"], device.addresses["logits"], sizes["logits"], stream)
            self._cuda.synchronize(stream)
            return np.array(pinned.view("logits", shape, executor.logits_dtype)[: len(patches)], np.float32)

    def close(self) -> None:
        """Release lane and network; a second call does nothing."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None
        if self._executor is not None:
            self._executor.close()
            self._executor = None
