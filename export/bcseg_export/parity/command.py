"""`bcseg-edge parity`: opens two models, compares them, judges the figures and writes the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bcseg_edge.errors import DataError
from bcseg_edge.passport import Precision, Tiling
from bcseg_export.parity.comparison import Progress, compare, median_ms, segment_all
from bcseg_export.parity.frames import collect_frames
from bcseg_export.parity.pictures import draw_worst
from bcseg_export.parity.report import WORST_FRAMES, ParityReport, Subject, write_report
from bcseg_export.parity.thresholds import DEFAULTS, Thresholds, find_failures
from bcseg_train.predictors import Predictor, model_path, open_predictor


@dataclass(frozen=True, slots=True)
class ParityOptions:
    """What to compare.

    Attributes:
        reference, candidate: checkpoint, model file or name of a shipped model.
        reference_backend, backend: of the reference and of the candidate; a checkpoint runs on PyTorch.
        precision: of the candidate where it is a shipped model's name; None takes its float32 weights.
        data, split, max_images: see `collect_frames`.
        tiling: of both; None takes the reference's own.
        thresholds: None takes those of the candidate's precision.
        report: folder for parity.json, parity.md and pictures; None writes nothing.
        progress: called with (frames segmented, frames in all), first for the reference, then for the candidate.
    """

    reference: str | Path
    candidate: str | Path
    reference_backend: str = "auto"
    backend: str = "auto"
    precision: Precision | None = None
    data: Path | None = None
    split: str | None = None
    max_images: int | None = None
    tiling: Tiling | None = None
    thresholds: Thresholds | None = None
    report: Path | None = None
    progress: Progress | None = None


def parity(options: ParityOptions) -> ParityReport:
    """Compare a candidate with its reference; whether it passed is in the report.

    Raises:
        DataError: the data does not fit, the reference finds no lesion in it, or the models are of other windows
            and no common tiling was given.
        ModelError, BackendUnavailable: see `open_predictor`.
    """
    if options.max_images is not None and options.max_images < 1:
        raise DataError(f"--max-images {options.max_images}, expected at least 1", "leave it out to compare on all")
    frames = collect_frames(options.data, options.split, options.max_images)
    with open_predictor(options.reference, options.tiling, options.reference_backend) as reference:
        expected = segment_all(reference, frames.frames, options.progress)
        reference_name = _describe(model_path(options.reference), reference)
        tiling = reference.tiling
    with open_predictor(options.candidate, tiling, options.backend, options.precision) as candidate:
        received = segment_all(candidate, frames.frames, options.progress)
        limits = options.thresholds or DEFAULTS[candidate.passport.precision]
        candidate_name = _describe(model_path(options.candidate, options.backend, options.precision), candidate)
    comparison = compare(expected, received, frames)
    failures = find_failures(comparison, limits)
    report = ParityReport(reference_name, candidate_name, comparison, limits, failures, median_ms(received))
    if options.report is not None:
        pictures = draw_worst(comparison, frames.frames, expected, received, options.report, WORST_FRAMES)
        write_report(report, options.report, pictures)
    return report


def _describe(path: Path, predictor: Predictor) -> Subject:
    passport = predictor.passport
    return Subject(path.name, passport.precision, passport.target, predictor.backend_name, predictor.tiling)
