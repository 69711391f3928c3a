"""Frames that are on the device already: arrays of PyCUDA, CuPy and PyTorch, through `__cuda_array_interface__`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from bcseg_edge.errors import DataError

LEGACY_STREAM = 1  # CUDA's default stream, as the interface numbers it; 2 is the thread's own
NAMES_STREAM = 3  # the first version of the interface that does

_EXPECTED = "a frame on the device is a uint8 array [H, W] (grey) or [H, W, 3] (BGR), pixels of a row side by side"


@dataclass(frozen=True, slots=True)
class DeviceFrame:
    """A frame on the device.

    Attributes:
        address: of its first pixel.
        frame_hw: height and width, px.
        channels: 1 grey, 3 BGR.
        row_pitch: bytes from a row to the next.
        stream: the caller's stream, on which the array is written; None where it is complete already.
        owner: the array itself: whoever holds the frame keeps its memory.
    """

    address: int
    frame_hw: tuple[int, int]
    channels: int
    row_pitch: int
    stream: int | None
    owner: object = None


def is_device_array(frame: Any) -> bool:
    """Whether `frame` offers `__cuda_array_interface__`."""
    return hasattr(frame, "__cuda_array_interface__")


def read_device_array(frame: Any) -> DeviceFrame:
    """Read `frame.__cuda_array_interface__` (Numba's specification, versions 0 to 3).

    Raises:
        DataError: not uint8, of another shape, empty, masked, or with gaps between the pixels of a row.
    """
    interface = frame.__cuda_array_interface__
    shape, typestr = tuple(interface["shape"]), interface["typestr"]
    if typestr.lstrip("|<>=") != "u1":
        raise DataError(f"{_EXPECTED}, got type {typestr}", "scale the values to 0..255 and cast to uint8")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3) or 0 in shape:
        raise DataError(f"{_EXPECTED}, got shape {shape}", "drop an alpha channel, add no batch axis")
    if interface.get("mask") is not None:
        raise DataError(f"{_EXPECTED}, got a masked array", "fill the masked pixels first")
    channels = 3 if len(shape) == 3 else 1
    row_size = shape[1] * channels
    strides = interface.get("strides") or (row_size, *((3, 1) if channels == 3 else (1,)))
    packed = tuple(strides[1:]) == ((3, 1) if channels == 3 else (1,))
    if not packed or (strides[0] < row_size and shape[0] > 1):
        raise DataError(f"{_EXPECTED}, got strides {tuple(strides)}", "make the array contiguous first")
    pitch = max(strides[0], row_size)
    stream = _stream_of(frame, interface)
    return DeviceFrame(interface["data"][0], (shape[0], shape[1]), channels, pitch, stream, frame)


def _stream_of(frame: Any, interface: dict[str, Any]) -> int | None:
    """The stream that the caller writes `frame` on; None where nothing writes it any more.

    CuPy names it. PyTorch has version 2 of the interface, which has no word for it: its current stream. PyCUDA names
    none and waits for nothing either: it queues on the default stream where it is told of no other, as do further
    libraries of version 2.
    """
    torch = sys.modules.get("torch")  # a tensor cannot be there without it
    if torch is not None and isinstance(frame, torch.Tensor):
        return int(torch.cuda.current_stream(frame.device).cuda_stream) or LEGACY_STREAM
    if interface.get("version", 0) < NAMES_STREAM or type(frame).__module__.startswith("pycuda."):
        return LEGACY_STREAM
    stream: int | None = interface.get("stream")
    return stream
