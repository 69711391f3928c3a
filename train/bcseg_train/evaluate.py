"""Scores a model on labelled images, through the same frame path that a cart runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bcseg_edge.errors import DataError
from bcseg_edge.passport import Accuracy, Passport, Tiling, read_passport, write_passport
from bcseg_edge.sinks.folder import make_folder
from bcseg_train.busi import Sample, read_busi
from bcseg_train.predictors import Predictor, is_checkpoint, model_path, open_predictor
from bcseg_train.scores import ImageResult, Scores, measure_image, score
from bcseg_train.split import find_split_file, read_split, select
from bcseg_train.thinning import thin_classes

ALL_IMAGES = "all"
DEFAULT_SPLIT = "val"
SPLIT_HINT = "--split takes FILE:NAME, e.g. busi_split.csv:val, or 'all' for every image of the folder"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What to score and where to write it.

    Attributes:
        model: checkpoint, model file or name of a shipped model.
        data: folder with `benign`, `malignant` and `normal` in it; one may be missing.
        split: `FILE:NAME`, or `all` for every image. None takes `val` of the `busi_split.csv` in or beside
            `data`, or every image where there is no such file.
        tiling: None takes the model's own.
        backend: of a model file; a checkpoint runs on PyTorch.
        report: folder for report.json, report.md, images.csv and the figures; None writes nothing.
        max_images: score at most so many, spread evenly over the classes.
        record: write the figures into the model file's passport.
        seed: of the bootstrap.
        progress: called with (images done, images in all).
    """

    model: str | Path
    data: Path
    split: str | None = None
    tiling: Tiling | None = None
    backend: str = "auto"
    report: Path | None = None
    max_images: int | None = None
    record: bool = False
    seed: int = 0
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's figures on a set of images.

    Attributes:
        passport: of the model; `model` is its file's name.
        tiling, backend: how it was run.
        data: the images in words, e.g. `busi busi_split.csv:val`.
        images: one result an image.
        scores: figures over them.
        notes: what a reader has to know before believing the figures.
    """

    passport: Passport
    model: str
    tiling: Tiling
    backend: str
    data: str
    images: tuple[ImageResult, ...]
    scores: Scores
    notes: tuple[str, ...] = ()

    def accuracy(self) -> Accuracy:
        """The figures as a passport keeps them."""
        return Accuracy(
            data=self.data,
            images=len(self.images),
            tiling=self.tiling,
            backend=self.backend,
            figures=self.scores.key_figures(),
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """The images to score, what to call them, and what a reader has to know."""

    samples: tuple[Sample, ...]
    data: str
    notes: tuple[str, ...] = ()


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Run a model over labelled images, score it, and write the report that was asked for.

    Raises:
        DataError: the folder or the split does not fit, images of the split are missing, or `record` was
            asked of a checkpoint or with `max_images`.
        ModelError, BackendUnavailable: see `open_predictor`.
    """
    _check_options(options)
    if options.report is not None:
        make_folder(options.report)  # before the work, so that it is not lost
    selection = select_images(options.data, options.split, options.max_images)
    with open_predictor(options.model, options.tiling, options.backend) as predictor:
        images = predict_images(predictor, selection.samples, options.progress)
        evaluation = Evaluation(
            passport=predictor.passport,
            model=model_path(options.model).name,
            tiling=predictor.tiling,
            backend=predictor.backend_name,
            data=selection.data,
            images=images,
            scores=score(images, options.seed),
            notes=selection.notes,
        )
        if options.report is not None:
            # Matplotlib is slow to import and only a report needs it.
            from bcseg_train.report import write_report

            write_report(evaluation, selection.samples, predictor, options.report, model_path(options.model))
    if options.record:
        record_accuracy(model_path(options.model), evaluation.accuracy())
    return evaluation


def select_images(data: Path, split: str | None = None, max_images: int | None = None) -> Selection:
    """Find the images to score; see `EvaluateOptions` for the arguments.

    Raises:
        DataError: the folder is not sound, `split` is not `FILE:NAME`, the file or the split in it does not
            exist, or images of the split are missing (the error lists them).
    """
    samples: Sequence[Sample] = read_busi(data, require_all_classes=False)
    notes: list[str] = []
    if split is None:
        file = find_split_file(data)
        split = f"{file}:{DEFAULT_SPLIT}" if file else ALL_IMAGES
        if file is None:
            notes.append(
                "No split file was found, so every image is scored: "
                "images that the model was trained on may be among them."
            )
    if split == ALL_IMAGES:
        name = "all images"
    else:
        split_file, split_name = _parse_split(split)
        samples = select(samples, read_split(split_file), split_name)
        name = f"{split_file.name}:{split_name}"
    if max_images is not None and max_images < len(samples):
        notes.append(f"Only {max_images} of the {len(samples)} images are scored.")
        samples = thin_classes(samples, max_images)
    return Selection(tuple(samples), f"{data.resolve().name} {name}", tuple(notes))


def predict_images(
    predictor: Predictor, samples: Sequence[Sample], progress: Progress | None = None
) -> tuple[ImageResult, ...]:
    """Segment and measure every sample, in order."""
    results = []
    for done, sample in enumerate(samples, start=1):
        image, truth = sample.load()
        results.append(measure_image(sample.name, sample.label, truth, predictor(image)))
        if progress is not None:
            progress(done, len(samples))
    return tuple(results)


def record_accuracy(path: Path, accuracy: Accuracy) -> Passport:
    """Write measured figures into a model file's passport and return the new passport.

    Raises:
        ModelError: the file has no sound passport.
    """
    passport = read_passport(path).model_copy(update={"accuracy": accuracy})
    write_passport(passport, path)
    return passport


def _check_options(options: EvaluateOptions) -> None:
    if options.max_images is not None and options.max_images < 1:
        raise DataError(f"--max-images {options.max_images}, expected at least 1", "leave it out to score every image")
    if options.record and options.max_images is not None:
        raise DataError(
            "--record with --max-images would put figures of a few images into the passport", "leave one out"
        )
    if options.record and is_checkpoint(options.model):
        raise DataError(
            "--record writes into a model file's passport, and a checkpoint has none",
            "export it first: bcseg-edge export CHECKPOINT --output FILE.onnx",
        )


def _parse_split(split: str) -> tuple[Path, str]:
    """`FILE:NAME` -> (file, name); the last colon divides, so that `C:\\split.csv:val` works."""
    file, _, name = split.rpartition(":")
    if not file or not name:
        raise DataError(f"--split '{split}' is not FILE:NAME", SPLIT_HINT)
    return Path(file), name
