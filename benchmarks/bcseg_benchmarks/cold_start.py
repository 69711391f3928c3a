"""From the start of a process to its first mask, each time in a fresh process; and the memory that such a one takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import cv2

from bcseg_benchmarks.subjects import Subject
from bcseg_benchmarks.timing import Distribution, Record, summarise
from bcseg_benchmarks.workload import Workload
from bcseg_edge.errors import BcsegError

TIMEOUT_S = 300.0
STEADY_FRAMES = 20

# What a program that embeds the package does; it prints marks of the system's monotonic clock, one for all processes.
_CHILD = """
import time
marks = {"interpreter": time.monotonic_ns()}
import json, sys
import bcseg_edge
from bcseg_edge import Segmenter, load_model, open_source
arguments = json.loads(sys.argv[1])
marks["import"] = time.monotonic_ns()
with open_source(arguments["image"]) as source:
    image = next(iter(source)).image
marks["read image"] = time.monotonic_ns()
segmenter = Segmenter(load_model(arguments["model"], arguments["backend"], arguments["threads"]), arguments["tiling"])
marks["load model"] = time.monotonic_ns()
segmenter(image)
marks["first frame"] = time.monotonic_ns()
for _ in range(arguments["frames"]):
    segmenter(image)
status = {}
try:
    with open("/proc/self/status") as lines:
        status = dict(line.split(":", 1) for line in lines)
except OSError:
    pass
peak = status.get("VmHWM")
print(json.dumps({"marks": marks, "peak_mib": peak and int(peak.split()[0]) / 1024}))
"""
STEPS = ("interpreter", "import", "read image", "load model", "first frame")


class ColdStart(Record):
    """Process start to first mask.

    Attributes:
        first_ms: the very first start, with an empty cache folder.
        later: the starts after it, which find what the first one kept.
        steps_ms: median of each of `STEPS` over those.
        peak_memory_mib: most resident memory of such a process over its first frames, Python and libraries included;
            None where the system does not say.
    """

    first_ms: float
    later: Distribution
    steps_ms: dict[str, float]
    peak_memory_mib: float | None


def measure_cold_start(
    subject: Subject, workload: Workload, backend: str, tiling: str, threads: int | None, repeats: int
) -> ColdStart:
    """Start `1 + repeats` processes, one after the other.

    Raises:
        BcsegError: a process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "frame.png"
        cv2.imwrite(str(image), workload.images[0])
        arguments = {
            "image": str(image),
            "model": str(subject.path),
            "backend": backend,
            "tiling": tiling,
            "threads": threads,
            "frames": STEADY_FRAMES,
        }
        environment = {
            **os.environ,
            "BCSEG_CACHE": str(Path(folder) / "cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        runs = [_start(json.dumps(arguments), environment) for _ in range(1 + repeats)]
    (first, *_), *later = runs
    totals = [sum(steps_ms) for steps_ms, _ in later]
    columns = zip(*(steps_ms for steps_ms, _ in later), strict=True)
    peaks = [peak for _, peak in runs if peak is not None]
    return ColdStart(
        first_ms=sum(first),
        later=summarise([total * 1e6 for total in totals]),
        steps_ms={name: sorted(column)[len(column) // 2] for name, column in zip(STEPS, columns, strict=True)},
        peak_memory_mib=max(peaks, default=None),
    )


def _start(arguments: str, environment: dict[str, str]) -> tuple[list[float], float | None]:
    """Milliseconds of each of `STEPS` in one process, and its peak memory in MiB."""
    started_ns = time.monotonic_ns()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BcsegError(f"a fresh process could not segment a frame: {last}", "try: bcseg-edge doctor")
    result = json.loads(done.stdout)
    marks = [started_ns, *(result["marks"][step] for step in STEPS)]
    return [(end - start) / 1e6 for start, end in pairwise(marks)], result["peak_mib"]
