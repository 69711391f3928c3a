"""The live loop over a long time with faults injected: `make soak`.

    python -m bcseg_benchmarks.soak --minutes 30 --every 20

The phantom plays at 30 Hz; every so often something breaks. At the end the ledger has to be exact, memory and
descriptors flat, every fault survived, and shown results younger than the deadline, or the exit code is 1.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bcseg_edge.errors import SourceLost
from bcseg_edge.frames import Frame
from bcseg_edge.live.capture import Reconnect
from bcseg_edge.live.health import HealthFile, health_record
from bcseg_edge.live.lanes import plan_lanes
from bcseg_edge.live.ledger import imbalance
from bcseg_edge.live.loop import LiveLoop, LiveOptions
from bcseg_edge.live.results import Health, LiveResult, LiveSink, Validity
from bcseg_edge.live.supervisor import Patience, SupervisedBackend
from bcseg_edge.live.worker import SegmenterFactory
from bcseg_edge.live.writer import WriterThread
from bcseg_edge.sinks.jsonl import JsonLinesSink
from bcseg_edge.sources.live import TIMEOUT, LiveSource, Read, Status, lost
from bcseg_edge.sources.paced import PacedSource, to_and_fro
from bcseg_edge.sources.phantom import PhantomSource, parse_phantom
from bcseg_edge.told import errors_told

WARM_SHARE = 0.2  # of the samples: caches and buffers may fill meanwhile
MEMORY_GROWTH = 0.08  # of the warm median, and 10 MB: what the allocators take and give
DESCRIPTOR_GROWTH = 3  # a restart in progress holds a pipe more
SOURCE_FAULTS = ("freeze", "black", "silence", "unplug", "driver", "size")
BACKEND_FAULTS = ("kill", "hang")


class FaultySource(LiveSource):
    """A paced source that breaks when told.

    Args:
        inner: gives the frames.
    """

    def __init__(self, inner: PacedSource) -> None:
        super().__init__(inner.description, inner.frame_hz)
        self._inner = inner
        self._fault, self._until_s = "", 0.0
        self._last: Frame | None = None

    def begin(self, fault: str, seconds: float) -> None:
        """Break in that way for so long."""
        self._until_s, self._fault = time.monotonic() + seconds, fault

    def open(self) -> None:
        """Connect; SourceLost while it is unplugged."""
        if self._now() == "unplug":
            raise SourceLost("unplugged", "")
        self._inner.open()

    def read(self) -> Read:
        """The next frame, or what the fault makes of it."""
        fault = self._now()
        if fault == "unplug":
            return lost("unplugged")
        if fault == "driver":
            self._fault = ""
            raise RuntimeError("the driver's wrapper raised")
        read = self._inner.read()
        frame = read.frame
        if frame is None or fault == "silence":
            return TIMEOUT if fault else read
        if fault == "freeze" and self._last is not None:
            frame = Frame(self._last.image.copy(), frame.index, frame.captured_ns)
        elif fault == "black":
            frame = Frame(np.zeros_like(frame.image), frame.index, frame.captured_ns)
        elif fault == "size":
            frame = Frame(np.ascontiguousarray(frame.image[:-8, :-16]), frame.index, frame.captured_ns)
        self._last = frame
        return Read(Status.OK, frame)

    def close(self) -> None:
        """Disconnect."""
        self._inner.close()

    def _now(self) -> str:
        if time.monotonic() >= self._until_s:
            self._fault = ""
        return self._fault


@dataclass
class Watch:
    """A sink that checks each result and takes samples of the process each second.

    Attributes:
        wrong: what must never be seen.
        longest_gap_s: between two results that were shown with a mask.
    """

    deadline_ms: float
    wrong: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    validities: dict[str, int] = field(default_factory=dict)
    longest_gap_s: float = 0.0
    last_shown_s: float = field(default_factory=time.monotonic)
    last_index: int = -1

    def write(self, result: LiveResult) -> None:
        """Check one result."""
        name = result.validity.value
        self.validities[name] = self.validities.get(name, 0) + 1
        has_mask = result.segmentation is not None
        if has_mask != (result.validity in (Validity.OK, Validity.FROZEN)):
            self.wrong.append(f"frame {result.frame.index} is {name}, mask: {has_mask}")
        if result.frame.index < self.last_index:
            self.wrong.append(f"frame {result.frame.index} after {self.last_index}")
        self.last_index = result.frame.index
        if result.segmentation is not None:
            if result.segmentation.labels.shape != result.frame.image.shape[:2]:
                self.wrong.append(f"frame {result.frame.index}: the mask has another size")
            if result.age_ms > self.deadline_ms:
                self.wrong.append(f"frame {result.frame.index} was shown {result.age_ms:.0f} ms old")
            now_s = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now_s - self.last_shown_s)
            self.last_shown_s = now_s

    def update(self, health: Health) -> None:
        """Sample the process."""
        said = imbalance(health.ledger)
        if said:
            self.wrong.append(said)
        self.memory_mb.append(health.memory_mb)
        self.descriptors.append(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0)

    def close(self) -> None:
        """Nothing to release."""


class Saboteur:
    """Injects a fault every so often: call it often."""

    def __init__(self, source: FaultySource, backends: list[SupervisedBackend], every_s: float) -> None:
        self.injected: dict[str, int] = {}
        self._source, self._backends, self._every_s = source, backends, every_s
        self._faults: Iterator[str] = itertools.cycle([*SOURCE_FAULTS, *BACKEND_FAULTS])
        self._next_s = time.monotonic() + every_s

    def __call__(self) -> None:
        """Inject the next fault where it is time."""
        if time.monotonic() < self._next_s:
            return
        self._next_s += self._every_s
        fault = next(self._faults)
        self.injected[fault] = self.injected.get(fault, 0) + 1
        if fault in SOURCE_FAULTS:
            self._source.begin(fault, min(2.0, self._every_s / 3))
            return
        # Not the one that was broken last: it may still be starting.
        number = sum(self.injected.get(name, 0) for name in BACKEND_FAULTS) % len(self._backends)
        for process_id in self._backends[number].process_ids:
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)


def soak(
    *,
    seconds: float,
    every_s: float,
    model: str = "edge",
    backend: str = "auto",
    phantom: str = "phantom:640x480@30?frames=60",
    deadline_ms: float = 200.0,
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run the live loop for so long with a fault every `every_s`.

    Returns:
        The report as JSON values; `failures` is empty where all held.
    """
    frames = (simulated := PhantomSource(parse_phantom(phantom))).render(simulated.spec.frames)
    source = FaultySource(PacedSource(simulated.description, simulated.spec.frame_hz, lambda: to_and_fro(frames)))
    lanes, threads = plan_lanes(backend, model, None, None)
    patience = Patience(answer_s=min(2.0, every_s / 2), first_answer_s=20)
    factory = SegmenterFactory(model, backend, threads)
    backends = [SupervisedBackend(factory, patience) for _ in range(lanes)]
    try:
        source.open()
        watch = Watch(deadline_ms)
        sinks: list[LiveSink] = [
            watch,
            HealthFile(folder / "health.json"),
            WriterThread([JsonLinesSink(folder / "results.jsonl")]),
        ]
        options = LiveOptions(deadline_ms, lost_after_s=0.5, reconnect=Reconnect(longest_wait_s=1, silence_s=1))
        loop = LiveLoop(source, backends, sinks, options)
        sabotage = Saboteur(source, backends, every_s)
        until_s, told_s = time.monotonic() + seconds, time.monotonic()

        def over() -> bool:
            nonlocal told_s
            left_s = until_s - time.monotonic()
            if left_s > every_s:  # the last stretch is for recovering
                sabotage()
            if time.monotonic() - told_s > 30:
                told_s = time.monotonic()
                tell(f"{left_s:.0f} s left, {health_record(loop.health())}")
            return left_s <= 0

        summary = loop.run(over)
    finally:
        for one in backends:
            one.close()
    return _report(summary.to_dict(), watch, sabotage)


def _report(summary: dict[str, Any], watch: Watch, sabotage: Saboteur) -> dict[str, Any]:
    ledger = summary["health"]["ledger"]
    warm = max(1, round(len(watch.memory_mb) * WARM_SHARE))
    memory, descriptors = np.array(watch.memory_mb[warm:]), np.array(watch.descriptors[warm:])
    tail = max(1, len(memory) // 4)
    report = {
        "seconds": round(summary["health"]["uptime_s"], 1),
        "injected": sabotage.injected,
        "ledger": ledger,
        "validities": watch.validities,
        "results_hz": summary["results_hz"],
        "age_ms": summary["age_ms"],
        "late_share": round(ledger["late"] / max(1, ledger["late"] + ledger["shown"]), 4),
        "longest_gap_s": round(watch.longest_gap_s, 2),
        "source_restarts": summary["health"]["source_restarts"],
        "backend_restarts": summary["health"]["backend_restarts"],
        "memory_mb": {
            "first": round(float(np.median(memory[:tail])), 1),
            "last": round(float(np.median(memory[-tail:])), 1),
        },
        "descriptors": {
            "first": int(np.median(descriptors[:tail])),
            "last": int(np.median(descriptors[-tail:])),
        },
        "problems": summary["problems"],
    }
    return {**report, "failures": [*_failures(report, sabotage), *watch.wrong[:5]]}


def _failures(report: dict[str, Any], sabotage: Saboteur) -> list[str]:
    """What did not hold, one sentence each."""
    failures = []
    memory, descriptors, ledger = report["memory_mb"], report["descriptors"], report["ledger"]
    if memory["last"] > memory["first"] * (1 + MEMORY_GROWTH) + 10:
        failures.append(f"memory grew from {memory['first']} to {memory['last']} MB")
    if descriptors["last"] > descriptors["first"] + DESCRIPTOR_GROWTH:
        failures.append(f"descriptors grew from {descriptors['first']} to {descriptors['last']}")
    if ledger["waiting"] != 0:
        failures.append(f"{ledger['waiting']} frames were never settled")
    expected = sum(sabotage.injected.get(fault, 0) for fault in BACKEND_FAULTS)
    if report["backend_restarts"] < expected:
        failures.append(f"{expected} faults of the backend, {report['backend_restarts']} restarts")
    if report["source_restarts"] < sabotage.injected.get("unplug", 0):
        failures.append(f"the source came back {report['source_restarts']} times only")
    seen = {"freeze": "frozen", "black": "blank", "unplug": "lost"}
    failures += [
        f"{fault} was injected and no frame was {validity}"
        for fault, validity in seen.items()
        if sabotage.injected.get(fault) and not report["validities"].get(validity)
    ]
    if report["problems"]:
        failures.append(f"problems: {report['problems']}")
    return failures


def main(
    minutes: float = 30.0,
    every: Annotated[float, typer.Option(help="Seconds between faults.")] = 20.0,
    model: Annotated[str, typer.Option(help="A shipped model's name or a model file.")] = "edge",
    backend: str = "auto",
    phantom: Annotated[str, typer.Option(help="The source's text.")] = "phantom:640x480@30?frames=60",
    deadline: Annotated[float, typer.Option(help="ms.")] = 200.0,
) -> None:
    """Run the live loop with faults and print its report; exit 1 where something did not hold."""
    with errors_told(), tempfile.TemporaryDirectory() as folder:
        report = soak(
            seconds=minutes * 60,
            every_s=every,
            model=model,
            backend=backend,
            phantom=phantom,
            deadline_ms=deadline,
            folder=Path(folder),
            tell=lambda line: typer.echo(line, err=True),
        )
    typer.echo(json.dumps(report, indent=1))
    raise typer.Exit(1 if report["failures"] else 0)


if __name__ == "__main__":
    typer.run(main)
