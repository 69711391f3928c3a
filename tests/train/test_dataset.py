"""Training data: labels stay on their pixels, and an item depends on seed, epoch and position alone."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch

from bcseg_edge.frames import UInt8Array
from bcseg_train.dataset import EpochSampler, TrainingPatches, split_labelled
from bcseg_train.losses import IGNORE
from bcseg_train.recipes import Recipe, load_recipe


@dataclass(frozen=True)
class Drawn:
    """Stands in for a BUSI sample: a bright lesion on a dark ground, so that grey level tells the label."""

    height: int
    width: int

    def load(self) -> tuple[UInt8Array, UInt8Array]:
        truth = np.zeros((self.height, self.width), np.uint8)
        cv2.ellipse(truth, (self.width // 2, self.height // 2), (self.width // 5, self.height // 6), 20, 0, 360, 2, -1)
        return np.where(truth > 0, 220, 60).astype(np.uint8), truth


SAMPLES = [Drawn(300, 420), Drawn(500, 380), Drawn(200, 900)]


def geometric(recipe: Recipe) -> Recipe:
    """The recipe with every geometric augmentation, always, and none that changes grey levels."""
    augmentation = load_recipe("strong").augmentation
    assert augmentation is not None
    off = dict.fromkeys(("gain_contrast", "depth_gain", "speckle", "shadow", "blur", "jpeg", "burn_in"), 0.0)
    on = dict.fromkeys(("horizontal_flip", "zoom", "affine", "elastic"), 1.0)
    return recipe.model_copy(update={"augmentation": augmentation.model_copy(update={**off, **on})})


RECIPES = {
    "paper": load_recipe("paper"),
    "strong": load_recipe("strong"),
    "lesion_centred": load_recipe("strong").model_copy(update={"tiling": "paper", "sampling": "lesion_centred"}),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("augmented", [False, True])
def test_labels_stay_on_their_pixels(name: str, augmented: bool) -> None:
    recipe = RECIPES[name].model_copy(update={"augmentation": None})
    recipe = geometric(recipe) if augmented else recipe
    data = TrainingPatches(SAMPLES, recipe, seed=0)
    agree, lesion = [], 0
    for position in range(len(data)):
        patch, labels = data[position]
        assert patch.shape == (1, *recipe.window_hw)
        assert patch.dtype == torch.uint8
        assert labels.shape == recipe.window_hw
        assert labels.dtype == torch.int64
        assert set(labels.unique().tolist()) <= {0, 2, IGNORE}
        counted = labels != IGNORE
        agree.append(((patch[0] > 140) == (labels == 2))[counted].float().mean())
        lesion += int((labels == 2).sum())
    assert lesion > 500
    assert min(agree) > 0.98  # borders are interpolated in the image, not in the labels


@pytest.mark.parametrize("name", RECIPES)
def test_an_item_is_a_function_of_seed_epoch_and_position(name: str) -> None:
    recipe = RECIPES[name]
    first, again, other = (TrainingPatches(SAMPLES, recipe, seed) for seed in (0, 0, 1))
    later = len(first)  # position 0 of epoch 1
    torch.manual_seed(123)
    a = first[0]
    torch.manual_seed(456)
    before = torch.random.get_rng_state()
    b = again[0]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    if recipe.augmentation is not None:
        assert not torch.equal(a[0], first[later][0])
        assert not torch.equal(a[0], other[0][0])


def test_every_patch_of_every_image_is_seen_once_an_epoch() -> None:
    data = TrainingPatches(SAMPLES, RECIPES["paper"], seed=0)
    assert len(data) == 2 * 2 + 2 * 2 + 1 * 4
    sampler = EpochSampler(len(data), seed=0)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert sorted(keys) == list(range(epoch * len(data), (epoch + 1) * len(data)))
        orders.append([key % len(data) for key in keys])
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("padding", "outside"), [("ignored", IGNORE), ("background", 0)])
@pytest.mark.parametrize("name", ["paper", "strong"])
def test_outside_the_frame_labels_are_what_the_recipe_says(name: str, padding: str, outside: int) -> None:
    recipe = RECIPES[name].model_copy(update={"padding": padding})
    frame, truth = SAMPLES[0].load()
    patches, labels = split_labelled(frame, truth, recipe)
    assert patches.shape == labels.shape
    assert labels[-1, 0, -1, -1] == outside
    assert labels[0, 0, 0, 0] == 0
    if name == "paper":
        assert (labels == 2).sum() == (truth == 2).sum()
