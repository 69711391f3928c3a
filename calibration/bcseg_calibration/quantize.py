"""INT8 as explicit QuantizeLinear/DequantizeLinear pairs, placed the way that the target fuses them.

`cpu` (OpenVINO, ONNX Runtime): unsigned activations around every operator that has an 8-bit kernel, so that a network
runs in 8 bits from end to end; ReLU and ReLU6 disappear in the ranges.

`tensorrt`: symmetric activations, only in front of convolutions. That alone puts the pairs where TensorRT fuses them:
the skip branch of a residual Add is the input of the next block's convolution and so is quantized, the other branch
comes from a convolution and is not; in the decoder the pair stands behind the Concat, and nothing between Concat and
convolution keeps them apart (TensorRT #4401, #4366).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, Literal, get_args

import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from bcseg_calibration.prepare import layer_names

Target = Literal["cpu", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)
PRODUCER = "bcseg-edge"

_OPERATORS: dict[Target, list[str]] = {
    "cpu": ["Conv", "Add", "Concat", "Resize", "MaxPool", "Relu", "Clip"],
    "tensorrt": ["Conv"],
}
_ACTIVATIONS: dict[Target, Any] = {"cpu": QuantType.QUInt8, "tensorrt": QuantType.QInt8}
_OPTIONS: dict[Target, dict[str, Any]] = {
    "cpu": {},
    # Biases stay float: TensorRT adds them in the accumulator, and refuses an int32 DequantizeLinear.
    "tensorrt": {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "QuantizeBias": False,
    },
}


def quantize(
    model: onnx.ModelProto, ranges: Any, target: Target, keep: Collection[str] = (), *, around: bool = True
) -> onnx.ModelProto:
    """Quantize a folded model: int8 weights with a scale a channel, 8-bit activations.

    Args:
        model: see `bcseg_calibration.prepare.fold`; stays as it is.
        ranges: of its activations, see `measure_ranges`; symmetric ones for `tensorrt`.
        target: what executes it.
        keep: names of the layers that stay float32.
        around: whether operators between the layers (Add, Concat, Resize) are quantized too, where the target does so.

    Returns:
        The model with QuantizeLinear and DequantizeLinear nodes. What the last convolutions give stays float32 up to
        the logits: 8 bits there would make steps of the confidence, and ties.
    """
    inferred = onnx.shape_inference.infer_shapes(copy.deepcopy(model))
    operators = _OPERATORS[target] if around else ["Conv"]
    ends = _nodes_behind_the_last_convolutions(inferred)
    quantizer = QDQQuantizer(
        inferred,
        True,  # per channel
        False,  # 8 bits of weights, not 7: every CPU since 2019 adds them without overflow (VNNI, dot product)
        QuantType.QInt8,
        _ACTIVATIONS[target],
        ranges,
        [node.name for node in inferred.graph.node if node.op_type in operators and node.name not in {*keep, *ends}],
        [],
        operators,
        _OPTIONS[target],
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    _free_inputs(quantized.graph, ends)
    quantized.producer_name, quantized.producer_version = PRODUCER, ""
    quantized.ir_version = model.ir_version
    quantized.graph.ClearField("value_info")
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def _nodes_behind_the_last_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes from which no convolution is reached."""
    leading: set[str] = set()  # tensors that a convolution depends on
    behind = set()
    for node in reversed(model.graph.node):
        if node.op_type == "Conv" or leading & set(node.output):
            leading.update(node.input)
        else:
            behind.add(node.name)
    return behind


def _free_inputs(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Give the named nodes what they read before it was quantized, and drop the pairs that nothing reads any more."""
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.name in names:
            for place, name in enumerate(node.input):
                if name in made and made[name].op_type == "DequantizeLinear" and made[name].input[0] in made:
                    node.input[place] = made[made[name].input[0]].input[0]
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        kept = [copy.deepcopy(node) for node in graph.node if node.op_type != kind or node.output[0] in used]
        del graph.node[:]
        graph.node.extend(kept)


def symmetric_ranges(target: Target) -> bool:
    """Whether `quantize` needs ranges around 0."""
    return target == "tensorrt"


def quantized_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the convolutions whose weights are quantized."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    return tuple(name for name in layer_names(model) if weights[name] in dequantized)
