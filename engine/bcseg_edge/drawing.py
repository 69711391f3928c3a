"""Drawing what was found over the frame: tint, contour, and a label for each lesion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from bcseg_edge.frames import BENIGN, MALIGNANT, UInt8Array
from bcseg_edge.lesions import Lesion

# Okabe and Ito's colour-blind-safe palette (2008): blue and vermillion, as BGR. Both stand out from grey.
COLOURS_BGR = {BENIGN: (178, 114, 0), MALIGNANT: (0, 94, 213)}
TINT_OPACITY = 0.25

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_SCALE, _LARGEST_SCALE = 0.36, 1.2  # below 0.36 (8 px capitals) Hershey strokes run together
_WHITE = (255, 255, 255)
_GREY = (150, 150, 150)

_Box = tuple[int, int, int, int]  # left, top, width, height in px


def draw_overlay(
    image: UInt8Array,
    labels: UInt8Array,
    lesions: Sequence[Lesion],
    opacity: float = TINT_OPACITY,
    track_ids: Sequence[int] = (),
) -> UInt8Array:
    """Draw lesions over a frame.

    Text stays inside the image and off other labels: a label moves to where it fits, loses its size, then its
    confidence, then is left out.

    Args:
        image: uint8 `[H, W]` or `[H, W, 3]` BGR; stays as it is.
        labels: uint8 `[H, W]`, 0 to 2.
        lesions: those to outline and to name; tinted are all labelled pixels.
        opacity: of the tint, 0 to 1.
        track_ids: a number for each of `lesions`, written before its class; empty where not tracked.

    Returns:
        A new image, uint8 `[H, W, 3]` BGR.
    """
    canvas: UInt8Array = (
        image.copy() if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    )
    for value, colour in COLOURS_BGR.items():
        _tint(canvas, labels == value, colour, opacity)
    scale = float(np.clip(min(canvas.shape[:2]) / 700, _SMALLEST_SCALE, _LARGEST_SCALE))
    line = max(1, round(2.6 * scale))
    outlines = [lesion.contour.reshape(-1, 1, 2) for lesion in lesions]
    if line > 1:  # a dark rim sets the contour off from bright tissue; around one pixel it would hide the image
        cv2.polylines(canvas, outlines, True, (0, 0, 0), line + 2, cv2.LINE_AA)
    for lesion, outline in zip(lesions, outlines, strict=True):
        cv2.polylines(canvas, [outline], True, COLOURS_BGR[lesion.label], line, cv2.LINE_AA)
    taken: list[_Box] = []
    for index, lesion in enumerate(lesions):
        others = [other.bbox_xywh for other in lesions if other is not lesion]
        lines = label_lines(lesion, track_ids[index] if index < len(track_ids) else None)
        label = _layout(lesion, lines, scale, canvas, taken, others)
        if label is not None:
            taken.append(label.box)
            _write(canvas, label, COLOURS_BGR[lesion.label], scale)
    return canvas


def draw_crop(picture: UInt8Array, crop_xywh: tuple[int, int, int, int]) -> None:
    """Outline the part of a picture, uint8 `[H, W, 3]` BGR, that is segmented, in place: one pixel of grey."""
    left, top, width, height = crop_xywh
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), _GREY, 1)


def label_lines(lesion: Lesion, track_id: int | None = None) -> list[list[str]]:
    """What a label may say, most first: lines of text."""
    number = "" if track_id is None else f"#{track_id} "
    name = f"{number}{lesion.name} {lesion.confidence * 100:.0f}%"
    if lesion.long_axis_mm is not None and lesion.short_axis_mm is not None:
        size = f"{lesion.long_axis_mm:.1f} x {lesion.short_axis_mm:.1f} mm"
    else:
        size = f"{lesion.long_axis_px:.0f} x {lesion.short_axis_px:.0f} px"
    return [[name, size], [name], [f"{number}{lesion.name}"], [number.strip() or lesion.name[0].upper()]]


def _tint(canvas: UInt8Array, member: np.ndarray, colour: tuple[int, int, int], opacity: float) -> None:
    """Blend `colour` over the pixels of `member` (bool `[H, W]`), in place and only in their bounding box."""
    mask = member.view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    if width == 0:
        return
    part = canvas[top : top + height, left : left + width]
    flat = np.full_like(part, colour)
    blended = cv2.addWeighted(part, 1 - opacity, flat, opacity, 0)
    cv2.copyTo(blended, mask[top : top + height, left : left + width], part)


class _Label(NamedTuple):
    """Lines of text, their baselines below the box's top, and the box."""

    lines: list[str]
    baselines: list[int]
    box: _Box


def _layout(
    lesion: Lesion,
    choices: Sequence[list[str]],
    scale: float,
    canvas: UInt8Array,
    labels: Sequence[_Box],
    lesions: Sequence[_Box],
) -> _Label | None:
    """The most text that fits off the other labels, and off the other lesions where it can."""
    height, width = canvas.shape[:2]
    for lines in choices:
        box_wh, baselines = _measure(lines, scale)
        if box_wh[0] > width or box_wh[1] > height:
            continue
        places = list(_places(lesion.bbox_xywh, box_wh, (width, height)))
        for obstacles in ((*labels, *lesions), labels):
            for place in places:
                if not any(_overlap(place, obstacle) for obstacle in obstacles):
                    return _Label(lines, baselines, place)
    return None


def _write(canvas: UInt8Array, label: _Label, colour: tuple[int, int, int], scale: float) -> None:
    left, top, width, height = label.box
    cv2.rectangle(canvas, (left, top), (left + width - 1, top + height - 1), colour, cv2.FILLED)
    for text, baseline in zip(label.lines, label.baselines, strict=True):
        at = (left + _padding(scale), top + baseline)
        cv2.putText(canvas, text, at, _FONT, scale, _WHITE, _thickness(scale), cv2.LINE_AA)


def _measure(lines: Sequence[str], scale: float) -> tuple[tuple[int, int], list[int]]:
    """Size of the box around `lines` and each line's baseline below its top, px."""
    padding, thickness = _padding(scale), _thickness(scale)
    sizes = [cv2.getTextSize(text, _FONT, scale, thickness) for text in lines]
    bottom, baselines = padding, []
    for (_, ascent), descent in sizes:
        baselines.append(bottom + ascent)
        bottom += ascent + descent
    return (max(size[0] for size, _ in sizes) + 2 * padding, bottom + padding), baselines


def _places(bbox_xywh: _Box, box_wh: tuple[int, int], image_wh: tuple[int, int]) -> Iterator[_Box]:
    """Boxes inside the image, best first: above the lesion, below, right, left, and inside a large one."""
    left, top, width, height = bbox_xywh
    gap = 4
    corners = (
        (left, top - box_wh[1] - gap),
        (left, top + height + gap),
        (left + width + gap, top),
        (left - box_wh[0] - gap, top),
    )
    for x, y in corners:
        x_inside = min(max(x, 0), image_wh[0] - box_wh[0])
        if 0 <= y <= image_wh[1] - box_wh[1] and abs(x_inside - x) <= width:
            yield (x_inside, y, *box_wh)
    if box_wh[0] * box_wh[1] * 2 <= width * height:
        yield (min(max(left, 0), image_wh[0] - box_wh[0]), min(max(top, 0), image_wh[1] - box_wh[1]), *box_wh)


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _padding(scale: float) -> int:
    return max(2, round(7 * scale))


def _thickness(scale: float) -> int:
    return 1 if scale < 0.75 else 2
