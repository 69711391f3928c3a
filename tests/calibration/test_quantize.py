"""Quantized graphs: where the pairs stand for each target, what stays float, and that the answer stays."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnx.utils import Extractor

from bcseg_calibration.half import overflowing_nodes, to_half
from bcseg_calibration.prepare import fold, layer_names
from bcseg_calibration.quantize import TARGETS, Target, quantize, quantized_layers, symmetric_ranges
from bcseg_calibration.ranges import RANGE_METHODS, RangeMethod, measure_ranges
from bcseg_calibration.rescue import LayerDamage, rank_layers, rescue_steps
from bcseg_edge.frames import Float32Array, UInt8Array
from bcseg_export.onnx_graph import build_graph, round_weights
from tests.fixtures.checkpoints import WINDOW_HW, random_network
from tests.fixtures.speckle import speckle

HEAD = "unet.segmentation_head.0"


@pytest.fixture(scope="module")
def patches() -> UInt8Array:
    return np.stack([speckle(WINDOW_HW, seed) for seed in range(6)])[:, None]


@pytest.fixture(scope="module")
def exported() -> onnx.ModelProto:
    network = random_network()
    round_weights(network)
    return build_graph(network, WINDOW_HW)


@pytest.fixture(scope="module")
def folded(exported: onnx.ModelProto) -> onnx.ModelProto:
    return fold(exported)


@pytest.fixture(scope="module")
def ranges(folded: onnx.ModelProto, patches: UInt8Array) -> dict[Target, Any]:
    return {target: measure_ranges(folded, patches, "minmax", symmetric=symmetric_ranges(target)) for target in TARGETS}


def infer(model: onnx.ModelProto, patches: UInt8Array, *, literal: bool = False) -> Float32Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if literal:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits: Float32Array = session.run(["logits"], {"patches": patches})[0]
    return logits


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def constants(model: onnx.ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def test_folding_changes_no_answer(exported: onnx.ModelProto, folded: onnx.ModelProto, patches: UInt8Array) -> None:
    assert np.abs(infer(exported, patches) - infer(folded, patches)).max() < 1e-3


def test_folding_leaves_standard_operators_and_named_layers(folded: onnx.ModelProto) -> None:
    assert [opset.domain for opset in folded.opset_import] == [""]
    counts = Counter(node.op_type for node in folded.graph.node)
    assert not counts.keys() & {"BatchNormalization", "FusedConv"}
    names = layer_names(folded)
    assert len(names) == counts["Conv"] == len(set(names))
    assert names[0] == "unet.encoder.features.0.0"
    assert HEAD in names
    weights = constants(folded)
    assert all(f"{name}.weight" in weights for name in names)


@pytest.mark.parametrize("target", TARGETS)
def test_every_layer_has_int8_weights_with_a_scale_a_channel(
    folded: onnx.ModelProto, ranges: dict[Target, Any], target: Target
) -> None:
    quantized = quantize(folded, ranges[target], target)
    assert sorted(quantized_layers(quantized)) == sorted(layer_names(folded))
    made, values = producers(quantized), constants(quantized)
    for node in quantized.graph.node:
        if node.op_type != "Conv":
            continue
        weight, scale, zero = (values[name] for name in made[node.input[1]].input)
        assert weight.data_type == TensorProto.INT8
        assert scale.dims == [weight.dims[0]]
        assert not numpy_helper.to_array(zero).any()


@pytest.mark.parametrize(("target", "kind"), [("cpu", TensorProto.UINT8), ("tensorrt", TensorProto.INT8)])
def test_activations_are_unsigned_for_cpus_and_symmetric_for_tensorrt(
    folded: onnx.ModelProto, ranges: dict[Target, Any], target: Target, kind: int
) -> None:
    quantized = quantize(folded, ranges[target], target)
    values = constants(quantized)
    zeros = [values[node.input[2]] for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    assert {zero.data_type for zero in zeros} == {kind}
    if target == "tensorrt":
        assert not any(numpy_helper.to_array(zero).any() for zero in zeros)


@pytest.mark.parametrize("target", TARGETS)
def test_behind_the_last_convolutions_nothing_is_quantized(
    folded: onnx.ModelProto, ranges: dict[Target, Any], target: Target
) -> None:
    quantized = quantize(folded, ranges[target], target)
    made = producers(quantized)
    waiting, seen = ["logits"], set()
    while waiting:  # back from the logits to the first convolutions
        node = made.get(waiting.pop())
        if node is not None and node.op_type != "Conv":
            seen.add(node.op_type)
            waiting.extend(node.input)
    assert "Div" in seen  # by the temperature
    assert not seen & {"QuantizeLinear", "DequantizeLinear"}


def test_tensorrt_pairs_stand_where_it_fuses_them(folded: onnx.ModelProto, ranges: dict[Target, Any]) -> None:
    quantized = quantize(folded, ranges["tensorrt"], "tensorrt")
    made = producers(quantized)
    additions = [node for node in quantized.graph.node if node.op_type == "Add"]
    assert len(additions) == 11
    for node in additions[:10]:  # MobileNetV2's; the last one adds up the class head's two terms
        kinds = sorted(made[name].op_type for name in node.input)
        assert kinds == ["Conv", "DequantizeLinear"]  # the skip branch alone is quantized
    for node in quantized.graph.node:
        if node.op_type == "Conv":
            pair = made[made[node.input[0]].input[0]]
            assert (made[node.input[0]].op_type, pair.op_type) == ("DequantizeLinear", "QuantizeLinear")
    behind_concat = [
        made[node.input[0]]
        for node in quantized.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in made and made[node.input[0]].op_type == "Concat"
    ]
    assert len(behind_concat) == 4
    biases = [node.input[2] for node in quantized.graph.node if node.op_type == "Conv"]
    assert {constants(quantized)[name].data_type for name in biases} == {TensorProto.FLOAT}


@pytest.mark.parametrize("target", TARGETS)
def test_logits_stay_close(
    folded: onnx.ModelProto, ranges: dict[Target, Any], target: Target, patches: UInt8Array
) -> None:
    expected, received = infer(folded, patches), infer(quantize(folded, ranges[target], target), patches)
    error = np.sqrt(np.mean((received - expected) ** 2)) / expected.std()
    assert 0 < error < 0.35  # random weights are worse than trained ones


@pytest.mark.parametrize("target", TARGETS)
def test_kept_layers_stay_float(folded: onnx.ModelProto, ranges: dict[Target, Any], target: Target) -> None:
    kept = {HEAD, "unet.encoder.features.3.conv.2"}
    quantized = quantize(folded, ranges[target], target, kept)
    assert set(layer_names(folded)) - set(quantized_layers(quantized)) == kept


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_each_method_finds_ranges_within_the_extremes(
    folded: onnx.ModelProto, ranges: dict[Target, Any], patches: UInt8Array, method: RangeMethod
) -> None:
    weights = {tensor.name for tensor in folded.graph.initializer}
    # A residual sum, whose name is the exporter's affair.
    name = next(n.output[0] for n in folded.graph.node if n.op_type == "Add" and not weights & set(n.input))
    # Entropy takes a second for every three activations: the first of them are enough.
    up_to_it = Extractor(onnx.shape_inference.infer_shapes(folded)).extract_model(["patches"], [name])
    found = measure_ranges(up_to_it, patches[:2], method, symmetric=False)
    low, high = (np.asarray(value).item() for value in found[name].range_value)
    lowest, highest = (np.asarray(value).item() for value in ranges["cpu"][name].range_value)
    assert low < high
    assert low >= lowest - 1e-3 * abs(lowest)
    assert high <= highest + 1e-3 * abs(highest)


def test_float16_has_casts_at_the_borders_only(folded: onnx.ModelProto, patches: UInt8Array) -> None:
    half = to_half(folded)
    counts = Counter(node.op_type for node in half.graph.node)
    assert counts["Cast"] == 3  # uint8 to float32, normalised input to float16, logits back
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    values = constants(half)
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert {values[node.input[1]].data_type for node in convolutions} == {TensorProto.FLOAT16}
    expected = infer(folded, patches)
    assert np.abs(infer(half, patches) - expected).max() < 0.02 * expected.std()


def test_between_quantized_layers_float16_is_calculated(
    folded: onnx.ModelProto, ranges: dict[Target, Any], patches: UInt8Array
) -> None:
    quantized = quantize(folded, ranges["tensorrt"], "tensorrt", {HEAD})
    half = to_half(quantized)
    values, made = constants(half), producers(half)
    assert half.opset_import[0].version >= 19
    pairs = [node for node in half.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    kinds = Counter(values[node.input[1]].data_type for node in pairs)
    assert kinds[TensorProto.FLOAT16] > 0.9 * len(pairs)
    # A Cast between a pair and its layer would keep TensorRT from fusing them.
    for node in half.graph.node:
        if node.op_type == "Conv" and node.name != HEAD:
            assert {made[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}
    expected, received = infer(quantized, patches, literal=True), infer(half, patches, literal=True)
    assert np.sqrt(np.mean((received - expected) ** 2)) < 0.1 * expected.std()


def test_a_scale_that_float16_cannot_hold_stays_float32(
    folded: onnx.ModelProto, ranges: dict[Target, Any], patches: UInt8Array
) -> None:
    quiet = onnx.ModelProto()
    quiet.CopyFrom(folded)
    name = "unet.decoder.blocks.1.conv1.0"
    for tensor in quiet.graph.initializer:
        if tensor.name == f"{name}.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e-4), tensor.name))
    half = to_half(quantize(quiet, ranges["tensorrt"], "tensorrt"))
    values, made = constants(half), producers(half)
    (layer,) = (node for node in half.graph.node if node.name == name)
    scales = [values[made[source].input[1]].data_type for source in layer.input[:2]]
    assert scales == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert np.isfinite(infer(half, patches[:1], literal=True)).all()


def test_what_float16_cannot_hold_stays_float32(folded: onnx.ModelProto, patches: UInt8Array) -> None:
    loud = onnx.ModelProto()
    loud.CopyFrom(folded)
    name = "unet.decoder.blocks.0.conv1.0"
    for tensor in loud.graph.initializer:
        if tensor.name == f"{name}.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e6), tensor.name))
    ranges = measure_ranges(loud, patches[:1], "minmax", symmetric=False)
    keep = overflowing_nodes(loud, ranges)
    assert name in keep
    assert "unet.encoder.features.0.0" not in keep
    logits = infer(to_half(loud, keep), patches[:1])
    assert np.isfinite(logits).all()
    assert overflowing_nodes(folded, measure_ranges(folded, patches[:1], "minmax", symmetric=False)) == ()


def test_the_worst_layer_ranks_first() -> None:
    done: list[tuple[int, int]] = []
    damages = {"first": 0.1, "second": 0.3, "third": 0.0}
    ranked = rank_layers(tuple(damages), lambda name: damages[name], lambda *counts: done.append(counts))
    assert ranked == (LayerDamage("second", 0.3), LayerDamage("first", 0.1), LayerDamage("third", 0.0))
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_ever_more_layers_are_kept_up_to_half() -> None:
    ranked = [LayerDamage(str(index), 1 / (1 + index)) for index in range(20)]
    assert [len(step) for step in rescue_steps(ranked)] == [1, 2, 4, 8]
    assert all(step == tuple(ranked[: len(step)]) for step in rescue_steps(ranked))
