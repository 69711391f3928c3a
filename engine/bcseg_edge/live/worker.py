"""The process that the backend lives in: takes images, answers with labels, beats while it is alive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Segmentation, Timings, UInt8Array
from bcseg_edge.live.shared_images import Place, SharedImages

if TYPE_CHECKING:
    from bcseg_edge.segmenter import Segmenter

BEAT_S = 0.25
WARM_HW = (480, 640)

Segment = Callable[[UInt8Array], Segmentation]


@dataclass(frozen=True, slots=True)
class Ready:
    """The backend is loaded and has segmented once.

    Attributes:
        facts: what the factory says of the backend, for people.
    """

    facts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Done:
    """Labels and confidence are in the shared memory; the rest of the segmentation is here."""

    timings: Timings
    patches: int
    patches_reused: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of the backend.

    Attributes:
        fatal: the process ends, since nothing can succeed in it any more.
    """

    message: str
    hint: str
    exit_code: int
    fatal: bool


@dataclass(frozen=True, slots=True)
class SegmenterFactory:
    """Loads a model where it is called: the arguments travel to the process, the backend never does.

    Attributes:
        model, backend, threads: as `bcseg_edge.load_model` takes them.
        tiling, reuse: as `bcseg_edge.Segmenter` takes them.
    """

    model: str
    backend: str = "auto"
    threads: int | None = None
    tiling: str | None = None
    reuse: bool = False

    def __call__(self) -> tuple[Segmenter, dict[str, str]]:
        """A segmenter, and its model, backend and tiling by name."""
        from bcseg_edge.models import load_model
        from bcseg_edge.segmenter import Segmenter

        loaded = load_model(self.model, self.backend, self.threads)
        segmenter = Segmenter(loaded, self.tiling, reuse=self.reuse)  # type: ignore[arg-type]  # it refuses others
        facts = {"model": loaded.passport.name, "backend": loaded.backend_name, "tiling": segmenter.tiling}
        return segmenter, facts


Factory = Callable[[], tuple[Segment, dict[str, str]]]


def work(factory: Factory, connection: Connection[Any, Any], beat: c_longlong) -> None:
    """Serve until the other end of `connection` is closed, or the backend is beyond help.

    Args:
        factory: makes the segmenter; called here.
        connection: takes `Place`, gives `Ready`, `Done` and `Failed`.
        beat: set to `time.monotonic_ns()` while waiting.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        segment, facts = factory()
        _warm_up(segment)
    except Exception as error:
        _send(connection, _failure(error, fatal=True))
        return
    _send(connection, Ready(facts))
    blocks: dict[str, SharedImages] = {}
    parent = os.getppid()
    while os.getppid() == parent:
        beat.value = time.monotonic_ns()
        try:
            if not connection.poll(BEAT_S):
                continue
            place = connection.recv()
        except (EOFError, OSError):
            return
        answer = _answer(segment, place, blocks)
        _send(connection, answer)
        if isinstance(answer, Failed) and answer.fatal:
            return


def _warm_up(segment: Segment) -> None:
    """Let the backend compile what frames of the usual size need: all of their patches, and one alone."""
    image = np.random.default_rng(0).integers(0, 256, WARM_HW, np.uint8)  # of one grey level, patches would be reused
    segment(image)
    image[0, 0] ^= 1
    segment(image)


def _answer(segment: Segment, place: Place, blocks: dict[str, SharedImages]) -> Done | Failed:
    try:
        if place.name not in blocks:
            for block in blocks.values():
                block.close()
            blocks.clear()
            blocks[place.name] = SharedImages(0, place.name)
        image, labels, confidence = blocks[place.name].views(place.shape)
        found = segment(image)
        labels[:] = found.labels
        confidence[:] = found.confidence
        return Done(found.timings, found.patches, found.patches_reused)
    except Exception as error:
        return _failure(error, fatal=_is_sticky(error))


def _is_sticky(error: Exception) -> bool:
    """Whether the CUDA context is lost, so that only a new process helps."""
    from bcseg_edge.cuda.faults import CudaFault

    return isinstance(error, CudaFault)


def _failure(error: Exception, *, fatal: bool) -> Failed:
    if isinstance(error, BcsegError):
        return Failed(error.message, error.hint, error.exit_code, fatal)
    return Failed(f"the backend failed: {type(error).__name__}: {error}", "try another --backend", 1, fatal)


def _send(connection: Connection[Any, Any], message: Ready | Done | Failed) -> None:
    try:
        connection.send(message)
    except OSError:  # the parent is gone; the loop will see it
        return
