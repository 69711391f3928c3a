"""Frames with the lesions drawn over them: a picture each, or one video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge.drawing import draw_overlay
from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.frames import Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.encoder import Encoder, open_encoder
from bcseg_edge.sinks.folder import make_folder


def overlay_picture(frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> UInt8Array:
    """The frame with its lesions, uint8 `[H, W, 3]` BGR."""
    return draw_overlay(frame.image, segmentation.labels, lesions)


class OverlayVideoSink:
    """Writes an `.mp4`; without a frame there is no file. See `encoder.py` for which players show it.

    Frames of odd size get one repeated row or column, which the codec needs. The file gets its name when the
    sink is closed and was read back.

    Args:
        path: the file; its folder is made.
        frame_hz: frames per second.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, frame_hz: float) -> None:
        self.path = path
        make_folder(path.parent)
        self._frame_hz = frame_hz
        self._pending = ExitStack()
        self._temporary: Path | None = None
        self._encoder: Encoder | None = None
        self._size_wh = (0, 0)

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Add the overlay; DataError where the frame has another size than the first, or nothing can be encoded."""
        overlay = overlay_picture(frame, segmentation, lesions)
        height, width = overlay.shape[:2]
        if self._encoder is None:
            self._size_wh = (width, height)
            self._encoder = self._open()
        if (width, height) != self._size_wh:
            expected = "x".join(map(str, self._size_wh))
            raise DataError(f"frame {frame.index} has {width}x{height} px, the video {expected}", "split the source")
        even = cv2.copyMakeBorder(overlay, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self._encoder.write(np.asarray(even, np.uint8), frame.index)

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing. DataError where it cannot be read back."""
        encoder, self._encoder = self._encoder, None
        if encoder is None or self._temporary is None:
            return
        with self._pending:
            encoder.close()
            if not _readable(self._temporary):
                raise DataError(f"{self.path} could not be written whole", "check that the disk has space left")

    def _open(self) -> Encoder:
        self._temporary = self._pending.enter_context(atomic_path(self.path))
        width, height = (side + side % 2 for side in self._size_wh)
        try:
            return open_encoder(self._temporary, (width, height), self._frame_hz)
        except DataError:
            self._pending.close()
            raise


def _readable(path: Path) -> bool:
    """Whether a frame can be decoded; OpenCV's encoder does not report a full disk."""
    capture = cv2.VideoCapture(str(path))
    readable, _ = capture.read()
    capture.release()
    return readable
