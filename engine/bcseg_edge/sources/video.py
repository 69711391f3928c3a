"""Video files."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import Frame

if TYPE_CHECKING:
    from typing_extensions import Self

# A container's frame count is often its duration times its rate, rounded: two frames off is no damage.
COUNT_TOLERANCE = 2
_FALLBACK_HZ = 25.0  # what FFmpeg assumes where a stream names no rate


class VideoSource:
    """The frames of a video file, BGR, in order; every iteration starts at the first.

    A file cut in the middle that can still be opened gives the frames that are left; `problems` then says how
    many were missing.

    Raises:
        SourceError: the file is empty, or no frame of it can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = str(path)
        self.problems: list[str] = []
        self._capture: cv2.VideoCapture | None = None
        try:
            str(path).encode()
        except UnicodeEncodeError as error:  # OpenCV 5 ends the process
            raise SourceError(f"{str(path)!a} is not named in UTF-8, as OpenCV wants it", "rename it") from error
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty (0 bytes)", "record or download it again")
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        readable, _ = capture.read()
        capture.release()
        if not readable:
            raise SourceError(f"{path} opens, but its first frame cannot be decoded", "record or download it again")
        self.frame_hz: float | None = rate if math.isfinite(rate) and 0 < rate <= 1000 else _FALLBACK_HZ
        self.count: int | None = int(count) if math.isfinite(count) and count > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        self.close()
        self.problems.clear()
        capture = self._capture = self._open()
        index = 0
        while capture.isOpened():
            readable, image = capture.read()
            if not readable:
                break
            yield Frame(np.asarray(image, np.uint8), index, time.monotonic_ns(), name=f"{index:06d}")
            index += 1
        if self.count is not None and index < self.count - COUNT_TOLERANCE:
            self.problems.append(
                f"{self.path} ended early: {index} frames could be read, its header says {self.count}; it may be cut"
            )
        self.close()

    def close(self) -> None:
        """Release the decoder; safe to call twice."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise SourceError(
                f"{self.path} is neither an image nor a video that can be opened; it may be cut or damaged",
                "play it with another program; if that works, convert it to .mp4",
            )
        return capture
