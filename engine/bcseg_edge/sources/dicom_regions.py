"""Where the ultrasound image lies in a DICOM frame, and how large its pixels are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TWO_DIMENSIONAL, _TISSUE, _CENTIMETRES = 1, 1, 3  # PS3.3 C.8.5.5.1: spatial format, data type, physical units
_SMALLEST_SIDE_PX = 16
_PLAUSIBLE_MM = (1e-3, 10.0)  # of a pixel


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a frame that holds the ultrasound image.

    Attributes:
        crop_xywh: left, top, width, height, px.
        spacing_mm: (row, column) size of a pixel, None where unknown.
        note: what a person should know, one phrase; empty where nothing.
    """

    crop_xywh: tuple[int, int, int, int]
    spacing_mm: tuple[float, float] | None
    note: str = ""


def find_region(header: Dataset, frame_hw: tuple[int, int]) -> Region:
    """The largest 2D tissue region that lies inside the frame, with its spacing; else the whole frame.

    Without such a region the spacing is that of Pixel Spacing. A region that reaches beyond the frame comes from
    an image that was scaled after the scanner wrote it: then its spacing is wrong too, and neither is used.
    """
    height, width = frame_hw
    regions = [_read(item) for item in header.get("SequenceOfUltrasoundRegions") or []]
    tissue = [region for region in regions if region is not None]
    inside = [region for region in tissue if _lies_inside(region.crop_xywh, frame_hw)]
    if inside:
        return max(inside, key=lambda region: region.crop_xywh[2] * region.crop_xywh[3])
    whole = (0, 0, width, height)
    if tissue:
        return Region(
            whole, None, "its ultrasound region lies outside of the image: whole image, size of a pixel unknown"
        )
    spacing = header.get("PixelSpacing")
    if spacing is not None and len(spacing) == 2:
        return Region(whole, _plausible(float(spacing[0]), float(spacing[1])))
    return Region(whole, None, "size of a pixel unknown")


def _read(item: Dataset) -> Region | None:
    """A region of the sequence; None where it shows something else, such as a Doppler spectrum."""
    kinds = (item.get("RegionSpatialFormat"), item.get("RegionDataType"))
    if kinds != (_TWO_DIMENSIONAL, _TISSUE):
        return None
    corners: list[Any] = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if any(corner is None for corner in corners):
        return None
    left, top, right, bottom = (int(corner) for corner in corners)
    spacing = None
    units = (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection"))
    if units == (_CENTIMETRES, _CENTIMETRES):
        row_cm, column_cm = item.get("PhysicalDeltaY"), item.get("PhysicalDeltaX")
        if row_cm is not None and column_cm is not None:
            spacing = _plausible(abs(float(row_cm)) * 10, abs(float(column_cm)) * 10)
    return Region(
        (left, top, right - left + 1, bottom - top + 1), spacing, "" if spacing else "size of a pixel unknown"
    )


def _lies_inside(crop_xywh: tuple[int, int, int, int], frame_hw: tuple[int, int]) -> bool:
    left, top, width, height = crop_xywh
    large_enough = min(width, height) >= min(_SMALLEST_SIDE_PX, *frame_hw)
    return large_enough and left >= 0 and top >= 0 and left + width <= frame_hw[1] and top + height <= frame_hw[0]


def _plausible(row_mm: float, column_mm: float) -> tuple[float, float] | None:
    low, high = _PLAUSIBLE_MM
    fits = all(math.isfinite(value) and low <= value <= high for value in (row_mm, column_mm))
    return (row_mm, column_mm) if fits else None
