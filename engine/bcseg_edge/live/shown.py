"""What the screens show: the newest result, or the one that a person froze."""

from __future__ import annotations

from collections.abc import Sequence

from bcseg_edge.live.results import Controls, Health, LiveResult, LiveSink


class Shown:
    """Hands results on to the screens; while `controls.freeze` is set, the one that was newest when it was set.

    One for all screens, so that window, page and snapshot never disagree about the frozen result.

    Args:
        screens: owned from now on.
        controls: of the run.
    """

    def __init__(self, screens: Sequence[LiveSink], controls: Controls) -> None:
        self._screens = list(screens)
        self._controls = controls
        self._newest: LiveResult | None = None
        self._shown: LiveResult | None = None
        self._was_frozen = False

    @property
    def problems(self) -> list[str]:
        """Of all screens."""
        return [problem for screen in self._screens for problem in getattr(screen, "problems", ())]

    def write(self, result: LiveResult) -> None:
        """Show a result, or the frozen one again."""
        self._newest = result
        self._show(result)

    def update(self, health: Health) -> None:
        """Hand the health on; a source may pause, so that a freeze or its end must not wait for a result."""
        if self._newest is not None and self._controls.freeze.is_set() is not self._was_frozen:
            self._show(self._newest)
        for screen in self._screens:
            screen.update(health)

    def _show(self, newest: LiveResult) -> None:
        self._was_frozen = self._controls.freeze.is_set()
        if self._shown is None or not self._was_frozen:
            self._shown = newest
        for screen in self._screens:
            screen.write(self._shown)

    def close(self) -> None:
        """Close the screens; a second call does nothing."""
        for screen in self._screens:
            screen.close()
