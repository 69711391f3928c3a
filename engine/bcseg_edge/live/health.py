"""How the live loop does: rates and ages over the last seconds and over the whole run, in constant memory."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bcseg_edge.errors import BcsegError, SourceError
from bcseg_edge.files import write_text_atomic
from bcseg_edge.live.results import Health, LedgerCounts, LiveResult

WINDOW_S = 5.0
BIN_MS = 0.1
LONGEST_MS = 2000.0  # ages above fall into the last bin; the maximum is exact
PERCENTILES = (50.0, 90.0, 99.0)


class Ages:
    """Ages of results: the last seconds one by one, the whole run as a histogram of 0.1 ms."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque()
        self._bins = np.zeros(int(LONGEST_MS / BIN_MS) + 1, np.int64)
        self._max_ms = 0.0
        self._first_ns = self._last_ns = 0
        self.count = 0

    def add(self, now_ns: int, age_ms: float) -> None:
        """A result of that age, shown now."""
        if not self.count:
            self._first_ns = now_ns
        self._last_ns = now_ns
        self.count += 1
        self._recent.append((now_ns, age_ms))
        self._forget(now_ns)
        self._bins[min(int(age_ms / BIN_MS), len(self._bins) - 1)] += 1
        self._max_ms = max(self._max_ms, age_ms)

    def recent(self, now_ns: int) -> tuple[float, dict[str, float]]:
        """Results per second over the last seconds, and `p50`, `p99`, `max` of their ages in ms."""
        self._forget(now_ns)
        if not self._recent:
            return 0.0, {}
        span_s = min(WINDOW_S, max((now_ns - self._first_ns) / 1e9, 1e-3))
        ages = np.array([age for _, age in self._recent])
        p50, p99 = np.percentile(ages, (50, 99)).tolist()
        return len(ages) / span_s, {"p50": p50, "p99": p99, "max": float(ages.max())}

    def whole(self) -> dict[str, float]:
        """`p50`, `p90`, `p99` (upper ends of their bins) and `max` over the run, ms; empty without results."""
        if not self.count:
            return {}
        below = np.cumsum(self._bins)
        found = {
            f"p{percent:g}": min(float(np.searchsorted(below, self.count * percent / 100) + 1) * BIN_MS, self._max_ms)
            for percent in PERCENTILES
        }
        return {**found, "max": self._max_ms}

    def mean_hz(self) -> float:
        """Results per second from the first to the last."""
        span_s = (self._last_ns - self._first_ns) / 1e9
        return (self.count - 1) / span_s if span_s > 0 else 0.0

    def _forget(self, now_ns: int) -> None:
        while self._recent and now_ns - self._recent[0][0] > WINDOW_S * 1e9:
            self._recent.popleft()


def health_record(health: Health) -> dict[str, Any]:
    """`Health` as JSON values under its names; numbers keep 3 decimals."""
    record = dataclasses.asdict(health)
    for name, value in record.items():
        if isinstance(value, float):
            record[name] = round(value, 3)
    record["age_ms"] = {name: round(value, 3) for name, value in health.age_ms.items()}
    return record


def memory_mb(process_ids: Sequence[int]) -> float:
    """Resident memory of processes, MB; 0 where the system does not tell (only Linux does)."""
    return sum(map(_resident_pages, process_ids)) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _resident_pages(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):  # it ended, or this is not Linux
        return 0


class HealthFile:
    """A LiveSink that keeps the newest health in a JSON file, replaced whole, by a thread that may be slow.

    Each record says when it was written (`written_at`, ISO 8601, UTC) and by which process (`pid`), so that the last
    one of a program that was killed is told from a new one. The first says `starting`.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be written at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._written = Health("starting", "source and model are being opened", 0.0, {}, LedgerCounts())
        self._write(self._written)
        self._changed = threading.Condition()
        self._newest: Health | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="health file", daemon=True)
        self._thread.start()

    def write(self, result: LiveResult) -> None:
        """Results are not its business."""

    def update(self, health: Health) -> None:
        """Leave the newest health for the thread."""
        with self._changed:
            self._newest = health
            self._changed.notify()

    def close(self) -> None:
        """Write what is left; a second call does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(5)

    def fail(self, state: str, reason: str) -> None:
        """Close with a last record of why the run ended."""
        self.close()
        with suppress(BcsegError, OSError):  # the reason itself is what the user is told
            self._write(dataclasses.replace(self._written, state=state, reason=reason))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closing)
                health, self._newest = self._newest, None
            if health is None:
                return
            try:
                self._write(health)
            except Exception as error:  # a full disk must not end the session; the next second tries again
                self.problems[:] = [f"health file {self.path}: {error}"]

    def _write(self, health: Health) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        record = {**health_record(health), "written_at": now, "pid": os.getpid()}
        write_text_atomic(self.path, json.dumps(record) + "\n")
        self._written = health


@contextmanager
def health_file(path: Path | None) -> Iterator[HealthFile | None]:
    """A `HealthFile` for a whole run, its opening included; None without a path.

    What ends the run before its loop could say so stands in it with the reason: `lost` for a source, `stopped` for
    anything else.

    Raises:
        DataError: as `HealthFile`.
    """
    if path is None:
        yield None
        return
    file = HealthFile(path)
    try:
        yield file
    except BaseException as error:
        reason = error.message if isinstance(error, BcsegError) else f"{type(error).__name__}: {error}"
        file.fail("lost" if isinstance(error, SourceError) else "stopped", reason)
        raise
    finally:
        file.close()
