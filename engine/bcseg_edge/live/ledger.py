"""Where every captured frame went: counts that agree at any moment."""

from __future__ import annotations

import dataclasses
import threading

from bcseg_edge.live.results import LedgerCounts


class Ledger:
    """Counts frames; safe to use from any thread, and in balance after every call.

    A frame is captured once, and then either dropped, or settled by exactly one of `segmented`, `reused`, `blank`,
    `failed`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = LedgerCounts()

    def captured(self, *, replacing: bool) -> None:
        """The source gave a frame; with `replacing` the one before it is dropped, which nobody had taken."""
        self._add(captured=1, dropped=int(replacing), waiting=int(not replacing))

    def dropped(self) -> None:
        """A waiting frame will not be looked at."""
        self._add(dropped=1, waiting=-1)

    def segmented(self, *, late: bool) -> None:
        """A waiting frame was computed, in time or not."""
        self._add(segmented=1, waiting=-1, late=int(late), shown=int(not late))

    def reused(self, *, late: bool) -> None:
        """A waiting frame got the result of the same image, in time or not."""
        self._add(reused=1, waiting=-1, late=int(late), shown=int(not late))

    def blank(self) -> None:
        """A waiting frame had no image in it."""
        self._add(blank=1, waiting=-1)

    def failed(self) -> None:
        """A waiting frame was lost to the backend."""
        self._add(failed=1, waiting=-1)

    def counts(self) -> LedgerCounts:
        """All counts of one moment."""
        with self._lock:
            return self._counts

    def _add(self, **changes: int) -> None:
        with self._lock:
            now = {name: getattr(self._counts, name) + change for name, change in changes.items()}
            self._counts = dataclasses.replace(self._counts, **now)


def imbalance(counts: LedgerCounts) -> str:
    """What does not add up, one line; empty where all does."""
    settled = counts.dropped + counts.segmented + counts.reused + counts.blank + counts.failed + counts.waiting
    if counts.captured != settled:
        return f"captured {counts.captured} frames, but {settled} are accounted for"
    if counts.segmented + counts.reused != counts.shown + counts.late:
        return f"{counts.segmented + counts.reused} results, but {counts.shown + counts.late} were shown or late"
    if counts.waiting < 0:
        return f"{counts.waiting} frames wait"
    return ""
