"""To all sinks of a live run; one that breaks is left out, and the rest goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from bcseg_edge.errors import BcsegError
from bcseg_edge.live.results import Health, LiveResult, LiveSink

Refine = Callable[[LiveResult], LiveResult]


class FanOut:
    """Hands results and health to sinks. Not thread-safe: one caller at a time.

    Attributes:
        problems: what broke, one sentence each.

    Args:
        sinks: owned from now on.
        refine: what is done with each result first (tracking, smoothing), and not any more once it has failed.
        blacken: hides what no sink may see, last of all; where it fails the whole image is black.
    """

    def __init__(self, sinks: Sequence[LiveSink], refine: Refine | None = None, blacken: Refine | None = None) -> None:
        self.problems: list[str] = []
        self._sinks = list(sinks)
        self._refine = refine
        self._blacken = blacken

    def refine(self, result: LiveResult) -> LiveResult:
        """The result as the sinks may have it: refined, then blackened."""
        refined = self._refined(result)
        if self._blacken is None:
            return refined
        try:
            return self._blacken(refined)
        except Exception as error:  # whatever happens, what was to be hidden is not shown
            problem = f"de-identification failed, images are black: {_said(error)}"
            if problem not in self.problems:
                self.problems.append(problem)
            frame = dataclasses.replace(refined.frame, image=np.zeros_like(refined.frame.image))
            return dataclasses.replace(refined, frame=frame, hidden=True)

    def _refined(self, result: LiveResult) -> LiveResult:
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
