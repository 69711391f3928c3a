"""A training run: data, network and recipe into a folder of checkpoints, logs and the options that made it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.frames import CLASSES
from bcseg_edge.sinks.folder import make_folder
from bcseg_edge.tiling import TileGrid
from bcseg_train.busi import Sample, read_busi
from bcseg_train.dataset import EpochSampler, LabelledImage, TrainingPatches, ValidationFrames
from bcseg_train.encoder_weights import load_encoder_weights, load_pretrained
from bcseg_train.logs import metrics_logger
from bcseg_train.models import ModelSpec, find_spec
from bcseg_train.module import SegmentationModule
from bcseg_train.pretraining_sets import lesions_elsewhere
from bcseg_train.recipes import Recipe, load_recipe
from bcseg_train.resume import (
    AtomicCheckpoints,
    KeptCheckpoint,
    checkpoint_to_resume,
    images_digest,
    refuse_other_data,
)
from bcseg_train.run_files import BEST, LAST
from bcseg_train.run_record import write_record
from bcseg_train.split import find_split_file, group_near_duplicates, make_split, read_split, select
from bcseg_train.temperature import calibrate_checkpoint
from bcseg_train.thinning import thin, thin_classes

SELECT_BY = "val_mean_iou"
STATISTICS_FRAMES = 64  # enough for batch-norm statistics of a 256x320 window


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What `bcseg-edge train` takes.

    Attributes:
        data: BUSI folder.
        output: run folder: `last.ckpt`, `best.ckpt`, `metrics.csv`, TensorBoard events, `options.json`, `split.csv`.
        model: unet, resnext50, resnext101 or edge.
        recipe: shipped recipe name or a TOML file.
        split: split CSV; None: `busi_split.csv` in or beside `data`, else a seeded grouped split.
        encoder_weights: imagenet, none or a file.
        pretrained: checkpoint of `pretrain.pretrain`: encoder, decoder and normalisation start from it.
        other_lesions: folder of other organs' images for a recipe that mixes them in (`Recipe.other_lesions`).
        resume: continue from `output/last.ckpt`; with the seed and the images that it was started with.
        epochs: overrides the recipe's (its schedule stretches with it).
        seed: of weights, order and augmentation.
        precision: Lightning's: `bf16-mixed`, `32-true`, ...
        workers: loader processes.
        accelerator, devices, nodes, strategy: Lightning's, for several GPUs and machines.
        max_images: use only so many images of each split, evenly over it: a smoke run.
        stop_after_epochs: end early, with the schedule unchanged: a run in portions.
    """

    data: Path
    output: Path
    model: str = "edge"
    recipe: str = "strong"
    split: Path | None = None
    encoder_weights: str = "none"
    pretrained: Path | None = None
    other_lesions: Path | None = None
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
    """Where the checkpoints are and what the best one reached on val (fractions); `rank` of the process that asks."""

    best: Path
    last: Path
    best_mean_iou: float
    epochs: int
    rank: int = 0


class Interrupted(BcsegError):
    """Training was stopped by a signal; `last.ckpt` holds the last whole epoch."""

    def __init__(self, output: Path, signal_number: int) -> None:
        last = output / LAST
        hint = "go on with the same command and --resume" if last.is_file() else "no epoch was finished: start again"
        super().__init__(f"interrupted; what is whole lies in {output}", hint)
        self.exit_code = 128 + signal_number  # what a shell makes of a signal


def train(options: TrainOptions) -> TrainResult:
    """Train a model; after its last epoch the best checkpoint gets its confidence temperature, fitted on val.

    Raises:
        DataError: anything wrong with data, recipe, weights, resume or the output folder; always before training.
        Interrupted: Ctrl-C or SIGTERM.
    """
    recipe = recipe_of(options)
    if options.other_lesions is not None and not recipe.other_lesions:
        raise DataError(
            f"recipe {recipe.name} mixes in no images of other organs",
            "leave --other-lesions out, or set other_lesions in the recipe",
        )
    spec = find_spec(options.model)
    checkpoint = checkpoint_to_resume(options.output, options.resume, spec, recipe)
    training, validation = split_samples(options.data, options.split, options.seed)
    others = lesions_elsewhere(options.other_lesions, options.seed)[0] if options.other_lesions else []
    data = TrainingData(training, validation, tuple(others)).thinned(options.max_images)
    result = fit(options, spec, recipe, data, checkpoint)
    if result.rank == 0 and result.epochs >= min(recipe.epochs, options.stop_after_epochs or recipe.epochs):
        calibrate_checkpoint(result.best, data.validation)
    return result


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run learns from and is measured on; `classes` names the labels' values."""

    training: Sequence[LabelledImage]
    validation: Sequence[LabelledImage]
    others: Sequence[LabelledImage] = ()
    classes: tuple[str, ...] = CLASSES

    def thinned(self, count: int | None) -> TrainingData:
        """At most `count` images each for training and validation, evenly, so that every class is there; None: all."""
        return replace(
            self, training=thin_classes(self.training, count), validation=thin_classes(self.validation, count)
        )

    def digests(self) -> dict[str, str]:
        """What the images are for, in words -> `images_digest` of them."""
        parts = {"training images": self.training, "val images": self.validation, "other lesions": self.others}
        return {what: images_digest(samples) for what, samples in parts.items()}


def notes(options: TrainOptions) -> list[str]:
    """What whoever starts a run should know first, one sentence each.

    Raises:
        DataError: there is no such recipe.
    """
    recipe = recipe_of(options)
    if recipe.other_lesions and options.other_lesions is None:
        return [f"recipe {recipe.name} mixes in lesions of other organs: without --other-lesions it does without them"]
    return []


def recipe_of(options: TrainOptions) -> Recipe:
    """The recipe that `options` name, with its number of epochs; DataError where there is none."""
    recipe = load_recipe(options.recipe)
    return recipe if options.epochs is None else recipe.model_copy(update={"epochs": options.epochs})


def fit(
    options: TrainOptions, spec: ModelSpec, recipe: Recipe, data: TrainingData, checkpoint: Path | None
) -> TrainResult:
    """Train `spec` on `data`, from `checkpoint` on where there is one; raises as `train` does."""
    images = data.digests()
    if checkpoint is not None:
        refuse_other_data(checkpoint, options.seed, images)
    keeper = _keep(options.output, BEST, monitor=SELECT_BY, mode="max")
    trainer = _trainer(options, recipe, keeper, checkpoint)
    _check_processes(trainer)
    if len(data.validation) < trainer.world_size:
        raise DataError(
            f"{len(data.validation)} validation images cannot be shared by {trainer.world_size} processes",
            "use fewer --devices, or more images",
        )
    make_folder(options.output)
    if checkpoint is None and trainer.is_global_zero:
        write_record(options.output, asdict(options), recipe, {"train": data.training, "val": data.validation})
    pl.seed_everything(options.seed, workers=True, verbose=False)

    patches = TrainingPatches(data.training, recipe, options.seed, data.others)
    loader = _training_loader(patches, recipe, options)
    steps_per_epoch = -(-len(patches) // (recipe.batch_size * trainer.world_size))
    validation = ValidationFrames(data.validation)
    module = SegmentationModule(spec, recipe, steps_per_epoch, validation, data.classes, options.seed, images)
    if checkpoint is None:
        load_encoder_weights(module.model, options.encoder_weights, _statistics_patches(patches, recipe))
        if options.pretrained is not None:
            load_pretrained(module.model, options.pretrained)
    module.model.to(memory_format=torch.channels_last)
    _fit(trainer, module, loader, checkpoint, options.output)
    best_score = keeper.best_model_score
    return TrainResult(
        best=options.output / BEST,
        last=options.output / LAST,
        best_mean_iou=float(best_score) if best_score is not None else float("nan"),
        epochs=trainer.current_epoch,
        rank=trainer.global_rank,
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


def _check_processes(trainer: pl.Trainer) -> None:
    """Refuse processes that torchrun started and that would train one by one into the same folder."""
    started = int(os.environ.get("WORLD_SIZE", trainer.world_size))
    if started != trainer.world_size:
        raise DataError(
            f"{started} processes were started, but these settings train with {trainer.world_size}",
            "add --strategy ddp, --devices PROCESSES_A_MACHINE and --nodes MACHINES",
        )


def _fit(
    trainer: pl.Trainer,
    module: SegmentationModule,
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]],
    checkpoint: Path | None,
    output: Path,
) -> None:
    try:
        with warnings.catch_warnings():
            # Workers: frames are in memory, and two cores are better used by the network.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            trainer.fit(module, loader, ckpt_path=checkpoint)
    except SystemExit as stop:  # Lightning's own answer to a signal: exit code 1 on Ctrl-C, and 0 on SIGTERM
        number = signal.SIGTERM if isinstance(stop, SIGTERMException) else signal.SIGINT
        raise Interrupted(output, number) from stop


def _keep(output: Path, name: str, monitor: str | None = None, mode: str = "min") -> KeptCheckpoint:
    """A callback that keeps one checkpoint, `name`: the best by `monitor`, or the newest without one."""
    return KeptCheckpoint(output, filename=Path(name).stem, monitor=monitor, mode=mode, enable_version_counter=False)


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
    frames = [frame for frame, _ in thin(patches.frames, STATISTICS_FRAMES)]
    grids = [(frame, TileGrid(frame.shape, recipe.window_hw, recipe.tiling)) for frame in frames]
    return torch.from_numpy(np.concatenate([grid.split(frame)[:2] for frame, grid in grids]))


def _trainer(options: TrainOptions, recipe: Recipe, keeper: KeptCheckpoint, resumed_from: Path | None) -> pl.Trainer:
    # Not `save_last` of `keeper`: since Lightning 2.6 that is written only when the monitored figure improves, and
    # a run killed later would lose every epoch since. The newest comes second, so that it knows of the best.
    callbacks: list[Callback] = [keeper, _keep(options.output, LAST)]
    if recipe.average_decay:
        callbacks.append(EMAWeightAveraging(decay=recipe.average_decay))
    if options.progress:
        callbacks.append(RichProgressBar(leave=True, console_kwargs={"stderr": True}))
    try:
        return pl.Trainer(
            max_epochs=min(recipe.epochs, options.stop_after_epochs or recipe.epochs),
            accelerator=options.accelerator,
            devices=int(options.devices) if options.devices.isdigit() else options.devices,
            num_nodes=options.nodes,
            strategy=options.strategy,
            plugins=[AtomicCheckpoints()],
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
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"Lightning refuses these settings: {reason}", "see --precision, --accelerator, --devices and --strategy"
        ) from error
