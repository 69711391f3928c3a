"""The live loop: newest frame in, result out, each with its age and its worth; nothing that breaks ends the session."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion, find_lesions
from bcseg_edge.live.backend import LiveBackend
from bcseg_edge.live.blank import is_blank
from bcseg_edge.live.capture import Capture, Reconnect
from bcseg_edge.live.crop import AutoCrop, Crop
from bcseg_edge.live.health import Ages, memory_mb
from bcseg_edge.live.ledger import Ledger
from bcseg_edge.live.results import Controls, Health, LiveResult, LiveSink, Validity
from bcseg_edge.live.slot import Slot
from bcseg_edge.live.summary import LiveSummary, Stages
from bcseg_edge.live.systemd import Notifier
from bcseg_edge.sources.live import LiveSource

TICK_S = 0.1  # how often an idle loop looks around
HEALTH_EVERY_S = 1.0
LATE_SHARE = 0.1  # more late results than this of the last second's are a degraded session

Refine = Callable[[LiveResult], LiveResult]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live run behaves.

    Attributes:
        deadline_ms: oldest a shown result may be; an older one is shown without its mask, as STALE.
        lost_after_s: without a frame for so long, LOST is shown.
        crop: part of the frame to segment, a finder of it, or None for all of it.
        spacing_mm: (row, column) size of a pixel; overrides what the frames say.
        reconnect: what to do when the source is gone.
        max_frames: stop after so many captured frames; None goes on.
    """

    deadline_ms: float = 200.0
    lost_after_s: float = 1.0
    crop: Crop | AutoCrop | None = None
    spacing_mm: tuple[float, float] | None = None
    reconnect: Reconnect = field(default_factory=Reconnect)
    max_frames: int | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """An image and what was found in it, for the case that it comes again."""

    part: UInt8Array
    circumstances: tuple[object, ...]
    segmentation: Segmentation
    lesions: tuple[Lesion, ...]


class LiveLoop:
    """Runs a live source through a backend to sinks.

    Args:
        source: open; closed at the end.
        backend: ready; stays open.
        sinks: get every result and, each second, the health; closed at the end. One that fails is closed and left
            out, which the summary tells.
        options: see `LiveOptions`.
        controls: what a person asks meanwhile.
        refine: called with every result before its age is taken: tracking, smoothing.
        clock_ns: monotonic nanoseconds, the clock of `Frame.captured_ns`.
    """

    def __init__(
        self,
        source: LiveSource,
        backend: LiveBackend,
        sinks: Sequence[LiveSink] = (),
        options: LiveOptions | None = None,
        *,
        controls: Controls | None = None,
        refine: Refine | None = None,
        notifier: Notifier | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.options = options or LiveOptions()
        self.controls = controls or Controls()
        self.ledger = Ledger()
        self.slot = Slot(self.ledger)
        self.capture = Capture(source, self.slot, self.options.reconnect, clock_ns)
        self.problems: list[str] = []
        self._source = source
        self._backend = backend
        self._sinks = list(sinks)
        self._refine = refine or (lambda result: result)
        self._notifier = notifier or Notifier()
        self._clock_ns = clock_ns
        self._known: _Known | None = None
        self._failure = ""
        self._ages, self._stages = Ages(), Stages()
        self._validities = dict.fromkeys(Validity, 0)
        self._began_ns = self._alive_ns = clock_ns()
        self._told_ns = 0
        self._told_late = self._told_results = 0
        self._lost_told = False

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> LiveSummary:
        """Go on until the source ends, a person quits or `should_stop`; returns what came of it."""
        self.capture.start()
        self._notifier.ready()
        try:
            while not (should_stop() or self.controls.quit.is_set() or self._is_over()):
                self.step(TICK_S)
        finally:
            interrupted = should_stop()
            self._notifier.stopping()
            if not self.capture.stop():
                self.problems.append("the source's driver did not return and was left behind")
            self.slot.discard()
            health = self.health(stopped=True)
            for sink in list(self._sinks):
                self._guard(sink, lambda sink=sink: (sink.update(health), sink.close()))  # type: ignore[misc]
        return self._summary(health, interrupted)

    def step(self, timeout_s: float) -> None:
        """Take one frame, or wait in vain for one, and tell the health when it is time."""
        frame = self.slot.take(timeout_s)
        if frame is None:
            self._backend.check()
            self._look_for_loss()
        else:
            self._alive_ns = self._clock_ns()
            self._lost_told = False
            self._process(frame)
        if self._clock_ns() - self._told_ns >= HEALTH_EVERY_S * 1e9:
            self._tell_health()

    def _is_over(self) -> bool:
        limit = self.options.max_frames
        if limit is not None and self.ledger.counts().captured >= limit:
            return True
        return self.capture.done and self.slot.wait_empty(0)

    def _process(self, frame: Frame) -> None:
        taken_ns = self._clock_ns()
        if self.options.spacing_mm is not None:
            frame = dataclasses.replace(frame, spacing_mm=self.options.spacing_mm)
        wait_ms = _ms(taken_ns - frame.captured_ns)
        crop, reason = self._crop_for(frame.image)
        part = frame.image if crop is None else crop.cut(frame.image)
        if reason:
            self._fail(frame, reason)
        elif is_blank(part):
            self.ledger.blank()
            self._emit(LiveResult(frame, Validity.BLANK, None))
        elif self._known is not None and self._is_known(frame, part, crop):
            found = self._known
            stages_ms = {"wait": wait_ms}
            self._settle(LiveResult(frame, Validity.FROZEN, found.segmentation, found.lesions, stages_ms=stages_ms))
        else:
            self._segment(frame, part, crop, wait_ms)

    def _crop_for(self, image: UInt8Array) -> tuple[Crop | None, str]:
        """The part to segment, and why there is none."""
        chosen = self.options.crop
        if isinstance(chosen, AutoCrop):
            return chosen.look(image), ""
        if chosen is not None and not chosen.fits((image.shape[0], image.shape[1])):
            return None, f"the frame has {image.shape[1]}x{image.shape[0]} px, crop {chosen} lies outside"
        return chosen, ""

    def _is_known(self, frame: Frame, part: UInt8Array, crop: Crop | None) -> bool:
        known = self._known
        if known is None or known.circumstances != _circumstances(frame, crop):
            return False
        # Comparing the bytes is as quick as a hash of them, and needs no trust in the hash.
        return part is known.part or np.array_equal(part, known.part)

    def _segment(self, frame: Frame, part: UInt8Array, crop: Crop | None, wait_ms: float) -> None:
        try:
            segmentation = self._backend.segment(part)
            segmented_ns = self._clock_ns()
            if crop is not None:
                segmentation = crop.paste(segmentation, (frame.image.shape[0], frame.image.shape[1]))
            lesions = tuple(find_lesions(segmentation, frame.spacing_mm))
        except BcsegError as error:
            self._fail(frame, error.message)
            return
        self._failure = ""
        self._known = _Known(part, _circumstances(frame, crop), segmentation, lesions)
        of = segmentation.timings
        stages_ms = {
            "wait": wait_ms,
            "split": of.upload_ms + of.split_ms,
            "network": of.network_ms,
            "stitch": of.stitch_ms + of.download_ms,
            "lesions": _ms(self._clock_ns() - segmented_ns),
        }
        self._settle(LiveResult(frame, Validity.OK, segmentation, lesions, stages_ms=stages_ms))

    def _fail(self, frame: Frame, reason: str) -> None:
        self._failure = reason
        self.ledger.failed()
        self._emit(LiveResult(frame, Validity.STALE, None))

    def _settle(self, result: LiveResult) -> None:
        """Show a result, or where it comes too late the frame without it."""
        result = self._refine(result)
        now_ns = self._clock_ns()
        age_ms = _ms(now_ns - result.frame.captured_ns)
        late = age_ms > self.options.deadline_ms
        (self.ledger.reused if result.validity is Validity.FROZEN else self.ledger.segmented)(late=late)
        if late:
            self._emit(LiveResult(result.frame, Validity.STALE, None), refined=True)
            return
        self._ages.add(now_ns, age_ms)
        self._stages.add(result.stages_ms)
        self._emit(dataclasses.replace(result, age_ms=age_ms), refined=True)

    def _emit(self, result: LiveResult, *, refined: bool = False) -> None:
        if not refined:
            result = self._refine(result)
        if result.age_ms == 0:
            result = dataclasses.replace(result, age_ms=_ms(self._clock_ns() - result.frame.captured_ns))
        self._validities[result.validity] += 1
        for sink in list(self._sinks):
            self._guard(sink, lambda sink=sink: sink.write(result))  # type: ignore[misc]

    def _guard(self, sink: LiveSink, act: Callable[[], object]) -> None:
        """Do something with a sink; one that fails is left out from then on."""
        try:
            act()
        except Exception as error:  # an output that breaks must not take the session with it
            said = error.message if isinstance(error, BcsegError) else f"{type(error).__name__}: {error}"
            self.problems.append(f"output {type(sink).__name__} was closed: {said}")
            self._sinks.remove(sink)
            with suppress(Exception):  # its first error is the one that tells
                sink.close()

    def _look_for_loss(self) -> None:
        comes_any_time = self._source.frame_hz is None and self.capture.state == "running"
        if self._lost_told or comes_any_time:
            return
        silent_s = (self._clock_ns() - self._alive_ns) / 1e9
        if silent_s < self.options.lost_after_s:
            return
        self._lost_told = True
        frame = self.capture.last_frame
        if frame is not None:
            self._emit(LiveResult(frame, Validity.LOST, None))

    def _tell_health(self) -> None:
        health = self.health()
        self._told_ns = self._clock_ns()
        self._told_late, self._told_results = health.ledger.late, health.ledger.late + health.ledger.shown
        self._notifier.watchdog(f"{health.state} {health.reason}".strip())
        for sink in list(self._sinks):
            self._guard(sink, lambda sink=sink: sink.update(health))  # type: ignore[misc]

    def health(self, *, stopped: bool = False) -> Health:
        """How it does now."""
        now_ns = self._clock_ns()
        counts = self.ledger.counts()
        state, reason = ("stopped", "") if stopped else self._state(counts.late, counts.late + counts.shown)
        results_hz, age_ms = self._ages.recent(now_ns)
        return Health(
            state,
            reason,
            results_hz,
            age_ms,
            counts,
            source_restarts=self.capture.restarts,
            backend_restarts=self._backend.restarts,
            memory_mb=memory_mb([os.getpid(), *self._backend.process_ids]),
            uptime_s=(now_ns - self._began_ns) / 1e9,
        )

    def _state(self, late: int, results: int) -> tuple[str, str]:
        if self._lost_told or self.capture.state in ("reconnecting", "gave_up"):
            return "lost", self.capture.reason or f"no frame for {self.options.lost_after_s:g} s"
        trouble = self._backend.trouble or self._failure
        if trouble:
            return "degraded", trouble
        if not self._ages.count and late == 0:
            return "starting", "no result yet"
        new_late, new_results = late - self._told_late, results - self._told_results
        if new_late > LATE_SHARE * max(new_results, 1):
            return "degraded", f"{new_late} of {new_results} results were older than {self.options.deadline_ms:g} ms"
        return "ok", ""

    def _summary(self, health: Health, interrupted: bool) -> LiveSummary:
        crop = self.options.crop
        found = crop.crop if isinstance(crop, AutoCrop) else crop
        return LiveSummary(
            health=health,
            results_hz=self._ages.mean_hz(),
            age_ms=self._ages.whole(),
            stages_ms=self._stages.medians(),
            validities={validity.value: count for validity, count in self._validities.items()},
            crop=None if found is None else str(found),
            problems=[*self._source.problems, *self.problems],
            gave_up=self.capture.reason if self.capture.state == "gave_up" else "",
            interrupted=interrupted,
        )


def _circumstances(frame: Frame, crop: Crop | None) -> tuple[object, ...]:
    """What has to be equal, beside the image, for a result to hold for another frame."""
    return frame.image.shape, frame.spacing_mm, crop


def _ms(span_ns: int) -> float:
    """Milliseconds, never negative: a source's own clock can be a little ahead."""
    return max(0.0, span_ns / 1e6)
