"""Encoder weights: files are checked before they are trusted, and folded batch norms keep their function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bcseg_edge.errors import DataError
from bcseg_edge.models import find_model
from bcseg_train import encoder_weights
from bcseg_train.encoder_weights import load_encoder_weights, load_pretrained
from bcseg_train.models import SPECS, SegmentationNet, load_checkpoint


def edge(seed: int = 0) -> SegmentationNet:
    torch.manual_seed(seed)
    return SegmentationNet(SPECS["edge"])


def features(model: SegmentationNet, patches: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        return model.unet.encoder(model.normalize(patches))


@pytest.mark.parametrize(
    ("suffix", "prefix"), [(".safetensors", ""), (".pth", "encoder."), (".ckpt", "model.unet.encoder.")]
)
def test_a_state_dict_of_the_encoder_or_of_a_whole_model(tmp_path: Path, suffix: str, prefix: str) -> None:
    source, target = edge(0), edge(1)
    state = {f"{prefix}{key}": value for key, value in source.unet.encoder.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if suffix == ".ckpt" else state, path)
    load_encoder_weights(target, str(path))
    for key, value in target.unet.encoder.state_dict().items():
        assert torch.equal(value, source.unet.encoder.state_dict()[key])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"encoder.conv.weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match="does not fit encoder mobilenet_v2"):
        load_encoder_weights(edge(), str(path))
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read as weights") as caught:
        load_encoder_weights(edge(), str(path))
    assert "weights_only" not in caught.value.message  # what torch advises would run code of the file's
    with pytest.raises(DataError, match="no encoder weights at"):
        load_encoder_weights(edge(), str(tmp_path / "nowhere.pth"))
    fake = tmp_path / "fake.tflite"
    fake.write_bytes(b"not a tflite model")
    with pytest.raises(DataError, match="not a TFLite model"):
        load_encoder_weights(edge(), str(fake), torch.zeros(1, 1, 64, 64, dtype=torch.uint8))


def test_the_weights_of_a_model_file_can_be_trained_on() -> None:
    path = find_model("edge", precision="fp32")
    shipped, _ = load_checkpoint(path)
    patches = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole, encoder = edge(), edge()
    load_pretrained(whole, path)
    with torch.inference_mode():
        torch.testing.assert_close(whole.eval()(patches), shipped(patches) * shipped.temperature)
    load_encoder_weights(encoder, str(path))
    for own, theirs in zip(features(encoder.eval(), patches), features(shipped, patches), strict=True):
        torch.testing.assert_close(own, theirs)


def test_imagenet_offline_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("We couldn't connect to the hub\nand more lines")

    def download(*_: object, **__: object) -> None:
        pytest.fail("the download tries again for half a minute; it must not begin offline")

    monkeypatch.setattr(encoder_weights.huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(encoder_weights.huggingface_hub, "get_hf_file_metadata", offline)
    monkeypatch.setattr(encoder_weights.smp.encoders, "get_encoder", download)
    with pytest.raises(DataError) as caught:
        load_encoder_weights(edge(), "imagenet")
    assert "cannot be downloaded" in caught.value.message
    assert "\n" not in caught.value.message
    assert "--encoder-weights none" in caught.value.hint


@pytest.mark.data
def test_tflite_imagenet_weights_keep_their_function_and_can_be_trained(data_dir: Path) -> None:
    path = data_dir / "weights" / "mobilenet_v2_1.0_224_quant.tflite"
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (4, 1, 14, 14)).astype(np.float32))
    patches = torch.nn.functional.interpolate(coarse, (224, 224), mode="bicubic").clamp(0, 255).to(torch.uint8)
    model = edge()
    load_encoder_weights(model, str(path), patches)
    folded = encoder_weights.read_tflite_convolutions(path)

    model.eval()
    activations = model.normalize(patches)
    with torch.inference_mode():
        first = torch.nn.functional.conv2d(activations, folded[0][0], folded[0][1], stride=2, padding=1).clamp(0, 6)
        torch.testing.assert_close(model.unet.encoder.features[0](activations), first, atol=1e-4, rtol=1e-4)
        evaluated = features(model, patches)
        model.train()  # batch statistics instead of running ones: the same patches, so the same function
        trained = features(model, patches)
    for one, other in zip(evaluated, trained, strict=True):
        # Not equal: running variances divide by n - 1, batch ones by n, and deep maps are small.
        assert float((one - other).norm() / one.norm()) < 0.02


@pytest.mark.data
@pytest.mark.slow
def test_tflite_activations_agree_with_the_tflite_interpreter(busi_dir: Path, data_dir: Path) -> None:
    """With TensorFlow's padding in place of PyTorch's, the last features are the interpreter's but for its 8 bits."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    import cv2

    from bcseg_train.busi import read_busi

    path = data_dir / "weights" / "mobilenet_v2_1.0_224_quant.tflite"
    images = [sample.load()[0] for sample in read_busi(busi_dir)[::40]]
    patches = np.stack([cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA) for image in images])[:, None]
    model = edge()
    load_encoder_weights(model, str(path), torch.from_numpy(patches))
    model.eval()
    for module in model.unet.encoder.features.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, inputs: (torch.nn.functional.pad(inputs[0], (0, 1, 0, 1)),))
    with torch.inference_mode():
        ours = model.unet.encoder.features(model.normalize(torch.from_numpy(patches))).numpy()  # [N, 1280, 7, 7]

    interpreter = litert.Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    details = [d for d in interpreter.get_tensor_details() if tuple(d["shape"]) == (1, 7, 7, 1280)]
    scale, zero = details[-1]["quantization"]
    for patch, features_of_patch in zip(patches, ours, strict=True):
        rgb = np.repeat(patch[0][None, ..., None], 3, -1)  # [1, 224, 224, 3]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rgb)
        interpreter.invoke()
        theirs = (interpreter.get_tensor(details[-1]["index"]).astype(np.float32) - zero) * scale
        correlation = np.corrcoef(theirs[0].transpose(2, 0, 1).ravel(), features_of_patch.ravel())[0, 1]
        assert correlation > 0.95
