"""Temperature scaling: one number that makes a trained network's confidence honest (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.frames import CLASSES
from bcseg_edge.tiling import TileGrid
from bcseg_train.dataset import LabelledImage
from bcseg_train.models import CheckpointInfo, SegmentationNet, load_checkpoint

PIXELS_PER_FRAME = 4000
# A network that knows nothing would get a temperature without bounds, and logits of nothing but zero.
LIMITS = (0.1, 10.0)
KEY = "model.temperature"


def calibrate_checkpoint(path: Path, samples: Sequence[LabelledImage]) -> float:
    """Fit the temperature of a checkpoint on held-out images and store it there.

    Labels do not change: the temperature divides all logits alike.

    Args:
        path: `best.ckpt` of a training run; rewritten as a whole.
        samples: images that it was not trained on.

    Returns:
        The temperature: above 1 the network was too sure of itself.

    Raises:
        DataError: not a checkpoint, or no sample holds a lesion.
    """
    network, info = load_checkpoint(path)
    logits, labels = lesion_pixels(network, info, samples)
    temperature = fit_temperature(logits * network.temperature, labels)
    content = torch.load(path, map_location="cpu", weights_only=True)
    content["state_dict"][KEY] = torch.tensor(temperature)
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return temperature


def lesion_pixels(
    network: SegmentationNet, info: CheckpointInfo, samples: Sequence[LabelledImage], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits float32 `[P, 3]` and labels int64 `[P]` where truth or network sees a lesion.

    At most `PIXELS_PER_FRAME` of a frame, drawn by `seed`, so that large lesions do not decide alone.

    Raises:
        DataError: there is no such pixel.
    """
    network = network.eval().to(memory_format=torch.channels_last)
    generator = np.random.default_rng(seed)
    logits, labels = [], []
    for sample in samples:
        frame, truth = sample.load()
        grid = TileGrid(frame.shape, info.window_hw, info.tiling)
        with torch.inference_mode():
            whole = grid.stitch(network(torch.from_numpy(grid.split(frame))).contiguous().numpy())  # [3, H, W]
        pixels = np.flatnonzero((truth > 0) | (whole.argmax(0) > 0))
        if len(pixels) > PIXELS_PER_FRAME:
            pixels = generator.choice(pixels, PIXELS_PER_FRAME, replace=False)
        logits.append(whole.reshape(len(CLASSES), -1)[:, pixels].T)
        labels.append(truth.ravel()[pixels])
    if not sum(map(len, labels)):
        raise DataError("no image holds a lesion to calibrate confidence on", "give images with benign or malignant")
    return torch.from_numpy(np.concatenate(logits)), torch.from_numpy(np.concatenate(labels)).long()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest cross-entropy, within `LIMITS`.

    Args:
        logits: float `[P, C]`.
        labels: int64 `[P]`.
    """
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / log_temperature.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp().clamp(*LIMITS))
