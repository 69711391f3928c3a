"""Pre-trained encoder weights: ImageNet's through segmentation-models-pytorch, or a file."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from bcseg_edge.errors import DataError
from bcseg_train.models import SegmentationNet

WEIGHTS_FILE = "model.safetensors"
HUB_TIMEOUT_S = 10.0
OFFLINE_HINT = "go online once, or use --encoder-weights none, or a FILE (.safetensors, .pth, .ckpt, .onnx, .tflite)"


def load_encoder_weights(model: SegmentationNet, source: str, statistics_patches: Tensor | None = None) -> None:
    """Fill `model`'s encoder from `source`.

    Args:
        model: changed in place; a `.tflite` also sets its normalisation.
        source: `none`, `imagenet` (downloads), or a file: `.safetensors`, `.pth`, `.pt`, `.ckpt` with a state dict
            of the encoder or of a whole model, `.onnx` of ours, or `.tflite` (MobileNetV2 with folded batch norms).
        statistics_patches: uint8 `[N, 1, h, w]`; real patches to re-estimate batch-norm statistics on (`.tflite`).

    Raises:
        DataError: the download fails, the file is missing, unreadable or of another network.
    """
    if source == "none":
        return
    if source == "imagenet":
        _download_imagenet(model)
        return
    path = Path(source)
    if not path.is_file():
        raise DataError(f"no encoder weights at {path}", "--encoder-weights takes imagenet, none or a file")
    if path.suffix == ".tflite":
        if statistics_patches is None:
            raise DataError(f"{path.name} needs patches to estimate batch-norm statistics on", "give --data")
        _load_tflite(model, path, statistics_patches)
    else:
        _load_state_dict(model, path)


def load_pretrained(model: SegmentationNet, path: Path) -> None:
    """Fill encoder, decoder and normalisation from a checkpoint of `bcseg-edge pretrain`.

    From one of `bcseg-edge train`, or a model file, the heads too, to go on with other images or in a larger window.
    The temperature of its confidence stays behind: it belongs to the weights as they were.

    Raises:
        DataError: the file is unreadable or of another network.
    """
    state = {name.removeprefix("model."): value for name, value in read_state_dict(path).items()}
    own = model.state_dict()
    wanted = [name for name in own if name.startswith(("mean", "std", "unet.encoder.", "unet.decoder.", "input_norm."))]
    bad = [name for name in wanted if not _fits(name, own[name], state)]
    if bad:
        raise DataError(
            f"{path.name} does not fit {model.spec.name}: {len(bad)} of {len(wanted)} tensors are missing or of "
            f"another shape, e.g. {bad[0]}",
            f"make it with: bcseg-edge pretrain --model {model.spec.name}",
        )
    known = [name for name in own if name in state and state[name].shape == own[name].shape]
    same_task = all(name in known for name in own if name.startswith("class_head."))
    taken = [name for name in known if name != "temperature" and (same_task or name in wanted)]
    model.load_state_dict({name: state[name] for name in taken}, strict=False)


def _fits(name: str, own: Tensor, state: dict[str, Tensor]) -> bool:
    """Whether `state` has that tensor; a model file leaves out the counters, which only training updates."""
    return name.endswith("num_batches_tracked") or (name in state and state[name].shape == own.shape)


def _download_imagenet(model: SegmentationNet) -> None:
    name = model.spec.encoder
    try:
        _reach_hub(**smp.encoders.encoders[name]["pretrained_settings"]["imagenet"])
        pretrained = smp.encoders.get_encoder(name, weights="imagenet")
    except Exception as error:  # the HTTP libraries below huggingface_hub change, and their errors with them
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"ImageNet weights for {name} cannot be downloaded: {reason}", OFFLINE_HINT) from error
    model.unet.encoder.load_state_dict(pretrained.state_dict())


def _reach_hub(repo_id: str, revision: str) -> None:
    """Ask the hub once for weights that are not in the cache; the download itself tries again for half a minute."""
    if not isinstance(huggingface_hub.try_to_load_from_cache(repo_id, WEIGHTS_FILE, revision=revision), str):
        url = huggingface_hub.hf_hub_url(repo_id, WEIGHTS_FILE, revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)


def _load_state_dict(model: SegmentationNet, path: Path) -> None:
    state = read_state_dict(path)
    encoder = model.unet.encoder
    wanted = encoder.state_dict()
    found = next(
        (
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            for prefix in ("model.unet.encoder.", "unet.encoder.", "encoder.", "")
            if any(key.startswith(prefix) for key in state)
        ),
        {},
    )
    bad = [name for name, own in wanted.items() if not _fits(name, own, found)]
    if bad:
        raise DataError(
            f"{path.name} does not fit encoder {model.spec.encoder}: {len(bad)} of {len(wanted)} tensors are missing "
            f"or of another shape, e.g. {bad[0]}",
            f"use weights of smp's {model.spec.encoder}, or --encoder-weights none",
        )
    encoder.load_state_dict({key: found.get(key, own) for key, own in wanted.items()})
    for prefix in ("model.", ""):
        if f"{prefix}mean" in state:
            model.mean.copy_(state[f"{prefix}mean"])
            model.std.copy_(state[f"{prefix}std"])


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pth`, `.pt` or Lightning `.ckpt` file, or of one of our `.onnx`.

    Never runs pickled code.

    Raises:
        DataError: the file is not of these formats.
        ModelError: a `.onnx` that is unreadable, or not ours.
    """
    if path.suffix == ".onnx":
        from bcseg_train.shipped import read_onnx_state_dict  # onnx is slow to import

        return read_onnx_state_dict(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types; all mean the same here, and it advises unsafe things
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise DataError(
            f"{path.name} cannot be read as weights: {reason}", "give a .safetensors, .pth, .ckpt or model.onnx file"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _load_tflite(model: SegmentationNet, path: Path, patches: Tensor) -> None:
    if model.spec.encoder != "mobilenet_v2":
        raise DataError(
            f"{path.name}: .tflite weights fit mobilenet_v2 only, this is {model.spec.encoder}", OFFLINE_HINT
        )
    features: nn.Module = model.unet.encoder.features
    convolutions = [module for module in features.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in features.modules() if isinstance(module, nn.BatchNorm2d)]
    folded = read_tflite_convolutions(path)
    if len(folded) < len(convolutions) or len(convolutions) != len(norms):
        raise DataError(f"{path.name} has {len(folded)} convolutions, expected {len(convolutions)}", OFFLINE_HINT)
    for convolution, norm, (weight, bias) in zip(convolutions, norms, folded, strict=False):
        if weight.shape != convolution.weight.shape:
            raise DataError(
                f"{path.name}: a convolution is {tuple(weight.shape)}, expected {tuple(convolution.weight.shape)}",
                OFFLINE_HINT,
            )
        convolution.weight.data.copy_(weight)
        norm.reset_running_stats()
        norm.weight.data.fill_((1 + norm.eps) ** 0.5)
        norm.bias.data.copy_(bias)
    model.set_normalization((0.5,) * 3, (0.5,) * 3)
    _unfold_batchnorms(model, convolutions, norms, patches)


def _unfold_batchnorms(
    model: SegmentationNet, convolutions: list[nn.Conv2d], norms: list[nn.BatchNorm2d], patches: Tensor
) -> None:
    """Give folded batch norms the statistics of `patches` while the function stays the same.

    A folded norm is y = x + b. With the mean m and variance v of x over the patches, y = g (x - m) / sqrt(v + eps) + c
    is the same for g = sqrt(v + eps), c = b + m, and now behaves in training mode too.
    """
    moments: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        moments[module] = (output.mean((0, 2, 3)), output.var((0, 2, 3)))

    hooks = [convolution.register_forward_hook(record) for convolution in convolutions]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model.unet.encoder(model.normalize(patches))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    for convolution, norm in zip(convolutions, norms, strict=True):
        mean, variance = moments[convolution]
        norm.running_mean, norm.running_var = mean.clone(), variance.clone()
        norm.weight.data.copy_((variance + norm.eps).sqrt())
        norm.bias.data.add_(mean)


def read_tflite_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Dequantized weights `[out, in/groups, kh, kw]` and biases `[out]` of a uint8 `.tflite`, in graph order.

    Raises:
        DataError: the file is not a TFLite model, or the `tflite` package is missing.
    """
    try:
        import tflite
    except ImportError as error:
        raise DataError(
            "reading .tflite weights needs the package tflite", 'pip install "bcseg-edge[train]"'
        ) from error
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise DataError(f"{path.name} is not a TFLite model", OFFLINE_HINT)
    tflite_model = tflite.Model.GetRootAsModel(data, 0)
    graph = tflite_model.Subgraphs(0)
    kinds = {
        tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),
        tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    }

    def dequantize(index: int, dtype: type) -> npt.NDArray[np.float32]:
        tensor = graph.Tensors(index)
        raw = tflite_model.Buffers(tensor.Buffer()).DataAsNumpy().view(dtype).reshape(tensor.ShapeAsNumpy())
        quantization = tensor.Quantization()
        levels = raw.astype(np.float32) - quantization.ZeroPointAsNumpy()
        return np.asarray(levels * quantization.ScaleAsNumpy(), np.float32)

    convolutions = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        order = kinds.get(tflite_model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode())
        if order is not None:
            weight = dequantize(operator.Inputs(1), np.uint8).transpose(order)
            bias = dequantize(operator.Inputs(2), np.int32)
            convolutions.append((torch.from_numpy(np.ascontiguousarray(weight)), torch.from_numpy(bias)))
    return convolutions
