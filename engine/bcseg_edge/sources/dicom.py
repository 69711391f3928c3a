"""DICOM images and cines: frame by frame, cropped to the ultrasound image, with the size of a pixel."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bcseg_edge.errors import BackendUnavailable, BcsegError, SourceError
from bcseg_edge.frames import Frame, UInt8Array
from bcseg_edge.sources.dicom_jpeg2000 import check_boxes, encoded_frames
from bcseg_edge.sources.dicom_regions import find_region

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from typing_extensions import Self

# A frame of 8K video has 33 million; a damaged header must not ask for more memory than any scanner's image.
MAX_FRAME_PX = 1 << 26
# Pillow comes first where it can: its decoders are the ones that meet damaged files every day.
_PLUGINS = ("pillow", "pyjpegls", "pylibjpeg", "pydicom", "gdcm")
_INSTALL = 'pip install "bcseg-edge[dicom]"'


class DicomSource:
    """The frames of a DICOM file, in order; every iteration starts at the first. One frame is in memory at a time.

    A frame is what lies in the file's largest 2D tissue region (Sequence of Ultrasound Regions, PS3.3 C.8.5.5), so that
    menus and texts around the image are not segmented; the whole image where the file names no region, or one that
    does not lie in the image. Colours become BGR, palettes are applied, MONOCHROME1 is inverted.

    Attributes:
        path: the file.
        header: its data set without pixels.
        frame_hw: size of the file's frames, px.
        crop_xywh: the part of them that is given, px.
        spacing_mm: (row, column) size of a pixel, None where the file does not say.
        note: what a person should know of the region and the spacing; empty where nothing.

    Raises:
        SourceError: not a DICOM file, no image in it, a kind of image that is not 8 bits, or a damaged one.
        BackendUnavailable: pydicom is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.header = _read_header(path)
        _guarded(path, self._read_tags)
        next(iter(self._images()))  # a file whose first frame cannot be decoded is refused at once

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        left, top, width, height = self.crop_xywh
        region_xywh = self.crop_xywh if (height, width) != self.frame_hw else None
        index = 0
        try:
            for image in self._images():
                part = np.ascontiguousarray(image[top : top + height, left : left + width])
                name = f"{index:06d}" if self.count != 1 else self.path.stem
                yield Frame(part, index, time.monotonic_ns(), self.spacing_mm, name, region_xywh=region_xywh)
                index += 1
        except SourceError as error:
            if index == 0:
                raise
            self.problems.append(f"{error.message}; {index} of {self.count} frames could be read")

    def close(self) -> None:
        """Nothing to release: the file is open only while it is iterated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_tags(self) -> None:
        self.frame_hw = _check_image(self.path, self.header)
        self.count: int | None = _frame_count(self.path, self.header)
        region = find_region(self.header, self.frame_hw)
        self.crop_xywh: tuple[int, int, int, int] = region.crop_xywh
        self.spacing_mm = region.spacing_mm
        self.frame_hz: float | None = _frame_hz(self.header) if self.count != 1 else None
        self.note = region.note
        self.description = f"{self.path}, {region.note}" if region.note else str(self.path)

    def _images(self) -> Iterator[UInt8Array]:
        """Whole frames, uint8 `[H, W]` or `[H, W, 3]` BGR."""
        from pydicom.pixels.utils import iter_pixels
        from pydicom.uid import JPEG2000TransferSyntaxes

        plugin = _guarded(self.path, lambda: _plugin(self.header))
        frames = iter_pixels(self.path, raw=False, decoding_plugin=plugin)
        syntax = self.header.file_meta.TransferSyntaxUID
        encoded = encoded_frames(self.path, self.header) if syntax in JPEG2000TransferSyntaxes else iter(())
        end = object()
        while True:
            _guarded(self.path, lambda: check_boxes(next(encoded, b"")))
            pixels: Any = _guarded(self.path, lambda: next(frames, end))
            if pixels is end:
                return
            yield _guarded(self.path, lambda pixels=pixels: _to_image(pixels, self.header))


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix, or by the `DICM` after the 128-byte preamble (PS3.10, 7.1).

    Raises:
        SourceError: it cannot be read.
    """
    if path.suffix.lower() in (".dcm", ".dicom"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}", "check its permissions") from error


def load_pydicom() -> ModuleType:
    """The package; BackendUnavailable where it is not installed."""
    try:
        import pydicom
    except ImportError as error:
        raise BackendUnavailable(
            "reading DICOM needs the package 'pydicom', which is not installed", _INSTALL
        ) from error
    return pydicom


def _read_header(path: Path) -> Dataset:
    read = load_pydicom().dcmread
    header: Dataset = _guarded(path, lambda: read(path, stop_before_pixels=True))
    return header


def _guarded(path: Path, work: Any) -> Any:
    """Do `work`; whatever a damaged file makes the decoders raise becomes a SourceError."""
    try:
        with warnings.catch_warnings():  # pydicom quotes what it does not understand, patient data too
            warnings.simplefilter("ignore")
            return work()
    except BcsegError:
        raise
    except ImportError as error:
        raise BackendUnavailable(f"reading this DICOM file needs more: {error}", _INSTALL) from error
    except (Exception, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(
            f"{path} cannot be read as DICOM: {reason[:200]}", "export it again, uncompressed where that is offered"
        ) from error


def _check_image(path: Path, header: Dataset) -> tuple[int, int]:
    """Size of the frames `(rows, columns)`, px; refuses what is not an 8-bit image."""
    rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    allocated = int(header.get("BitsAllocated") or 0)
    stored = int(header.get("BitsStored") or allocated)
    if rows < 1 or columns < 1:
        kind = header.get("Modality") or "no modality"
        raise SourceError(f"{path} holds no image ({kind})", "choose an ultrasound image or cine")
    if rows * columns > MAX_FRAME_PX:
        raise SourceError(f"{path} names frames of {columns}x{rows} px", "it is damaged; export it again")
    if allocated != 8 or stored != 8:
        raise SourceError(
            f"{path} has {stored} bits a pixel in {allocated}; 8 in 8 are expected", "export it with 8 bits"
        )
    return rows, columns


def _frame_count(path: Path, header: Dataset) -> int:
    count = int(header.get("NumberOfFrames") or 1)
    if count < 1:
        raise SourceError(f"{path} names {count} frames", "it is damaged; export it again")
    return count


def _frame_hz(header: Dataset) -> float:
    """From Frame Time, Frame Time Vector, Cine Rate or Recommended Display Frame Rate (PS3.3 C.7.6.5)."""
    intervals_ms = [value for value in _numbers(header.get("FrameTimeVector"))[1:] if value > 0]
    if intervals_ms:
        return 1000 * len(intervals_ms) / sum(intervals_ms)
    (interval_ms,) = _numbers(header.get("FrameTime"))[:1] or [0.0]
    if 1 <= interval_ms <= 60_000:
        return 1000 / interval_ms
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        for rate in _numbers(header.get(keyword))[:1]:
            if 0 < rate <= 1000:
                return rate
    return 25.0


def _numbers(value: Any) -> list[float]:
    """The finite numbers of an element of any multiplicity; none where it holds something else."""
    values = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    try:
        found = [float(item) for item in values if item is not None]
    except (TypeError, ValueError):
        return []
    return [item for item in found if math.isfinite(item)]


def _plugin(header: Dataset) -> str:
    """The decoder to use; empty for pydicom's choice."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    decoder = get_decoder(syntax)
    available = decoder.available_plugins
    if not available:
        raise BackendUnavailable(f"no decoder for {syntax.name} is installed", _INSTALL)
    return next((plugin for plugin in _PLUGINS if plugin in available), "")


def _to_image(pixels: Any, header: Dataset) -> UInt8Array:
    """Decoded pixels (grey, RGB or palette indices) as a frame."""
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        pixels = apply_color_lut(pixels, header)
        if pixels.dtype != np.uint8:
            pixels = (pixels >> 8).astype(np.uint8)  # 16-bit palettes (PS3.3 C.7.6.3.1.6)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise SourceError(f"decoded to {pixels.dtype} {list(pixels.shape)} of {kind!r}", "export it again as 8-bit RGB")
    if pixels.ndim == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
    return np.asarray(255 - pixels if kind == "MONOCHROME1" else pixels, np.uint8)
