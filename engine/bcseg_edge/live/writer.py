"""Recording beside the live loop: the file sinks in a thread of their own, which can never hold up a frame."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bcseg_edge.errors import BcsegError
from bcseg_edge.live.results import Health, LiveResult
from bcseg_edge.sinks import Sink

CAPACITY = 16  # results: half a second at 30 Hz, 30 MB at 640x480
# An MP4 gets its index when it is closed, and a cart whose disk is full to the last byte may not start again.
RESERVE_BYTES = 256 << 20
CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class WriterCounts:
    """What became of the results that the writer was given.

    Attributes:
        written: handed to the sinks.
        dropped: not recorded: the disk was slower than the video, or recording had stopped.
        waiting: still in the queue.
    """

    written: int
    dropped: int
    waiting: int


class WriterThread:
    """A `LiveSink` that writes file sinks in its own thread, from a bounded queue.

    A sink with a method `write_result` gets every `LiveResult`; the others get those that hold a segmentation. A sink
    that fails is closed and left out, with its reason in `problems`; the others go on. Where less than the reserve is
    free, all of them are closed while there is room to finish their files. `write` never waits and never raises.

    The thread keeps its priority: at a lower one it held Python's lock for longer whenever the processor was busy, and
    the 99th percentile of a result's age on the page rose from 116 to 138 ms (640x480, two cores, all outputs on).

    The arrays of a result must not change once it was handed over.

    Args:
        sinks: owned from now on.
        folder: whose disk is watched; None watches none.
        name: what it is called in `problems`.
        capacity: results that may wait.
        reserve_bytes: that are left free on the disk.
        free_bytes: tells the free bytes of a folder's disk.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        folder: Path | None = None,
        *,
        name: str = "recording",
        capacity: int = CAPACITY,
        reserve_bytes: int = RESERVE_BYTES,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._sinks = list(sinks)
        self._folder = folder
        self._name = name
        self._capacity = capacity
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._waiting: deque[LiveResult] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._written = self._dropped = 0
        self._problems: list[str] = []
        self._thread = threading.Thread(target=self._run, name="bcseg-writer", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> WriterCounts:
        """What became of the results so far."""
        with self._changed:
            return WriterCounts(self._written, self._dropped, len(self._waiting))

    @property
    def problems(self) -> list[str]:
        """Why recording is not complete, one sentence each; empty while it is."""
        with self._changed:
            dropped = [f"{self._name}: {self._dropped} results were left out"] if self._dropped else []
            return [*self._problems, *dropped]

    @property
    def recording(self) -> bool:
        """Whether any sink still takes results."""
        with self._changed:
            return bool(self._sinks) and not self._closing

    def write(self, result: LiveResult) -> None:
        """Queue one result, or count it as dropped where the queue is full or nothing records any more."""
        with self._changed:
            if self._closing or not self._sinks or len(self._waiting) >= self._capacity:
                self._dropped += 1
                return
            self._waiting.append(result)
            self._changed.notify()

    def update(self, health: Health) -> None:
        """Nothing to record of it."""

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write what waits and finish the files; a second call does nothing.

        A disk that hangs for longer than `timeout_s` is left behind, with a sentence in `problems`.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._tell(
                f"{self._name}: the disk did not take the last results within {timeout_s:g} s; files may be unfinished"
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, timeout=1.0)
                result = self._waiting.popleft() if self._waiting else None
                if result is None and self._closing:
                    break
            self._watch_disk()
            if result is not None:
                self._write_all(result)
        self._finish(list(self._sinks))

    def _write_all(self, result: LiveResult) -> None:
        failed = [sink for sink in self._sinks if not self._attempt(partial(_hand_over, sink, result))]
        self._finish(failed)
        with self._changed:
            if self._sinks:
                self._written += 1
                return
            self._dropped += 1 + len(self._waiting)
            self._waiting.clear()

    def _watch_disk(self) -> None:
        if self._folder is None or not self._sinks:
            return
        try:
            free = self._free_bytes(self._folder)
        except OSError:  # the write that follows says it better
            return
        if free < self._reserve_bytes:
            self._tell(
                f"{self._name} stopped: {free >> 20} MB are free on the disk of {self._folder}, "
                f"{self._reserve_bytes >> 20} MB are kept"
            )
            self._finish(list(self._sinks))

    def _finish(self, sinks: Sequence[Sink]) -> None:
        """Close `sinks` and leave them out from now on."""
        for sink in sinks:
            self._attempt(sink.close)
        with self._changed:
            self._sinks = [sink for sink in self._sinks if not any(sink is done for done in sinks)]

    def _attempt(self, work: Callable[[], object]) -> bool:
        """Whether `work` could be done; its reason is kept where not."""
        try:
            work()
        except BcsegError as error:
            self._tell(f"{self._name} stopped: {error.message}")
            return False
        except Exception as error:  # a fault in a sink must not end the loop
            self._tell(f"{self._name} stopped: {type(error).__name__}: {error}")
            return False
        return True

    def _tell(self, problem: str) -> None:
        with self._changed:
            if problem not in self._problems:
                self._problems.append(problem)


def _hand_over(sink: Sink, result: LiveResult) -> None:
    write_result = getattr(sink, "write_result", None)
    if write_result is not None:
        write_result(result)
    elif result.segmentation is not None:
        sink.write(result.frame, result.segmentation, result.lesions)
