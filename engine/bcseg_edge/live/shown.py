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

    @property
    def problems(self) -> list[str]:
        """Of all screens."""
        return [problem for screen in self._screens for problem in getattr(screen, "problems", ())]

    def write(self, result: LiveResult) -> None:
        """Show a result, or the frozen one again."""
        if self._newest is None or not self._controls.freeze.is_set():
            self._newest = result
        for screen in self._screens:
            screen.write(self._newest)

    def update(self, health: Health) -> None:
        """Hand the health on."""
        for screen in self._screens:
            screen.update(health)

    def close(self) -> None:
        """Close the screens; a second call does nothing."""
        for screen in self._screens:
            screen.close()
