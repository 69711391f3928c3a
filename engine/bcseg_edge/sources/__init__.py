"""Where frames come from: one grammar for all of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from bcseg_edge.decoder_logs import silence_decoders
from bcseg_edge.errors import SourceError
from bcseg_edge.sources.devices import is_live, make_live_source
from bcseg_edge.sources.dicom import DicomSource, is_dicom
from bcseg_edge.sources.dicom_files import DicomFilesSource
from bcseg_edge.sources.images import IMAGE_SUFFIXES, ImageSource
from bcseg_edge.sources.live import LiveSource
from bcseg_edge.sources.phantom import GRAMMAR, PhantomSource, parse_phantom
from bcseg_edge.sources.several import open_folder, open_glob
from bcseg_edge.sources.source import Source
from bcseg_edge.sources.video import VideoSource

__all__ = [
    "DicomFilesSource",
    "DicomSource",
    "ImageSource",
    "LiveSource",
    "PhantomSource",
    "Source",
    "VideoSource",
    "open_source",
]

_HINT = (
    "give an image, a folder, a glob in quotes, a video or DICOM file, a camera (camera:0), a stream or "
    f"{GRAMMAR.split('?')[0]}"
)

silence_decoders()


def open_source(spec: str | os.PathLike[str]) -> Source:
    """Open what `spec`, a text or a path, names.

    - `phantom:640x480@30?seed=1&lesion=malignant`: a simulated cine; see `PhantomSpec` for the options
    - a folder: its images in natural order (`2.png` before `10.png`), BUSI's mask files left out; where it holds none,
      its DICOM files, see `DicomFilesSource`
    - an image file; 8 bits, grey, colour or palette; transparency is put on black; each page of a TIFF stack and each
      frame of an animated PNG or WebP (OpenCV 4.11 or later) is a frame
    - a DICOM file, one frame or many: see `DicomSource`
    - any other file: a video, read by OpenCV
    - a glob such as `scans/*.png`: as a folder that holds what matches
    - `camera:0?size=1280x720&fps=30&format=MJPG`, `/dev/video2`, `csi:0`, `rtsp://...` and other URLs that FFmpeg
      reads, `igtl://HOST:18944/DEVICE`, `watch:FOLDER`: a `LiveSource`, opened

    Raises:
        SourceError: neither text nor path, nothing there, or nothing readable in it.
        SourceLost: a live source is not there.
        BackendUnavailable: a live source needs a package that is missing.
    """
    try:
        text = os.fsdecode(spec)
    except TypeError as error:
        raise SourceError(f"a source is a text or a path, got {type(spec).__name__}", _HINT) from error
    if text.lower().startswith("phantom:"):
        return PhantomSource(parse_phantom(text))
    if is_live(text):
        live = make_live_source(text)
        live.open()
        return live
    return _opener(text)()


def _opener(spec: str) -> Callable[[], Source]:
    path = Path(spec).expanduser()
    if path.is_dir():
        return lambda: open_folder(path)
    if path.is_file():
        if is_dicom(path):
            return lambda: DicomSource(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return lambda: ImageSource([path], str(path))
        return lambda: VideoSource(path)
    if any(character in spec for character in "*?["):
        return lambda: open_glob(str(path))
    raise SourceError(f"no such file or folder: {spec!r}", _HINT)
