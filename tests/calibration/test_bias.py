"""Bias correction: the mean error of each layer is measured alone, and is gone afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from bcseg_calibration.bias import correct_biases, measure_shifts
from bcseg_calibration.prepare import fold, layer_names
from bcseg_calibration.quantize import TARGETS, Target, symmetric_ranges
from bcseg_calibration.ranges import measure_ranges
from bcseg_edge.frames import UInt8Array
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


def test_a_corrected_layer_is_right_on_average(folded: onnx.ModelProto, patches: UInt8Array) -> None:
    """The first layer's input does not change by correcting, so its shift has to vanish where biases stay float."""
    ranges = ranges_for(folded, patches, "tensorrt")
    before = measure_shifts(folded, ranges, "tensorrt", patches)[KEPT]
    corrected = correct_biases(folded, {KEPT: before})
    # Against the uncorrected layer: the new shift is that of the corrected twin minus the corrected original.
    bias = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
    new = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in corrected.graph.initializer}
    (name,) = (node.input[2] for node in folded.graph.node if node.name == KEPT)
    np.testing.assert_allclose(new[name], bias[name] - before, rtol=1e-6)
    assert np.abs(before).max() > 1e-5
    untouched = set(bias) - {name}
    assert all(np.array_equal(bias[other], new[other]) for other in untouched)


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
