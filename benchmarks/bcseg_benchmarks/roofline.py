"""What the machine can do at most, measured in the same run: a matrix product and a memory copy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from bcseg_benchmarks.timing import Record, collect

GEMM_SIDE = 1024
COPY_BYTES = 128 * 2**20
MIN_SECONDS = 1.0


class Peak(Record):
    """The best of a second of repetitions each: a ceiling, not a mean.

    Attributes:
        gflops: float32 operations per second of a 1024x1024 matrix product with NumPy's BLAS, 1e9.
        gbytes: bytes per second that copies on all threads read and write, 1e9.
        threads: of the copy; the matrix product takes as many as its library wants.
    """

    gflops: float
    gbytes: float
    threads: int


class Achieved(Record):
    """Where a model lies under that roof.

    Attributes:
        model: `edge fp32`.
        gflops: operations per second inside the network; integers where it is INT8, 1e9.
        intensity: operations per byte of traffic, see `bcseg_benchmarks.work`.
        share: of the roof at that intensity. INT8 may exceed 1: its instructions do four times the work of float32's.
    """

    model: str
    gflops: float
    intensity: float
    share: float


class Roofline(Record):
    """Peak, and what each model makes of it."""

    peak: Peak
    achieved: tuple[Achieved, ...]


def measure_peak(threads: int, seconds: float = MIN_SECONDS) -> Peak:
    """Multiply and copy for `seconds` each."""
    left, right = np.random.default_rng(0).random((2, GEMM_SIDE, GEMM_SIDE), np.float32)
    product = np.empty_like(left)
    gemm_s = min(collect(lambda: np.matmul(left, right, out=product), 5, seconds)) / 1e9
    return Peak(
        gflops=2 * GEMM_SIDE**3 / gemm_s / 1e9, gbytes=_copy_bytes_per_second(threads, seconds) / 1e9, threads=threads
    )


def _copy_bytes_per_second(threads: int, seconds: float) -> float:
    """Each thread copies an array of its own, far larger than its caches; NumPy lets other threads run meanwhile."""
    pairs = [np.zeros((2, COPY_BYTES // 8)) for _ in range(threads)]  # float64
    best_s = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        end_s = perf_counter() + seconds
        while perf_counter() < end_s or best_s == float("inf"):
            started_s = perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            best_s = min(best_s, perf_counter() - started_s)
    return 2 * COPY_BYTES * threads / best_s


def place(model: str, operations: float, traffic_bytes: float, seconds: float, peak: Peak) -> Achieved:
    """Put a network that took `seconds` under the roof."""
    gflops = operations / seconds / 1e9
    intensity = operations / traffic_bytes
    roof = min(peak.gflops, intensity * peak.gbytes)
    return Achieved(model=model, gflops=gflops, intensity=intensity, share=gflops / roof)
