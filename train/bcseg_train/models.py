"""The networks: the paper's three U-Nets, trainable parameter for parameter, and `edge`, the small one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from bcseg_edge.errors import DataError
from bcseg_edge.frames import CLASSES
from bcseg_edge.passport import Tiling, file_sha256, read_passport

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What builds a network: its name and smp's arguments.

    Attributes:
        name: name on the command line.
        encoder: segmentation-models-pytorch's encoder name.
        decoder_channels: of the five decoder blocks, deepest first.
        input_batchnorm: normalise the input with a BatchNorm2d(3) whose scale is frozen at one, as Keras's
            ResNeXt does ("bn_data"): 3 trainable biases, and equal parameter counts.
        lesion_class_head: the decoder says where a lesion is, a head on the deepest features says which class.
    """

    name: str
    encoder: str
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    input_batchnorm: bool = False
    lesion_class_head: bool = False


SPECS = {
    spec.name: spec
    for spec in (
        ModelSpec("unet", "vgg16"),
        ModelSpec("resnext50", "resnext50_32x4d", input_batchnorm=True),
        ModelSpec("resnext101", "resnext101_32x4d", input_batchnorm=True),
        ModelSpec("edge", "mobilenet_v2", decoder_channels=(128, 64, 32, 24, 16), lesion_class_head=True),
    )
}


def find_spec(name: str) -> ModelSpec:
    """The spec of a model name; `DataError` where there is none."""
    if name not in SPECS:
        raise DataError(f"no model '{name}'", f"models: {', '.join(SPECS)}")
    return SPECS[name]


class LesionClassHead(nn.Module):
    """Malignant against benign from the encoder's deepest features: coarse, so that a lesion's pixels agree.

    A local term for each cell plus a term for the whole window. No pixel of the decoder has a say: with one class
    output per pixel the rims of benign lesions were called malignant (`EXPERIMENTS.md`).
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.local = _two_layers(channels, hidden)
        self.context = _two_layers(channels, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """Features `[N, C, h, w]` -> evidence `[N, 1, h, w]`: above zero malignant, below benign."""
        return cast(Tensor, self.local(features) + self.context(features.mean((2, 3), keepdim=True)))


def _two_layers(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(hidden, 1, 1))


class SegmentationNet(nn.Module):
    """A U-Net from uint8 patches to logits; all that the runtime must not get wrong lives in here.

    Buffers `mean` and `std` (grey levels 0 to 1, per channel) normalise the input, `temperature` divides the logits
    (Guo et al. 2017); both travel with the weights into ONNX.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(self, spec: ModelSpec, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.register_buffer("temperature", torch.ones(()))
        self.input_norm = nn.BatchNorm2d(3) if spec.input_batchnorm else nn.Identity()
        if spec.input_batchnorm:
            cast(nn.BatchNorm2d, self.input_norm).weight.requires_grad_(False)
        self.unet = smp.Unet(
            spec.encoder,
            encoder_weights=None,
            decoder_channels=spec.decoder_channels,
            classes=1 if spec.lesion_class_head else classes,
        )
        self.class_head = LesionClassHead(self.unet.encoder.out_channels[-1]) if spec.lesion_class_head else None

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Set what the encoder's weights were trained with (grey levels 0 to 1)."""
        self.mean.copy_(torch.tensor(mean).view_as(self.mean))
        self.std.copy_(torch.tensor(std).view_as(self.std))

    def normalize(self, patches: Tensor) -> Tensor:
        """Patches `[N, 1, h, w]` (uint8, or float of the same range) -> network input float32 `[N, 3, h, w]`."""
        grey = patches.float() / 255
        return cast(Tensor, self.input_norm((grey.expand(-1, 3, -1, -1) - self.mean) / self.std))

    def forward(self, patches: Tensor) -> Tensor:
        """Patches `[N, 1, h, w]`, uint8 or float 0..255 -> logits float `[N, 3, h, w]`.

        With a class head the background's logit is minus the decoder's evidence for a lesion, and the class evidence c
        stands as -c for benign and +c for malignant: every backend reads them like any other logits.
        """
        features = self.unet.encoder(self.normalize(patches))
        masks: Tensor = self.unet.segmentation_head(self.unet.decoder(features))
        if self.class_head is not None:
            deepest = features[-1]
            stride = masks.shape[-1] // deepest.shape[-1]
            malignant = functional.interpolate(self.class_head(deepest), scale_factor=stride, mode="bilinear")
            masks = torch.cat((-masks, -malignant, malignant), 1)
        return masks / self.temperature


def trainable_parameters(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    Attributes:
        spec: of the network.
        window_hw: the patches it was trained on, px.
        tiling: the one it was trained for.
        sha256: hex digest of the checkpoint file.
    """

    spec: ModelSpec
    window_hw: tuple[int, int]
    tiling: Tiling
    sha256: str


def load_checkpoint(path: Path) -> tuple[SegmentationNet, CheckpointInfo]:
    """Rebuild a network in float32 evaluation mode from a Lightning `.ckpt` or from a shipped `.onnx`.

    With weight averaging the averaged weights are taken: Lightning stores them as the checkpoint's state dict.

    Raises:
        DataError: the file is missing or is not one of ours.
        ModelError: a `.onnx` without a valid passport.
    """
    if path.suffix == ".onnx":
        return _load_shipped(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        hyper = content["hyper_parameters"]
        spec = ModelSpec(**{**hyper["spec"], "decoder_channels": tuple(hyper["spec"]["decoder_channels"])})
        recipe = hyper["recipe"]
        prefix = "model."
        weights = content["state_dict"].items()
        state = {key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)}
        height, width = recipe["window_hw"]
        info = CheckpointInfo(spec, (height, width), recipe["tiling"], file_sha256(path))
        model = SegmentationNet(spec)
        model.load_state_dict(state)
    except FileNotFoundError as error:
        raise DataError(f"no checkpoint at {path}", "train one with: bcseg-edge train --data DIR") from error
    except Exception as error:  # torch.load and load_state_dict raise many types; all mean the same here
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{path} is not a checkpoint of bcseg-edge train: {reason}", "give best.ckpt of a run"
        ) from error
    return model.eval(), info


def _load_shipped(path: Path) -> tuple[SegmentationNet, CheckpointInfo]:
    from bcseg_train.shipped import read_onnx_state_dict  # onnx is slow to import

    passport = read_passport(path)
    spec = find_spec(passport.architecture.name)
    model = SegmentationNet(spec)
    missing, unknown = model.load_state_dict(read_onnx_state_dict(path), strict=False)
    lost = [key for key in missing if not key.endswith("num_batches_tracked")]  # of no use after training
    if lost or unknown:
        raise DataError(
            f"{path.name} does not hold the weights of {spec.name}: {len(lost)} missing, {len(unknown)} unknown, "
            f"e.g. {(lost + unknown)[0]}",
            "export it again with: bcseg-edge export CHECKPOINT --output FILE.onnx",
        )
    info = CheckpointInfo(spec, passport.window_hw, passport.tiling, passport.sha256)
    return model.eval(), info
