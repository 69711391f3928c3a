"""PyTorch -> ONNX: uint8 patches in, logits out, batch free, weights kept under their state-dict names.

Batch norms stay nodes of their own and weights are stored as float16 behind a Cast, so that one file serves
training (`bcseg_train.shipped`) and runtime. Both cost nothing there: OpenVINO and ONNX Runtime fold casts and
batch norms into the convolutions when they load the file.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir, opset18
from onnxscript.optimizer import fold_constants_ir, remove_unused_nodes
from torch import Tensor, nn

from bcseg_edge.backends.graph import INPUT, OUTPUT
from bcseg_edge.errors import BcsegError
from bcseg_train.shipped import CONSTANT_PREFIX

OPSET = 18  # the lowest that the exporter writes natively; TensorRT 10.3 (JetPack 6.1) reads it
IR_VERSION = 9  # what goes with opset 18's time: every runtime that the extras allow reads it
# A size that is computed at run time keeps TensorRT from fusing and planning (design: no Shape chains).
DYNAMIC_SIZE_OPS = ("Shape", "Size", "Gather", "ConstantOfShape", "NonZero", "Loop", "If")


def round_weights(network: nn.Module) -> None:
    """Round what the file stores as float16, in place: afterwards `network` is the reference.

    Raises:
        BcsegError: a weight is not finite or beyond float16's range (65504).
    """
    parameters = dict(network.named_parameters())
    for name in half_names(network):
        weight = parameters[name]
        rounded = weight.detach().half().float()
        if not torch.isfinite(rounded).all():
            raise BcsegError(
                f"weight {name} reaches {weight.detach().abs().max():.3g}, float16 ends at 65504",
                "the training diverged: train again with a lower learning rate",
            )
        with torch.no_grad():
            weight.copy_(rounded)


def half_names(network: nn.Module) -> tuple[str, ...]:
    """State-dict names of what is stored as float16: kernels. Biases and batch norms are small and stay float32."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return tuple(f"{name}.weight" for name, module in network.named_modules() if isinstance(module, kinds))


def build_graph(network: nn.Module, window_hw: tuple[int, int]) -> onnx.ModelProto:
    """Export a network, whose weights `round_weights` has rounded, in eval mode.

    Args:
        network: patches uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`.
        window_hw: h and w, px, static in the graph.

    Raises:
        BcsegError: the graph would compute sizes at run time, or would lose weights' names.
    """
    network = network.cpu().eval().float()
    graph = _trace(network, window_hw)
    fold_constants_ir(graph)
    remove_unused_nodes(graph)
    model = ir.to_proto(graph)
    weights = set(network.state_dict())
    _drop_zero_biases(model, weights)
    _share_constants(model, weights)
    _store_as_half(model, half_names(network))
    _tidy(model)
    check_graph(model, trained_names(network))
    return model


def trained_names(network: nn.Module) -> set[str]:
    """State-dict names without the batch norms' counters, which only training reads."""
    return {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}


def check_graph(model: onnx.ModelProto, weights: set[str]) -> None:
    """Check what a backend, TensorRT and training rely on.

    Args:
        weights: names that have to be among the initialisers.

    Raises:
        BcsegError: sizes computed at run time, missing weights, or not valid ONNX.
    """
    found = Counter(node.op_type for node in model.graph.node if node.op_type in DYNAMIC_SIZE_OPS)
    if found:
        counts = ", ".join(f"{count} {name}" for name, count in found.items())
        raise BcsegError(
            f"the exported graph computes sizes at run time ({counts})",
            "let the network's forward use sizes that follow from the window alone",
        )
    missing = sorted(weights - {tensor.name for tensor in model.graph.initializer})
    if missing:
        raise BcsegError(
            f"the exported graph lost {len(missing)} weights by name, first {missing[0]}",
            "this torch version exports differently: report it with `pip list`",
        )
    onnx.checker.check_model(model, full_check=True)


def _trace(network: nn.Module, window_hw: tuple[int, int]) -> ir.Model:
    # Two patches: torch.export would take a batch of one for a constant.
    example = torch.zeros((2, 1, *window_hw), dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            opset_version=OPSET,
            optimize=False,  # its rewrites fold batch norms into convolutions, and names are lost
            verify=False,
            verbose=False,
            custom_translation_table={
                torch.ops.aten.upsample_nearest2d.vec: _nearest_resize,
                torch.ops.aten.upsample_bilinear2d.vec: _linear_resize,
            },
        )
    finally:
        logger.setLevel(level)
    if program is None:
        raise BcsegError("torch.onnx.export gave no program", "check that torch and onnxscript fit together")
    return program.model


def _nearest_resize(feature_map: Tensor, output_size: list[int] | None, scale_factors: list[float] | None) -> Any:
    """Nearest-neighbour upsampling as Resize with constant scales; see `_constant_scales`."""
    op: Any = opset18  # typed for ONNX functions, not for the tracer's values
    return op.Resize(
        feature_map,
        None,
        op.Constant(value_floats=_constant_scales(feature_map, output_size, scale_factors)),
        None,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _linear_resize(
    feature_map: Tensor, output_size: list[int] | None, align_corners: bool, scale_factors: list[float] | None
) -> Any:
    """Bilinear upsampling with half-pixel centres as Resize with constant scales; see `_constant_scales`."""
    if align_corners:
        raise BcsegError("bilinear upsampling with aligned corners", "leave align_corners out: half-pixel centres")
    op: Any = opset18
    return op.Resize(
        feature_map,
        None,
        op.Constant(value_floats=_constant_scales(feature_map, output_size, scale_factors)),
        None,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )


def _constant_scales(
    feature_map: Tensor, output_size: list[int] | None, scale_factors: list[float] | None
) -> list[float]:
    """Scales of a Resize, N and C first.

    PyTorch's own translation writes sizes, of which the batch is free, and so puts Shape, Gather and Concat
    in front of each Resize. Height and width are static here: their ratio is a constant.
    """
    if scale_factors is None:
        if output_size is None:
            raise BcsegError("upsampling without size and without factor", "give F.interpolate one of them")
        scale_factors = [size / before for size, before in zip(output_size, feature_map.shape[2:], strict=True)]
    return [1.0, 1.0, *scale_factors]


def _drop_zero_biases(model: onnx.ModelProto, weights: Iterable[str]) -> None:
    """Take the zero biases out that the exporter gives to convolutions without one."""
    zero = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.name not in weights and not numpy_helper.to_array(tensor).any()
    }
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zero:
            del node.input[2]


def _share_constants(model: onnx.ModelProto, weights: Iterable[str]) -> None:
    """Make constants initialisers, keep each value once, and name it so that it is told from a weight."""
    _constants_to_initializers(model)
    weights = set(weights)
    names: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    shared: dict[str, str] = {}
    kept = []
    used = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            kept.append(tensor)
        elif tensor.name in used:
            value = numpy_helper.to_array(tensor)
            key = (tensor.data_type, value.shape, value.tobytes())
            if key not in names:
                names[key] = f"{CONSTANT_PREFIX}{len(names)}"
                kept.append(numpy_helper.from_array(value, names[key]))
            shared[tensor.name] = names[key]
    for node in model.graph.node:
        node.input[:] = [shared.get(name, name) for name in node.input]
    _replace(model.graph.initializer, kept)


def _constants_to_initializers(model: onnx.ModelProto) -> None:
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    for node in constants:
        value = helper.get_attribute_value(node.attribute[0])
        if not isinstance(value, TensorProto):
            kind = np.float32 if node.attribute[0].name.startswith("value_float") else np.int64
            value = numpy_helper.from_array(np.array(value, kind))
        value.name = node.output[0]
        model.graph.initializer.append(value)
    _replace(model.graph.node, [node for node in model.graph.node if node.op_type != "Constant"])


def _store_as_half(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Store weights as float16 under their names, each followed by a Cast to float32."""
    wanted = set(names)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in wanted:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
        casts.append(
            helper.make_node(
                "Cast", [tensor.name], [f"{tensor.name}.float32"], f"{tensor.name}.cast", to=TensorProto.FLOAT
            )
        )
    for node in model.graph.node:
        node.input[:] = [f"{name}.float32" if name in wanted else name for name in node.input]
    _replace(model.graph.node, [*casts, *model.graph.node])


def _tidy(model: onnx.ModelProto) -> None:
    """Drop the exporter's traces (they hold paths of the machine) and say who wrote the file."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "bcseg-edge", ""
    graph = model.graph
    graph.name = "bcseg-edge"
    graph.ClearField("doc_string")
    for holder in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        holder.ClearField("metadata_props")
    graph.ClearField("value_info")
    for node in graph.node:
        node.ClearField("doc_string")


def _replace(field: Any, items: list[Any]) -> None:
    """Replace a repeated protobuf field's content; `items` may be taken from it."""
    del field[:]
    field.extend(items)
