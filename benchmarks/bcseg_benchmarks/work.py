"""How much arithmetic and how much memory traffic a model file asks for, read from its graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bcseg_benchmarks.subjects import Subject
from bcseg_benchmarks.timing import Record
from bcseg_edge.backends.graph import INPUT

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


class Work(Record):
    """Of one patch.

    Attributes:
        mac: multiply-accumulates of its convolutions, which are all but a few per mille of the arithmetic.
        traffic_bytes: what those read and write where none is fused with its neighbour: input, output and weights, in
            the precision of the arithmetic. Fusion and caches save some of it.
    """

    mac: int
    traffic_bytes: int

    @property
    def operations(self) -> float:
        """Two for a multiply-accumulate."""
        return 2.0 * self.mac


def work_of(subject: Subject) -> Work | None:
    """Of the float32 graph, whose convolutions are the same ones; None without a graph, or the package `onnx`."""
    path = subject.path if subject.reference is None else subject.reference
    if path.suffix != ".onnx" or importlib.util.find_spec("onnx") is None:
        return None
    return count_work(path, BYTES[subject.precision])


def count_work(path: Path, bytes_per_value: int) -> Work:
    """Count the convolutions of an ONNX file with static sizes but for the batch."""
    import onnx

    model = onnx.load(path)
    patches = next(value for value in model.graph.input if value.name == INPUT)
    patches.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    sizes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    mac = values = 0
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        inputs, weights, outputs = (sizes[name] for name in (*node.input[:2], node.output[0]))
        mac += _product(outputs) * _product(weights[1:])
        values += _product(inputs) + _product(outputs) + _product(weights)
    return Work(mac=mac, traffic_bytes=values * bytes_per_value)


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
