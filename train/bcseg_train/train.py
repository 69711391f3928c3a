"""A training run: data, network and recipe into a folder of checkpoints, logs and the options that made it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from bcseg_edge.errors import DataError
from bcseg_edge.tiling import TileGrid
from bcseg_train.busi import Sample, read_busi
from bcseg_train.dataset import EpochSampler, TrainingPatches, ValidationFrames
from bcseg_train.encoder_weights import load_encoder_weights
from bcseg_train.logs import metrics_logger
from bcseg_train.models import find_spec
from bcseg_train.module import SegmentationModule
from bcseg_train.recipes import Recipe, load_recipe
from bcseg_train.split import find_split_file, group_near_duplicates, make_split, read_split, select

SELECT_BY = "val_mean_iou"
STATISTICS_FRAMES = 64  # enough for batch-norm statistics of a 256x320 window


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What `bcseg-edge train` takes.

    Attributes:
        data: BUSI folder.
        output: run folder: `last.ckpt`, `best.ckpt`, `metrics.csv`, TensorBoard events.
        model: unet, resnext50, resnext101 or edge.
        recipe: shipped recipe name or a TOML file.
        split: split CSV; None: `busi_split.csv` in or beside `data`, else a seeded grouped split.
        encoder_weights: imagenet, none or a file.
        resume: continue from `output/last.ckpt`.
        epochs: overrides the recipe's (its schedule stretches with it).
        seed: of weights, order and augmentation.
        precision: Lightning's: `bf16-mixed`, `32-true`, ...
        workers: loader processes.
        accelerator, devices, nodes, strategy: Lightning's, for several GPUs and machines.
        max_images: use only the first images of each split: a smoke run.
        stop_after_epochs: end early, with the schedule unchanged: a run in portions.
    """

    data: Path
    output: Path
    model: str = "edge"
    recipe: str = "strong"
    split: Path | None = None
    encoder_weights: str = "none"
    resume: bool = False
    epochs: int | None = None
    seed: int = 0
    precision: str = "bf16-mixed"
    workers: int = 1
    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    strategy: str = "auto"
    max_images: int | None = None
    stop_after_epochs: int | None = None
    progress: bool = True


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where the checkpoints are and what the best one reached on val (fractions)."""

    best: Path
    last: Path
    best_mean_iou: float
    epochs: int


def train(options: TrainOptions) -> TrainResult:
    """Train a model.

    Raises:
        DataError: anything wrong with data, recipe, weights, resume or the output folder; always before training.
    """
    recipe = load_recipe(options.recipe)
    if options.epochs is not None:
        recipe = recipe.model_copy(update={"epochs": options.epochs})
    spec = find_spec(options.model)
    checkpoint = _checkpoint_to_resume(options)
    training, validation = split_samples(options.data, options.split, options.seed)
    if options.max_images is not None:
        training, validation = _thin(training, options.max_images), _thin(validation, options.max_images)
    pl.seed_everything(options.seed, workers=True, verbose=False)

    patches = TrainingPatches(training, recipe, options.seed)
    frames = ValidationFrames(validation)
    loader = _training_loader(patches, recipe, options)
    module = SegmentationModule(spec, recipe, _steps_per_epoch(len(patches), recipe.batch_size, options), frames)
    if checkpoint is None:
        load_encoder_weights(module.model, options.encoder_weights, _statistics_patches(patches, recipe))
    module.model.to(memory_format=torch.channels_last)
    keeper = ModelCheckpoint(
        options.output,
        filename="best",
        monitor=SELECT_BY,
        mode="max",
        save_last=True,
        enable_version_counter=False,
    )
    trainer = _trainer(options, recipe, keeper, checkpoint)
    with warnings.catch_warnings():
        # Workers: frames are in memory, and two cores are better used by the network.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        trainer.fit(module, loader, DataLoader(frames, batch_size=1), ckpt_path=checkpoint)
    best_score = keeper.best_model_score
    return TrainResult(
        best=options.output / "best.ckpt",
        last=options.output / "last.ckpt",
        best_mean_iou=float(best_score) if best_score is not None else float("nan"),
        epochs=trainer.current_epoch,
    )


def split_samples(data: Path, split: Path | None, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples, by the split file where there is one, else by a grouped split."""
    samples = read_busi(data)
    path = split or find_split_file(data)
    if path is not None:
        assignment = read_split(path)
        return select(samples, assignment, "train"), select(samples, assignment, "val")
    groups = group_near_duplicates([sample.load()[0] for sample in samples])
    part = make_split(np.array([sample.label for sample in samples]), groups, seed)
    chosen = ([s for s, p in zip(samples, part, strict=True) if p == wanted] for wanted in (0, 1))
    training, validation = chosen
    return training, validation


def _checkpoint_to_resume(options: TrainOptions) -> Path | None:
    last = options.output / "last.ckpt"
    if options.resume and not last.is_file():
        raise DataError(f"nothing to resume: no {last}", "leave --resume out to start a new run")
    if not options.resume and last.is_file():
        raise DataError(
            f"{options.output} holds a run already", "add --resume to continue it, or choose another --output"
        )
    return last if options.resume else None


def _thin(samples: list[Sample], count: int) -> list[Sample]:
    """`count` samples evenly over the list, so that every class is there."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[index] for index in chosen]


def _steps_per_epoch(patches: int, batch_size: int, options: TrainOptions) -> int:
    per_device = -(-patches // _world_size(options))
    return -(-per_device // batch_size)


def _world_size(options: TrainOptions) -> int:
    if not torch.cuda.is_available() or options.accelerator == "cpu":
        return max(1, int(options.devices)) * options.nodes if options.devices.isdigit() else options.nodes
    per_node = int(options.devices) if options.devices.isdigit() else torch.cuda.device_count()
    return max(1, per_node) * options.nodes


def _training_loader(
    patches: TrainingPatches, recipe: Recipe, options: TrainOptions
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    return DataLoader(
        patches,
        batch_size=recipe.batch_size,
        sampler=EpochSampler(len(patches), options.seed),
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _statistics_patches(patches: TrainingPatches, recipe: Recipe) -> torch.Tensor:
    """Unaugmented patches uint8 `[N, 1, h, w]` of evenly chosen training frames."""
    chosen = np.linspace(0, len(patches.frames) - 1, min(STATISTICS_FRAMES, len(patches.frames))).astype(int)
    grids = [
        (patches.frames[i][0], TileGrid(patches.frames[i][0].shape, recipe.window_hw, recipe.tiling)) for i in chosen
    ]
    return torch.from_numpy(np.concatenate([grid.split(frame)[:2] for frame, grid in grids]))


def _trainer(options: TrainOptions, recipe: Recipe, keeper: ModelCheckpoint, resumed_from: Path | None) -> pl.Trainer:
    callbacks: list[Callback] = [keeper]
    if recipe.average_decay:
        callbacks.append(EMAWeightAveraging(decay=recipe.average_decay))
    if options.progress:
        callbacks.append(RichProgressBar(leave=True))
    return pl.Trainer(
        max_epochs=min(recipe.epochs, options.stop_after_epochs or recipe.epochs),
        accelerator=options.accelerator,
        devices=int(options.devices) if options.devices.isdigit() else options.devices,
        num_nodes=options.nodes,
        strategy=options.strategy,
        precision=options.precision,  # type: ignore[arg-type]
        gradient_clip_val=recipe.gradient_clip or None,
        callbacks=callbacks,
        logger=[
            metrics_logger(options.output, resumed_from),
            TensorBoardLogger(options.output, name="", version=""),
        ],
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        default_root_dir=options.output,
    )
