"""Network streams, through the FFmpeg in OpenCV."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import cv2
import numpy as np

from bcseg_edge.errors import SourceLost
from bcseg_edge.sources.live import END, LiveSource, Read, lost

OPEN_MS, READ_MS = 8000, 3000
FALLBACK_HZ = 25.0
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# TCP, since a lost UDP packet is a smeared image; and nothing kept back that could be shown.
_LOW_DELAY = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
_environment_lock = threading.Lock()


class StreamSource(LiveSource):
    """A URL that FFmpeg reads: RTSP, RTMP, HTTP (MJPEG too), UDP, SRT.

    A frame's capture time is when it was decoded here: the delay in the encoder and the network cannot be seen.
    A stream that changes its size without breaking off goes on in the size it began with, scaled: OpenCV since 4.7 does
    not tell (opencv/opencv issue 27116). After a reconnection the new size counts.

    Args:
        url: user and password in it are used, and shown nowhere.
    """

    def __init__(self, url: str) -> None:
        super().__init__(without_password(url), FALLBACK_HZ)
        self.url = url
        self._capture: cv2.VideoCapture | None = None
        self._first: Read | None = None
        self._finite = False

    def open(self) -> None:
        """Connect and decode a first frame.

        Raises:
            SourceLost: nobody answers, or with nothing that can be decoded.
        """
        self.close()
        parameters = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS),
            *(cv2.CAP_PROP_N_THREADS, 1),  # each further decoding thread holds back a frame
        ]
        with _low_delay():
            capture = cv2.VideoCapture(self.url, cv2.CAP_FFMPEG, parameters)
        readable, image = capture.read() if capture.isOpened() else (False, None)
        if not readable:
            opened = capture.isOpened()
            capture.release()
            raise SourceLost(
                f"{self.description} {'gives no frame' if opened else 'cannot be opened'}",
                "check address, user and network; ffprobe URL says more",
            )
        self._capture = capture
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frame_hz = rate if 0 < rate <= 1000 else FALLBACK_HZ
        # A file behind a web address ends; a camera that names a length (some RTSP servers do) only breaks off.
        self._finite = self.url.lower().startswith("http") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        self._first = self._frame(np.asarray(image, np.uint8))

    def read(self) -> Read:
        """The next frame; ERROR where the stream broke, END where a file behind the URL has ended."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._capture is None:
            return lost("it is closed")
        asked_s = time.monotonic()
        readable, image = self._capture.read()
        if readable:
            return self._frame(np.asarray(image, np.uint8))
        if self._finite:
            return END
        if time.monotonic() - asked_s > 0.9 * READ_MS / 1e3:
            return lost(f"no data for {READ_MS / 1e3:g} s")
        return lost("the stream broke off")

    def skip_old(self) -> None:
        """Connect again: what the network kept back meanwhile cannot be told from what is new."""
        self.open()

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        self._first = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def without_password(url: str) -> str:
    """The URL for logs and files: no user, no password, no query (which may hold a key)."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:  # a port that is no number
        return re.sub(r"//.*@", "//", url).partition("?")[0]
    return f"{parts.scheme}://{host}{parts.path}"


@contextmanager
def _low_delay() -> Iterator[None]:
    """FFmpeg's options for live streams, which OpenCV takes from the environment only; the user's own win."""
    with _environment_lock:
        users = os.environ.get(_OPTIONS)
        os.environ.setdefault(_OPTIONS, _LOW_DELAY)
        try:
            yield
        finally:
            if users is None:
                del os.environ[_OPTIONS]
