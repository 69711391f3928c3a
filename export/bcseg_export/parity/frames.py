"""Frames to compare models on: labelled images where there are some, else of the seeded phantom."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from bcseg_edge.frames import UInt8Array
from bcseg_edge.segmenter import to_grey
from bcseg_edge.sources import open_source
from bcseg_train.thinning import thin

# Both classes, several lesions each: a gate that sees no lesion proves nothing.
PHANTOMS = tuple(
    f"phantom:640x480@2?seed={seed}&lesion={lesion}&frames=6"
    for seed in (11, 12, 13)
    for lesion in ("benign", "malignant")
)
PHANTOM_NAME = f"{len(PHANTOMS)} phantoms"


@dataclass(frozen=True)
class GateFrame:
    """One frame of a comparison.

    Attributes:
        name: of the image, for reports.
        image: uint8 `[H, W]` or `[H, W, 3]`.
        truth: uint8 labels `[H, W]`, None where unknown.
    """

    name: str
    image: UInt8Array
    truth: UInt8Array | None = None

    @cached_property
    def digest(self) -> str:
        """Of its grey values, as `frame_digest` gives it."""
        return frame_digest(self.image)


@dataclass(frozen=True, slots=True)
class GateFrames:
    """The frames of a comparison and what they are, in words."""

    frames: tuple[GateFrame, ...]
    data: str


def collect_frames(data: Path | None, split: str | None = None, max_images: int | None = None) -> GateFrames:
    """Load the frames to compare on.

    Args:
        data: BUSI-like folder; None takes phantom frames, whose truth is left out: what a network makes of a
            simulation says nothing about its accuracy.
        split: of the folder, `FILE:NAME` or `all`; None takes `val` of its `busi_split.csv`, or all without one.
        max_images: at most so many, spread evenly.

    Raises:
        DataError: the folder or the split does not fit.
    """
    if data is None:
        return GateFrames(tuple(thin(tuple(_phantom_frames()), max_images)), PHANTOM_NAME)
    from bcseg_train.evaluate import select_images  # which loads PyTorch: the phantom needs none

    selection = select_images(data, split, max_images)
    return GateFrames(tuple(GateFrame(sample.name, *sample.load()) for sample in selection.samples), selection.data)


def frame_digest(image: UInt8Array) -> str:
    """Hex SHA-256 of a frame's size and grey values: the same image has it whatever its file is called."""
    grey = to_grey(image)
    return hashlib.sha256(f"{grey.shape}".encode() + np.ascontiguousarray(grey).tobytes()).hexdigest()


def _phantom_frames() -> Iterator[GateFrame]:
    for number, spec in enumerate(PHANTOMS):
        with open_source(spec) as source:
            yield from (GateFrame(f"phantom {number} frame {frame.index}", frame.image) for frame in islice(source, 6))
