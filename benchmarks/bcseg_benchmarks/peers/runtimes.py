"""ONNX Runtime and OpenVINO alone: the network on ready patches, nothing before and nothing after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bcseg_benchmarks.peers.contender import Contender
from bcseg_benchmarks.subjects import Subject
from bcseg_edge.backends.graph import INPUT, OUTPUT
from bcseg_edge.decision import decide
from bcseg_edge.frames import UInt8Array
from bcseg_edge.tiling import TileGrid

ONNXRUNTIME = "onnxruntime-alone"
ONNXRUNTIME_CUDA = "onnxruntime-cuda-alone"
OPENVINO = "openvino-alone"
OPENVINO_DEFAULT = "openvino-alone-its-default"
_ORT = "https://onnxruntime.ai/docs/performance/tune-performance/threading.html"
_ORT_CUDA = "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html"
_OV = "https://docs.openvino.ai/2025/openvino-workflow/running-inference/optimize-inference/high-level-performance-hints.html"

Infer = Callable[[UInt8Array], Any]


def runtime_contenders(subject: Subject, grid: TileGrid, threads: int | None) -> Iterator[Contender]:
    """The runtimes on an ONNX file; those that are not installed say so when they are opened."""
    if subject.path.suffix != ".onnx":
        return

    def contender(precision: str, way: str, how: str, source: str, load: Callable[[], Infer]) -> Contender:
        return Contender(subject.name, precision, way, how, source, "network alone", lambda: NetworkAlone(grid, load()))

    path, precision = subject.path, subject.precision
    if _has_cuda_provider():
        how = "InferenceSession, CUDA provider"
        yield contender(precision, ONNXRUNTIME_CUDA, how, _ORT_CUDA, lambda: onnxruntime_infer(path, threads, "CUDA"))
    if subject.passport.target == "tensorrt":  # which both compute wrongly on a CPU: docs/precision.md
        return
    how = "InferenceSession, all graph optimisations, CPU provider"
    yield contender(precision, ONNXRUNTIME, how, _ORT, lambda: onnxruntime_infer(path, threads, "CPU"))
    yield contender(
        precision,
        OPENVINO,
        "compile_model, static batch, LATENCY hint, precision f32 (as bcseg-edge)",
        _OV,
        lambda: openvino_infer(path, grid.count, threads, "f32"),
    )
    if precision == "fp32":
        how = "compile_model, static batch, LATENCY hint; takes bfloat16 where the CPU has it"
        yield contender("auto", OPENVINO_DEFAULT, how, _OV, lambda: openvino_infer(path, grid.count, threads, None))


class NetworkAlone:
    """A network on ready patches.

    Args:
        grid: of the frames; cuts before and joins after the clock.
        infer: uint8 `[N, 1, h, w]` to logits.
    """

    def __init__(self, grid: TileGrid, infer: Infer) -> None:
        self._grid = grid
        self._infer: Infer | None = infer

    def prepare(self, image: UInt8Array) -> UInt8Array:
        return self._grid.split(image)

    def run(self, patches: UInt8Array) -> Any:
        if self._infer is None:
            raise RuntimeError("closed")
        return self._infer(patches)

    def labels(self, logits: Any) -> UInt8Array:
        return decide(self._grid.stitch(np.array(logits, np.float32)))[0]

    def close(self) -> None:
        self._infer = None


def onnxruntime_infer(path: Path, threads: int | None, provider: str) -> Infer:
    """ONNX Runtime's session as its documentation sets it up; `provider` is CPU or CUDA."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=[f"{provider}ExecutionProvider"])
    return lambda patches: session.run([OUTPUT], {INPUT: patches})[0]


def openvino_infer(path: Path, batch: int, threads: int | None, precision: str | None) -> Infer:
    """OpenVINO compiled for one batch size; `precision` None leaves it to OpenVINO."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({INPUT: [batch, *list(model.input(INPUT).partial_shape)[1:]]})
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        properties["INFERENCE_PRECISION_HINT"] = precision
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def infer(patches: UInt8Array) -> Any:
        request.infer({INPUT: patches}, share_inputs=True)
        return request.get_tensor(OUTPUT).data

    return infer


def _has_cuda_provider() -> bool:
    try:
        import onnxruntime
    except ImportError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
