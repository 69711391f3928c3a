"""What the GPU can do at most, measured in the same run: matrix products and a copy, by PyTorch where it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

GEMM_SIDE = 8192
COPY_BYTES = 2**30
REPETITIONS = 10


@dataclass(frozen=True, slots=True)
class GpuPeak:
    """The best of some repetitions each: a ceiling, not a mean.

    Attributes:
        fp32_tera_operations: per second of a float32 matrix product without TF32.
        fp16_tera_operations: of a float16 one.
        gbytes: per second that a copy on the device reads and writes, 1e9.
    """

    fp32_tera_operations: float
    fp16_tera_operations: float
    gbytes: float


def measure_gpu_peak() -> GpuPeak | None:
    """Multiply and copy; None where there is no PyTorch that sees the GPU."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_s = _best_seconds(torch, lambda: target.copy_(source))
    return GpuPeak(
        _tera_operations(torch, "float32"), _tera_operations(torch, "float16"), 2 * COPY_BYTES / copy_s / 1e9
    )


def share_of_roof(
    tera_operations: float | None, gbytes: float | None, precision: str, peak: GpuPeak | None
) -> float | None:
    """What a network that does so much and moves so much is of what the peak allows; None where that is not known.

    INT8 is put under the float16 roof, which it may exceed: its instructions do twice the work.
    """
    if tera_operations is None or not gbytes or peak is None:
        return None
    ceiling = peak.fp32_tera_operations if precision == "fp32" else peak.fp16_tera_operations
    intensity = tera_operations * 1e12 / (gbytes * 1e9)  # operations a byte
    return tera_operations / min(ceiling, intensity * peak.gbytes * 1e9 / 1e12)


def _tera_operations(torch: Any, dtype: str) -> float:
    left, right = (torch.randn(GEMM_SIDE, GEMM_SIDE, device="cuda").to(getattr(torch, dtype)) for _ in range(2))
    return float(2 * GEMM_SIDE**3 / _best_seconds(torch, lambda: left @ right) / 1e12)


def _best_seconds(torch: Any, work: Callable[[], Any]) -> float:
    times_ms = []
    for _ in range(REPETITIONS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times_ms.append(start.elapsed_time(end))
    return float(min(times_ms)) / 1e3
