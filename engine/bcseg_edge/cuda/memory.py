"""One allocation that holds all buffers of a slot, so that a frame size costs one allocation and no frame costs any."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from bcseg_edge.cuda.driver import Cuda

ALIGNMENT = 256  # of cudaMalloc, and the most that TensorRT asks of an input


class Arena:
    """Named buffers in one piece of device memory, or of pinned host memory.

    Args:
        cuda: the GPU.
        sizes: bytes by name.
        pinned: pinned host memory, mapped for the device, instead of device memory.

    Raises:
        CudaOutOfMemory: says what was needed and what is free.

    Attributes:
        addresses: by name; of pinned memory the host's.
    """

    def __init__(self, cuda: Cuda, sizes: Mapping[str, int], *, pinned: bool = False) -> None:
        starts, end = {}, 0
        for name, size in sizes.items():
            starts[name] = end
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self._cuda = cuda
        self._pinned = pinned
        self._base: int | None = cuda.allocate_host(end) if pinned else cuda.allocate(end)
        self.addresses: Mapping[str, int] = MappingProxyType({name: self._base + at for name, at in starts.items()})

    def view(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A pinned buffer as an array; not to be used after `close`."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = (ctypes.c_ubyte * size).from_address(self.addresses[name])
        array: npt.NDArray[Any] = np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)
        return array

    def mapped(self, name: str) -> int:
        """Where the device sees a pinned buffer."""
        return self._cuda.mapped(self.addresses[name])

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        base, self._base = self._base, None
        if base is not None:
            (self._cuda.free_host if self._pinned else self._cuda.free)(base)
