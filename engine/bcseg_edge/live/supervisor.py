"""The backend under supervision: a hang, a crash or a lost GPU costs a restart of seconds and not the session."""

from __future__ import annotations

import multiprocessing
import time
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np

from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Segmentation, UInt8Array, check_frame
from bcseg_edge.live.backend import BackendDown
from bcseg_edge.live.shared_images import Place, SharedImages
from bcseg_edge.live.worker import Done, Factory, Failed, Ready, work

PATIENT = 5.0
FORGET = 0.98  # of the slowest answer, each time: after a hundred quick ones a slow one hardly counts


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for the process, s.

    Attributes:
        start_s: until it is ready: loading a model, building a GPU context.
        answer_s: for one image, or `PATIENT` times the slowest of late, whichever is more: a slow model on a busy
            machine does not hang.
        first_answer_s: for the first image of a size: a backend may compile for it.
        beat_s: without a sign of life while nothing is asked of it.
        failures: failed images in a row after which it is started again.
        first_wait_s: before a restart that follows a process that never gave a result; doubles each time.
        longest_wait_s: where doubling ends.
    """

    start_s: float = 60.0
    answer_s: float = 2.0
    first_answer_s: float = 60.0
    beat_s: float = 5.0
    failures: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 10.0


class SupervisedBackend:
    """Segments in a process of its own and starts that again when it fails.

    Frames and results travel through shared memory. `segment` does not wait for a restart: it says `BackendDown` until
    the new process is ready.

    Attributes:
        facts: what the factory says of the backend.
        restarts: how often the process was replaced.
        trouble: why no image can be taken now; empty where it can.

    Args:
        factory: picklable; makes the segmenter in the process.
        patience: see there.

    Raises:
        BcsegError: the first start failed; with message and exit code of the process's error.
    """

    def __init__(self, factory: Factory, patience: Patience | None = None) -> None:
        self.facts: dict[str, str] = {}
        self.restarts = 0
        self.trouble = "starting"
        self._factory = factory
        self._patience = patience or Patience()
        self._context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._beat: Any = self._context.Value(c_longlong, 0, lock=False)
        self._images: SharedImages | None = None
        self._ready = False
        self._seen_shapes: set[tuple[int, ...]] = set()
        self._slowest_s = 0.0
        self._failures = 0
        self._gave_result = False
        self._wait_s = self._patience.first_wait_s
        self._since_s = self._retry_s = 0.0
        self._last_error = BcsegError("the backend did not start", "see: bcseg-edge doctor")
        try:
            self._start()
            self._await_first_start()
        except BaseException:
            self.close()
            raise

    @property
    def process_ids(self) -> list[int]:
        """The process, where there is one."""
        return [self._process.pid] if self._process is not None and self._process.pid is not None else []

    def segment(self, image: UInt8Array) -> Segmentation:
        """Segment an image.

        Raises:
            BackendDown: the process is being started again, or just failed.
            BcsegError: of the backend, for this image.
        """
        check_frame(image)
        self.check()
        if not self._ready or self._connection is None:
            raise BackendDown(f"the backend is being started again: {self.trouble}")
        block = self._block_for(image.shape[0] * image.shape[1])
        shared, labels, confidence = block.views(image.shape)
        np.copyto(shared, image)
        answer = self._ask(self._connection, Place(block.name, image.shape))
        if isinstance(answer, Failed):
            self._count_failure(answer)
            raise BcsegError(answer.message, answer.hint)
        self._failures, self._gave_result, self._wait_s = 0, True, self._patience.first_wait_s
        self.trouble = ""
        return Segmentation(labels.copy(), confidence.copy(), answer.timings, answer.patches, answer.patches_reused)

    def check(self) -> None:
        """Look after the process: take its answer to a start, replace it where it died or fell silent."""
        if self._process is None or self._connection is None:
            if time.monotonic() >= self._retry_s:
                self._start()
            return
        if self._connection.poll():
            self._take_unasked(self._receive(self._connection))
        elif not self._process.is_alive():
            self._fail(self._obituary())
        elif not self._ready and time.monotonic() - self._since_s > self._patience.start_s:
            self._fail(f"not ready after {self._patience.start_s:g} s")
        elif self._ready and time.monotonic_ns() - self._beat.value > self._patience.beat_s * 1e9:
            self._fail(f"no sign of life for {self._patience.beat_s:g} s")

    def close(self) -> None:
        """End the process and free the memory; a second call does nothing."""
        self._end_process()
        if self._images is not None:
            self._images.close()
            self._images = None
        self._retry_s = float("inf")
        self.trouble = "closed"

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(self._factory, theirs, self._beat), name="bcseg-edge backend", daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._connection = process, ours
        self._ready, self._gave_result, self._failures = False, False, 0
        self._seen_shapes.clear()
        self._since_s = time.monotonic()

    def _await_first_start(self) -> None:
        while not self._ready and self._process is not None and self._connection is not None:
            wait([self._connection, self._process.sentinel], timeout=1.0)
            self.check()
        if not self._ready:
            raise self._last_error

    def _take_unasked(self, message: Ready | Done | Failed | None) -> None:
        if isinstance(message, Ready):
            self._ready, self.facts, self.trouble = True, message.facts, ""
            self._beat.value = time.monotonic_ns()
        elif isinstance(message, Failed):
            self._fail(message.message, message)
        elif message is None:
            self._fail(self._obituary())

    def _ask(self, connection: Connection[Any, Any], place: Place) -> Done | Failed:
        patience = self._patience
        limit_s = patience.first_answer_s
        if place.shape in self._seen_shapes:
            limit_s = max(patience.answer_s, PATIENT * self._slowest_s)
        asked_s = time.monotonic()
        sentinel = self._process.sentinel if self._process is not None else -1
        try:
            connection.send(place)
        except OSError:
            raise self._down(self._obituary()) from None
        if not wait([connection, sentinel], timeout=limit_s):
            raise self._down(f"no answer for {limit_s:.1f} s")
        answer = self._receive(connection) if connection.poll() else None
        if not isinstance(answer, Done | Failed):
            raise self._down(self._obituary())
        if place.shape in self._seen_shapes:  # the first may have compiled
            self._slowest_s = max(self._slowest_s * FORGET, time.monotonic() - asked_s)
        self._seen_shapes.add(place.shape)
        return answer

    def _down(self, reason: str) -> BackendDown:
        self._fail(reason)
        return BackendDown(f"the backend is started again: {reason}", had_image=True)

    @staticmethod
    def _receive(connection: Connection[Any, Any]) -> Any:
        try:
            return connection.recv()
        except (EOFError, OSError):
            return None

    def _obituary(self) -> str:
        if self._process is None:
            return "the backend's process is gone"
        self._process.join(1.0)
        code = self._process.exitcode
        return f"the backend's process ended with {f'signal {-code}' if code is not None and code < 0 else code}"

    def _count_failure(self, answer: Failed) -> None:
        self._failures += 1
        self.trouble = answer.message
        if answer.fatal or self._failures >= self._patience.failures:
            self._fail(answer.message)

    def _fail(self, reason: str, answer: Failed | None = None) -> None:
        """Replace the process: at once where it had given results, else ever later."""
        self._last_error = BcsegError(reason, answer.hint if answer else "see: bcseg-edge doctor")
        self._last_error.exit_code = answer.exit_code if answer else 1
        self._end_process()
        self.trouble = reason
        self.restarts += 1
        self._retry_s = time.monotonic()
        if not self._gave_result:
            self._retry_s += self._wait_s
            self._wait_s = min(self._wait_s * 2, self._patience.longest_wait_s)

    def _end_process(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        self._ready = False
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.join(1.0)  # one that hangs in the kernel is left to it

    def _block_for(self, size_px: int) -> SharedImages:
        if self._images is None or self._images.size_px < size_px:
            if self._images is not None:
                self._images.close()
            self._images = SharedImages(size_px)
        return self._images
