"""Encoding an MP4: H.264, which browsers play, where something here can encode it.

PyPI's OpenCV (5.0, its FFmpeg without x264) refuses `avc1`. It does write VP9 and VP8, which browsers play too, but
at 640x480 on one core of an AMD EPYC (Zen 4) these took 117 and 30 ms a frame (its "realtime" options change nothing):
the whole frame interval. PyAV brings x264, which took 3 ms (`superfast`). Without either, MPEG-4 part 2 takes 1.5 ms:
players show it, browsers do not.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2

from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array

_X264 = {"preset": "superfast", "crf": "20"}
_FULL = "check that the disk has space left"


class Encoder(Protocol):
    """Takes the frames of one video."""

    def write(self, image: UInt8Array, number: int) -> None:
        """Add uint8 `[H, W, 3]` BGR, H and W even; `number` counts frames at the video's rate and only grows."""

    def close(self) -> None:
        """Finish the file."""


def open_encoder(path: Path, size_wh: tuple[int, int], frame_hz: float) -> Encoder:
    """Open the best encoder that there is: PyAV's x264, OpenCV's H.264, OpenCV's MPEG-4.

    Raises:
        DataError: none can write this video.
    """
    try:
        import av
    except ImportError:
        return _OpenCvEncoder(path, size_wh, frame_hz)
    if "libx264" not in av.codecs_available:
        return _OpenCvEncoder(path, size_wh, frame_hz)
    return _X264Encoder(av, path, size_wh, frame_hz)


class _X264Encoder:
    """H.264 by PyAV. A gap in the frames' numbers is a frame that stays longer, so that the video keeps its time."""

    def __init__(self, av: Any, path: Path, size_wh: tuple[int, int], frame_hz: float) -> None:
        self._av = av
        self._first: int | None = None
        try:
            self._container = av.open(str(path), "w", format="mp4")
            rate = Fraction(frame_hz).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options=_X264)
            self._stream.width, self._stream.height = size_wh
            self._stream.pix_fmt = "yuv420p"  # what every browser decodes
        except (av.error.FFmpegError, ValueError) as error:
            raise DataError(f"cannot encode {path.name}: {error}", _FULL) from error

    def write(self, image: UInt8Array, number: int) -> None:
        self._first = number if self._first is None else self._first
        picture = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        picture.pts = number - self._first
        self._send(picture)

    def close(self) -> None:
        try:
            self._send(None)
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise DataError(f"the video cannot be finished: {error}", _FULL) from error

    def _send(self, picture: Any) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except self._av.error.FFmpegError as error:
            raise DataError(f"the video cannot be written: {error}", _FULL) from error


class _OpenCvEncoder:
    """H.264 or MPEG-4 by OpenCV, every frame for one interval."""

    def __init__(self, path: Path, size_wh: tuple[int, int], frame_hz: float) -> None:
        for codec in ("avc1", "mp4v"):
            self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), frame_hz, size_wh)
            if self._writer.isOpened():
                return
        raise DataError(
            f"OpenCV {cv2.__version__} cannot encode a {size_wh[0]}x{size_wh[1]} MP4",
            "use an OpenCV with FFmpeg (pip install opencv-python-headless), or pip install av",
        )

    def write(self, image: UInt8Array, number: int) -> None:
        self._writer.write(image)

    def close(self) -> None:
        self._writer.release()
