"""Bias correction: what rounding shifts each channel by on average is taken out of its bias.

Nagel, van Baalen, Blankevoort, Welling, Data-Free Quantization Through Weight Equalization and Bias Correction, 2019,
in its empirical form: each layer alone, on the activations that the float32 network has there.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bcseg_calibration.quantize import Target, quantize
from bcseg_edge.backends.graph import INPUT
from bcseg_edge.frames import Float32Array, UInt8Array

LOG_ERROR = 3
AXES = "bias correction: axes"


def measure_shifts(
    model: onnx.ModelProto, ranges: Any, target: Target, patches: UInt8Array, keep: Collection[str] = ()
) -> dict[str, Float32Array]:
    """How far quantizing shifts the channels of each layer on average.

    Args:
        model: folded.
        ranges: of its activations.
        target: what will execute the quantized model.
        patches: uint8 `[N, 1, h, w]` to measure on, N >= 1.
        keep: names of the layers that stay floating point.

    Returns:
        Name of the layer -> float32 `[C]`, quantized minus float32.
    """
    twins, outputs = _with_twins(model, quantize(model, ranges, target, keep, around=False))
    return _measure(twins, outputs, patches)


def correct_biases(model: onnx.ModelProto, shifts: Mapping[str, Float32Array]) -> onnx.ModelProto:
    """The float32 model to quantize: `model` with each layer's shift taken out of its bias.

    Args:
        model: folded; stays as it is.
        shifts: of the layers that will be quantized, see `measure_shifts`.
    """
    corrected = copy.deepcopy(model)
    biases = {tensor.name: tensor for tensor in corrected.graph.initializer}
    for node in corrected.graph.node:
        if node.op_type != "Conv" or node.name not in shifts:
            continue
        if len(node.input) == 2:
            node.input.append(f"{node.name}.bias")
            corrected.graph.initializer.append(numpy_helper.from_array(-shifts[node.name], node.input[2]))
        else:
            bias = biases[node.input[2]]
            bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) - shifts[node.name], bias.name))
    return corrected


def _with_twins(model: onnx.ModelProto, quantized: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The float32 graph with each layer's quantized twin beside it on the same input.

    Returns:
        The graph, and its outputs: name of the mean difference `[C]`, with the layer that it belongs to.
    """
    twins = copy.deepcopy(model)
    graph, made = twins.graph, {node.output[0]: node for node in quantized.graph.node}
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    present = {tensor.name for tensor in graph.initializer} | {name for node in graph.node for name in node.output}
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3], np.int64), AXES))
    plain = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    outputs = {}

    def bring(name: str) -> None:
        """What `name` is made from, as far as the float32 graph does not have it."""
        if not name or name in present:
            return
        present.add(name)
        if name in constants:
            graph.initializer.append(constants[name])
            return
        for source in made[name].input:
            bring(source)
        graph.node.append(made[name])

    for node in quantized.graph.node:
        sources = [made.get(name) for name in node.input[:2]]
        if node.op_type != "Conv" or any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            continue
        for name in node.input:
            bring(name)
        twin, difference, mean = (f"{node.name}: {what}" for what in ("quantized", "difference", "mean"))
        copied = copy.deepcopy(node)
        copied.name, copied.output[0] = twin, twin
        graph.node.extend(
            [
                copied,
                helper.make_node("Sub", [twin, plain[node.name]], [difference]),
                helper.make_node("ReduceMean", [difference, AXES], [mean], keepdims=0),
            ]
        )
        graph.output.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, None))
        outputs[mean] = node.name
    return twins, outputs


def _measure(model: onnx.ModelProto, outputs: dict[str, str], patches: UInt8Array) -> dict[str, Float32Array]:
    """Mean over the patches of each output, by its layer."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_ERROR
    # Optimized, the twins would be fused differently from the file that is written.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = [session.run(list(outputs), {INPUT: patch[None]}) for patch in patches]
    means = (np.mean([of_patch[index] for of_patch in values], axis=0) for index in range(len(outputs)))
    return {layer: np.asarray(mean, np.float32) for layer, mean in zip(outputs.values(), means, strict=True)}
