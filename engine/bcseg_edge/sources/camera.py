"""Cameras and frame grabbers, through OpenCV (V4L2 on Linux)."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge.errors import SourceError, SourceLost
from bcseg_edge.sources.devices import Wanted
from bcseg_edge.sources.live import LiveSource, Read, lost

DRIVER_FRAMES = 4  # buffers that OpenCV asks V4L2 for
RATE_TOLERANCE = 0.1  # of the frame rate: 29.97 is 30, 25 is not


class CameraSource(LiveSource):
    """A camera that the operating system knows.

    Opening takes one frame and compares size, rate and pixel format with what was asked for: drivers take the nearest
    they have without a word.

    Args:
        device: number, or path such as `/dev/video2`.
        wanted: what to ask the device for.
    """

    def __init__(self, device: int | str, wanted: Wanted) -> None:
        super().__init__(f"camera {device}", wanted.frame_hz or 30.0)
        self.device = device
        self.wanted = wanted
        self._capture: cv2.VideoCapture | None = None
        self._first: Read | None = None

    def open(self) -> None:
        """Open the device, set what is wanted and take a first frame.

        Raises:
            SourceLost: no such device, in use, or it gives no frame.
            SourceError: it gives something else than what is wanted.
        """
        self.close()
        capture = cv2.VideoCapture(self.device, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if not capture.isOpened():
            raise SourceLost(f"{self.description} cannot be opened", _devices_hint())
        self._capture = capture
        self._ask(capture)
        readable, image = capture.read()
        if not readable:
            self.close()
            raise SourceLost(f"{self.description} opens but gives no frame", "is another program using it?")
        self._first = self._frame(np.asarray(image, np.uint8))
        try:
            self._verify(capture, (image.shape[1], image.shape[0]))
        except SourceError:
            self.close()
            raise

    def read(self) -> Read:
        """The next frame; ERROR where the device is gone."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._capture is None:
            return lost("it is closed")
        readable, image = self._capture.read()
        return self._frame(np.asarray(image, np.uint8)) if readable else lost("the device gives no frame")

    def skip_old(self) -> None:
        """Take the frames that the driver kept, four at most in OpenCV, and forget them."""
        self._first = None
        for _ in range(DRIVER_FRAMES):
            if self._capture is not None:
                self._capture.grab()

    def close(self) -> None:
        """Release the device; a second call does nothing."""
        self._first = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _ask(self, capture: cv2.VideoCapture) -> None:
        # The pixel format first: it decides which sizes and rates there are.
        if self.wanted.pixel_format is not None:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self.wanted.pixel_format))
        if self.wanted.size_wh is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.wanted.size_wh[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.wanted.size_wh[1])
        if self.wanted.frame_hz is not None:
            capture.set(cv2.CAP_PROP_FPS, self.wanted.frame_hz)

    def _verify(self, capture: cv2.VideoCapture, size_wh: tuple[int, int]) -> None:
        given_hz = capture.get(cv2.CAP_PROP_FPS)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        given_format = code.to_bytes(4, "little", signed=code < 0).decode("latin-1").strip("\0 ").upper()
        wanted = self.wanted
        differences = []
        if wanted.size_wh not in (None, size_wh):
            differences.append(f"{size_wh[0]}x{size_wh[1]} px")
        wanted_hz = wanted.frame_hz or given_hz
        if given_hz > 0 and abs(given_hz - wanted_hz) > RATE_TOLERANCE * wanted_hz:
            differences.append(f"{given_hz:g} frames per second")
        if wanted.pixel_format is not None and given_format and given_format != wanted.pixel_format:
            differences.append(f"format {given_format}")
        if differences:
            raise SourceError(
                f"{self.description} gives {', '.join(differences)} instead of what was asked for",
                "see what it can do with: v4l2-ctl --list-formats-ext; or leave that option out",
            )
        if wanted.frame_hz is None and 0 < given_hz <= 1000:
            self.frame_hz = given_hz


def _devices_hint() -> str:
    found = sorted(str(path) for path in Path("/dev").glob("video*"))
    return f"this machine has: {', '.join(found)}" if found else "this machine has no /dev/video*: is it plugged in?"
