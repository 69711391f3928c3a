"""What the machine does at its best, measured in the same run: a matrix product and a memory copy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter

import numpy as np

from bcseg_benchmarks.timing import Record, collect
from bcseg_edge.frames import Float32Array

NUMPY, ONNXRUNTIME, OPENVINO = "NumPy", "ONNX Runtime", "OpenVINO"
# On two busy cores of a Zen 4 ONNX Runtime reached 50 Gflop/s at 1024 and 229 at 512, whose calls end before they are
# interrupted; many cores share a larger one better.
GEMM_SIDES = (512, 1024)
COPY_BYTES = 128 * 2**20
MIN_SECONDS = 1.0

Product = Callable[[], object]


class Peak(Record):
    """The best of a second of repetitions each: what was reached, not what the processor's data sheet allows.

    Attributes:
        gflops: float32 operations per second of the fastest matrix product, 1e9.
        gbytes: bytes per second that copies on all threads read and write, 1e9.
        threads: of the copy and of the runtimes' products; NumPy's takes as many as its library wants.
        library: that made the product; of those that are installed, the fastest. Older reports know NumPy's only.
    """

    gflops: float
    gbytes: float
    threads: int
    library: str = NUMPY


class Achieved(Record):
    """Where a model lies under that roof.

    Attributes:
        model: `edge fp32`.
        gflops: operations per second inside the network; integers where it is INT8, 1e9.
        intensity: operations per byte of traffic, see `bcseg_benchmarks.work`.
        share: of the roof at that intensity. It may exceed 1, with INT8 above all: its instructions do four times the
            work of float32's.
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
    """Multiply with each library and size, and copy, for `seconds` each."""
    gflops, library = max(_gflops(side, threads, seconds) for side in GEMM_SIDES)
    gbytes = _copy_bytes_per_second(threads, seconds) / 1e9
    return Peak(gflops=gflops, gbytes=gbytes, threads=threads, library=library)


def _gflops(side: int, threads: int, seconds: float) -> tuple[float, str]:
    """The fastest product of two matrices of `side` x `side`, 1e9 operations per second, and whose it is."""
    left, right = np.random.default_rng(0).random((2, side, side), np.float32)
    best_s = {
        library: min(collect(product, 5, seconds)) / 1e9 for library, product in products(left, right, threads).items()
    }
    library = min(best_s, key=lambda name: best_s[name])
    return 2 * side**3 / best_s[library] / 1e9, library


def products(left: Float32Array, right: Float32Array, threads: int) -> dict[str, Product]:
    """`left @ right` by each library that is installed, both float32 `[N, N]`; `right` is constant, as weights are."""
    into = np.empty_like(left)
    found: dict[str, Product] = {NUMPY: lambda: np.matmul(left, right, out=into)}
    with suppress(ImportError):
        found[ONNXRUNTIME] = _onnxruntime_product(left, right, threads)
    with suppress(ImportError):
        found[OPENVINO] = _openvino_product(left, right, threads)
    return found


def _product_model(right: Float32Array) -> bytes:
    """An ONNX model of one matrix product, `left` to `product`."""
    from onnx import TensorProto, helper, numpy_helper

    left, product = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, right.shape) for name in ("left", "product")
    )
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "product", [left], [product], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _onnxruntime_product(left: Float32Array, right: Float32Array, threads: int) -> Product:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_product_model(right), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": left})[0]


def _openvino_product(left: Float32Array, right: Float32Array, threads: int) -> Product:
    import openvino

    core = openvino.Core()
    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # unasked it takes bfloat16 where the CPU has it
        "INFERENCE_NUM_THREADS": threads,
    }
    request = core.compile_model(core.read_model(_product_model(right)), "CPU", properties).create_infer_request()

    def product() -> object:
        request.infer({"left": left}, share_inputs=True)
        return request.get_output_tensor().data

    return product


def _copy_bytes_per_second(threads: int, seconds: float) -> float:
    """Each thread copies an array of its own, far larger than its caches; NumPy lets other threads run meanwhile."""
    # Not zeros: unwritten, they are all one page of the kernel's, read from the cache at twice the bandwidth.
    pairs = [np.ones((2, COPY_BYTES // 8)) for _ in range(threads)]  # float64
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
