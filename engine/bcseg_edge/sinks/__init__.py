"""Where results go. Every sink is ready to write once it exists, and what it wrote is whole once it is closed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.earlier import remove_earlier_run
from bcseg_edge.sinks.jsonl import JsonLinesSink
from bcseg_edge.sinks.overlay import OverlayVideoSink, overlay_picture
from bcseg_edge.sinks.png import PngSink, label_picture

__all__ = ["JsonLinesSink", "OverlayVideoSink", "PngSink", "Sink", "label_picture", "open_sinks", "overlay_picture"]


class Sink(Protocol):
    """Takes the results of one run, frame by frame."""

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Store one frame's result; DataError where that fails."""

    def close(self) -> None:
        """Give the files their final names; a second call does nothing."""


def open_sinks(output: Path, frame_hz: float | None) -> list[Sink]:
    """The files of one run in the folder `output`, which is made; what an earlier run wrote there goes.

    - `overlay.mp4` for a moving source, `overlay/NAME.png` for still images
    - `labels/NAME.png`
    - `results.jsonl`

    Args:
        output: folder.
        frame_hz: frames per second of a moving source, None for still images.

    Raises:
        DataError: the folder cannot be written, or what an earlier run left in it cannot be removed.
    """
    remove_earlier_run(output)
    overlay: Sink
    if frame_hz is None:
        overlay = PngSink(output / "overlay", overlay_picture)
    else:
        overlay = OverlayVideoSink(output / "overlay.mp4", frame_hz)
    # The one that holds an open file comes last: nothing has to be undone where another cannot be made.
    return [overlay, PngSink(output / "labels", label_picture), JsonLinesSink(output / "results.jsonl")]
