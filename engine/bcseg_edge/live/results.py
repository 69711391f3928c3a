"""What the live loop hands on: a result for a frame with its validity, the ledger's counts, and the health."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from bcseg_edge.frames import Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion


class Validity(str, Enum):
    """What a frame is worth."""

    OK = "ok"  # a new image, segmented
    FROZEN = "frozen"  # the same image as before, byte for byte: its result is reused
    BLANK = "blank"  # nothing to segment: dark or of one grey level
    STALE = "stale"  # older than the deadline when its result was ready: no mask
    LOST = "lost"  # the source gives nothing: no mask, the last image only


@dataclass(frozen=True, slots=True)
class LiveResult:
    """One frame of a live source and what was found in it.

    Attributes:
        frame: the image that the result belongs to; `frame.index` is the capture's number.
        validity: see `Validity`.
        segmentation: of this very image; None where `validity` is BLANK, STALE or LOST.
        lesions: of `segmentation`; empty where that is None.
        track_ids: a number for each of `lesions`, the same for the same lesion over time; empty where not tracked.
        age_ms: from the frame's capture to the result.
        stages_ms: milliseconds by stage name: `wait`, `split`, `network`, `stitch`, `lesions`.
        computed_labels: what the backend said, uint8 `[H, W]`, where tracking or smoothing put something else into
            `segmentation`; None where it is the same.
        crop_xywh: the part of the frame that was segmented, px; None for all of it.
        hidden: `frame` was blackened where it was segmented: the labels do not follow from its image any more.
    """

    frame: Frame
    validity: Validity
    segmentation: Segmentation | None
    lesions: tuple[Lesion, ...] = ()
    track_ids: tuple[int, ...] = ()
    age_ms: float = 0.0
    stages_ms: dict[str, float] = field(default_factory=dict)
    computed_labels: UInt8Array | None = None
    crop_xywh: tuple[int, int, int, int] | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """Where every captured frame went.

    `captured == dropped + segmented + reused + blank + failed + waiting`, and `segmented + reused == shown + late`.

    Attributes:
        captured: frames that the source gave.
        dropped: replaced by a newer one before they were taken.
        segmented: computed by the backend.
        reused: frozen frames that got the result of the same image.
        blank: not computed for want of an image.
        failed: lost to a failing backend.
        late: results older than the deadline, not shown.
        shown: results handed to the sinks in time.
        waiting: captured and not yet taken, or being computed (0 at the end).
    """

    captured: int = 0
    dropped: int = 0
    segmented: int = 0
    reused: int = 0
    blank: int = 0
    failed: int = 0
    late: int = 0
    shown: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """How the live loop does, for a watchdog or a page.

    Attributes:
        state: `starting`, `ok`, `degraded` (late, or the backend restarts), `lost` (no frames, or reconnecting),
            `stopped`.
        reason: one line where the state is not `ok`, else empty.
        results_hz: results per second over the last seconds.
        age_ms: `p50`, `p99`, `max` of the ages of shown results over the last seconds; empty without results.
        ledger: the counts.
        source_restarts: reconnections of the source.
        backend_restarts: restarts of the backend's process.
        memory_mb: resident memory of the process and its children.
        uptime_s: since the loop began.
        patches: windows of the segmented frames so far.
        patches_reused: of these, how many were not computed, since their bytes and with them the result were known.
    """

    state: str
    reason: str
    results_hz: float
    age_ms: dict[str, float]
    ledger: LedgerCounts
    source_restarts: int = 0
    backend_restarts: int = 0
    memory_mb: float = 0.0
    uptime_s: float = 0.0
    patches: int = 0
    patches_reused: int = 0


class LiveSink(Protocol):
    """Takes live results. `write` returns at once: slow work happens in a thread of its own."""

    def write(self, result: LiveResult) -> None:
        """Take one result."""

    def update(self, health: Health) -> None:
        """Take the health, about once a second."""

    def close(self) -> None:
        """Finish; a second call does nothing."""


class Controls:
    """What a person at the window or the page asks of the live loop; safe to use from any thread."""

    def __init__(self) -> None:
        self.freeze = threading.Event()  # set: the shown result stays
        self.quit = threading.Event()
        self.snapshot = threading.Event()  # set by the person, cleared by who saved it
