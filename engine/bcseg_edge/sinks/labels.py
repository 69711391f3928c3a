"""Label images: one PNG a frame, whose grey values are the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.folder import make_folder
from bcseg_edge.sinks.png import write_png


class LabelSink:
    """Writes `FOLDER/NAME.png`, uint8 of the frame's size: 0 background, 1 benign, 2 malignant.

    Such an image looks black in a viewer; it is for programs.

    Args:
        folder: made where it does not exist.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Store the frame's labels; DataError where that fails."""
        write_png(self.folder / f"{frame.name}.png", segmentation.labels)

    def close(self) -> None:
        """Nothing is pending."""
