"""Pictures of images, truth and predictions: the paper's figures 2, 5, 10 and 13."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from bcseg_edge.frames import BENIGN, MALIGNANT, UInt8Array
from bcseg_train.busi import Sample
from bcseg_train.lesion_metrics import IMAGE_CLASSES
from bcseg_train.metrics import PAPER_PATCH_PX
from bcseg_train.palette import LESION_COLOURS, save_figure
from bcseg_train.predictors import Predictor
from bcseg_train.scores import ImageResult
from bcseg_train.thinning import thin

SAMPLES_PER_CLASS = 3
RESOLUTIONS = 6
COLUMN_INCH = 2.0
MAX_ASPECT = 1.2  # height by width; a taller image is drawn narrower


@dataclass(frozen=True, slots=True)
class Shown:
    """One image to show: its result and file, and above it a title."""

    result: ImageResult
    sample: Sample
    title: str


def draw_images(
    results: Sequence[ImageResult], samples: Sequence[Sample], predictor: Predictor, folder: Path
) -> list[Path]:
    """Draw figures 2, 5, 10 and 13 into `folder`; `results` and `samples` go together, at least one."""
    pairs = list(zip(results, samples, strict=True))
    return [
        _draw_grid(choose_samples(pairs), None, folder / "figure_02_samples.png"),
        draw_padding(_middle_image(pairs), folder / "figure_05_padding.png"),
        _draw_grid(choose_predictions(pairs), predictor, folder / "figure_10_predictions.png"),
        _draw_grid(choose_resolutions(pairs), predictor, folder / "figure_13_resolutions.png"),
    ]


def choose_samples(pairs: Sequence[tuple[ImageResult, Sample]]) -> list[Shown]:
    """Images of each class, spread evenly over the list."""
    shown = []
    for label, name in enumerate(IMAGE_CLASSES):
        of_class = [pair for pair in pairs if pair[1].label == label]
        shown += [Shown(*pair, name) for pair in thin(of_class, SAMPLES_PER_CLASS)]
    return shown


def choose_predictions(pairs: Sequence[tuple[ImageResult, Sample]]) -> list[Shown]:
    """Best, median and worst lesion IoU of benign and of malignant, and the normal image with the most found in it."""
    shown = []
    for label in (BENIGN, MALIGNANT):
        ranked = sorted(
            (pair for pair in pairs if pair[1].label == label), key=lambda pair: -np.nan_to_num(pair[0].lesion_iou)
        )
        places = {0: "best", len(ranked) - 1: "worst", len(ranked) // 2: "median"} if ranked else {}
        shown += [Shown(*ranked[place], f"{places[place]} {IMAGE_CLASSES[label]}") for place in sorted(places)]
    normal = [pair for pair in pairs if pair[1].label == 0]
    if normal:
        shown.append(Shown(*max(normal, key=lambda pair: pair[0].confusion[0, 1:].sum()), "worst normal"))
    return shown


def choose_resolutions(pairs: Sequence[tuple[ImageResult, Sample]]) -> list[Shown]:
    """Images with a lesion from the smallest to the largest frame."""
    lesions = [pair for pair in pairs if pair[1].label != 0] or list(pairs)
    by_size = sorted(lesions, key=lambda pair: (pair[0].hw[0] * pair[0].hw[1], pair[0].name))
    return [Shown(*pair, IMAGE_CLASSES[pair[1].label]) for pair in thin(by_size, RESOLUTIONS)]


def draw_padding(sample: Sample, path: Path) -> Path:
    """One image padded to multiples of the paper's patch size, and the patches that it is cut into."""
    image, truth = sample.load()
    rows, columns = (-(-size // PAPER_PATCH_PX) for size in image.shape)
    padded = np.zeros((rows * PAPER_PATCH_PX, columns * PAPER_PATCH_PX), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    figure = Figure(figsize=(3.2 + 2.2 * columns + 1.6 * columns, 2.2 * rows + 0.9), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.35, 1))[0]
    _draw_padded(left.subplots(), padded, image.shape, truth)
    right.suptitle(f"{rows * columns} patches of {PAPER_PATCH_PX}x{PAPER_PATCH_PX} px", fontsize=11)
    cells = right.subplots(rows, columns, squeeze=False).ravel()
    patches = padded.reshape(rows, PAPER_PATCH_PX, columns, PAPER_PATCH_PX).swapaxes(1, 2)
    for index, (axis, patch) in enumerate(zip(cells, patches.reshape(-1, PAPER_PATCH_PX, PAPER_PATCH_PX), strict=True)):
        _show_image(axis, patch, f"{index + 1}")
    return save_figure(figure, path)


def _draw_padded(axis: Axes, padded: UInt8Array, hw: tuple[int, ...], truth: UInt8Array) -> None:
    height, width = padded.shape
    _show_image(axis, padded, f"{hw[1]}x{hw[0]} px padded with zeros to {width}x{height}")
    _draw_outline(axis, truth)
    axis.add_patch(Rectangle((-0.5, -0.5), hw[1], hw[0], fill=False, edgecolor="#F0E442", lw=1.5, ls="--"))
    for place in range(PAPER_PATCH_PX, width, PAPER_PATCH_PX):
        axis.axvline(place - 0.5, color="white", lw=1.2)
    for place in range(PAPER_PATCH_PX, height, PAPER_PATCH_PX):
        axis.axhline(place - 0.5, color="white", lw=1.2)


def _draw_grid(shown: Sequence[Shown], predictor: Predictor | None, path: Path) -> Path:
    """A column an image; rows: image, truth and, with a predictor, prediction."""
    loaded = [item.sample.load() for item in shown]
    names = ["image", "truth", *(["prediction"] if predictor else [])]
    tallest = max(image.shape[0] / image.shape[1] for image, _ in loaded)
    row_inch = COLUMN_INCH * min(tallest, MAX_ASPECT)
    figure = Figure(figsize=(COLUMN_INCH * len(shown) + 0.4, row_inch * len(names) + 1.0), layout="constrained")
    axes = figure.subplots(len(names), len(shown), squeeze=False)
    for column, (item, (image, truth)) in enumerate(zip(shown, loaded, strict=True)):
        _show_image(axes[0, column], image, f"{item.title}\n{image.shape[1]}x{image.shape[0]} px")
        _show_labels(axes[1, column], image, truth)
        if predictor:
            _show_labels(axes[2, column], image, predictor(image).labels, _iou_text(item.result))
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=11)
    handles = [Patch(color=colour, label=IMAGE_CLASSES[label]) for label, colour in LESION_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return save_figure(figure, path)


def _iou_text(result: ImageResult) -> str:
    if result.truth_class == 0:
        return "nothing found" if result.predicted_class == 0 else f"{IMAGE_CLASSES[result.predicted_class]} found"
    return f"lesion IoU {result.lesion_iou:.2f}"


def _show_image(axis: Axes, image: UInt8Array, title: str = "") -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_anchor("N")
    axis.set_title(title, fontsize=9)


def _show_labels(axis: Axes, image: UInt8Array, labels: UInt8Array, caption: str = "") -> None:
    """The image, dimmed, with its lesions filled; `caption` below."""
    _show_image(axis, (image * 0.6).astype(np.uint8))
    colours = np.zeros((*labels.shape, 4), np.float32)
    for label, colour in LESION_COLOURS.items():
        colours[labels == label] = to_rgba(colour, 0.5)
    axis.imshow(colours)
    _draw_outline(axis, labels)
    axis.set_xlabel(caption, fontsize=9)


def _draw_outline(axis: Axes, labels: UInt8Array) -> None:
    if min(labels.shape) < 2:  # matplotlib's contour needs two pixels each way
        return
    for label, colour in LESION_COLOURS.items():
        mask = labels == label
        if mask.any() and not mask.all():
            axis.contour(mask, levels=[0.5], colors=[colour], linewidths=1.4)


def _middle_image(pairs: Sequence[tuple[ImageResult, Sample]]) -> Sample:
    """An image of middling size with a lesion, so that padding and several patches are seen."""
    lesions = [pair for pair in pairs if pair[1].label != 0] or list(pairs)
    ranked = sorted(lesions, key=lambda pair: (pair[0].hw[0] * pair[0].hw[1], pair[0].name))
    return ranked[len(ranked) // 2][1]
