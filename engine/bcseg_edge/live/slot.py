"""The place between capture and computation: one frame, the newest."""

from __future__ import annotations

import threading

from bcseg_edge.frames import Frame
from bcseg_edge.live.ledger import Ledger


class Slot:
    """Holds at most one frame; a newer one replaces it. Safe between threads.

    A queue would turn every hiccup of the consumer into lag that stays; here a hiccup costs frames, which the ledger
    counts.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changed = threading.Condition()
        self._frame: Frame | None = None

    def put(self, frame: Frame) -> None:
        """Leave a frame, in place of one that nobody took."""
        with self._changed:
            self._ledger.captured(replacing=self._frame is not None)
            self._frame = frame
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Frame | None:
        """Take the frame, waiting for one up to `timeout_s`; None where none came."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None, timeout_s)
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            return frame

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` until nothing is left to take; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._frame is None, timeout_s)

    def discard(self) -> None:
        """Drop what nobody will take any more."""
        with self._changed:
            if self._frame is not None:
                self._ledger.dropped()
            self._frame = None
            self._changed.notify_all()
