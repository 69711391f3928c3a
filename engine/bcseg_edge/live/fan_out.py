"""To all sinks of a live run; one that breaks is left out, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from bcseg_edge.errors import BcsegError
from bcseg_edge.live.results import Health, LiveResult, LiveSink

Refine = Callable[[LiveResult], LiveResult]


class FanOut:
    """Hands results and health to sinks. Not thread-safe: one caller at a time.

    Attributes:
        problems: what broke, one sentence each.

    Args:
        sinks: owned from now on.
        refine: what is done with each result first (tracking, smoothing); None does nothing.
    """

    def __init__(self, sinks: Sequence[LiveSink], refine: Refine | None = None) -> None:
        self.problems: list[str] = []
        self._sinks = list(sinks)
        self._refine = refine

    def refine(self, result: LiveResult) -> LiveResult:
        """The refined result; the result itself once refining has failed."""
        if self._refine is None:
            return result
        try:
            return self._refine(result)
        except Exception as error:  # a tracker must not take the session with it
            self._refine = None
            self.problems.append(f"tracking and smoothing were switched off: {_said(error)}")
            return result

    def write(self, result: LiveResult) -> None:
        """Hand a result to each sink."""
        for sink in list(self._sinks):
            self._try(sink, lambda sink=sink: sink.write(result))  # type: ignore[misc]

    def update(self, health: Health) -> None:
        """Hand the health to each sink."""
        for sink in list(self._sinks):
            self._try(sink, lambda sink=sink: sink.update(health))  # type: ignore[misc]

    def close(self) -> None:
        """Close each sink."""
        for sink in list(self._sinks):
            self._try(sink, sink.close)

    def _try(self, sink: LiveSink, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # an output that breaks must not take the session with it
            self.problems.append(f"output {type(sink).__name__} was closed: {_said(error)}")
            self._sinks.remove(sink)
            with suppress(Exception):  # its first error is the one that tells
                sink.close()


def _said(error: Exception) -> str:
    return error.message if isinstance(error, BcsegError) else f"{type(error).__name__}: {error}"
