"""FP16 for strongly typed TensorRT: what is cheap and far from float16's limits; the rest stays float32."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from bcseg_calibration.quantize import PRODUCER
from bcseg_edge.backends.graph import INPUT

FLOAT16_MAX = 65504.0
# Frames of another scanner reach further than the calibration set: an eighth leaves three bits for them.
HEADROOM = 8.0
# Grey levels have 8 bits, normalised ones of float16 11: what is lost there no layer brings back. They cost nothing.
AFTER_INPUT = ("Cast", "Div", "Mul", "Sub", "Add", "Expand", "Concat", "BatchNormalization")


def to_half(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Convert a folded model to float16 between input normalisation and logits.

    Args:
        model: see `bcseg_calibration.prepare.fold`; stays as it is.
        keep: names of nodes that stay float32, e.g. `overflowing_nodes`.

    Returns:
        The model with float16 weights and Cast nodes at the borders; its outputs stay float32.
    """
    names = {*keep, *_input_nodes(model), *_output_nodes(model)}
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    half: onnx.ModelProto = convert_float_to_float16(copied, keep_io_types=True, node_block_list=sorted(names))
    half.producer_name, half.producer_version = PRODUCER, ""
    half.ir_version = model.ir_version
    half.graph.ClearField("value_info")
    onnx.checker.check_model(half, full_check=True)
    return half


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
    """The node that divides the logits by the temperature: softmax amplifies what is lost there."""
    outputs = {output.name for output in model.graph.output}
    return [node.name for node in model.graph.node if outputs & set(node.output) and node.op_type in ("Div", "Mul")]
