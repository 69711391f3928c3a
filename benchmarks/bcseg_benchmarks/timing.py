"""Statistics of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Latency:
    """What repeated measurements of one thing say.

    Attributes:
        median_ms: half of the measurements are below.
        p95_ms: 95 % of them are below (linear interpolation).
        variation: standard deviation over mean; above about 0.1 the machine was busy, and the figures say little.
    """

    median_ms: float
    p95_ms: float
    variation: float


def summarise(durations_ns: Sequence[int]) -> Latency:
    """Median, 95th percentile and coefficient of variation of at least one duration in ns."""
    durations_ms = np.asarray(durations_ns, np.float64) / 1e6
    median_ms, p95_ms = np.percentile(durations_ms, [50, 95])
    return Latency(float(median_ms), float(p95_ms), float(durations_ms.std() / durations_ms.mean()))
