"""How a TensorRT build goes, as bars on stderr; Ctrl-C ends it between two steps."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from typing_extensions import Self


class BuildProgress:
    """A bar for each phase under way. A context manager, for the main thread.

    An exception must not cross TensorRT, which calls us from C++: Ctrl-C is remembered, answered at the next step,
    and raised as `KeyboardInterrupt` when the context is left.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._interrupted = False
        self._previous: Any = None

    def start(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins."""
        self._tasks[phase] = self._bars.add_task(phase, total=steps)

    def step(self, phase: str, step: int) -> bool:
        """A step is done; False stops the build."""
        if phase in self._tasks:
            self._bars.update(self._tasks[phase], completed=step + 1)
        return not self._interrupted

    def finish(self, phase: str) -> None:
        """A phase ends, done or not."""
        if phase in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase))

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._remember)
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        signal.signal(signal.SIGINT, self._previous)
        if self._interrupted:
            raise KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
