"""Frames with the lesions drawn over them: a PNG each, or one video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2

from bcseg_edge.drawing import draw_overlay
from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.folder import make_folder
from bcseg_edge.sinks.png import write_png


class OverlayImageSink:
    """Writes `FOLDER/NAME.png`, of the frame's size.

    Args:
        folder: made where it does not exist.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Store the overlay; DataError where that fails."""
        write_png(self.folder / f"{frame.name}.png", draw_overlay(frame.image, segmentation.labels, lesions))

    def close(self) -> None:
        """Nothing is pending."""


class OverlayVideoSink:
    """Writes an `.mp4` (MPEG-4 part 2, the one that every OpenCV build encodes); without a frame there is no file.

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
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Add the overlay; DataError where the frame has another size than the first, or nothing can be encoded."""
        overlay = draw_overlay(frame.image, segmentation.labels, lesions)
        height, width = overlay.shape[:2]
        if self._writer is None:
            self._size_wh = (width, height)
            self._writer = self._open()
        if (width, height) != self._size_wh:
            expected = "x".join(map(str, self._size_wh))
            raise DataError(f"frame {frame.index} has {width}x{height} px, the video {expected}", "split the source")
        self._writer.write(cv2.copyMakeBorder(overlay, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))

    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing. DataError where it cannot be read back."""
        if self._writer is None or self._temporary is None:
            return
        self._writer.release()
        self._writer = None
        with self._pending:
            if not _readable(self._temporary):
                raise DataError(f"{self.path} could not be written whole", "check that the disk has space left")

    def _open(self) -> cv2.VideoWriter:
        self._temporary = self._pending.enter_context(atomic_path(self.path))
        width, height = (side + side % 2 for side in self._size_wh)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._temporary), fourcc, self._frame_hz, (width, height))
        if not writer.isOpened():
            self._pending.close()
            raise DataError(
                f"OpenCV {cv2.__version__} cannot encode a {width}x{height} MPEG-4 video",
                "use an OpenCV with FFmpeg: pip install opencv-python-headless",
            )
        return writer


def _readable(path: Path) -> bool:
    """Whether a frame can be decoded; the encoder itself does not report a full disk."""
    capture = cv2.VideoCapture(str(path))
    readable, _ = capture.read()
    capture.release()
    return readable
