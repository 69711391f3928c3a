"""The exported graph: its contract, its weights under their names, and nothing that computes sizes at run time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bcseg_edge.errors import BcsegError, ModelError
from bcseg_export.onnx_graph import build_graph, check_graph, half_names, round_weights, trained_names
from bcseg_train.models import SPECS, SegmentationNet
from bcseg_train.shipped import read_onnx_state_dict
from tests.fixtures.checkpoints import WINDOW_HW, random_network


@pytest.fixture(scope="module")
def network() -> SegmentationNet:
    network = random_network()
    round_weights(network)
    return network


@pytest.fixture(scope="module")
def graph(network: SegmentationNet) -> onnx.ModelProto:
    return build_graph(network, WINDOW_HW)


@pytest.fixture(scope="module")
def path(graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "edge.onnx"
    onnx.save(graph, path)
    return path


def test_input_and_output_are_the_contract(graph: onnx.ModelProto) -> None:
    (patches,), (logits,) = graph.graph.input, graph.graph.output
    assert signature(patches) == ("patches", TensorProto.UINT8, ["N", 1, *WINDOW_HW])
    assert signature(logits) == ("logits", TensorProto.FLOAT, ["N", 3, *WINDOW_HW])


def test_no_size_is_computed_at_run_time(graph: onnx.ModelProto) -> None:
    counts = Counter(node.op_type for node in graph.graph.node)
    assert not counts.keys() & {"Shape", "Gather", "ConstantOfShape", "Slice", "Unsqueeze", "Reshape", "Constant"}
    assert counts["Resize"] == 6  # five of the decoder, one of the class evidence
    initializers = {tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Resize":
            assert len(node.input) == 3
            assert node.input[2] in initializers


def test_scales_double_height_and_width_or_bring_the_class_evidence_to_the_patch(graph: onnx.ModelProto) -> None:
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    scales = {tuple(values[node.input[2]].tolist()) for node in graph.graph.node if node.op_type == "Resize"}
    assert scales == {(1.0, 1.0, 2.0, 2.0), (1.0, 1.0, 32.0, 32.0)}


def test_batch_norms_stay_nodes(graph: onnx.ModelProto, network: SegmentationNet) -> None:
    expected = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert sum(node.op_type == "BatchNormalization" for node in graph.graph.node) == expected > 0


def test_kernels_are_stored_as_float16_and_the_rest_as_float32(
    graph: onnx.ModelProto, network: SegmentationNet
) -> None:
    types = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    halves = set(half_names(network))
    assert halves == {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    others = trained_names(network) - halves
    assert others
    assert {types[name] for name in others} == {TensorProto.FLOAT}


def test_weights_come_back_bit_for_bit(path: Path, network: SegmentationNet) -> None:
    state = read_onnx_state_dict(path)
    expected = {name: value for name, value in network.state_dict().items() if name in trained_names(network)}
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], value), name


def test_rounding_changes_little_and_is_done_once() -> None:
    network = random_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    round_weights(network)
    once = {name: value.clone() for name, value in network.state_dict().items()}
    round_weights(network)
    halves = set(half_names(network))
    for name, value in network.state_dict().items():
        assert torch.equal(value, once[name])
        if name in halves:
            torch.testing.assert_close(value, before[name], rtol=2**-11, atol=2**-24)
        else:
            assert torch.equal(value, before[name])
    assert any(not torch.equal(once[name], before[name]) for name in halves)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 7e4])
def test_weights_that_float16_cannot_hold_are_refused(value: float) -> None:
    network = random_network()
    with torch.no_grad():
        network.unet.segmentation_head[0].weight[0, 0, 0, 0] = value
    with pytest.raises(BcsegError, match=r"segmentation_head\.0\.weight"):
        round_weights(network)


def test_the_file_tells_nothing_of_the_machine_and_is_reproducible(
    graph: onnx.ModelProto, network: SegmentationNet
) -> None:
    content = graph.SerializeToString()
    assert str(Path.home()).encode() not in content
    assert b".py" not in content
    assert build_graph(network, WINDOW_HW).SerializeToString() == content


def test_onnx_runtime_folds_casts_and_batch_norms(path: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(path), options)
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert counts["BatchNormalization"] == 0
    assert counts["Cast"] == 1  # of the uint8 input


def test_openvino_folds_casts_and_batch_norms(path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({"patches": [1, 1, *WINDOW_HW]})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    counts = Counter(node.get_rt_info()["layerType"].value for node in compiled.get_runtime_model().get_ops())
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
    assert counts["Convolution"] == convolutions
    assert not counts.keys() & {"Convert", "BatchNormInference"}
    assert counts["Eltwise"] <= 1  # the class head's sum of a cell's evidence and the window's


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_every_architecture_exports(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = SegmentationNet(SPECS[name]).eval()
    round_weights(network)
    onnx.save(build_graph(network, (64, 64)), tmp_path / "model.onnx")
    patches = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).numpy()
    (received,) = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).run(None, {"patches": patches})
    np.testing.assert_allclose(received, expected, atol=1e-3)


class _Sized(nn.Module):
    """Upsamples to a size that depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)

    def forward(self, patches: Tensor) -> Tensor:
        logits = self.conv(patches.float())
        return logits * patches.shape[0]


def test_a_network_that_computes_sizes_is_refused() -> None:
    with pytest.raises(BcsegError, match="sizes at run time"):
        build_graph(_Sized(), WINDOW_HW)


def test_lost_weights_are_named(graph: onnx.ModelProto) -> None:
    with pytest.raises(BcsegError, match="lost 1 weights by name, first another"):
        check_graph(graph, {"another.weight", "mean"})


@pytest.mark.parametrize("content", [b"", b"not onnx"])
def test_weights_of_a_damaged_file_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.onnx"):
        read_onnx_state_dict(path)


def test_weights_of_another_graph_are_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [value], [other])
    onnx.save(helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="no weights under state-dict names"):
        read_onnx_state_dict(tmp_path / "other.onnx")


def signature(value: onnx.ValueInfoProto) -> tuple[str, int, list[int | str]]:
    """Name, type and shape."""
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
