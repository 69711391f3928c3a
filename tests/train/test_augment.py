"""Augmentation: every transform keeps size and type, changes the image, and leaves labels of grey changes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from bcseg_train import augment

GREY_CHANGES = [
    augment.RandomGain(),
    augment.RandomDepthGain(),
    augment.RandomSpeckle(),
    augment.RandomShadow(),
    augment.RandomBurnIn(),
]


def scene(height: int = 96, width: int = 128) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    generator = np.random.default_rng(0)
    grey = generator.normal(100, 30, (1, height, width)).clip(0, 255).astype(np.uint8)
    labels = np.zeros((1, height, width), np.uint8)
    labels[:, 30:60, 40:90] = 1
    return tv_tensors.Image(grey), tv_tensors.Mask(labels)


@pytest.mark.parametrize("transform", GREY_CHANGES, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("size", [(96, 128), (32, 32), (257, 33)])
def test_grey_changes_leave_labels_alone(transform: augment.PixelTransform, size: tuple[int, int]) -> None:
    image, labels = scene(*size)
    changed = 0
    for seed in range(8):
        torch.manual_seed(seed)
        new_image, new_labels = transform(image, labels)
        assert new_image.dtype == torch.uint8
        assert new_image.shape == image.shape
        assert torch.equal(new_labels, labels)
        changed += not torch.equal(new_image, image)
    assert changed >= 5


def test_zoom_takes_image_and_labels_alike() -> None:
    image, labels = scene()
    marked = tv_tensors.Image(labels.clone())
    shapes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        new_image, new_labels = augment.RandomZoom(min_area=0.4)(marked, labels)
        assert torch.equal(new_image.as_subclass(torch.Tensor), new_labels.as_subclass(torch.Tensor))
        shapes.add(new_image.shape)
        area = new_image.shape[-1] * new_image.shape[-2]
        assert 0.38 * image[0].numel() <= area <= 1.75 * image[0].numel()
    assert len(shapes) > 10


@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_zoom_survives_tiny_frames(size: tuple[int, int]) -> None:
    image, labels = tv_tensors.Image(torch.zeros(1, *size, dtype=torch.uint8)), tv_tensors.Mask(torch.zeros(1, *size))
    for seed in range(20):
        torch.manual_seed(seed)
        new_image, _ = augment.RandomZoom(min_area=0.4)(image, labels)
        assert min(new_image.shape) >= 1
