"""One way to predict, whatever the model is: frame in, segmentation out, through the runtime's own frame path."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch

from bcseg_edge.crop import without_margins
from bcseg_edge.errors import DataError
from bcseg_edge.frames import CLASSES, Float32Array, Segmentation, UInt8Array
from bcseg_edge.models import LoadedModel, find_model, load_model
from bcseg_edge.passport import Architecture, Passport, Precision, Tiling
from bcseg_edge.segmenter import Segmenter
from bcseg_train.models import CheckpointInfo, SegmentationNet, load_checkpoint, trainable_parameters

if TYPE_CHECKING:
    from typing_extensions import Self

CHECKPOINT_SUFFIX = ".ckpt"
TORCH = "torch"


class TorchBackend:
    """Executes patches with PyTorch in float32: the reference that every other backend is compared with.

    Args:
        network: put into eval mode and moved to the GPU where there is one.
    """

    name = TORCH

    def __init__(self, network: SegmentationNet) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Channels-last: 150 instead of 704 ms per patch for the ResNeXt-50 U-Net on two Zen 4 cores.
        self._network = network.eval().float().to(self._device).to(memory_format=torch.channels_last)

    def infer(self, patches: UInt8Array) -> Float32Array:
        """uint8 `[N, 1, h, w]` -> logits float32 `[N, 3, h, w]`, a fresh array."""
        # TensorFloat-32 has 10 bits of mantissa: no reference for a gate of 1e-3.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            logits = self._network(torch.from_numpy(np.ascontiguousarray(patches)).to(self._device))
        result: Float32Array = logits.contiguous().cpu().numpy()
        return result

    def close(self) -> None:
        """Nothing is held that the network does not own."""


class Predictor:
    """A loaded model behind a `Segmenter`, with what a report says about it.

    Where a whole frame becomes one window (tiling `frame`), black margins are left out first, as `run` does for images.

    Args:
        model: owned from now on.
        tiling: None takes the one the model was trained for.

    Attributes:
        passport: of the model file; of a checkpoint, what its file would say.
        backend_name: what executes patches.
        tiling: the one in use.
    """

    def __init__(self, model: LoadedModel, tiling: Tiling | None = None) -> None:
        self.passport = model.passport
        self.backend_name = model.backend_name
        self._segmenter = Segmenter(model, tiling)
        self.tiling = self._segmenter.tiling
        self._segment = without_margins(self._segmenter) if self.tiling == "frame" else self._segmenter

    def __call__(self, frame: UInt8Array) -> Segmentation:
        """Segment a frame, uint8 `[H, W]` or `[H, W, 3]`."""
        return self._segment(frame)

    def close(self) -> None:
        """Release the model; a second call does nothing."""
        self._segmenter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_predictor(
    model: str | Path, tiling: Tiling | None = None, backend: str = "auto", precision: Precision | None = None
) -> Predictor:
    """Open a checkpoint (`.ckpt`, run by PyTorch), a model file or a shipped model (run by a backend).

    Args:
        model: path, or name of a shipped model.
        tiling: None takes the one the model was trained for.
        backend: of a model file, as in `bcseg_edge.load_model`; a checkpoint takes `auto` or `torch`.
        precision: of a shipped model's file; None takes its float32 weights.

    Raises:
        ModelError: the file is missing, damaged or not ours.
        BackendUnavailable: the backend cannot run here.
        DataError: a checkpoint with a backend that cannot run one, or an unknown tiling.
    """
    if not is_checkpoint(model):
        return Predictor(load_model(model_path(model, backend, precision), backend), tiling)
    path = Path(model)
    if backend not in ("auto", TORCH):
        raise DataError(
            f"a checkpoint runs on PyTorch, not on backend '{backend}'",
            f"leave --backend out, or first: bcseg-edge export {path.name} --output FILE.onnx",
        )
    network, info = load_checkpoint(path)
    return Predictor(LoadedModel(checkpoint_passport(network, info, info.spec.name), TorchBackend(network)), tiling)


def is_checkpoint(model: str | Path) -> bool:
    """Whether a model is named that PyTorch runs."""
    return Path(model).suffix == CHECKPOINT_SUFFIX


def model_path(model: str | Path, backend: str = "auto", precision: Precision | None = None) -> Path:
    """The file behind a path or name, checkpoint or model file; a name stands for its float32 weights by default."""
    return Path(model) if is_checkpoint(model) else find_model(model, backend, precision or "fp32")


def checkpoint_passport(network: SegmentationNet, info: CheckpointInfo, name: str) -> Passport:
    """The passport of a checkpoint, as far as it is known before an export."""
    return Passport(
        name=name,
        sha256=info.sha256,
        classes=CLASSES,
        window_hw=info.window_hw,
        tiling=info.tiling,
        architecture=Architecture(
            name=info.spec.name,
            encoder=info.spec.encoder,
            decoder_channels=info.spec.decoder_channels,
            parameters=trainable_parameters(network),
        ),
        precision="fp32",
        weights="float32",
        outputs={"logits": "float32 [N, 3, h, w], before softmax"},
        temperature=float(network.temperature),
        source_sha256=info.sha256,
        created=datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
    )
