"""Keras's VGG16, as tf2onnx writes it, as encoder weights for `unet`: the ones that the paper started from.

    python -m bcseg_train.keras_vgg16 MODEL.onnx vgg16.safetensors
    bcseg-edge train --model unet --encoder-weights vgg16.safetensors ...

Keras's weights are those of Simonyan and Zisserman 2015 (CC BY 4.0): channels blue, green, red, in grey levels of
0 to 255 less ImageNet's mean. torchvision's VGG16 was trained anew, on other inputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bcseg_edge.errors import DataError
from bcseg_train.models import SegmentationNet, find_spec

MEAN_RGB = (123.68, 116.779, 103.939)  # grey levels, `keras.applications.imagenet_utils`, mode "caffe"
HINT = "give a model with Keras's VGG16 in it, exported by tf2onnx"


def read_keras_vgg16(path: Path) -> dict[str, Tensor]:
    """The 13 convolutions of a Keras VGG16 in an ONNX file, whatever head is on it.

    Args:
        path: file with convolutions whose weights float32 `[out, in, 3, 3]` and biases `[out]` are initialisers.

    Returns:
        State dict for `--encoder-weights`: `model.unet.encoder.*` for channels red, green, blue, and `model.mean` and
        `model.std` in grey levels of 0 to 1.

    Raises:
        DataError: the file is unreadable, or its first convolutions are not VGG16's.
    """
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's DecodeError has no public home that all its versions share
        raise DataError(f"{path} is not a readable ONNX file: {type(error).__name__}", HINT) from error
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = [
        [torch.from_numpy(np.array(numpy_helper.to_array(stored[name]))) for name in node.input[1:3]]
        for node in graph.node
        if node.op_type == "Conv" and len(node.input) == 3 and {*node.input[1:3]} <= stored.keys()
    ]
    encoder = SegmentationNet(find_spec("unet")).unet.encoder
    wanted = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d)]
    mean = torch.tensor(MEAN_RGB).view(1, 3, 1, 1)
    state = {"model.mean": mean / 255, "model.std": torch.full_like(mean, 1 / 255)}
    for index, (name, module) in enumerate(wanted):
        expected = list(module.weight.shape)
        if index >= len(found) or list(found[index][0].shape) != expected:
            shape = list(found[index][0].shape) if index < len(found) else "not there"
            raise DataError(f"{path.name}: convolution {index + 1} is {shape}, VGG16's is {expected}", HINT)
        weight, bias = found[index]
        state[f"model.unet.encoder.{name}.weight"] = (weight.flip(1) if index == 0 else weight).contiguous()
        state[f"model.unet.encoder.{name}.bias"] = bias
    return state


def main() -> None:
    """Convert the file named first into the one named second."""
    from safetensors.torch import save_file

    if len(sys.argv) != 3:
        sys.exit("usage: python -m bcseg_train.keras_vgg16 MODEL.onnx OUTPUT.safetensors")
    try:
        save_file(read_keras_vgg16(Path(sys.argv[1])), sys.argv[2])
    except DataError as error:
        sys.exit(f"{error}\n{error.hint}")


if __name__ == "__main__":
    main()
