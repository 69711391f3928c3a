"""Keras's VGG16 in an ONNX file becomes an encoder with the same features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from bcseg_edge.errors import DataError
from bcseg_train.encoder_weights import load_encoder_weights
from bcseg_train.keras_vgg16 import MEAN_RGB, read_keras_vgg16
from bcseg_train.models import SegmentationNet, find_spec

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SIDE = 64  # px


def write_vgg16(path: Path, blocks: tuple[tuple[int, ...], ...] = WIDTHS) -> None:
    """A VGG16 as tf2onnx writes it, random weights: pixels `[1, h, w, 3]` (blue, green, red, less the mean) in."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Transpose", ["input"], ["t0"], perm=[0, 3, 1, 2])]
    weights, inputs, last = [], 3, "t0"
    for block, widths in enumerate(blocks):
        for index, width in enumerate(widths):
            name = f"block{block + 1}_conv{index + 1}"
            scale = (2 / (9 * inputs)) ** 0.5  # He et al. 2015: as large behind as in front
            kernel = (rng.standard_normal((width, inputs, 3, 3)) * scale).astype(np.float32)
            bias = rng.standard_normal(width).astype(np.float32)
            weights += [numpy_helper.from_array(kernel, f"{name}.w"), numpy_helper.from_array(bias, f"{name}.b")]
            nodes.append(helper.make_node("Conv", [last, f"{name}.w", f"{name}.b"], [name], pads=[1, 1, 1, 1]))
            last, inputs = f"{name}.relu", width
            nodes.append(helper.make_node("Relu", [name], [last]))
        nodes.append(helper.make_node("MaxPool", [last], [f"pool{block}"], kernel_shape=[2, 2], strides=[2, 2]))
        last = f"pool{block}"
    shape = (1, SIDE, SIDE, 3)
    graph = helper.make_graph(
        nodes,
        "vgg16",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_the_encoder_has_the_features_of_the_file(tmp_path: Path) -> None:
    source, converted = tmp_path / "keras.onnx", tmp_path / "vgg16.safetensors"
    write_vgg16(source)
    save_file(read_keras_vgg16(source), converted)
    model = SegmentationNet(find_spec("unet")).eval()
    load_encoder_weights(model, str(converted))

    grey = np.random.default_rng(1).integers(0, 256, (1, 1, SIDE, SIDE), np.uint8)
    with torch.inference_mode():
        features = model.unet.encoder(model.normalize(torch.from_numpy(grey)))[-1].numpy()
    mean_bgr = np.array(MEAN_RGB[::-1], np.float32)
    blue_first = np.moveaxis(np.repeat(grey, 3, 1), 1, -1) - mean_bgr
    expected = onnxruntime.InferenceSession(source).run(None, {"input": blue_first})[0]
    assert expected.std() > 1
    np.testing.assert_allclose(features, expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("blocks", [WIDTHS[:4], ((64, 32), *WIDTHS[1:])], ids=["too short", "other widths"])
def test_another_network_is_refused(tmp_path: Path, blocks: tuple[tuple[int, ...], ...]) -> None:
    write_vgg16(tmp_path / "other.onnx", blocks)
    with pytest.raises(DataError, match="VGG16's"):
        read_keras_vgg16(tmp_path / "other.onnx")


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a readable ONNX file"):
        read_keras_vgg16(tmp_path / "no.onnx")
