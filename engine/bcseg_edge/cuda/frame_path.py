"""From frames to segmentations on the GPU, one frame uploading while the one before it computes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bcseg_edge.cuda.device_array import DeviceFrame, is_device_array, read_device_array
from bcseg_edge.cuda.driver import Cuda
from bcseg_edge.cuda.executor import Executor
from bcseg_edge.cuda.slot import Slot
from bcseg_edge.errors import BcsegError, ModelError
from bcseg_edge.frames import Segmentation, UInt8Array, check_frame
from bcseg_edge.tiling import TileGrid

if TYPE_CHECKING:
    from bcseg_edge.passport import Tiling

SLOTS = 2  # one uploads while one computes; a third would add only latency


class FramePath:
    """The CUDA frame path. Results come in the order of the frames. Not thread-safe; any one thread may use it.

    Args:
        cuda: the GPU.
        executor: of the network; it stays open.
        window_hw: of the network, px.
        tiling: `paper`, `overlap` or `frame`.
        graphs: see `Slot`; without them it shows what they are worth.
    """

    def __init__(
        self, cuda: Cuda, executor: Executor, window_hw: tuple[int, int], tiling: Tiling, *, graphs: bool = True
    ) -> None:
        self._cuda = cuda
        self._executor = executor
        self._window_hw = window_hw
        self._tiling = tiling
        self._graphs = graphs
        self._free: list[Slot] = []
        self._pending: deque[Slot] = deque()
        self._closed = False
        self._grid: TileGrid | None = None

    def __call__(self, frame: UInt8Array | Any) -> Segmentation:
        """Segment one frame; see `submit`.

        Raises:
            BcsegError: frames that were submitted are not collected yet, or the work failed.
        """
        if self._pending:
            raise BcsegError(f"{len(self._pending)} submitted frames are not collected", "collect them first")
        self.submit(frame)
        return self.collect()

    def stream(self, frames: Iterable[UInt8Array | Any]) -> Iterator[Segmentation]:
        """Segment frames, each uploaded while the one before it computes; a result follows one frame later.

        Where it is left early, what is under way is waited for and dropped.
        """
        try:
            for frame in frames:
                self.submit(frame)
                if len(self._pending) == SLOTS:
                    yield self.collect()
            while self._pending:
                yield self.collect()
        finally:
            self.drop()

    def submit(self, frame: UInt8Array | Any) -> None:
        """Queue a frame and return; at most `SLOTS` may be under way.

        Args:
            frame: uint8 `[H, W]` (grey) or `[H, W, 3]` (BGR) on the host, any strides; or an array on the device with
                `__cuda_array_interface__`, which is read in the order of its stream: the one that it names, PyTorch's
                current one, or the default one for arrays that cannot name any. Where it names none on purpose
                (version 3, None) it has to stay as it is until the frame is collected.

        Raises:
            DataError: `frame` is something else.
            ModelError: the path is closed.
            BcsegError: too many frames are under way, out of memory, or a fault of CUDA or the network.
        """
        if self._closed:
            raise ModelError("the CUDA frame path is closed", "load the model again with load_model")
        image, frame_hw, channels = _read(frame)
        self._cuda.use()
        if self._grid is None or self._grid.frame_hw != frame_hw:
            self._grid = TileGrid(frame_hw, self._window_hw, self._tiling)
        slot = self._next_slot()
        try:
            slot.submit(image, self._grid, channels)
        except BaseException:
            self._free.append(slot)
            raise
        self._pending.append(slot)

    def collect(self) -> Segmentation:
        """Wait for the oldest frame under way.

        Returns:
            Labels and confidence in arrays of their own; timings by CUDA events.

        Raises:
            BcsegError: no frame is under way, or its work failed.
        """
        if not self._pending:
            raise BcsegError("no frame is under way", "submit one first")
        slot = self._pending.popleft()
        self._free.append(slot)
        return slot.collect()

    def drop(self) -> None:
        """Wait for the frames under way and forget them."""
        while self._pending:
            with contextlib.suppress(BcsegError):  # what nobody asks for cannot fail anybody
                self.collect()

    def close(self) -> None:
        """Release everything but the executor; a second call does nothing."""
        self._closed = True
        slots = [*self._pending, *self._free]
        self._pending.clear()
        self._free.clear()
        for slot in slots:
            slot.close()

    def _next_slot(self) -> Slot:
        if self._free:
            return self._free.pop(0)
        if len(self._pending) == SLOTS:
            raise BcsegError(f"{SLOTS} frames are under way already", "collect one before submitting the next")
        return Slot(self._cuda, self._executor, graphs=self._graphs)


def _read(frame: UInt8Array | Any) -> tuple[UInt8Array | DeviceFrame, tuple[int, int], int]:
    """The frame, its size and its channels."""
    if is_device_array(frame):
        device_frame = read_device_array(frame)
        return device_frame, device_frame.frame_hw, device_frame.channels
    image = check_frame(frame)
    return image, (image.shape[0], image.shape[1]), 1 if image.ndim == 2 else 3
