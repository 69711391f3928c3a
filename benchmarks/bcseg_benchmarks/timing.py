"""Repeating a call until its duration is steady, then long enough to believe it; and the statistics of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns

import numpy as np
from pydantic import BaseModel, ConfigDict

NOISY = 0.1  # above this coefficient of variation the machine was busy, or its clock moved
STEADY_WINDOW = 10
STEADY_TOLERANCE = 0.05

Clock = Callable[[], int]  # ns


class Record(BaseModel):
    """A part of a report: immutable, and read back from JSON only where every field fits."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Distribution(Record):
    """Repeated measurements of one thing, all of them: nothing is trimmed.

    Attributes:
        count: measurements.
        mean_ms: their mean.
        p50_ms: the median; `p90_ms`, `p95_ms` and `p99_ms` likewise, interpolated linearly.
        max_ms: the slowest.
        variation: coefficient of variation, standard deviation over mean; see `NOISY`.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    variation: float

    @property
    def noisy(self) -> bool:
        """Whether the figures vary more than a quiet machine's."""
        return self.variation > NOISY


class WarmUp(Record):
    """What came before the measurement.

    Attributes:
        calls: that were not measured.
        seconds: they took.
        steady: whether two neighbouring windows of calls had medians within 5 %; otherwise the limit ended it.
    """

    calls: int
    seconds: float
    steady: bool


def summarise(durations_ns: Sequence[float]) -> Distribution:
    """Statistics of at least one duration in ns."""
    durations_ms = np.asarray(durations_ns, np.float64) / 1e6
    p50, p90, p95, p99, most = np.percentile(durations_ms, [50, 90, 95, 99, 100]).tolist()
    mean = float(durations_ms.mean())
    return Distribution(
        count=len(durations_ms),
        mean_ms=mean,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=most,
        variation=float(durations_ms.std() / mean) if mean else 0.0,
    )


def warm_up(
    call: Callable[[], object],
    limit_s: float,
    *,
    window: int = STEADY_WINDOW,
    tolerance: float = STEADY_TOLERANCE,
    clock: Clock = perf_counter_ns,
) -> WarmUp:
    """Call until the duration is steady, or `limit_s` is over.

    Steady is when the median of the last `window` calls and that of the `window` before differ by at most `tolerance`.
    The first call (compilation, first touch of memory) never counts.
    """
    started_ns = clock()
    durations_ns: list[int] = []
    steady = False
    while not steady and (not durations_ns or clock() - started_ns < limit_s * 1e9):
        durations_ns.append(timed(call, clock))
        after_first = durations_ns[1:]
        if len(after_first) >= 2 * window:
            before, last = np.median(after_first[-2 * window : -window]), np.median(after_first[-window:])
            steady = bool(abs(last - before) <= tolerance * before)
    return WarmUp(calls=len(durations_ns), seconds=(clock() - started_ns) / 1e9, steady=steady)


def collect(
    call: Callable[[], object], min_calls: int, min_seconds: float, *, clock: Clock = perf_counter_ns
) -> list[int]:
    """Durations in ns of at least `min_calls` calls that take at least `min_seconds` together."""
    durations_ns: list[int] = []
    started_ns = clock()
    while len(durations_ns) < min_calls or clock() - started_ns < min_seconds * 1e9:
        durations_ns.append(timed(call, clock))
    return durations_ns


def timed(call: Callable[[], object], clock: Clock = perf_counter_ns) -> int:
    """Duration of one call in ns."""
    started_ns = clock()
    call()
    return clock() - started_ns
