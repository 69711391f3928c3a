"""OpenCV's and FFmpeg's own words on stderr: what matters of them is in our errors."""

from __future__ import annotations

import os
import sys

_OPENCV = "OPENCV_LOG_LEVEL"  # read when OpenCV is loaded
_FFMPEG = "OPENCV_FFMPEG_LOGLEVEL"  # read when the first video is opened
_OPENCV_DEFAULT = 3  # warnings


def silence_decoders() -> None:
    """Turn them off, unless their variables are set or OpenCV was told another level."""
    is_chosen = _OPENCV in os.environ
    os.environ.setdefault(_OPENCV, "SILENT")
    os.environ.setdefault(_FFMPEG, "-8")
    cv2 = sys.modules.get("cv2")
    if cv2 is None or is_chosen:
        return
    logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 5, OpenCV 4
    if logging.getLogLevel() == _OPENCV_DEFAULT:
        logging.setLogLevel(0)
