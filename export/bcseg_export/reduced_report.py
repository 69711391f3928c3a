"""Writes down how a file of reduced precision was made: the gate's report a backend, and the damage by layer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bcseg_calibration.rescue import LayerDamage
from bcseg_edge.files import write_text_atomic
from bcseg_export.gate import Gate
from bcseg_export.parity.pictures import draw_worst
from bcseg_export.parity.report import WORST_FRAMES, write_report
from bcseg_export.reduced import Reduced
from bcseg_train.palette import LINE_COLOURS, save_figure

MAX_NAMED = 40  # layers whose names can be read on the figure


def write_reduced_report(reduced: Reduced, gate: Gate, folder: Path) -> None:
    """Write `BACKEND/parity.json`, `.md` and pictures, and where layers were ranked `layers.json` and `layers.png`.

    Raises:
        DataError: the folder cannot be written.
    """
    for backend, report in reduced.judgement.reports.items():
        expected, received = gate.expected, reduced.judgement.received[backend]
        place = folder / backend
        pictures = draw_worst(report.comparison, gate.frames.frames, expected, received, place, WORST_FRAMES)
        write_report(report, place, pictures)
    if reduced.damages:
        content = {
            "damage": {item.name: item.damage for item in reduced.damages},
            "kept": reduced.passport.layers,
            "attempts": reduced.attempts,
        }
        write_text_atomic(folder / "layers.json", json.dumps(content, indent=2) + "\n")
        draw_damage(reduced.damages, reduced.passport.layers, folder / "layers.png")


def draw_damage(damages: Sequence[LayerDamage], kept: Mapping[str, str], path: Path) -> Path:
    """Bars of the damage by layer, the worst on top; those that stay precise in another colour.

    Args:
        damages: the worst first.
        kept: names of the layers that stay precise -> `fp32` or `fp16`.
        path: `.png` to write; returned.
    """
    shown = damages[:MAX_NAMED]
    figure = Figure(figsize=(9, 0.8 + 0.22 * len(shown)), layout="constrained")
    axis = figure.subplots()
    colours = [LINE_COLOURS[2] if item.name in kept else LINE_COLOURS[0] for item in shown]
    axis.barh([item.name for item in shown], [item.damage for item in shown], color=colours)
    axis.invert_yaxis()
    axis.tick_params(axis="y", labelsize=7)
    axis.set_xlabel(
        "damage of quantizing the layer alone: share of the lesions' pixels that change, + share of lesions lost"
    )
    counts = ", ".join(f"{count} stay in {precision}" for precision, count in sorted(Counter(kept.values()).items()))
    kept_text = f", {counts} (coloured)" if kept else ""
    axis.set_title(f"{len(shown)} of {len(damages)} layers{kept_text}", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)
