"""The data that travels along the way of one frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

CLASSES = ("background", "benign", "malignant")
BACKGROUND, BENIGN, MALIGNANT = range(3)

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a source.

    Attributes:
        image: uint8 `[H, W]` (grey) or `[H, W, 3]` (BGR).
        index: 0-based position in the source.
        captured_ns: `time.monotonic_ns()` when the frame was taken.
        spacing_mm: (row, column) size of a pixel in mm, None where unknown.
        name: stem for output files, unique within the source (an image's own stem, `000042` in a video).
        truth: uint8 labels `[H, W]` where the source knows them (the phantom), else None.
    """

    image: UInt8Array
    index: int
    captured_ns: int
    spacing_mm: tuple[float, float] | None = None
    name: str = ""
    truth: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds per stage of one frame."""

    split_ms: float
    network_ms: float
    stitch_ms: float

    @property
    def total_ms(self) -> float:
        return self.split_ms + self.network_ms + self.stitch_ms


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What the model says of one frame.

    Attributes:
        labels: uint8 `[H, W]`, values 0 background, 1 benign, 2 malignant.
        confidence: float32 `[H, W]`, softmax probability of the chosen label, 1/3 to 1.
        timings: ms per stage.
    """

    labels: UInt8Array
    confidence: Float32Array
    timings: Timings = field(default_factory=lambda: Timings(0.0, 0.0, 0.0))
