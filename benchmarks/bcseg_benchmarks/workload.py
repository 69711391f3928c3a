"""The frames that everything is measured on: of the phantom, so that anybody has the same ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge import open_source
from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array

DISTINCT_FRAMES = 10
SPACING_MM = (0.1, 0.1)
_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True, slots=True)
class Workload:
    """Frames of one size, taken in turn.

    Attributes:
        description: what they are.
        images: uint8 `[H, W]`, grey.
    """

    description: str
    images: tuple[UInt8Array, ...]

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Size of the frames, px."""
        height, width = self.images[0].shape[:2]
        return height, width

    def in_turn(self) -> Iterator[UInt8Array]:
        """The images one after the other, again and again, without end."""
        return cycle(self.images)


def phantom_workload(frame_hw: tuple[int, int], count: int = DISTINCT_FRAMES) -> Workload:
    """Frames of the phantom at `frame_hw`.

    Raises:
        SourceError: a size that the phantom does not simulate.
    """
    spec = f"phantom:{frame_hw[1]}x{frame_hw[0]}@30"
    with open_source(spec) as source:
        images = tuple(frame.image for frame in islice(source, count))
    return Workload(f"{len(images)} distinct frames of {spec}, in turn", images)


def resized(workload: Workload, frame_hw: tuple[int, int], count: int) -> Workload:
    """The first `count` frames at another size: simulating 4K frames would take longer than measuring them."""
    size = (frame_hw[1], frame_hw[0])
    images = tuple(np.asarray(cv2.resize(image, size), np.uint8) for image in workload.images[:count])
    return Workload(f"{workload.description}, resized to {size[0]}x{size[1]}", images)


def write_video(workload: Workload, path: Path, frames: int, frame_hz: float = 30.0) -> None:
    """Write the frames as Motion JPEG, what most USB frame grabbers send.

    Raises:
        DataError: this OpenCV cannot encode it.
    """
    height, width = workload.frame_hw
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), frame_hz, (width, height))
    if not writer.isOpened():
        raise DataError("this OpenCV cannot encode Motion JPEG", "pip install opencv-python-headless")
    for image in islice(cycle(workload.images), frames):
        writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()


def parse_size(text: str) -> tuple[int, int]:
    """`640x480` as (height, width).

    Raises:
        DataError: anything else.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise DataError(f"--frame-size {text!r} is not WIDTHxHEIGHT", "give for example --frame-size 640x480")
    return int(match[2]), int(match[1])
