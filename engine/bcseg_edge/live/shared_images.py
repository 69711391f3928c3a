"""Memory that two processes see: an image on its way to the backend, labels and confidence on the way back."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from bcseg_edge.frames import Float32Array, UInt8Array

BYTES_PER_PX = 8  # a colour image 3, labels 1, confidence 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies: small enough to be sent with each frame.

    Attributes:
        name: of the shared memory.
        shape: of the image, `[H, W]` or `[H, W, 3]`.
    """

    name: str
    shape: tuple[int, ...]


class SharedImages:
    """A block of shared memory with one image and its result in it.

    Args:
        size_px: largest H * W.
        name: attaches to the block of that name; None makes one, which `close` then removes.
    """

    def __init__(self, size_px: int, name: str | None = None) -> None:
        self.size_px = size_px
        self._owned = name is None
        self._memory = SharedMemory(name, create=self._owned, size=size_px * BYTES_PER_PX if self._owned else 0)

    @property
    def name(self) -> str:
        """What another process attaches by."""
        return self._memory.name

    def views(self, shape: tuple[int, ...]) -> tuple[UInt8Array, UInt8Array, Float32Array]:
        """Image (of `shape`), labels and confidence (`[H, W]`) in the block; gone with `close`."""
        hw = (shape[0], shape[1])
        size_px = math.prod(hw)
        confidence: Float32Array = np.ndarray(hw, np.float32, self._memory.buf)
        labels: UInt8Array = np.ndarray(hw, np.uint8, self._memory.buf, size_px * 4)
        image: UInt8Array = np.ndarray(shape, np.uint8, self._memory.buf, size_px * 5)
        return image, labels, confidence

    def close(self) -> None:
        """Let go of the block; a second call does nothing."""
        with suppress(BufferError):  # a view in some traceback: the memory goes with it
            self._memory.close()
        if self._owned:
            self._owned = False
            self._memory.unlink()
