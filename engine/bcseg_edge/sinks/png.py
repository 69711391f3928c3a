"""One PNG file, whole or not there; and a folder with one for each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from bcseg_edge.errors import DataError
from bcseg_edge.files import write_bytes_atomic
from bcseg_edge.frames import Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.folder import make_folder

Picture = Callable[[Frame, Segmentation, Sequence[Lesion]], UInt8Array]


class PngSink:
    """Writes `FOLDER/NAME.png` for each frame.

    Args:
        folder: made where it does not exist.
        picture: makes the image, uint8 `[H, W]` or `[H, W, 3]` BGR.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: Path, picture: Picture) -> None:
        self.folder = make_folder(folder)
        self._picture = picture

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Store the frame's picture; DataError where that fails."""
        write_png(self.folder / f"{frame.name}.png", self._picture(frame, segmentation, lesions))

    def close(self) -> None:
        """Nothing is pending."""


def label_picture(frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> UInt8Array:
    """The labels, uint8 of the frame's size: 0 background, 1 benign, 2 malignant.

    Such an image looks black in a viewer; it is for programs.
    """
    return segmentation.labels


def write_png(path: Path, image: UInt8Array) -> None:
    """Encode uint8 `[H, W]` or `[H, W, 3]` BGR and write it atomically.

    Raises:
        DataError: it cannot be encoded or written.
    """
    encoded, data = cv2.imencode(".png", image)
    if not encoded:
        raise DataError(f"cannot encode {path.name} as PNG, image {image.dtype} {list(image.shape)}")
    try:
        write_bytes_atomic(path, data.tobytes())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", "free space or choose another folder") from error
