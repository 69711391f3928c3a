"""What a live run did."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcseg_edge.live.health import health_record
from bcseg_edge.live.results import Health

STAGES = ("wait", "split", "network", "stitch", "lesions")
KEPT = 2000  # newest results of which stages are known: a minute at 30 Hz


class Stages:
    """Milliseconds by stage of the newest results."""

    def __init__(self) -> None:
        self._rows: deque[tuple[float, ...]] = deque(maxlen=KEPT)

    def add(self, stages_ms: Mapping[str, float]) -> None:
        """One result's; those without a network (reused) are left out."""
        if "network" in stages_ms:
            self._rows.append(tuple(stages_ms[name] for name in STAGES))

    def medians(self) -> dict[str, float]:
        """By stage; empty without results."""
        if not self._rows:
            return {}
        return dict(zip(STAGES, np.median(self._rows, axis=0).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """What a live run did.

    Attributes:
        health: at the end, with the ledger.
        results_hz: shown results per second, from the first to the last.
        age_ms: `p50`, `p90`, `p99`, `max` over all shown results; empty without any.
        stages_ms: median of each of `STAGES` over the newest results.
        validities: results handed to the sinks, by validity.
        crop: `x,y,w,h` that was segmented, None for whole frames.
        problems: what went wrong and did not end the run.
        gave_up: why the source was given up; empty where it was not.
        interrupted: it was asked to stop by a signal.
    """

    health: Health
    results_hz: float
    age_ms: dict[str, float]
    stages_ms: dict[str, float]
    validities: dict[str, int]
    crop: str | None
    problems: list[str]
    gave_up: str
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; the health's keys stand under `health`."""
        return {
            "health": health_record(self.health),
            "results_hz": round(self.results_hz, 3),
            "age_ms": {name: round(value, 3) for name, value in self.age_ms.items()},
            "stages_ms": {name: round(value, 3) for name, value in self.stages_ms.items()},
            "validities": self.validities,
            "crop": self.crop,
            "problems": self.problems,
            "gave_up": self.gave_up,
            "interrupted": self.interrupted,
        }
