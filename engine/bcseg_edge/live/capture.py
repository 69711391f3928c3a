"""Capture in a thread of its own: reads the source as fast as it gives, and connects again after a loss."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Frame
from bcseg_edge.live.slot import Slot
from bcseg_edge.sources.live import LiveSource, Read, Status, lost

JOIN_S = 3.0  # a driver that blocks longer is left behind: the thread is a daemon


@dataclass(frozen=True, slots=True)
class Reconnect:
    """When a source counts as lost, and how it is asked for again.

    Attributes:
        give_up_s: a loss that lasts so long ends the run, whether the source connects meanwhile or not; 0 ends at the
            first loss, infinity never.
        first_wait_s: before the first attempt; doubles with each.
        longest_wait_s: where doubling ends.
        silence_s: a source with a frame rate that gives nothing for so long is lost, whatever it says.
    """

    give_up_s: float = float("inf")
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0
    silence_s: float = 3.0


class Capture:
    """Moves frames from a source to the slot.

    Attributes:
        state: `running`, `reconnecting`, `ended` (the source has no more) or `gave_up`.
        reason: why, where it is neither running nor ended.
        restarts: successful reconnections.
        last_frame: the newest one captured.

    Args:
        source: open; closed by the thread when it ends.
        slot: where frames go.
        reconnect: see there.
        clock_ns: monotonic nanoseconds.
        wait: sleeps so many seconds, or less once the run is to stop; None takes the thread's stop event.
        max_frames: ends after so many; None goes on.
    """

    def __init__(
        self,
        source: LiveSource,
        slot: Slot,
        reconnect: Reconnect,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[float], object] | None = None,
        max_frames: int | None = None,
    ) -> None:
        self.state = "running"
        self.reason = ""
        self.restarts = 0
        self.last_frame: Frame | None = None
        self._source = source
        self._slot = slot
        self._reconnect = reconnect
        self._clock_ns = clock_ns
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._frame_ns = self._alive_ns = clock_ns()  # of the last frame; of that or of a reconnection
        self._lost_ns: int | None = None  # when a loss began that no frame has ended yet
        self._wait_s = reconnect.first_wait_s
        self._captured = 0
        self._names: set[str] = set()
        self._max_frames = max_frames
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @property
    def done(self) -> bool:
        """Whether no frame will come any more."""
        return self.state in ("ended", "gave_up")

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame, or since the beginning."""
        return (self._clock_ns() - self._frame_ns) / 1e9

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> bool:
        """End; whether the thread did (a blocked driver can keep it, as a daemon)."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self.done:
                self.step()
        finally:
            self._source.close()

    def step(self) -> None:
        """Read once; on a loss, try once to connect again."""
        if self.state == "reconnecting":
            self._connect_again()
            return
        if self._source.lossless and not self._slot.wait_empty(0.1):
            return
        read = self._read()
        if read.frame is not None:
            self._keep(read.frame)
        elif read.status is Status.END:
            self.state = "ended"
        elif read.status is Status.TIMEOUT and self._source.frame_hz is None:
            self._lost_ns = None  # connected: such a source may be silent
        elif read.status is Status.ERROR or self._is_silent():
            self._lose(read.reason or f"no frame for {self._reconnect.silence_s:g} s")

    def _read(self) -> Read:
        try:
            return self._source.read()
        except Exception as error:  # a driver's wrapper can raise anything; for the session it is a loss
            return lost(f"{type(error).__name__}: {error}")

    def _keep(self, frame: Frame) -> None:
        numbered = dataclasses.replace(frame, index=self._captured, name=self._name_of(frame))
        self._captured += 1
        self._frame_ns = self._alive_ns = self._clock_ns()
        self._lost_ns = None
        self._wait_s = self._reconnect.first_wait_s
        self.last_frame = numbered
        self._slot.put(numbered)
        if self._captured == self._max_frames:
            self.state = "ended"

    def _name_of(self, frame: Frame) -> str:
        """Its own name where it is a file's and new, else with its number: a cine that starts again counts anew."""
        number = f"{self._captured:06d}"
        if not self._source.lossless:
            return number
        name = f"{frame.name}-{number}" if frame.name in self._names else frame.name
        self._names.add(name)
        return name

    def _is_silent(self) -> bool:
        silent_s = (self._clock_ns() - self._alive_ns) / 1e9
        return self._source.frame_hz is not None and silent_s > self._reconnect.silence_s

    def _lose(self, reason: str) -> None:
        self.reason = reason
        self._source.close()
        now_ns = self._clock_ns()
        if self._lost_ns is None:
            self._lost_ns = now_ns
        given_up = (now_ns - self._lost_ns) / 1e9 >= self._reconnect.give_up_s
        self.state = "gave_up" if given_up else "reconnecting"

    def _connect_again(self) -> None:
        # A source that connects and then gives nothing must not be asked in a tight loop: only a frame resets the wait.
        self._wait(self._wait_s)
        if self._stop.is_set():
            return
        self._wait_s = min(self._wait_s * 2, self._reconnect.longest_wait_s)
        try:
            self._source.open()
        except Exception as error:  # as in `_read`
            self._lose(error.message if isinstance(error, BcsegError) else f"{type(error).__name__}: {error}")
            return
        self.restarts += 1
        self.state, self.reason = "running", ""
        self._alive_ns = self._clock_ns()
