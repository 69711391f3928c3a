"""OpenVINO on the CPU."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.backends import INSTALL_HINT
from bcseg_edge.backends.graph import INPUT, OUTPUT, Shape, broken_package, check_graph, unreadable
from bcseg_edge.frames import Float32Array, UInt8Array

if TYPE_CHECKING:
    from bcseg_edge.passport import Passport

# Frames of one size need two batch sizes (full and rest); twice that serves a change of size and back.
MAX_COMPILED = 4


class OpenVinoBackend:
    """Executes patches with OpenVINO, compiled for each batch size that is used.

    A static batch lets the plugin plan its memory once; the batch sizes used last are kept.

    Args:
        path: `.onnx` file.
        passport: its passport.
        threads: inference threads; None: OpenVINO's choice.

    Raises:
        BackendUnavailable: the package is missing or broken.
        ModelError: not an ONNX file, or not a bcseg-edge graph.
    """

    name = "openvino"
    batch_invariant = True

    def __init__(self, path: Path, passport: Passport, threads: int | None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise broken_package("openvino", error, INSTALL_HINT) from error
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise unreadable(path, self.name, error) from error
        check_graph(path, passport, *_signature(self._model))
        hint = openvino.properties.hint
        self._properties: dict[Any, Any] = {
            hint.performance_mode: hint.PerformanceMode.LATENCY,
            # Where a CPU has bfloat16 the plugin uses it unasked, and the logits leave the reference's.
            # Layers that the file quantizes stay INT8.
            hint.inference_precision: openvino.Type.f32,
        }
        if threads is not None:
            self._properties[openvino.properties.inference_num_threads] = threads
            # Pinned, the threads of two processes land on the same cores: two with a thread each gave 19 frames per
            # second on two cores instead of 40.
            self._properties[hint.enable_cpu_pinning] = False
        self._requests: OrderedDict[int, Any] = OrderedDict()

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array."""
        request = self._request_for(len(patches))
        request.infer({INPUT: patches}, share_inputs=True)
        return np.array(request.get_tensor(OUTPUT).data, np.float32)

    def close(self) -> None:
        """Release the compiled models; a second call does nothing."""
        self._requests.clear()
        self._model = self._core = None

    def _request_for(self, batch: int) -> Any:
        if batch in self._requests:
            self._requests.move_to_end(batch)
            return self._requests[batch]
        self._model.reshape({INPUT: [batch, *list(self._model.input(INPUT).partial_shape)[1:]]})
        compiled = self._core.compile_model(self._model, "CPU", self._properties)
        self._requests[batch] = compiled.create_infer_request()
        if len(self._requests) > MAX_COMPILED:
            self._requests.popitem(last=False)
        return self._requests[batch]


def _signature(model: Any) -> tuple[dict[str, tuple[str, Shape]], dict[str, Shape]]:
    """Inputs and outputs as `check_graph` wants them."""
    inputs = {port.any_name: (port.element_type.to_dtype().name, _shape(port.partial_shape)) for port in model.inputs}
    outputs = {port.any_name: _shape(port.partial_shape) for port in model.outputs}
    return inputs, outputs


def _shape(partial_shape: Any) -> Shape:
    return [None if size.is_dynamic else size.get_length() for size in partial_shape]
