"""The grammar of live sources: `camera:0?size=1280x720&fps=30&format=MJPG`, `csi:0`, URLs, `watch:FOLDER`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from bcseg_edge.errors import SourceError
from bcseg_edge.sources.live import LiveSource

LIVE = re.compile(r"(camera|csi|watch):|/dev/|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
CAMERA_GRAMMAR = "camera:0?size=1280x720&fps=30&format=MJPG"
URL_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "rtp", "srt")
_HINT = f"write it as {CAMERA_GRAMMAR} (also /dev/video0 or csi:0); the part after '?' may be left out"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a device is asked for; None leaves it to the device.

    Attributes:
        size_wh: width and height, px.
        frame_hz: frames per second.
        pixel_format: four characters as V4L2 names them, e.g. MJPG, YUYV.
    """

    size_wh: tuple[int, int] | None = None
    frame_hz: float | None = None
    pixel_format: str | None = None


def is_live(spec: str) -> bool:
    """Whether `spec` names a live source."""
    return LIVE.match(spec) is not None


def make_live_source(spec: str) -> LiveSource:
    """The live source that `spec` names, not opened.

    Raises:
        SourceError: a form, an option or a scheme that is not known.
        BackendUnavailable: a package for it is missing.
    """
    kind, _, rest = spec.partition(":")
    scheme = kind.lower()
    if scheme == "camera":
        return _camera(rest)
    if spec.startswith("/dev/"):
        return _camera(spec)
    if scheme == "csi":
        return _csi(rest)
    if scheme == "watch":
        from bcseg_edge.sources.watch import WatchSource

        return WatchSource(Path(rest).expanduser())
    if scheme == "igtl":
        from bcseg_edge.sources.igtl import IgtlSource, parse_igtl

        return IgtlSource(*parse_igtl(spec))
    if scheme in URL_SCHEMES:
        from bcseg_edge.sources.stream import StreamSource

        return StreamSource(spec)
    raise SourceError(
        f"no live source is called {kind}://", f"known are camera, csi, watch, igtl, {', '.join(URL_SCHEMES)}"
    )


def parse_device(text: str) -> tuple[str, Wanted]:
    """Split `NAME?size=WxH&fps=HZ&format=FOUR` into the name and what is wanted.

    Raises:
        SourceError: an unknown option, or a value that is none.
    """
    name, _, options = text.partition("?")
    size_wh = frame_hz = pixel_format = None
    for key, value in parse_qsl(options, keep_blank_values=True):
        if key == "size" and (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", value)):
            size_wh = (int(match[1]), int(match[2]))
        elif key == "fps" and re.fullmatch(r"\d+(\.\d+)?", value) and 0 < float(value) <= 1000:
            frame_hz = float(value)
        elif key == "format" and re.fullmatch(r"[\x21-\x7e]{4}", value):
            pixel_format = value.upper()
        elif key in ("size", "fps", "format"):
            raise SourceError(f"camera option {key}={value!r} cannot be read", _HINT)
        else:
            raise SourceError(f"camera option {key!r}; the options are size, fps, format", _HINT)
    return name, Wanted(size_wh, frame_hz, pixel_format)


def _camera(rest: str) -> LiveSource:
    from bcseg_edge.sources.camera import CameraSource

    name, wanted = parse_device(rest)
    if not (name.isdecimal() or name.startswith("/dev/")):
        raise SourceError(f"{name!r} is no camera: neither a number nor a device", _HINT)
    return CameraSource(int(name) if name.isdecimal() else name, wanted)


def _csi(rest: str) -> LiveSource:
    from bcseg_edge.sources.gstreamer import csi_source

    name, wanted = parse_device(rest)
    if not name.isdecimal():
        raise SourceError(f"csi:{name} has no sensor number", "write csi:0, or csi:0?size=1920x1080&fps=30")
    return csi_source(int(name), wanted)
