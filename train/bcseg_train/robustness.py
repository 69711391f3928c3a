"""How a model does on frames as other scanners and operators would give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcseg_edge.passport import Tiling
from bcseg_train.evaluate import select_images
from bcseg_train.perturbations import PERTURBATIONS, Labelled, Perturbation
from bcseg_train.predictors import Predictor, open_predictor
from bcseg_train.pretraining_sets import lesions_elsewhere
from bcseg_train.report import number, percent, table
from bcseg_train.scores import ImageResult, Scores, measure_image, score

ELSEWHERE = "thyroid nodules (DDTI, held out), class ignored"


@dataclass(frozen=True, slots=True)
class RobustnessOptions:
    """What to measure; the arguments of `evaluate.EvaluateOptions` of the same names.

    Attributes:
        other_lesions: folder of the pre-training sets: also find the nodules of its held-out images, as a proxy for
            breasts on other scanners. A model may have been pre-trained on the other images of that set.
        seed: of the perturbations, and of the pre-training sets' hold-out.
        progress: called with (images done, images in all).
    """

    model: str | Path
    data: Path
    split: str | None = None
    tiling: Tiling | None = None
    backend: str = "auto"
    max_images: int | None = None
    other_lesions: Path | None = None
    seed: int = 0
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Robustness:
    """Figures by what was done to the frames, in the order of `PERTURBATIONS`; `elsewhere` on other organs."""

    model: str
    data: str
    rows: dict[str, Scores]
    elsewhere: Scores | None = None


def robustness(options: RobustnessOptions) -> Robustness:
    """Score a model on perturbed frames.

    Raises:
        DataError, ModelError, BackendUnavailable: as `evaluate.evaluate`.
    """
    selection = select_images(options.data, options.split, options.max_images)
    elsewhere = lesions_elsewhere(options.other_lesions, options.seed)[1] if options.other_lesions else []
    total = len(PERTURBATIONS) * len(selection.samples) + len(elsewhere)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if options.progress is not None:
            options.progress(done, total)

    frames = [sample.load() for sample in selection.samples]  # once, not for every row
    with open_predictor(options.model, options.tiling, options.backend) as predictor:
        rows = {
            name: score(_measure(predictor, frames, perturb, options.seed, advance))
            for name, perturb in PERTURBATIONS.items()
        }
        nodules = _measure(
            predictor, [one.load() for one in elsewhere], PERTURBATIONS["as it is"], options.seed, advance
        )
    return Robustness(predictor.passport.name, selection.data, rows, score(nodules) if nodules else None)


def _measure(
    predictor: Predictor,
    frames: Sequence[Labelled],
    perturb: Perturbation,
    seed: int,
    advance: Callable[[], None],
) -> list[ImageResult]:
    results = []
    for index, frame in enumerate(frames):
        image, truth = perturb(*frame, np.random.default_rng((seed, index)))
        results.append(measure_image(str(index), int(truth.max()), truth, predictor(image)))
        advance()
    return results


def to_dict(result: Robustness) -> dict[str, object]:
    """As JSON types: figures by perturbation."""
    return {
        "model": result.model,
        "data": result.data,
        "perturbations": {name: scores.key_figures() for name, scores in result.rows.items()},
        "elsewhere": result.elsewhere.key_figures() if result.elsewhere is not None else None,
    }


def markdown(result: Robustness) -> str:
    """The table, percent; drops in points against the untouched frames."""
    plain = next(iter(result.rows.values())).whole_images
    rows = [
        [
            name,
            percent(scores.whole_images.mean_iou),
            f"{100 * (scores.whole_images.mean_iou - plain.mean_iou):+.1f}",
            percent(scores.whole_images.lesion_iou),
            percent(scores.lesion_sensitivity),
            number(scores.false_lesions_per_image),
        ]
        for name, scores in result.rows.items()
    ]
    if result.elsewhere is not None:
        scores = result.elsewhere
        found = percent(scores.lesion_sensitivity)
        false = number(scores.false_lesions_per_image)
        rows.append([ELSEWHERE, "-", "-", percent(scores.whole_images.lesion_iou), found, false])
    header = ["frames", "mean IoU %", "change", "lesion IoU %", "sensitivity %", "false lesions per image"]
    return f"# {result.model} on {result.data}, changed\n\n{table(header, rows)}\n"
