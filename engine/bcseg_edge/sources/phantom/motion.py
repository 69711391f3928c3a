"""How the tissue under the probe moves: sliding, pressing and dragging, all of it invertible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]

# A free hand and breathing: millimetres of slide and a few per cent of strain, over seconds.
_SLIDE_MM = ((2.6, 7.3), (1.2, 3.1))  # (amplitude, period in s); periods have no common multiple in a clip
_STRAIN = ((0.020, 3.7), (0.008, 1.9))
_STRAIN_PER_MM = ((0.0006, 5.3),)  # uneven pressure: one end of the probe presses harder
_DRAG = ((0.05, 4.7),)  # lateral mm per mm of depth: the deep tissue lags behind the skin

MAX_SLIDE_MM = sum(amplitude for amplitude, _ in _SLIDE_MM)
MAX_STRAIN = sum(amplitude for amplitude, _ in _STRAIN)
MAX_STRAIN_PER_MM = sum(amplitude for amplitude, _ in _STRAIN_PER_MM)
MAX_DRAG = sum(amplitude for amplitude, _ in _DRAG)


@dataclass(frozen=True, slots=True)
class Deformation:
    """Tissue coordinates (x across, z deep, mm) to probe coordinates at one moment, and back.

    z' = z (1 - strain - strain_per_mm x), then x' = x + slide + drag z'. The skin (z = 0) stays at the probe.
    """

    slide_mm: float
    strain: float
    strain_per_mm: float
    drag: float

    def to_probe(self, x_mm: FloatArray, z_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where the tissue points are seen."""
        seen_z = z_mm * (1 - self.strain - self.strain_per_mm * x_mm)
        return x_mm + self.slide_mm + self.drag * seen_z, seen_z

    def to_tissue(self, x_mm: FloatArray, z_mm: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The exact inverse of `to_probe`."""
        x = x_mm - self.slide_mm - self.drag * z_mm
        return x, z_mm / (1 - self.strain - self.strain_per_mm * x)


def deformation_at(time_s: float, phases: npt.NDArray[np.float64]) -> Deformation:
    """The deformation at `time_s`; `phases` float64 `[4]` in radians tell one seed's hand from another's."""

    def swing(waves: tuple[tuple[float, float], ...], phase: float) -> float:
        return sum(a * math.sin(2 * math.pi * time_s / period + phase) for a, period in waves)

    slide, strain, strain_per_mm, drag = (float(phase) for phase in phases)
    return Deformation(
        swing(_SLIDE_MM, slide), swing(_STRAIN, strain), swing(_STRAIN_PER_MM, strain_per_mm), swing(_DRAG, drag)
    )
