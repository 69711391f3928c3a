"""Recorded or simulated frames at the pace of a camera."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import Frame
from bcseg_edge.sources.live import END, LiveSource, Read, Status
from bcseg_edge.sources.source import Source


class PacedSource(LiveSource):
    """Gives the frames of another source in real time, as a camera would: who is slow misses some.

    A frame is captured at its due time, so that a reader who comes late gets old frames, with their age.

    Args:
        description: for people.
        frame_hz: frames per second.
        frames: gives an iterator over the frames; called again where `open` is.
        clock_ns: monotonic nanoseconds.
        sleep: waits so many seconds.
        close: called at the end.
    """

    def __init__(
        self,
        description: str,
        frame_hz: float,
        frames: Callable[[], Iterator[Frame]],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(description, frame_hz)
        self._period_ns = 1e9 / frame_hz
        self._make = frames
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._close = close
        self._frames: Iterator[Frame] = iter(())
        self._began_ns = 0
        self._given = 0

    def open(self) -> None:
        """Start at the first frame."""
        self._frames = self._make()
        self._given = 0

    def read(self) -> Read:
        """Wait until the next frame is due."""
        frame = next(self._frames, None)
        if frame is None:
            return END
        now_ns = self._clock_ns()
        if self._given == 0:
            self._began_ns = now_ns
        due_ns = self._began_ns + round(self._given * self._period_ns)
        if now_ns - due_ns > 1e9:  # after a pause of the whole machine a camera does not catch up
            self._began_ns += now_ns - due_ns
            due_ns = now_ns
        if due_ns > now_ns:
            self._sleep((due_ns - now_ns) / 1e9)
        self._given += 1
        return Read(Status.OK, dataclasses.replace(frame, captured_ns=due_ns))

    def close(self) -> None:
        """Release the source of the frames."""
        self._frames = iter(())
        self._close()


def to_and_fro(frames: Sequence[Frame]) -> Iterator[Frame]:
    """A cine without end and without a jump: forwards, backwards, forwards; neighbours are never the same frame."""
    turn = [*frames, *frames[-2:0:-1]]
    while True:
        yield from turn


def pace(source: Source) -> PacedSource:
    """Play a moving source in real time.

    Raises:
        SourceError: it is of still images.
    """
    if source.frame_hz is None:
        raise SourceError(
            f"{source.description} is of still images, which have no pace", "leave --live out, or give a video"
        )
    paced = PacedSource(source.description, source.frame_hz, lambda: iter(source), close=source.close)
    paced.problems = source.problems
    return paced
