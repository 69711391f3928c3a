"""The data that travels along the way of one frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bcseg_edge.errors import DataError

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
        region_xywh: left, top, width and height within the file's frame, px, where `image` is a part of that (a DICOM
            region); None where it is all of it.
    """

    image: UInt8Array
    index: int
    captured_ns: int
    spacing_mm: tuple[float, float] | None = None
    name: str = ""
    truth: UInt8Array | None = None
    region_xywh: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds per stage of one frame; on a GPU by CUDA events.

    Attributes:
        split_ms: cutting the frame into patches.
        network_ms: executing them.
        stitch_ms: stitching and deciding.
        upload_ms: bringing the frame to the GPU; 0 on a CPU.
        download_ms: bringing labels and confidence back; 0 on a CPU.
    """

    split_ms: float
    network_ms: float
    stitch_ms: float
    upload_ms: float = 0.0
    download_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        return self.upload_ms + self.split_ms + self.network_ms + self.stitch_ms + self.download_ms


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What the model says of one frame.

    Attributes:
        labels: uint8 `[H, W]`, values 0 background, 1 benign, 2 malignant.
        confidence: float32 `[H, W]`, softmax probability of the chosen label, 1/3 to 1.
        timings: ms per stage.
        patches: windows that cover the frame; 0 where unknown.
        patches_reused: of these, how many were not computed, since their result was known.
    """

    labels: UInt8Array
    confidence: Float32Array
    timings: Timings = field(default_factory=lambda: Timings(0.0, 0.0, 0.0))
    patches: int = 0
    patches_reused: int = 0


def check_frame(frame: UInt8Array) -> UInt8Array:
    """Validate what should be a frame, and return it.

    Raises:
        DataError: not an array, not uint8, neither `[H, W]` nor `[H, W, 3]`, or empty.
    """
    expected = "a frame is a uint8 array [H, W] (grey) or [H, W, 3] (BGR)"
    if not isinstance(frame, np.ndarray):
        raise DataError(f"{expected}, got {type(frame).__name__}", "read the image with cv2.imread or open_source")
    if frame.dtype != np.uint8:
        raise DataError(f"{expected}, got dtype {frame.dtype}", "scale the values to 0..255 and cast to uint8")
    if frame.ndim != 2 and (frame.ndim != 3 or frame.shape[2] != 3):
        raise DataError(f"{expected}, got shape {frame.shape}", "drop an alpha channel, add no batch axis")
    if frame.size == 0:
        raise DataError(f"{expected} with H, W >= 1, got shape {frame.shape}", "check that the source gave an image")
    return frame
