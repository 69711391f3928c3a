"""A float32 graph made ready for reduced precision: batch norms folded, weights constant, layers named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime

# What ONNX Runtime's fusion puts around the name of the weight that it folds a batch norm into.
FUSED_PREFIX = "ConvBnFusion_W_"
CAST_SUFFIX = ".float32"
WEIGHT_SUFFIX = ".weight"
LOG_ERROR = 3


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold batch norms and the float16 weights' casts into the convolutions.

    Afterwards every convolution's node is named as the network names its module (`unet.decoder.blocks.4.conv2.0`),
    so that what is said about layers is said in the words of the training code.

    Args:
        model: as `bcseg_export.onnx_graph.build_graph` writes it; stays as it is.

    Returns:
        A model of standard operators with the same opset, inputs and outputs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_ERROR
    # The basic level writes standard operators only; the next ones would bind the file to ONNX Runtime.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(path)
    _forget_other_domains(folded, model.ir_version)
    _name_layers(folded)
    onnx.checker.check_model(folded, full_check=True)
    return folded


def layer_names(model: onnx.ModelProto, *, grouped: bool = True) -> tuple[str, ...]:
    """Names of a folded model's convolutions in the order of execution.

    Args:
        grouped: with those that have several groups of several channels (ResNeXt's). Depthwise ones, of one channel a
            group, are always among them: they have kernels of their own everywhere.
    """
    channels = {tensor.name: tensor.dims[1] for tensor in model.graph.initializer if len(tensor.dims) == 4}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return tuple(
        node.name for node in convolutions if grouped or _groups(node) == 1 or channels.get(node.input[1], 1) == 1
    )


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _forget_other_domains(model: onnx.ModelProto, ir_version: int) -> None:
    """Drop the operator sets that ONNX Runtime lists and nothing uses, and keep the format version."""
    standard = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    model.ir_version = ir_version
    model.graph.ClearField("value_info")


def _name_layers(model: onnx.ModelProto) -> None:
    """Name each convolution, and its weight, after the module that it was."""
    renamed = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        weight = node.input[1].removeprefix(FUSED_PREFIX).removesuffix(CAST_SUFFIX)
        node.name = weight.removesuffix(WEIGHT_SUFFIX)
        renamed[node.input[1]] = weight
        node.input[1] = weight
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
