"""OpenVINO's own `benchmark_app` on the same file: its number, not ours."""

from __future__ import annotations

import re
import subprocess
import sys

from bcseg_benchmarks.subjects import Subject
from bcseg_benchmarks.timing import Record
from bcseg_edge.backends.graph import INPUT
from bcseg_edge.tiling import TileGrid

_MAIN = "from openvino.tools.benchmark.main import main; main()"  # what the script of that name does
_MEDIAN = re.compile(r"Median:\s+([\d.]+)\s*(ms|us)")
_COUNT = re.compile(r"Count:\s+(\d+)\s+iterations")


class BenchmarkApp(Record):
    """What `benchmark_app` says.

    Attributes:
        model: `edge fp32`.
        command: as it was called, without folders.
        median_ms: latency of one batch, the patches of one frame; None where it could not run.
        iterations: it made.
        problem: why it could not run; empty where it did.
    """

    model: str
    command: str
    median_ms: float | None
    iterations: int
    problem: str = ""


def run_benchmark_app(subject: Subject, grid: TileGrid, threads: int, seconds: int) -> BenchmarkApp:
    """Run it for some seconds, with the settings of our OpenVINO backend."""
    height, width = grid.window_hw
    shape = f"{INPUT}[{grid.count},1,{height},{width}]"
    # One stream is what the hint "latency" means; it refuses -nthreads beside that hint.
    arguments = ["-d", "CPU", "-hint", "none", "-nstreams", "1", "-nthreads", str(threads), "-api", "sync"]
    arguments += ["-infer_precision", "f32", "-t", str(seconds), "-shape", shape]
    command = f"benchmark_app -m {subject.path.name} {' '.join(arguments)}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, "-m", str(subject.path), *arguments],
            capture_output=True,
            text=True,
            timeout=60 + 10 * seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return BenchmarkApp(model=subject.title, command=command, median_ms=None, iterations=0, problem=str(error))
    return read_benchmark_app(subject.title, command, done.stdout + done.stderr)


def read_benchmark_app(model: str, command: str, output: str) -> BenchmarkApp:
    """What it printed, as figures."""
    median, count = _MEDIAN.search(output), _COUNT.search(output)
    if median is None:
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        return BenchmarkApp(model=model, command=command, median_ms=None, iterations=0, problem=last)
    median_ms = float(median[1]) / (1000 if median[2] == "us" else 1)
    iterations = int(count[1]) if count else 0
    return BenchmarkApp(model=model, command=command, median_ms=median_ms, iterations=iterations)
