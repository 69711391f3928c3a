"""Bias correction: the mean error of each layer is measured alone, and is gone afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bcseg_calibration.bias import correct_biases, measure_shifts
from bcseg_calibration.prepare import fold, layer_names
from bcseg_calibration.quantize import TARGETS, Target, quantize, symmetric_ranges
from bcseg_calibration.ranges import measure_ranges
from bcseg_edge.backends.graph import INPUT
from bcseg_edge.frames import Float32Array, UInt8Array
from bcseg_export.onnx_graph import build_graph, round_weights
from tests.fixtures.checkpoints import WINDOW_HW, random_network
from tests.fixtures.speckle import speckle

KEPT = "unet.encoder.features.0.0"


@pytest.fixture(scope="module")
def patches() -> UInt8Array:
    return np.stack([speckle(WINDOW_HW, seed) for seed in range(3)])[:, None]


@pytest.fixture(scope="module")
def folded() -> onnx.ModelProto:
    network = random_network()
    round_weights(network)
    return fold(build_graph(network, WINDOW_HW))


def ranges_for(folded: onnx.ModelProto, patches: UInt8Array, target: Target) -> Any:
    return measure_ranges(folded, patches, "minmax", symmetric=symmetric_ranges(target))


@pytest.mark.parametrize("target", TARGETS)
def test_every_quantized_layer_has_a_shift_a_channel(
    folded: onnx.ModelProto, patches: UInt8Array, target: Target
) -> None:
    shifts = measure_shifts(folded, ranges_for(folded, patches, target), target, patches, {KEPT})
    assert set(shifts) == set(layer_names(folded)) - {KEPT}
    channels = {tensor.name: tensor.dims[0] for tensor in folded.graph.initializer if len(tensor.dims) == 4}
    weights = {node.name: node.input[1] for node in folded.graph.node if node.op_type == "Conv"}
    assert all(shift.shape == (channels[weights[name]],) for name, shift in shifts.items())
    assert all(np.isfinite(shift).all() for shift in shifts.values())


def mean_by_channel(model: onnx.ModelProto, patches: UInt8Array) -> Float32Array:
    """Mean over the patches of what the layer `KEPT` gives, float32 `[C]`."""
    (output,) = (node.output[0] for node in model.graph.node if node.name == KEPT)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.mean([session.run([output], {INPUT: patch[None]})[0].mean(axis=(0, 2, 3)) for patch in patches], axis=0)


def test_a_corrected_layer_is_right_on_average(folded: onnx.ModelProto, patches: UInt8Array) -> None:
    """The first layer's input does not change by correcting, so its shift has to vanish where biases stay float."""
    ranges = ranges_for(folded, patches, "tensorrt")
    shifts = measure_shifts(folded, ranges, "tensorrt", patches)
    corrected = correct_biases(folded, {KEPT: shifts[KEPT]})
    expected = mean_by_channel(folded, patches)
    before, after = (
        np.abs(mean_by_channel(quantize(model, ranges, "tensorrt"), patches) - expected)
        for model in (folded, corrected)
    )
    assert before.max() > 1e-4
    assert after.max() < before.max() / 50
    values = [
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for model in (folded, corrected)
    ]
    (name,) = (node.input[2] for node in folded.graph.node if node.name == KEPT)
    assert all(np.array_equal(values[0][other], values[1][other]) for other in set(values[0]) - {name})


def test_a_layer_without_bias_gets_one(folded: onnx.ModelProto, patches: UInt8Array) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(folded)
    (node,) = (node for node in bare.graph.node if node.name == KEPT)
    del node.input[2]
    shifts = measure_shifts(bare, ranges_for(bare, patches, "tensorrt"), "tensorrt", patches)
    corrected = correct_biases(bare, {KEPT: shifts[KEPT]})
    onnx.checker.check_model(corrected, full_check=True)
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in corrected.graph.initializer}
    np.testing.assert_array_equal(values[f"{KEPT}.bias"], -shifts[KEPT])
