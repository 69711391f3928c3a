"""What executes patches. One module a backend; each imports its package only when a backend is created."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bcseg_edge.errors import BackendUnavailable, DataError
from bcseg_edge.frames import Float32Array, UInt8Array

if TYPE_CHECKING:
    from bcseg_edge.cuda.executor import Executor
    from bcseg_edge.passport import Passport, Target

BACKENDS = ("openvino", "onnxruntime")  # on the CPU
CUDA_BACKENDS = ("cuda", "tensorrt")
LITERAL = ("onnxruntime",)  # on the CPU, those that can execute every node as it is written
AUTO = "auto"
PLAN_SUFFIX = ".engine"
INSTALL_HINT = 'pip install "bcseg-edge[cpu]"'


class Backend(Protocol):
    """One model file, ready to execute patches. Not thread-safe."""

    @property
    def name(self) -> str:
        """One of `BACKENDS` or `CUDA_BACKENDS`."""

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array."""

    def close(self) -> None:
        """Release the model; a second call does nothing."""


def available_backends(target: Target = "any") -> tuple[str, ...]:
    """The CPU backends whose package is installed and that say what a file says, the one that `auto` takes first.

    OpenVINO leads on x86, which its kernels are made for. Elsewhere ONNX Runtime does: on Arm, OpenVINO
    executes quantized models in floating point ("simulation mode": its documentation of the CPU device).

    Args:
        target: what the file's precision is laid out for. One for `tensorrt` is executed by ONNX Runtime alone, node
            by node as it is written, which is what TensorRT calculates. OpenVINO's low-precision transformations move
            the quantization behind a Concat in front of it: on the decoder of `edge` that costs 0.10 to 0.13 of the
            logits' deviation, where exact arithmetic costs 0.003 to 0.009 (docs/precision.md).
    """
    order = BACKENDS if platform.machine().lower() in ("x86_64", "amd64") else BACKENDS[::-1]
    return tuple(name for name in order if find_spec(name) is not None and (target != "tensorrt" or name in LITERAL))


def create_backend(name: str, path: Path, passport: Passport, threads: int | None = None) -> Backend:
    """Load a model file into a backend.

    Args:
        name: `auto`, `openvino`, `onnxruntime`, `cuda` or `tensorrt`; `auto` takes TensorRT for a plan.
        path: the `.onnx` or `.engine` file, already verified against `passport`.
        passport: its passport.
        threads: CPU threads that the backend may use, >= 1; None leaves the choice to it.

    Raises:
        BackendUnavailable: unknown, its package is missing or broken, there is no GPU for it, or it would not say
            what the file says.
        ModelError: the backend cannot read the file, or it is not a bcseg-edge graph.
        DataError: `threads` below 1.
    """
    if threads is not None and threads < 1:
        raise DataError(f"cannot run on {threads} threads", "give at least 1, or leave it out")
    chosen = "tensorrt" if name == AUTO and path.suffix == PLAN_SUFFIX else _resolve(name, passport.target)
    if chosen in CUDA_BACKENDS:
        return _create_cuda_backend(chosen, path, passport)
    _require_onnx(chosen, path)
    if passport.target == "tensorrt" and chosen not in LITERAL:
        raise BackendUnavailable(
            f"{path.name} is laid out for TensorRT, and {chosen} does not calculate what it says",
            f"use --backend {LITERAL[0]}, or a file for the cpu",
        )
    if chosen == "openvino":
        from bcseg_edge.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, passport, threads)
    from bcseg_edge.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, passport, threads)


def _resolve(name: str, target: Target) -> str:
    if name == AUTO:
        available = available_backends(target)
        if not available:
            needed = LITERAL if target == "tensorrt" else BACKENDS
            raise BackendUnavailable(f"no backend is installed, one of {', '.join(needed)} is needed", INSTALL_HINT)
        return available[0]
    known = (*BACKENDS, *CUDA_BACKENDS)
    if name not in known:
        raise BackendUnavailable(f"unknown backend {name!r}", f"use one of: {', '.join((AUTO, *known))}")
    return name


def require_machine_for(name: str) -> None:
    """Refuse a backend whose hardware is missing, before anything of a model is read.

    Raises:
        BackendUnavailable: `cuda` or `tensorrt` without `cuda.bindings`, driver or GPU.
    """
    if name in CUDA_BACKENDS:
        from bcseg_edge.cuda.driver import require_gpu

        require_gpu()


def _create_cuda_backend(name: str, path: Path, passport: Passport) -> Backend:
    from bcseg_edge.cuda.backend import CudaBackend
    from bcseg_edge.cuda.driver import Cuda

    cuda = Cuda()  # first: without a GPU the libraries below crash
    executor: Executor
    if name == "tensorrt":
        from bcseg_edge.backends.tensorrt import TensorRtExecutor

        executor = TensorRtExecutor(cuda, path, passport)
    else:
        from bcseg_edge.backends.cuda import OnnxRuntimeCudaExecutor

        _require_onnx(name, path)
        executor = OnnxRuntimeCudaExecutor(cuda, path, passport)
    return CudaBackend(cuda, executor, passport.window_hw)


def _require_onnx(backend: str, path: Path) -> None:
    if path.suffix != ".onnx":
        raise BackendUnavailable(
            f"backend {backend} executes .onnx files, got {path.name}",
            "name the .onnx file that it was built from",
        )
