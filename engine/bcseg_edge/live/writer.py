"""Files of a live run, written by a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.live.results import Health, LiveResult
from bcseg_edge.sinks import Sink

QUEUE = 64  # results: two seconds at 30 Hz


class WriterThread:
    """A LiveSink that hands results with a segmentation to file sinks; where they are too slow it leaves results out.

    Attributes:
        dropped: results that were not written for want of time.
        problems: what could not be written.

    Args:
        sinks: used and closed by the thread.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.dropped = 0
        self.problems: list[str] = []
        self._sinks = list(sinks)
        self._results: queue.Queue[LiveResult | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def write(self, result: LiveResult) -> None:
        """Leave a result for the thread; returns at once."""
        try:
            self._results.put_nowait(result)
        except queue.Full:
            self.dropped += 1

    def update(self, health: Health) -> None:
        """Health goes nowhere."""

    def close(self) -> None:
        """Write what is left; a second call does nothing."""
        if self._thread.is_alive():
            self._results.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (result := self._results.get()) is not None:
            if result.segmentation is None:
                continue
            for sink in list(self._sinks):
                self._write(sink, result.frame, result.segmentation, result.lesions)
        for sink in self._sinks:
            self._close(sink)

    def _write(self, sink: Sink, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        try:
            sink.write(frame, segmentation, lesions)
        except (BcsegError, OSError) as error:
            self.problems.append(str(error))
            self._sinks.remove(sink)
            self._close(sink)

    def _close(self, sink: Sink) -> None:
        try:
            sink.close()
        except (BcsegError, OSError) as error:
            self.problems.append(str(error))
