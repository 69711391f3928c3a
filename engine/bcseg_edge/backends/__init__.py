"""What executes patches. One module a backend; each imports its package only when a backend is created."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bcseg_edge.errors import BackendUnavailable, DataError
from bcseg_edge.frames import Float32Array, UInt8Array

if TYPE_CHECKING:
    from bcseg_edge.passport import Passport

BACKENDS = ("openvino", "onnxruntime")
AUTO = "auto"
PLANNED = ("cuda", "tensorrt")
INSTALL_HINT = 'pip install "bcseg-edge[cpu]"'


class Backend(Protocol):
    """One model file, ready to execute patches. Not thread-safe."""

    @property
    def name(self) -> str:
        """One of `BACKENDS`."""

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array."""

    def close(self) -> None:
        """Release the model; a second call does nothing."""


def available_backends() -> tuple[str, ...]:
    """The backends whose package is installed, the one that `auto` takes first.

    OpenVINO leads on x86, which its kernels are made for. Elsewhere ONNX Runtime does: on Arm, OpenVINO
    executes quantized models in floating point ("simulation mode": its documentation of the CPU device).
    """
    order = BACKENDS if platform.machine().lower() in ("x86_64", "amd64") else BACKENDS[::-1]
    return tuple(name for name in order if find_spec(name) is not None)


def create_backend(name: str, path: Path, passport: Passport, threads: int | None = None) -> Backend:
    """Load a model file into a backend.

    Args:
        name: `auto`, `openvino` or `onnxruntime`.
        path: the `.onnx` file, already verified against `passport`.
        passport: its passport.
        threads: CPU threads that the backend may use, >= 1; None leaves the choice to it.

    Raises:
        BackendUnavailable: unknown, not part of this version, or its package is missing or broken.
        ModelError: the backend cannot read the file, or it is not a bcseg-edge graph.
        DataError: `threads` below 1.
    """
    if threads is not None and threads < 1:
        raise DataError(f"cannot run on {threads} threads", "give at least 1, or leave it out")
    chosen = _resolve(name)
    if path.suffix != ".onnx":
        raise BackendUnavailable(
            f"backend {chosen} executes .onnx files, got {path.name}",
            "name the .onnx file that it was built from",
        )
    if chosen == "openvino":
        from bcseg_edge.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, passport, threads)
    from bcseg_edge.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, passport, threads)


def _resolve(name: str) -> str:
    if name == AUTO:
        available = available_backends()
        if not available:
            raise BackendUnavailable(f"no backend is installed, one of {', '.join(BACKENDS)} is needed", INSTALL_HINT)
        return available[0]
    if name in PLANNED:
        raise BackendUnavailable(
            f"backend {name} is not part of this version", f"use one of: {', '.join((AUTO, *BACKENDS))}"
        )
    if name not in BACKENDS:
        raise BackendUnavailable(f"unknown backend {name!r}", f"use one of: {', '.join((AUTO, *BACKENDS))}")
    return name
