"""The Lightning module: one training step, validation on whole frames, optimiser and schedule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassConfusionMatrix

from bcseg_edge.frames import CLASSES
from bcseg_edge.tiling import TileGrid
from bcseg_train.dataset import ValidationFrames
from bcseg_train.losses import combined_loss
from bcseg_train.metrics import dice, iou, mean_known, merge_lesions
from bcseg_train.models import ModelSpec, SegmentationNet
from bcseg_train.recipes import Recipe


class SegmentationModule(pl.LightningModule):
    """Trains a `SegmentationNet` by a `Recipe`. Its checkpoints keep both, the seed and the digests of the `images`.

    Logged each epoch: `train_loss`, `val_loss`, and over all pixels of the whole validation frames `val_iou_CLASS`,
    `val_mean_iou`, `val_lesion_iou` (benign and malignant as one), `val_mean_dice`: see `metrics`. A class that is
    neither there nor predicted is NaN, and left out of the means.
    """

    def __init__(
        self,
        spec: ModelSpec,
        recipe: Recipe,
        steps_per_epoch: int,
        validation: ValidationFrames | None,
        classes: tuple[str, ...] = CLASSES,
        seed: int = 0,
        images: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        origin = {"spec": dataclasses.asdict(spec), "recipe": recipe.model_dump(mode="json")}
        self.save_hyperparameters({**origin, "seed": seed, "images": dict(images or {})})
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.validation = validation
        self.classes = classes
        self.seed = seed
        self.model = SegmentationNet(spec, len(classes))
        self.confusion = MulticlassConfusionMatrix(len(classes))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        recipe = self.recipe
        optimizers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizer = optimizers[recipe.optimizer](
            self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        scheduler = LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate_factor(self, step: int) -> float:
        if self.recipe.schedule == "constant":
            return 1.0
        warmup = self.recipe.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1.0, self.recipe.epochs * self.steps_per_epoch - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) + 1e-3

    def on_train_batch_start(self, batch: object, batch_index: int) -> None:
        """Draw dropout by seed, step and process alone, so that a resumed run is the uninterrupted one."""
        state = np.random.SeedSequence((self.seed, self.global_step, self.global_rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        patches, labels = batch  # uint8 [N, 1, h, w], int64 [N, h, w]
        loss = self._loss(self.model(patches), labels)
        self.log(
            "train_loss",
            loss,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            batch_size=len(patches),
            sync_dist=True,
        )
        return loss

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return combined_loss(logits, labels, self.recipe.loss)

    def val_dataloader(self) -> DataLoader[int] | list[DataLoader[int]]:
        """Each frame once over all processes; Lightning's own sampler repeats some, so that all get as many."""
        if self.validation is None:
            return []
        sampler = None
        if self.trainer.world_size > 1:
            sampler = UnrepeatedDistributedSampler(
                self.validation, num_replicas=self.trainer.world_size, rank=self.trainer.global_rank, shuffle=False
            )
        return DataLoader(self.validation, batch_size=1, sampler=sampler)

    def validation_step(self, positions: Tensor, _: int) -> None:
        if self.validation is None:
            return
        for position in positions.tolist():  # frames differ in size: one at a time
            frame, truth = self.validation.frames[position]
            grid = TileGrid(frame.shape, self.recipe.window_hw, self.recipe.tiling)
            patches = torch.from_numpy(grid.split(frame)).to(self.device)
            logits = grid.stitch(self.model(patches).float().cpu().numpy())  # [3, H, W]
            whole = torch.from_numpy(logits).unsqueeze(0)
            labels = torch.from_numpy(truth).long().unsqueeze(0)
            self.confusion.update(whole.argmax(1).to(self.device), labels.to(self.device))
            self.log("val_loss", self._loss(whole, labels), on_epoch=True, batch_size=1, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        counts = self.confusion.compute().cpu().numpy()  # [truth, predicted]
        self.confusion.reset()
        by_class = iou(counts)
        mean_iou = float(mean_known(by_class))
        values = {f"val_iou_{name}": float(value) for name, value in zip(self.classes, by_class, strict=True)}
        values["val_mean_iou"] = mean_iou
        values["val_mean_dice"] = float(mean_known(dice(counts)))
        values["val_lesion_iou"] = float(iou(merge_lesions(counts))[1])
        self.log_dict(values, sync_dist=True)
        self.log("mean_iou", mean_iou, prog_bar=True, logger=False, sync_dist=True)
