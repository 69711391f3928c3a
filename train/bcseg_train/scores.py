"""What is measured on one image, and the figures over many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bcseg_edge.frames import CLASSES, Segmentation, UInt8Array
from bcseg_train.lesion_metrics import (
    LesionCounts,
    hausdorff95_px,
    image_class,
    image_confusion,
    match_lesions,
    match_lesions_by_class,
)
from bcseg_train.metrics import (
    Confusion,
    PixelFigures,
    bootstrap_interval,
    confusion_matrix,
    lesion_patch_confusion,
    mean_over_images,
    pooled,
    pooled_lesion_iou,
    pooled_mean_iou,
)
from bcseg_train.reliability import Reliability, empty, lesion_reliability, pixel_reliability


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Everything counted on one image.

    Attributes:
        name: file name of the image.
        hw: its size in px.
        truth_class, predicted_class: 0 normal, 1 benign, 2 malignant (see `image_class`).
        confusion: pixels, int64 `[3, 3]`, rows truth.
        patch_confusion: the same over the paper's patches that hold a lesion.
        lesions, lesions_by_class: found and invented, whatever the class and within it.
        hausdorff95_px: NaN unless truth and prediction both hold a lesion.
        network_ms, total_ms: time of the network and of the whole frame path.
        pixel_reliability, lesion_reliability: confidence against being right.
    """

    name: str
    hw: tuple[int, int]
    truth_class: int
    predicted_class: int
    confusion: Confusion
    patch_confusion: Confusion
    lesions: LesionCounts
    lesions_by_class: LesionCounts
    hausdorff95_px: float
    network_ms: float = 0.0
    total_ms: float = 0.0
    pixel_reliability: Reliability = field(default_factory=empty)
    lesion_reliability: Reliability = field(default_factory=empty)

    @property
    def lesion_iou(self) -> float:
        """Lesion IoU of this image, benign and malignant as one; NaN where there is none."""
        return float(pooled_lesion_iou(self.confusion))


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures over a set of images. Fractions 0 to 1; NaN where nothing can be said.

    Attributes:
        whole_images: pooled over all pixels of whole images.
        lesion_patches: pooled over the paper's patches that hold a lesion.
        mean_over_images: mean of each image's figures.
        mean_iou_interval, lesion_iou_interval: 95 % bootstrap intervals over images, pooled over whole images.
        lesions, lesions_by_class: summed counts.
        hausdorff95_px: mean over `hausdorff95_images` images.
        images_by_class: `[truth][predicted]` counts in the order normal, benign, malignant.
        pixel_reliability: over all pixels labelled a lesion.
        lesion_reliability: over all predicted lesions.
    """

    images: int
    whole_images: PixelFigures
    lesion_patches: PixelFigures
    mean_over_images: PixelFigures
    mean_iou_interval: tuple[float, float]
    lesion_iou_interval: tuple[float, float]
    lesions: LesionCounts
    lesions_by_class: LesionCounts
    hausdorff95_px: float
    hausdorff95_images: int
    images_by_class: tuple[tuple[int, ...], ...]
    network_ms_median: float
    total_ms_median: float
    pixel_reliability: Reliability
    lesion_reliability: Reliability

    @property
    def lesion_sensitivity(self) -> float:
        return share(self.lesions.found, self.lesions.truth)

    @property
    def false_lesions_per_image(self) -> float:
        return share(self.lesions.false, self.images)

    @property
    def class_sensitivity(self) -> float:
        """Share of the lesions that were found with their own class."""
        return share(self.lesions_by_class.found, self.lesions_by_class.truth)

    @property
    def class_false_per_image(self) -> float:
        return share(self.lesions_by_class.false, self.images)

    @property
    def image_accuracy(self) -> float:
        """Share of the images whose class is right."""
        return share(int(np.trace(np.array(self.images_by_class))), self.images)

    def key_figures(self) -> dict[str, float]:
        """The figures for a passport: those that exist, by a name that needs no context."""
        whole = self.whole_images
        figures = {
            "mean_iou": whole.mean_iou,
            "mean_dice": whole.mean_dice,
            **{f"iou_{name}": value for name, value in zip(CLASSES, whole.iou, strict=True)},
            "lesion_iou": whole.lesion_iou,
            "lesion_dice": whole.lesion_dice,
            "pixel_accuracy": whole.pixel_accuracy,
            "mean_iou_lesion_patches": self.lesion_patches.mean_iou,
            "mean_iou_over_images": self.mean_over_images.mean_iou,
            "lesion_sensitivity": self.lesion_sensitivity,
            "false_lesions_per_image": self.false_lesions_per_image,
            "hausdorff95_px": self.hausdorff95_px,
            "image_accuracy": self.image_accuracy,
            "calibration_error_pixels": self.pixel_reliability.expected_calibration_error,
            "calibration_error_lesions": self.lesion_reliability.expected_calibration_error,
        }
        return {name: round(value, 6) for name, value in figures.items() if np.isfinite(value)}


def measure_image(
    name: str,
    truth_class: int,
    truth: UInt8Array,
    segmentation: Segmentation,
) -> ImageResult:
    """Count everything on one image; `truth` holds labels uint8 `[H, W]`, as `segmentation` does."""
    predicted = segmentation.labels
    return ImageResult(
        name=name,
        hw=(truth.shape[0], truth.shape[1]),
        truth_class=truth_class,
        predicted_class=image_class(predicted),
        confusion=confusion_matrix(truth, predicted),
        patch_confusion=lesion_patch_confusion(truth, predicted),
        lesions=match_lesions(truth, predicted),
        lesions_by_class=match_lesions_by_class(truth, predicted),
        hausdorff95_px=hausdorff95_px(truth, predicted),
        network_ms=segmentation.timings.network_ms,
        total_ms=segmentation.timings.total_ms,
        pixel_reliability=pixel_reliability(truth, predicted, segmentation.confidence),
        lesion_reliability=lesion_reliability(truth, predicted, segmentation.confidence),
    )


def score(images: Sequence[ImageResult], seed: int = 0) -> Scores:
    """Figures over at least one image; `seed` draws the bootstrap."""
    confusions = np.stack([image.confusion for image in images])  # [n, 3, 3]
    distances = np.array([image.hausdorff95_px for image in images])
    known = distances[np.isfinite(distances)]
    classes = image_confusion([image.truth_class for image in images], [image.predicted_class for image in images])
    return Scores(
        images=len(images),
        whole_images=pooled(confusions),
        lesion_patches=pooled(np.stack([image.patch_confusion for image in images])),
        mean_over_images=mean_over_images(confusions),
        mean_iou_interval=bootstrap_interval(confusions, pooled_mean_iou, seed=seed),
        lesion_iou_interval=bootstrap_interval(confusions, pooled_lesion_iou, seed=seed),
        lesions=sum((image.lesions for image in images), LesionCounts()),
        lesions_by_class=sum((image.lesions_by_class for image in images), LesionCounts()),
        hausdorff95_px=float(known.mean()) if known.size else float("nan"),
        hausdorff95_images=int(known.size),
        images_by_class=tuple(tuple(row) for row in classes.tolist()),
        network_ms_median=float(np.median([image.network_ms for image in images])),
        total_ms_median=float(np.median([image.total_ms for image in images])),
        pixel_reliability=sum((image.pixel_reliability for image in images), empty()),
        lesion_reliability=sum((image.lesion_reliability for image in images), empty()),
    )


def share(part: int, whole: int) -> float:
    """`part / whole`, NaN of nothing."""
    return part / whole if whole else float("nan")
