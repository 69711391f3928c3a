"""What the page is told: results as binary messages, the rest as JSON texts.

A result is one message, so that a picture and its outlines can never be mixed up: 4 bytes with the length of the JSON
(big-endian), the JSON, and the picture as JPEG without anything drawn into it. The page draws.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

import cv2
import numpy as np

from bcseg_edge.frames import BENIGN, CLASSES, MALIGNANT, UInt8Array
from bcseg_edge.lesions import Lesion
from bcseg_edge.live.results import Health, LiveResult

JPEG_QUALITY = 80
MAX_SIDE_PX = 1280  # a tablet shows no more, and encoding 1920x1080 takes most of a frame interval
_HEADER = struct.Struct(">I")


def result_message(result: LiveResult, held: bool, waited_ms: float = 0.0) -> bytes:
    """A result for the page.

    Args:
        result: as it is shown.
        held: a person froze the view; the result is not the newest.
        waited_ms: since it was shown first; 0 where it does not grow old.
    """
    image = result.frame.image
    height, width = image.shape[:2]
    labels = None if result.segmentation is None else result.segmentation.labels
    facts = {
        "kind": "result",
        "index": result.frame.index,
        "captured_ns": result.frame.captured_ns,
        "validity": result.validity.value,
        "held": held,
        "age_ms": round(result.age_ms, 1),
        "waited_ms": round(waited_ms, 1),
        "stages_ms": {name: round(value, 1) for name, value in result.stages_ms.items()},
        "size_wh": [width, height],
        "crop_xywh": None if result.crop_xywh is None else list(result.crop_xywh),
        "lesions": [
            _lesion(lesion, result.track_ids[index] if index < len(result.track_ids) else None)
            for index, lesion in enumerate(result.lesions if labels is not None else ())
        ],
        "outlines": {}
        if labels is None
        else {CLASSES[value]: outlines(labels, value) for value in (BENIGN, MALIGNANT)},
    }
    head = json.dumps(facts, separators=(",", ":")).encode()
    return _HEADER.pack(len(head)) + head + _jpeg(image)


def read_result_message(message: bytes) -> tuple[dict[str, Any], UInt8Array]:
    """The inverse of `result_message`, for clients in Python: its facts, and the picture as decoded."""
    (length,) = _HEADER.unpack_from(message)
    body = _HEADER.size + length
    picture = cv2.imdecode(np.frombuffer(message, np.uint8, offset=body), cv2.IMREAD_UNCHANGED)
    facts: dict[str, Any] = json.loads(message[_HEADER.size : body])
    return facts, np.asarray(picture, np.uint8)


def health_message(health: Health, notices: list[str], snapshots: int) -> str:
    """The health, what a person should know (recording stopped), and how many snapshots were saved."""
    return json.dumps(
        {"kind": "health", **dataclasses.asdict(health), "notices": notices, "snapshots": snapshots},
        separators=(",", ":"),
    )


def outlines(labels: UInt8Array, value: int) -> list[list[int]]:
    """Borders of the regions of one label, holes too: each a list x0, y0, x1, y1, ... in px, for even-odd filling."""
    found, _ = cv2.findContours((labels == value).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.ravel().tolist() for contour in found]


def _lesion(lesion: Lesion, track_id: int | None) -> dict[str, Any]:
    """The row of the table, and where the lesion lies."""
    in_mm = lesion.long_axis_mm is not None and lesion.short_axis_mm is not None
    axes = (lesion.long_axis_mm, lesion.short_axis_mm) if in_mm else (lesion.long_axis_px, lesion.short_axis_px)
    return {
        "track_id": track_id,
        "name": lesion.name,
        "confidence": round(lesion.confidence, 3),
        "axes": [round(float(axis), 1) for axis in axes if axis is not None],
        "unit": "mm" if in_mm else "px",
        "bbox_xywh": list(lesion.bbox_xywh),
    }


def _jpeg(image: UInt8Array) -> bytes:
    longest = max(image.shape[:2])
    if longest > MAX_SIDE_PX:
        scale = MAX_SIDE_PX / longest
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return data.tobytes()
