"""FP16 for strongly typed TensorRT: what is cheap and far from float16's limits; the rest stays float32."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bcseg_calibration.quantize import PRODUCER
from bcseg_edge.backends.graph import INPUT

FLOAT16_MAX = 65504.0
# Frames of another scanner reach further than the calibration set: an eighth leaves three bits for them.
HEADROOM = 8.0
# Grey levels have 8 bits, normalised ones of float16 11: what is lost there no layer brings back. They cost nothing.
AFTER_INPUT = ("Cast", "Div", "Mul", "Sub", "Add", "Expand", "Concat", "BatchNormalization")
# Inputs that keep their type whatever the data is: Resize's regions and scales, what is quantized and its zero.
OTHER_INPUTS = {"Resize": (1, 2), "QuantizeLinear": (2,), "DequantizeLinear": (0, 2)}
QUANTIZED_OPSET = 19  # the first whose QuantizeLinear takes float16
PAIR = ("QuantizeLinear", "DequantizeLinear")
# A scale that float16 holds less exactly adds to the error of 8 bits, which is 2^-8.
MAX_SCALE_ERROR = 2.0**-10


def to_half(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Convert a folded model to float16 between input normalisation and logits.

    In a quantized one the scales become float16 too, so that TensorRT fuses the pairs and calculates what lies between
    the quantized layers in float16; a layer whose scales float16 cannot hold gives float32.

    Not by onnxruntime.transformers.float16: between two nodes that stay float32 it casts to float16 and back.

    Args:
        model: see `bcseg_calibration.prepare.fold` and `bcseg_calibration.quantize`; stays as it is.
        keep: names of nodes that stay float32, e.g. `overflowing_nodes`.

    Returns:
        The model with float16 weights, and a Cast wherever a tensor changes sides; its outputs stay float32.
    """
    kept = {*keep, *_input_nodes(model), *_output_nodes(model), *_nodes_of_small_scales(model)}
    kept |= _pairs_of(model, kept)
    half = onnx.ModelProto()
    half.CopyFrom(model)
    if any(node.op_type in PAIR for node in model.graph.node):
        half.opset_import[0].version = max(QUANTIZED_OPSET, half.opset_import[0].version)
    _Halver(half.graph, kept).convert()
    half.producer_name, half.producer_version = PRODUCER, ""
    onnx.checker.check_model(half, full_check=True)
    return half


class _Halver:
    """Converts a graph in place, all nodes but `kept` to float16."""

    def __init__(self, graph: onnx.GraphProto, kept: Collection[str]) -> None:
        self._graph, self._kept = graph, kept
        self._halves = {name for node in graph.node if node.name not in kept for name in node.output}
        floats = (tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT)
        self._constants = {tensor.name: tensor for tensor in floats}
        # Axes, shapes, quantized weights: nothing that has a float16.
        self._others = {tensor.name for tensor in graph.initializer} - self._constants.keys()
        self._nodes: list[onnx.NodeProto] = []
        self._made: set[str] = set()

    def convert(self) -> None:
        for node in list(self._graph.node):
            convert = self._as_float if node.name in self._kept else self._as_half
            exempt = OTHER_INPUTS.get(node.op_type, ())
            node.input[:] = [
                name if not name or place in exempt else convert(name) for place, name in enumerate(node.input)
            ]
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        constants = [tensor for tensor in self._graph.initializer if tensor.name in used]
        nodes = [copy.deepcopy(node) for node in self._nodes]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(constants)

    def _as_half(self, name: str) -> str:
        if name in self._constants:
            return self._half_constant(name)
        if name in self._halves or name in self._others:
            return name
        return self._cast(name, f"{name}.float16", TensorProto.FLOAT16)

    def _as_float(self, name: str) -> str:
        return self._cast(name, f"{name}.float32", TensorProto.FLOAT) if name in self._halves else name

    def _half_constant(self, name: str) -> str:
        half = f"{name}.float16"
        if half not in self._made:
            values = numpy_helper.to_array(self._constants[name]).astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(values, half))
            self._made.add(half)
        return half

    def _cast(self, name: str, converted: str, kind: int) -> str:
        if converted not in self._made:
            self._nodes.append(helper.make_node("Cast", [name], [converted], f"{converted}.cast", to=kind))
            self._made.add(converted)
        return converted


def overflowing_nodes(model: onnx.ModelProto, ranges: Any) -> tuple[str, ...]:
    """Names of the nodes whose output comes within `HEADROOM` of float16's end, and of those that read it.

    Args:
        ranges: min-max ranges of the activations, see `bcseg_calibration.ranges.measure_ranges`.
    """
    limit = FLOAT16_MAX / HEADROOM
    wide = {
        name for name, data in ranges.items() if float(np.abs(np.asarray(data.range_value, np.float64)).max()) > limit
    }
    return tuple(node.name for node in model.graph.node if wide & {*node.input, *node.output})


def _input_nodes(model: onnx.ModelProto) -> list[str]:
    """Nodes between the input and the first convolution: the normalisation."""
    reached, names = {INPUT}, []
    for node in model.graph.node:
        if node.op_type in AFTER_INPUT and reached & set(node.input):
            reached.update(node.output)
            names.append(node.name)
    return names


def _output_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes that give the logits: softmax amplifies what is lost there."""
    outputs = {output.name for output in model.graph.output}
    return [node.name for node in model.graph.node if outputs & set(node.output)]


def _nodes_of_small_scales(model: onnx.ModelProto) -> set[str]:
    """Nodes that read what is dequantized by a scale below float16's normal range."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    dequantized = set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            scale = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
            error = np.abs(scale.astype(np.float16).astype(np.float64) / scale - 1)
            if error.max() > MAX_SCALE_ERROR:
                dequantized.add(node.output[0])
    return {node.name for node in model.graph.node if dequantized & set(node.input)}


def _pairs_of(model: onnx.ModelProto, kept: Collection[str]) -> set[str]:
    """Quantizing nodes that only kept ones read: a Cast between pair and layer would keep TensorRT from fusing."""
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.name)
    pairs: set[str] = set()
    for node in reversed(model.graph.node):  # in order of execution, so that a pair's second node comes first
        if node.op_type in PAIR and readers.get(node.output[0], set()) <= {*kept, *pairs}:
            pairs.add(node.name)
    return pairs
