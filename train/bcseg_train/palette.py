"""Colours and saving shared by the figures: Okabe and Ito's palette, which colour-blind readers tell apart too."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bcseg_edge.drawing import COLOURS_BGR
from bcseg_edge.files import atomic_path
from bcseg_edge.frames import BENIGN, MALIGNANT

LESION_COLOURS = {label: "#{2:02x}{1:02x}{0:02x}".format(*bgr) for label, bgr in COLOURS_BGR.items()}  # as in overlays
CLASS_COLOURS = ("#999999", LESION_COLOURS[BENIGN], LESION_COLOURS[MALIGNANT])
LINE_COLOURS = ("#333333", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # for what is not a class
DPI = 130


def save_figure(figure: Figure, path: Path) -> Path:
    """Render with Agg (no display, no global pyplot state) and write `path` atomically."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
    return path
