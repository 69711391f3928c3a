"""Pictures of the frames that differ most: frame, truth, reference and candidate side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bcseg_edge.drawing import draw_overlay
from bcseg_edge.files import write_bytes_atomic
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.lesions import find_lesions
from bcseg_edge.segmenter import to_grey
from bcseg_export.parity.comparison import Comparison
from bcseg_export.parity.frames import GateFrame

HEADER_PX = 22
GAP_PX = 4


def draw_worst(
    comparison: Comparison,
    frames: Sequence[GateFrame],
    expected: Sequence[Segmentation],
    received: Sequence[Segmentation],
    folder: Path,
    count: int,
) -> list[Path]:
    """Draw the `count` worst frames into `folder`: `worst_1.png` is the worst.

    Args:
        frames, expected, received: in the order of `comparison.frames`.
    """
    paths = []
    for rank, index in enumerate(comparison.worst(count), start=1):
        path = folder / f"worst_{rank}.png"
        picture = draw_side_by_side(frames[index], expected[index], received[index])
        write_bytes_atomic(path, cv2.imencode(".png", picture)[1].tobytes())
        paths.append(path)
    return paths


def draw_side_by_side(frame: GateFrame, expected: Segmentation, received: Segmentation) -> UInt8Array:
    """Frame, truth where it is known, reference and candidate in a row, uint8 `[H', W', 3]` BGR."""
    grey = to_grey(frame.image)
    panels = [(frame.name, np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8))]
    if frame.truth is not None:
        truth = Segmentation(frame.truth, np.ones(frame.truth.shape, np.float32))
        panels.append(("truth", _overlay(grey, truth)))
    panels += [("reference", _overlay(grey, expected)), ("candidate", _overlay(grey, received))]
    gap = np.zeros((grey.shape[0] + HEADER_PX, GAP_PX, 3), np.uint8)
    titled = [_with_title(image, title) for title, image in panels]
    return np.hstack([part for panel in titled for part in (panel, gap)][:-1])


def _overlay(grey: UInt8Array, segmentation: Segmentation) -> UInt8Array:
    return draw_overlay(grey, segmentation.labels, find_lesions(segmentation))


def _with_title(image: UInt8Array, title: str) -> UInt8Array:
    """`image` below a dark bar with `title`."""
    bar = np.zeros((HEADER_PX, image.shape[1], 3), np.uint8)
    cv2.putText(bar, title, (4, HEADER_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([bar, image])
