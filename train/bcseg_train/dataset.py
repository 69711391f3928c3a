"""Training and validation data: frames to patches, by the tiling that the runtime uses.

A training item is a pure function of (seed, epoch, position), so a resumed run, whatever its number of workers,
sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors

from bcseg_edge.frames import BACKGROUND, UInt8Array
from bcseg_edge.tiling import TileGrid
from bcseg_train.augment import native_transforms, window_transforms
from bcseg_train.losses import IGNORE, UNKNOWN_LESION
from bcseg_train.recipes import Recipe
from bcseg_train.thinning import Labelled

LESION_CENTRED = 0.7  # share of lesion-centred crops among "lesion_centred" items; the rest are anywhere


class LabelledImage(Labelled, Protocol):
    """An image with its labels on disk: `busi.Sample`, `pretraining_sets.MaskedImage`."""

    @property
    def name(self) -> str:
        """Tells it from the other images of its folder."""

    def load(self) -> tuple[UInt8Array, UInt8Array]:
        """Grey image and labels, uint8 `[H, W]`."""


class EpochSampler(Sampler[int]):
    """Shuffled positions of each epoch, as keys `epoch * length + position` that carry the epoch to the workers."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return iter((self.epoch * self.length + order).tolist())


class TrainingPatches(Dataset[tuple[Tensor, Tensor]]):
    """Patches uint8 `[1, h, w]` with labels int64 `[h, w]` (255 where there is no frame), drawn as the recipe says.

    All frames are held in memory: BUSI's 546 training images with their labels are 344 MB.

    Args:
        samples: BUSI images, each once an epoch (or each of their patches).
        recipe: says how patches are cut and changed.
        seed: of all draws.
        others: images of other organs' lesions; `recipe.other_lesions` of them per sample join an epoch, drawn anew
            each time, labelled as `UNKNOWN_LESION`.
    """

    def __init__(
        self, samples: Sequence[LabelledImage], recipe: Recipe, seed: int, others: Sequence[LabelledImage] = ()
    ) -> None:
        self.recipe = recipe
        self.seed = seed
        self.frames = [sample.load() for sample in samples]
        self.others = [_as_unknown_lesion(*other.load()) for other in others]
        self.tiles = _all_tiles(self.frames, recipe) if recipe.sampling == "every_patch" else None
        augmentation = recipe.augmentation
        self.at_native = native_transforms(augmentation) if augmentation and self.tiles is None else None
        self.at_window = window_transforms(augmentation) if augmentation else None

    def __len__(self) -> int:
        if self.tiles is not None:
            return len(self.tiles)
        joining = round(self.recipe.other_lesions * len(self.frames)) if self.others else 0
        return len(self.frames) + joining

    def __getitem__(self, key: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(key, len(self))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_item_seed(self.seed, epoch, position))
            image, labels = self._draw(position)
        return image, labels.squeeze(0).long()

    def _draw(self, position: int) -> tuple[Tensor, Tensor]:
        frame_index, tile = (position, 0) if self.tiles is None else self.tiles[position]
        if frame_index < len(self.frames):
            frame, truth = self.frames[frame_index]
        else:
            frame, truth = self.others[int(torch.randint(len(self.others), ()))]
        if self.at_native is not None:
            frame_tensor, truth_tensor = self.at_native(tv_tensors.Image(frame[None]), tv_tensors.Mask(truth[None]))
            frame, truth = frame_tensor.numpy()[0], truth_tensor.numpy()[0]
        if self.recipe.sampling == "lesion_centred":
            patch, labels = lesion_centred_patch(frame, truth, self.recipe.window_hw)
        else:
            patches, label_patches = split_labelled(frame, truth, self.recipe)
            patch, labels = patches[tile], label_patches[tile]
        image, mask = tv_tensors.Image(patch), tv_tensors.Mask(labels)
        if self.at_window is not None:
            image, mask = self.at_window(image, mask)
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


class ValidationFrames(Dataset[int]):
    """Positions of validation frames; `frames[i]` holds the grey image and its truth."""

    def __init__(self, samples: Sequence[LabelledImage]) -> None:
        self.frames = [sample.load() for sample in samples]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, position: int) -> int:
        return position


def _as_unknown_lesion(frame: UInt8Array, truth: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
    return frame, (truth > 0).astype(np.uint8) * np.uint8(UNKNOWN_LESION)


def split_labelled(frame: UInt8Array, truth: UInt8Array, recipe: Recipe) -> tuple[UInt8Array, UInt8Array]:
    """Cut frame and truth alike.

    Args:
        frame: grey uint8 `[H, W]`.
        truth: labels uint8 `[H, W]`.
        recipe: its tiling and window.

    Returns:
        Patches and labels, uint8 `[N, 1, h, w]`; outside the frame labels are what `recipe.padding` says.
    """
    grid = TileGrid(frame.shape, recipe.window_hw, recipe.tiling)
    if recipe.tiling == "frame":
        height, width = grid.content_hw
        labels = np.full((1, 1, *recipe.window_hw), IGNORE, np.uint8)
        labels[0, 0, :height, :width] = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    else:
        labels = grid.split(truth + np.uint8(1)) - np.uint8(1)  # outside the frame 0 wraps to 255
    if recipe.padding == "background":
        labels[labels == IGNORE] = BACKGROUND
    return grid.split(frame), labels


def lesion_centred_patch(
    frame: UInt8Array, truth: UInt8Array, window_hw: tuple[int, int]
) -> tuple[UInt8Array, UInt8Array]:
    """A native-resolution patch `[1, h, w]` around a random lesion pixel, or anywhere, with its labels."""
    height, width = frame.shape
    lesion_yx = np.argwhere(truth) if float(torch.rand(())) < LESION_CENTRED else np.empty((0, 2), int)
    if len(lesion_yx):
        centre = lesion_yx[int(torch.randint(len(lesion_yx), ()))] + torch.randint(-64, 65, (2,)).numpy()
    else:
        centre = (torch.rand(2).numpy() * (height, width)).astype(int)
    top, left = (
        int(np.clip(c - w // 2, 0, max(0, size - w)))
        for c, w, size in zip(centre, window_hw, (height, width), strict=True)
    )
    patch = np.zeros((1, *window_hw), np.uint8)
    labels = np.full((1, *window_hw), IGNORE, np.uint8)
    cut = frame[top : top + window_hw[0], left : left + window_hw[1]]
    patch[0, : cut.shape[0], : cut.shape[1]] = cut
    labels[0, : cut.shape[0], : cut.shape[1]] = truth[top : top + window_hw[0], left : left + window_hw[1]]
    return patch, labels


def _all_tiles(frames: list[tuple[UInt8Array, UInt8Array]], recipe: Recipe) -> list[tuple[int, int]]:
    """(frame, tile) of every patch of every frame."""
    counts = [TileGrid(frame.shape, recipe.window_hw, recipe.tiling).count for frame, _ in frames]
    return [(index, tile) for index, count in enumerate(counts) for tile in range(count)]


def _item_seed(seed: int, epoch: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, epoch, position)).generate_state(1, np.uint64)[0])
