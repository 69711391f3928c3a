"""TensorRT-RTX parses and builds what is exported for TensorRT. It needs no GPU to do so, only to run the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bcseg_calibration.half import to_half
from bcseg_calibration.prepare import fold, layer_names
from bcseg_calibration.quantize import TARGETS, Target, quantize, quantized_layers, symmetric_ranges
from bcseg_calibration.ranges import measure_ranges
from bcseg_export.onnx_graph import build_graph, round_weights
from bcseg_train.models import SegmentationNet, find_spec
from tests.fixtures.checkpoints import WINDOW_HW, random_network
from tests.fixtures.speckle import speckle

trt: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install tensorrt-rtx")
pytestmark = pytest.mark.rtx


@pytest.fixture(scope="module")
def graphs() -> dict[str, onnx.ModelProto]:
    network = random_network()
    round_weights(network)
    exported = build_graph(network, WINDOW_HW)
    folded = fold(exported)
    patches = np.stack([speckle(WINDOW_HW, seed) for seed in range(4)])[:, None]
    ranges = measure_ranges(folded, patches, "minmax", symmetric=True)
    int8 = quantize(folded, ranges, "tensorrt")
    return {"fp32": exported, "fp16": to_half(folded), "int8": int8, "int8 and fp16": to_half(int8)}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8 and fp16"])
def test_it_parses_and_builds(graphs: dict[str, onnx.ModelProto], precision: str, tmp_path: Path) -> None:
    path = tmp_path / f"{precision}.onnx"
    onnx.save(graphs[precision], path)
    assert build(path) > 0


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "plain"])
def test_a_resnext_builds_with_and_without_its_grouped_convolutions_in_8_bits(
    resnext: onnx.ModelProto, resnext_ranges: dict[Target, Any], grouped: bool, tmp_path: Path
) -> None:
    every, chosen = layer_names(resnext), layer_names(resnext, grouped=grouped)
    assert len(every) - len(layer_names(resnext, grouped=False)) == 16  # one a block of ResNeXt-50
    for target in TARGETS:
        model = quantize(resnext, resnext_ranges[target], target, set(every) - set(chosen))
        assert set(quantized_layers(model)) == set(chosen)
        if target == "tensorrt":
            path = tmp_path / "resnext50.onnx"
            onnx.save(to_half(model), path)
            assert build(path) > 0


@pytest.fixture(scope="module")
def resnext() -> onnx.ModelProto:
    torch.manual_seed(0)
    network = SegmentationNet(find_spec("resnext50")).eval()
    round_weights(network)
    return fold(build_graph(network, WINDOW_HW))


@pytest.fixture(scope="module")
def resnext_ranges(resnext: onnx.ModelProto) -> dict[Target, Any]:
    patches = np.stack([speckle(WINDOW_HW, seed) for seed in range(2)])[:, None]
    return {
        target: measure_ranges(resnext, patches, "minmax", symmetric=symmetric_ranges(target)) for target in TARGETS
    }


def build(path: Path) -> int:
    """Build a strongly typed engine for one GPU generation; returns its size in bytes."""
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    parsed = parser.parse_from_file(str(path))
    assert parsed, [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("patches", *((batch, 1, *WINDOW_HW) for batch in (1, 1, 4)))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1  # the default is the GPU of this machine, and there may be none
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return int(plan.nbytes)
