"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.backends import INSTALL_HINT
from bcseg_edge.backends.graph import INPUT, OUTPUT, Shape, broken_package, check_graph, unreadable
from bcseg_edge.frames import Float32Array, UInt8Array

if TYPE_CHECKING:
    from bcseg_edge.passport import Passport

LOG_FATAL = 4  # below it ONNX Runtime writes to stderr what it also raises, and warnings


class OnnxRuntimeBackend:
    """Executes patches with ONNX Runtime's CPU provider.

    A file for `tensorrt` is executed node by node as it is written, unoptimized: the judge of what TensorRT will say.

    Args:
        path: `.onnx` file.
        passport: its passport.
        threads: threads within an operator; None: ONNX Runtime's choice.

    Raises:
        BackendUnavailable: the package is missing or broken.
        ModelError: not an ONNX file, or not a bcseg-edge graph.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, passport: Passport, threads: int | None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise broken_package("onnxruntime", error, INSTALL_HINT) from error
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        literal = passport.target == "tensorrt"
        options.graph_optimization_level = levels.ORT_DISABLE_ALL if literal else levels.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = LOG_FATAL
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class below this one
            raise unreadable(path, self.name, error) from error
        check_graph(path, passport, *signature(session))
        # edge in INT8: logits of 20 patches together were up to 2e-4 off those one by one; in float32, equal.
        self.batch_invariant = passport.precision == "fp32"
        self._session: Any = session

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array."""
        (logits,) = self._session.run([OUTPUT], {INPUT: patches})
        return np.asarray(logits, np.float32)

    def close(self) -> None:
        """Release the session and its threads; a second call does nothing."""
        self._session = None


def signature(session: Any) -> tuple[dict[str, tuple[str, Shape]], dict[str, Shape]]:
    """Inputs and outputs as `check_graph` wants them."""
    inputs = {
        node.name: (node.type.removeprefix("tensor(").removesuffix(")"), _shape(node.shape))
        for node in session.get_inputs()
    }
    return inputs, {node.name: _shape(node.shape) for node in session.get_outputs()}


def _shape(shape: list[int | str | None]) -> Shape:
    return [size if isinstance(size, int) else None for size in shape]
