"""What a failed CUDA call means for the program."""

from __future__ import annotations

from bcseg_edge.errors import BcsegError

OUT_OF_MEMORY = 2
# After these the context is lost: every later call fails with the same code, whatever it is, until the process ends
# (CUDA runtime API, cudaError: "the process must be terminated and relaunched").
STICKY = frozenset({214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911})


class CudaError(BcsegError):
    """A CUDA call failed; the GPU stays usable.

    Attributes:
        code: CUDA's number of the error.
    """

    def __init__(self, message: str, hint: str, code: int) -> None:
        super().__init__(message, hint)
        self.code = code


class CudaOutOfMemory(CudaError):
    """The GPU's memory is too small for what was asked."""


class CudaFault(CudaError):
    """The GPU context is lost; no call can succeed before the process is started again."""


def explain(code: int, name: str, text: str, call: str) -> CudaError:
    """The error for `code` (`name`, described as `text`) that `call` returned."""
    message = f"CUDA reports {name} in {call}: {text}"
    if code in STICKY:
        return CudaFault(
            f"{message}; this process cannot use the GPU any more", "end the program and start it again", code
        )
    return CudaError(message, "see driver and GPU with: bcseg-edge doctor, and: nvidia-smi", code)


def out_of_memory(needed: int, free: int, total: int) -> CudaOutOfMemory:
    """The error for an allocation of `needed` bytes where `free` of `total` were left."""
    return CudaOutOfMemory(
        f"the GPU has no room for {_mib(needed)}: {_mib(free)} of {_mib(total)} are free",
        "end other programs that use the GPU (nvidia-smi lists them), or take a smaller model or tiling frame",
        OUT_OF_MEMORY,
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
