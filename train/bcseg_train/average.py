"""One network from several runs: the mean of their weights, a "model soup" (Wortsman et al. 2022).

Runs that start from the same pre-trained weights and differ in seed or recipe end in one basin: the mean of their
weights does what an ensemble does at the price of one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.sinks.folder import make_folder
from bcseg_train.busi import Sample
from bcseg_train.dataset import EpochSampler, TrainingPatches
from bcseg_train.models import SegmentationNet, load_checkpoint
from bcseg_train.recipes import Recipe
from bcseg_train.temperature import KEY, calibrate_checkpoint
from bcseg_train.train import split_samples


@dataclass(frozen=True, slots=True)
class AverageOptions:
    """What to average.

    Attributes:
        checkpoints: two or more of one network, window and tiling.
        data: BUSI folder: batch-norm statistics come from train, the temperature from val.
        output: the `.ckpt` file to write.
        split: as in `train.TrainOptions`.
        seed: of the order of the training images.
    """

    checkpoints: Sequence[Path]
    data: Path
    output: Path
    split: Path | None = None
    seed: int = 0


def average(options: AverageOptions) -> float:
    """Average checkpoints of `bcseg-edge train` into one, estimate its batch-norm statistics and its temperature.

    Returns:
        The temperature.

    Raises:
        DataError: fewer than two checkpoints, unreadable ones, of different networks, windows or tilings, or the data
            does not fit.
    """
    contents = [_read(path) for path in options.checkpoints]
    _check_alike(options.checkpoints, contents)
    training, validation = split_samples(options.data, options.split, options.seed)
    make_folder(options.output.parent)
    hyper = contents[0]["hyper_parameters"]
    state = mean_weights([content["state_dict"] for content in contents])
    _save({"hyper_parameters": hyper, "state_dict": state}, options.output)
    network, _ = load_checkpoint(options.output)
    estimate_statistics(network, training, Recipe.model_validate(hyper["recipe"]), options.seed)
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    _save({"hyper_parameters": hyper, "state_dict": state}, options.output)
    return calibrate_checkpoint(options.output, validation)


def mean_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of state dicts of equal names and shapes, tensor by tensor; the temperature is set back to one.

    Counters (integers) are the first's.
    """
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    return {**mean, KEY: torch.ones(())}


def estimate_statistics(network: SegmentationNet, samples: Sequence[Sample], recipe: Recipe, seed: int) -> None:
    """Replace the running statistics of all batch norms by those over one epoch of the recipe's patches.

    The mean of the runs' statistics is not the statistics of the mean's activations (Izmailov et al. 2018).
    """
    patches = TrainingPatches(samples, recipe, seed)
    loader = DataLoader(patches, batch_size=recipe.batch_size, sampler=EpochSampler(len(patches), seed))
    update_bn(loader, network)
    network.eval()


def _read(path: Path) -> dict[str, Any]:
    load_checkpoint(path)  # refuses what is not one of ours, with the reason
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _check_alike(paths: Sequence[Path], contents: Sequence[dict[str, Any]]) -> None:
    if len(contents) < 2:
        raise DataError(f"{len(contents)} checkpoint to average, expected two or more", "name several runs' best.ckpt")
    first = _task(contents[0])
    for path, content in zip(paths, contents, strict=True):
        if _task(content) != first:
            raise DataError(
                f"{path} is of another network, window or tiling than {paths[0]}", "average runs of one model only"
            )


def _task(content: dict[str, Any]) -> tuple[Any, ...]:
    hyper = content["hyper_parameters"]
    spec = {**hyper["spec"], "decoder_channels": tuple(hyper["spec"]["decoder_channels"])}
    return spec, tuple(hyper["recipe"]["window_hw"]), hyper["recipe"]["tiling"]


def _save(content: dict[str, Any], path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
