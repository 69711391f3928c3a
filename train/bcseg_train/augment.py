"""Ultrasound augmentation: torchvision's transforms v2 where they fit, and what only ultrasound does.

All take a grey image uint8 `[1, H, W]` (`tv_tensors.Image`) with its labels uint8 `[1, H, W]` (`tv_tensors.Mask`)
and draw from torch's global generator, which `dataset.py` seeds per sample.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from bcseg_train.losses import IGNORE
from bcseg_train.recipes import Augmentation


def uniform(low: float, high: float) -> float:
    """One draw from torch's generator."""
    return low + (high - low) * float(torch.rand(()))


class RandomZoom(v2.Transform):
    """Crop the frame to a part of it, or give it a black margin: other depths, zooms and letterboxes.

    Before scaling to the window, so that a crop gains resolution. Side ratios change by up to a quarter.
    """

    def __init__(self, min_area: float, max_margin: float = 0.3) -> None:
        super().__init__()
        self.min_area = min_area
        self.max_margin = max_margin

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        if uniform(0, 1) < 0.3:
            margins = [int(uniform(0, self.max_margin / 2) * size) for size in (width, height, width, height)]
            return {"margins": margins}
        side = math.sqrt(uniform(self.min_area, 1))
        ratio = math.exp(uniform(-0.12, 0.12))
        crop_h, crop_w = min(height, round(height * side * ratio)), min(width, round(width * side / ratio))
        top, left = int(uniform(0, height - crop_h + 1)), int(uniform(0, width - crop_w + 1))
        return {"crop": (top, left, max(1, crop_h), max(1, crop_w))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if "margins" in params:
            return functional.pad(inpt, params["margins"], fill=0)
        return functional.crop(inpt, *params["crop"])


class PixelTransform(v2.Transform):
    """Base of the transforms that change grey levels only: `change` maps float32 `[1, H, W]` in 0..1 to the same."""

    def change(self, grey: Tensor) -> Tensor:
        raise NotImplementedError

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        grey = self.change(inpt.as_subclass(Tensor).float() / 255)
        return tv_tensors.Image((grey.clamp(0, 1) * 255).round().to(torch.uint8))


class RandomGain(PixelTransform):
    """Receive gain, dynamic range and grey map: offset, contrast around the mean, gamma."""

    def change(self, grey: Tensor) -> Tensor:
        grey = grey.clamp(0, 1) ** math.exp(uniform(-0.45, 0.45))
        mean = grey.mean()
        return (grey - mean) * uniform(0.65, 1.45) + mean * uniform(0.65, 1.4)


class RandomDepthGain(PixelTransform):
    """Time-gain compensation set wrongly: a smooth change of brightness along depth."""

    def change(self, grey: Tensor) -> Tensor:
        sliders = 1 + (torch.rand(1, 1, 5) - 0.5) * 1.1  # as a scanner's sliders
        curve = torch.nn.functional.interpolate(sliders, grey.shape[-2], mode="linear", align_corners=True)
        return grey * curve.view(1, -1, 1)


class RandomSpeckle(PixelTransform):
    """Multiplicative speckle of a random grain, as another probe's point-spread function would give it."""

    def change(self, grey: Tensor) -> Tensor:
        height, width = grey.shape[-2:]
        grain_h, grain_w = uniform(1, 2.5), uniform(1, 4)
        coarse = torch.randn(1, 1, math.ceil(height / grain_h), math.ceil(width / grain_w))
        noise = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
        return grey * (1 + noise * uniform(0.05, 0.35))


class RandomShadow(PixelTransform):
    """An acoustic shadow or enhancement: a wedge below some depth that is darker or brighter."""

    def change(self, grey: Tensor) -> Tensor:
        height, width = grey.shape[-2:]
        x = torch.linspace(0, 1, width).view(1, 1, -1)
        y = torch.linspace(0, 1, height).view(1, -1, 1)
        centre = uniform(0, 1) + uniform(-0.3, 0.3) * y
        across = torch.exp(-(((x - centre) / uniform(0.03, 0.15)) ** 2))
        along = torch.sigmoid((y - uniform(-0.1, 0.8)) * 20)
        return grey * (1 - uniform(-0.3, 0.8) * across * along)


class RandomBurnIn(PixelTransform):
    """What scanners draw into the image: calipers, text, a scale at the side, a sector's black corners."""

    def change(self, grey: Tensor) -> Tensor:
        canvas = (grey[0].numpy() * 255).astype(np.uint8)
        height, width = canvas.shape
        if uniform(0, 1) < 0.3:
            self._sector(canvas)
        for _ in range(int(uniform(0, 3.99))):
            level = int(uniform(150, 255))
            x, y = int(uniform(0, width)), int(uniform(0, height))
            kind = uniform(0, 1)
            if kind < 0.4:
                text = "".join(chr(int(uniform(48, 91))) for _ in range(int(uniform(2, 12))))
                cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, uniform(0.25, 0.6), level, 1, cv2.LINE_AA)
            elif kind < 0.8:
                self._caliper(canvas, (x, y), level)
            else:
                canvas[y :: max(4, height // 12), max(0, width - 5) :] = level
        return torch.from_numpy(canvas).float().unsqueeze(0) / 255

    @staticmethod
    def _caliper(canvas: np.ndarray, start: tuple[int, int], level: int) -> None:
        height, width = canvas.shape
        end = (int(start[0] + uniform(-0.4, 0.4) * width), int(start[1] + uniform(-0.4, 0.4) * height))
        for point in (start, end):
            cv2.drawMarker(canvas, point, level, cv2.MARKER_CROSS, int(uniform(4, 9)), 1)
        steps = np.linspace(0, 1, 24)[:, None]
        dots = (np.array(start) * (1 - steps) + np.array(end) * steps).astype(int)  # [24, 2] xy
        dots = dots[(dots >= 0).all(1) & (dots < (width, height)).all(1)]
        canvas[dots[:, 1], dots[:, 0]] = level

    @staticmethod
    def _sector(canvas: np.ndarray) -> None:
        """Black out what a curved array does not see: outside two rays and above an arc."""
        height, width = canvas.shape
        apex_x, apex_y = width * uniform(0.4, 0.6), -height * uniform(0.3, 1.5)
        rows, columns = np.ogrid[:height, :width]
        radius = np.hypot(columns - apex_x, rows - apex_y)
        angle = np.abs(np.arctan2(columns - apex_x, rows - apex_y))
        half_angle = math.atan2(width / 2, height * 0.6 - apex_y) * uniform(0.9, 1.3)
        canvas[(angle > half_angle) | (radius < -apex_y * uniform(1.0, 1.05))] = 0


def maybe(transform: v2.Transform, probability: float) -> list[v2.Transform]:
    """The transform with that probability, or nothing where it is zero."""
    return [v2.RandomApply([transform], p=probability)] if probability else []


def native_transforms(augmentation: Augmentation) -> v2.Transform:
    """What happens to the frame at its own resolution, before it is scaled or cut."""
    return v2.Compose([v2.Identity(), *maybe(RandomZoom(augmentation.min_zoom_area), augmentation.zoom)])


def window_transforms(augmentation: Augmentation) -> v2.Transform:
    """What happens to the window-sized patch: geometry first (labels too), then grey levels."""
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}
    affine = v2.RandomAffine(
        augmentation.rotation_degrees,
        translate=(0.08, 0.08),
        scale=augmentation.scale_range,
        shear=5,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=fill,
    )
    elastic = v2.ElasticTransform(alpha=60.0, sigma=9.0, fill=fill)
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(augmentation.horizontal_flip),
            *maybe(affine, augmentation.affine),
            *maybe(elastic, augmentation.elastic),
            *maybe(RandomGain(), augmentation.gain_contrast),
            *maybe(RandomDepthGain(), augmentation.depth_gain),
            *maybe(RandomShadow(), augmentation.shadow),
            *maybe(RandomSpeckle(), augmentation.speckle),
            *maybe(v2.GaussianBlur(5, (0.3, 1.5)), augmentation.blur),
            *maybe(v2.JPEG((40, 95)), augmentation.jpeg),
            *maybe(RandomBurnIn(), augmentation.burn_in),
        ]
    )
