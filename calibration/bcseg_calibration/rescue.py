"""Which layers lose lesions when they are quantized, so that the worst of them can stay precise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    layers: Sequence[str], measure: Callable[[str], float], progress: Progress | None = None
) -> tuple[LayerDamage, ...]:
    """Measure each layer's damage; the worst comes first.

    Args:
        layers: names of those that may be quantized.
        measure: damage of the model in which the named layer alone is quantized.
        progress: called with (layers done, layers in all).
    """
    damages = []
    for done, name in enumerate(layers, start=1):
        damages.append(LayerDamage(name, measure(name)))
        if progress is not None:
            progress(done, len(layers))
    return tuple(sorted(damages, key=lambda item: -item.damage))


def rescue_steps(ranked: Sequence[LayerDamage]) -> Iterator[tuple[LayerDamage, ...]]:
    """Ever more of the worst layers, to keep precise: 1, 2, 4, ... up to half of them."""
    count = 1
    while count <= MAX_KEPT * len(ranked):
        yield tuple(ranked[:count])
        count *= 2
