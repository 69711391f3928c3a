"""The live loop: newest frame in, result out, each with its age and its worth; nothing that breaks ends the session."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bcseg_edge.crop import Crop
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.frames import Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion, find_lesions
from bcseg_edge.live.backend import BackendDown, LiveBackend
from bcseg_edge.live.blank import is_blank
from bcseg_edge.live.capture import Capture, Reconnect
from bcseg_edge.live.crop import AutoCrop
from bcseg_edge.live.fan_out import FanOut, Refine
from bcseg_edge.live.health import Ages, memory_mb
from bcseg_edge.live.ledger import Ledger
from bcseg_edge.live.results import Controls, Health, LiveResult, LiveSink, Validity
from bcseg_edge.live.slot import Slot
from bcseg_edge.live.summary import LiveSummary, Stages
from bcseg_edge.live.systemd import Notifier
from bcseg_edge.sources.live import LiveSource

TICK_S = 0.1  # how often an idle loop looks around
LANE_END_S = 5.0  # a lane ends with the frame it has
HEALTH_EVERY_S = 1.0
STUCK_S = 90.0  # a lane without a round for so long (a backend may compile for 60) is a case for the watchdog
ATTEMPTS = 3  # to segment an image of a lossless source during which the backend breaks down
LATE_SHARE = 0.1  # more late results than this of the last second's are a degraded session


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live run behaves.

    Attributes:
        deadline_ms: oldest a shown result may be; an older one is shown without its mask, as STALE. What a lossless
            source gives does not grow old.
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


@dataclass(slots=True)
class _Image:
    """The image taken last, and what was found in it, for the case that it comes again."""

    part: UInt8Array
    circumstances: tuple[object, ...]
    settled: bool = False
    found: tuple[Segmentation, tuple[Lesion, ...]] | None = None

    def is_same(self, other: _Image) -> bool:
        """Whether what was found in one holds for the other: the same bytes under the same circumstances."""
        # Comparing the bytes is as quick as a hash of them, and needs no trust in the hash.
        return self.circumstances == other.circumstances and (
            self.part is other.part or np.array_equal(self.part, other.part)
        )


class LiveLoop:
    """Runs a live source through a backend to sinks.

    Args:
        source: open; closed at the end.
        backends: ready; they stay open. Each gets a lane: a thread that takes the newest frame as soon as it is free.
        sinks: get every result and, each second, the health; closed at the end. One that fails is closed and left
            out, which the summary tells.
        options: see `LiveOptions`.
        controls: what a person asks meanwhile.
        refine: called with every result before its age is taken: tracking, smoothing.
        blacken: called after `refine`: hides what no sink may see.
        clock_ns: monotonic nanoseconds, the clock of `Frame.captured_ns`.
    """

    def __init__(
        self,
        source: LiveSource,
        backends: Sequence[LiveBackend],
        sinks: Sequence[LiveSink] = (),
        options: LiveOptions | None = None,
        *,
        controls: Controls | None = None,
        refine: Refine | None = None,
        blacken: Refine | None = None,
        notifier: Notifier | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.options = options or LiveOptions()
        self.controls = controls or Controls()
        self.ledger = Ledger()
        self.slot = Slot(self.ledger)
        self.capture = Capture(source, self.slot, self.options.reconnect, clock_ns, max_frames=self.options.max_frames)
        self._source = source
        self._backends = list(backends[:1] if source.lossless else backends)  # lossless means in order, too
        self._outputs = FanOut(sinks, refine, blacken)
        self._notifier = notifier or Notifier()
        self._clock_ns = clock_ns
        self._latest: _Image | None = None
        self._failure = ""
        self._fault: BaseException | None = None
        self._ages, self._stages = Ages(), Stages()
        self._patches = self._patches_reused = 0
        self._validities = dict.fromkeys(Validity, 0)
        self._began_ns = clock_ns()
        self._lock = threading.Condition()  # held for all but waiting and segmenting
        self._over = threading.Event()
        self._rounds_ns: dict[int, int] = {}
        self._shown_index = -1
        self._told_ns = 0
        self._told_late = self._told_results = 0
        self._lost_told = False

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> LiveSummary:
        """Go on until the source ends, a person quits or `should_stop`; returns what came of it."""
        lanes = [threading.Thread(target=self._run_lane, args=(backend,), daemon=True) for backend in self._backends]
        self.capture.start()
        for lane in lanes:
            lane.start()
        self._notifier.ready()
        try:
            while not (should_stop() or self.controls.quit.is_set() or self._is_over()):
                self._over.wait(TICK_S)
                self._look_around()
        finally:
            interrupted = should_stop()
            self._notifier.stopping()
            health = self._end(lanes)
        if self._fault is not None:
            raise self._fault
        return self._summary(health, interrupted)

    def _end(self, lanes: Sequence[threading.Thread]) -> Health:
        """Stop capture and lanes, settle what is left, close the sinks."""
        self._over.set()
        if not self.capture.stop():
            self._outputs.problems.append("the source's driver did not return and was left behind")
        for lane in lanes:
            lane.join(LANE_END_S)
        self.slot.discard()
        with self._lock:
            health = self.health(stopped=True)
            self._outputs.update(health)
            self._outputs.close()
        return health

    def _run_lane(self, backend: LiveBackend) -> None:
        try:
            while not self._over.is_set():
                self.step(TICK_S, backend)
        except BaseException as error:  # a fault of this program: the run has to end with it, not without a word
            self._fault = error
            self._over.set()

    def step(self, timeout_s: float, backend: LiveBackend) -> None:
        """One round of a lane: take the newest frame, or wait in vain for one."""
        self._rounds_ns[id(backend)] = self._clock_ns()
        frame = self.slot.take(timeout_s)
        if frame is None:
            backend.check()
            return
        self._process(frame, backend)

    def _look_around(self) -> None:
        with self._lock:
            self._look_for_loss()
            if self._clock_ns() - self._told_ns >= HEALTH_EVERY_S * 1e9:
                self._tell_health()

    def _is_over(self) -> bool:
        return self._over.is_set() or (self.capture.done and self.ledger.counts().waiting == 0)

    def _process(self, frame: Frame, backend: LiveBackend) -> None:
        stages_ms = {"wait": _ms(self._clock_ns() - frame.captured_ns)}
        if self.options.spacing_mm is not None:
            frame = dataclasses.replace(frame, spacing_mm=self.options.spacing_mm)
        with self._lock:
            crop, reason = self._crop_for(frame.image)
        if reason:
            self._fail(frame, reason)
            return
        part = frame.image if crop is None else crop.cut(frame.image)
        if is_blank(part):
            with self._lock:
                self.ledger.blank()
                self._emit(LiveResult(frame, Validity.BLANK, None))
            return
        image, again = self._recognise(_Image(part, (frame.image.shape, frame.spacing_mm, crop)))
        if again:
            self._settle(
                LiveResult(
                    frame, Validity.FROZEN, *again, stages_ms=stages_ms, crop_xywh=None if crop is None else crop.xywh
                )
            )
        else:
            self._segment(frame, image, crop, stages_ms, backend)

    def _recognise(self, image: _Image) -> tuple[_Image, tuple[Segmentation, tuple[Lesion, ...]] | None]:
        """Whether this is the image taken last; then its result, for which another lane may still be needed."""
        with self._lock:
            latest = self._latest
            if latest is not None and latest.is_same(image):
                self._lock.wait_for(lambda: latest.settled, self.options.deadline_ms / 1e3)
                if latest.found is not None:
                    return latest, latest.found
            self._latest = image
            return image, None

    def _crop_for(self, image: UInt8Array) -> tuple[Crop | None, str]:
        """The part to segment, and why there is none."""
        chosen = self.options.crop
        if isinstance(chosen, AutoCrop):
            return chosen.look(image), ""
        try:
            return None if chosen is None else chosen.of(image), ""
        except DataError as error:
            return None, error.message

    def _segment(
        self, frame: Frame, image: _Image, crop: Crop | None, stages_ms: dict[str, float], backend: LiveBackend
    ) -> None:
        try:
            segmentation = self._ask(backend, image.part)
            segmented_ns = self._clock_ns()
            if crop is not None:
                segmentation = crop.paste(segmentation, (frame.image.shape[0], frame.image.shape[1]))
            lesions = tuple(find_lesions(segmentation, frame.spacing_mm))
        except BcsegError as error:
            self._found(image, None)
            self._fail(frame, error.message)
            return
        self._found(image, (segmentation, lesions))
        of = segmentation.timings
        stages_ms |= {
            "split": of.upload_ms + of.split_ms,
            "network": of.network_ms,
            "stitch": of.stitch_ms + of.download_ms,
            "lesions": _ms(self._clock_ns() - segmented_ns),
        }
        self._settle(
            LiveResult(
                frame,
                Validity.OK,
                segmentation,
                lesions,
                stages_ms=stages_ms,
                crop_xywh=None if crop is None else crop.xywh,
            )
        )

    def _ask(self, backend: LiveBackend, part: UInt8Array) -> Segmentation:
        """Segment; what a lossless source gives waits while the backend is started again.

        An image that brings it down again and again is given up.
        """
        attempts = 0
        while True:
            try:
                return backend.segment(part)
            except BackendDown as down:
                attempts += down.had_image
                if not self._source.lossless or attempts >= ATTEMPTS or self._over.is_set():
                    raise
            self._rounds_ns[id(backend)] = self._clock_ns()
            self._over.wait(TICK_S)

    def _found(self, image: _Image, found: tuple[Segmentation, tuple[Lesion, ...]] | None) -> None:
        with self._lock:
            image.settled, image.found = True, found
            if found is not None:
                self._failure = ""
                self._patches += found[0].patches
                self._patches_reused += found[0].patches_reused
            self._lock.notify_all()

    def _fail(self, frame: Frame, reason: str) -> None:
        with self._lock:
            self._failure = reason
            self.ledger.failed()
            self._emit(LiveResult(frame, Validity.STALE, None))

    def _settle(self, result: LiveResult) -> None:
        """Show a result; one that comes too late, or after that of a newer frame, is not shown."""
        with self._lock:
            overtaken = result.frame.index < self._shown_index
            settle = self.ledger.reused if result.validity is Validity.FROZEN else self.ledger.segmented
            if not overtaken:
                result = self._outputs.refine(result)
            now_ns = self._clock_ns()
            age_ms = _ms(now_ns - result.frame.captured_ns)
            late = overtaken or (age_ms > self.options.deadline_ms and not self._source.lossless)
            settle(late=late)
            if late:
                self._emit(LiveResult(result.frame, Validity.STALE, None), refined=True)
                return
            self._ages.add(now_ns, age_ms)
            self._stages.add(result.stages_ms)
            self._emit(dataclasses.replace(result, age_ms=age_ms), refined=True)

    def _emit(self, result: LiveResult, *, refined: bool = False) -> None:
        if result.frame.index < self._shown_index:
            return  # its successor is on the screen already
        self._shown_index = result.frame.index
        if result.validity is not Validity.LOST:
            self._lost_told = False  # a late result took its place on the screen: it is told again
        if not refined:
            result = self._outputs.refine(result)
        if result.age_ms == 0:
            result = dataclasses.replace(result, age_ms=_ms(self._clock_ns() - result.frame.captured_ns))
        self._validities[result.validity] += 1
        self._outputs.write(result)

    def _look_for_loss(self) -> None:
        comes_any_time = self._source.frame_hz is None and self.capture.state == "running"
        is_lost = self.capture.silent_s >= self.options.lost_after_s and self.capture.state != "ended"
        was_told, self._lost_told = self._lost_told, is_lost and not comes_any_time
        if was_told or not self._lost_told:
            return
        frame = self.capture.last_frame
        if frame is not None:
            self._emit(LiveResult(frame, Validity.LOST, None))

    def _tell_health(self) -> None:
        health = self.health()
        self._told_ns = self._clock_ns()
        self._told_late, self._told_results = health.ledger.late, health.ledger.late + health.ledger.shown
        if self._told_ns - min(self._rounds_ns.values(), default=self._told_ns) < STUCK_S * 1e9:
            self._notifier.watchdog(f"{health.state} {health.reason}".strip())
        self._outputs.update(health)

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
            backend_restarts=sum(backend.restarts for backend in self._backends),
            memory_mb=memory_mb([os.getpid(), *(number for lane in self._backends for number in lane.process_ids)]),
            uptime_s=(now_ns - self._began_ns) / 1e9,
            patches=self._patches,
            patches_reused=self._patches_reused,
        )

    def _state(self, late: int, results: int) -> tuple[str, str]:
        if self._lost_told or self.capture.state in ("reconnecting", "gave_up"):
            return "lost", self.capture.reason or f"no frame for {self.options.lost_after_s:g} s"
        trouble = next((backend.trouble for backend in self._backends if backend.trouble), self._failure)
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
        if isinstance(crop, AutoCrop):  # a guess is nothing to give as --crop next time
            crop = crop.crop if crop.settled else None
        return LiveSummary(
            health=health,
            results_hz=self._ages.mean_hz(),
            age_ms=self._ages.whole(),
            stages_ms=self._stages.medians(),
            validities={validity.value: count for validity, count in self._validities.items()},
            crop=None if crop is None else str(crop),
            problems=[*self._source.problems, *self._outputs.problems],
            gave_up=self.capture.reason if self.capture.state == "gave_up" else "",
            interrupted=interrupted,
        )


def _ms(span_ns: int) -> float:
    """Milliseconds, never negative: a source's own clock can be a little ahead."""
    return max(0.0, span_ns / 1e6)
