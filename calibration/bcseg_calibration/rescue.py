"""Which layers lose lesions when they are quantized, so that the worst of them can stay precise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from bcseg_calibration.prepare import layer_names
from bcseg_calibration.quantize import Target, quantize

Progress = Callable[[int, int], None]
MAX_KEPT = 0.5  # share of the layers: a file with more of them in float is no INT8 file


@dataclass(frozen=True, slots=True)
class LayerDamage:
    """What one layer, quantized alone, does to the lesions; 0 is nothing.

    Attributes:
        name: of the layer.
        damage: see `bcseg_export.damage`.
    """

    name: str
    damage: float


def rank_layers(
    model: onnx.ModelProto,
    ranges: Any,
    target: Target,
    layers: Sequence[str],
    measure: Callable[[onnx.ModelProto], float],
    progress: Progress | None = None,
) -> tuple[LayerDamage, ...]:
    """Quantize each layer alone and measure the damage; the worst comes first.

    Args:
        model: folded.
        ranges: of its activations.
        layers: names of those that may be quantized.
        measure: damage of a quantized model.
        progress: called with (layers done, layers in all).
    """
    every = set(layer_names(model))
    damages = []
    for done, name in enumerate(layers, start=1):
        damages.append(LayerDamage(name, measure(quantize(model, ranges, target, every - {name}, around=False))))
        if progress is not None:
            progress(done, len(layers))
    return tuple(sorted(damages, key=lambda item: -item.damage))


def rescue_steps(ranked: Sequence[LayerDamage]) -> Iterator[tuple[LayerDamage, ...]]:
    """Ever more of the worst layers, to keep precise: 1, 2, 4, ... up to half of them."""
    count = 1
    while count <= MAX_KEPT * len(ranked):
        yield tuple(ranked[:count])
        count *= 2
