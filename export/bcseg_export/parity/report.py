"""Writes a comparison down: parity.json, parity.md and pictures of the worst frames."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bcseg_edge.files import write_text_atomic
from bcseg_edge.frames import CLASSES
from bcseg_export.parity.comparison import Comparison
from bcseg_export.parity.measures import MIN_OVERLAP
from bcseg_export.parity.thresholds import Thresholds

FORMAT_VERSION = 3
WORST_FRAMES = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """What was compared: a file on a backend.

    Attributes:
        model: name, or the file's name.
        precision: `fp32`, `fp16` or `int8`.
        target: what the file is laid out for.
        backend: what executed it.
        tiling: of its frames.
    """

    model: str
    precision: str
    target: str
    backend: str
    tiling: str

    def __str__(self) -> str:
        return f"{self.model} ({self.precision}, {self.backend}, {self.tiling})"


@dataclass(frozen=True, slots=True)
class ParityReport:
    """A judged comparison.

    Attributes:
        reference, candidate: what was compared.
        comparison: the figures.
        limits: what the candidate had to reach.
        failures: what it did not reach, one sentence each.
        frame_ms: what a frame took the candidate, median, measured while comparing: only figures of a quiet machine
            say how fast it is.
    """

    reference: Subject
    candidate: Subject
    comparison: Comparison
    limits: Thresholds
    failures: tuple[str, ...]
    frame_ms: float

    @property
    def passed(self) -> bool:
        return not self.failures


def key_figures(comparison: Comparison, lesion_px: float) -> dict[str, float]:
    """The figures for a passport: those that exist, by a name that needs no context."""
    names = CLASSES[1:]
    figures = {
        "labels_equal": comparison.labels_equal,
        **{f"dice_{name}": comparison.dice[label] for label, name in enumerate(names, start=1)},
        **{f"worst_dice_{name}": comparison.worst_dice(label)[0] for label, name in enumerate(names, start=1)},
        "mean_iou_reference": comparison.mean_iou[0],
        "mean_iou_candidate": comparison.mean_iou[1],
        "mean_dice_reference": comparison.mean_dice[0],
        "mean_dice_candidate": comparison.mean_dice[1],
        "iou_points_lost": comparison.iou_loss,
        "lesion_px": lesion_px,
        "lesions": comparison.count_lesions(lesion_px),
        "mean_lesion_overlap": comparison.mean_overlap(lesion_px),
        "lesions_lost": comparison.count_lost(lesion_px),
        "lesions_invented": comparison.count_invented(lesion_px),
        "lesions_reclassified": comparison.count_reclassified(lesion_px),
        "boundary_p95_px": comparison.boundary_p95_px,
        "confidence_difference": comparison.confidence_difference,
        "max_confidence_difference": comparison.max_confidence_difference,
    }
    return {name: round(value, 6) for name, value in figures.items() if math.isfinite(value)}


def to_dict(report: ParityReport) -> dict[str, Any]:
    """The report as JSON types; a figure that does not exist is left out of `figures` and None in `frames`."""
    comparison = report.comparison
    return {
        "format_version": FORMAT_VERSION,
        "reference": asdict(report.reference),
        "candidate": asdict(report.candidate),
        "frame_ms": report.frame_ms,
        "data": comparison.data,
        "passed": report.passed,
        "failures": list(report.failures),
        "limits": report.limits.model_dump(),
        "figures": key_figures(comparison, report.limits.lesion_px),
        "frames": [
            {
                "name": frame.name,
                "labels_equal": frame.labels_equal,
                "dice": [_known(value) for value in frame.dice],
                "lesions_px": frame.lesions_px,
                "overlaps": frame.overlaps,
                "lost_px": frame.lost_px,
                "invented_px": frame.invented_px,
                "reclassified_px": frame.reclassified_px,
                "boundary_px": _known(frame.boundary_px),
                "confidence_difference": frame.confidence_difference,
            }
            for frame in comparison.frames
        ],
    }


def markdown(report: ParityReport, pictures: Iterable[Path] = ()) -> str:
    """The report as Markdown: verdict, figures with their limits, worst frames."""
    comparison = report.comparison
    verdict = "passed" if report.passed else "FAILED"
    parts = [
        f"# Parity: {verdict}",
        f"Candidate: {report.candidate}  \nReference: {report.reference}  \n"
        f"Frames: {len(comparison.frames)} of {comparison.data}",
        *(["\n".join(f"- {failure}" for failure in report.failures)] if report.failures else []),
        _figures_table(report),
        f"Lesions count above {report.limits.lesion_px:g} px across. Overlap: IoU of a lesion of the reference with "
        f"the candidate's lesions on it; below {MIN_OVERLAP:g} it is lost. Invented: the other way round. Boundary: "
        "95 % Hausdorff distance of a frame, its 95th percentile over the frames. Confidence: where the labels agree.",
        "## Worst frames",
        _worst_table(comparison),
        *(f"![{path.stem}]({path.name})" for path in pictures),
    ]
    return "\n\n".join(parts) + "\n"


def write_report(report: ParityReport, folder: Path, pictures: Iterable[Path] = ()) -> None:
    """Write parity.json and parity.md into `folder`; `pictures` lie there already.

    Raises:
        DataError: the folder cannot be written.
    """
    write_text_atomic(folder / "parity.json", json.dumps(to_dict(report), indent=2, allow_nan=False) + "\n")
    write_text_atomic(folder / "parity.md", markdown(report, pictures))


def _figures_table(report: ParityReport) -> str:
    comparison, limits = report.comparison, report.limits
    long = limits.lesion_px
    lesions = comparison.count_lesions(long)
    rows = [("labels equal", f"{100 * comparison.labels_equal:.3f} %", _limit(">=", limits.min_labels_equal))]
    for label, name in enumerate(CLASSES[1:], start=1):
        worst, frame = comparison.worst_dice(label)
        rows.append((f"Dice of {name}", _number(comparison.dice[label], 4), _limit(">=", limits.min_dice)))
        rows.append((f"worst frame, {name}", f"{_number(worst, 4)} {frame}", ""))
    rows += [
        ("mean IoU against the truth, %", _change(comparison.mean_iou), _limit("loses <=", limits.max_iou_loss)),
        ("mean Dice against the truth, %", _change(comparison.mean_dice), ""),
        ("overlap of a lesion, mean", _number(comparison.mean_overlap(long), 4), _limit(">=", limits.min_mean_overlap)),
        ("lesions lost", f"{comparison.count_lost(long)} of {lesions}", _share(limits.max_lost)),
        ("lesions invented", f"{comparison.count_invented(long)}", _share(limits.max_invented)),
        ("lesions of another class", f"{comparison.count_reclassified(long)}", _share(limits.max_reclassified)),
        ("boundary distance, px", _number(comparison.boundary_p95_px, 2), _limit("<=", limits.max_boundary_px)),
        (
            "confidence difference, mean and largest",
            f"{comparison.confidence_difference:.4f}, {comparison.max_confidence_difference:.3f}",
            _limit("mean <=", limits.max_mean_confidence_difference),
        ),
    ]
    return _table(("figure", "value", "limit"), rows)


def _worst_table(comparison: Comparison) -> str:
    rows = []
    for index in comparison.worst(WORST_FRAMES):
        frame = comparison.frames[index]
        rows.append(
            (
                frame.name,
                _number(frame.dice[1], 4),
                _number(frame.dice[2], 4),
                f"{len(frame.lost_px)}",
                f"{len(frame.invented_px)}",
                _number(frame.boundary_px, 1),
            )
        )
    return _table(("frame", "Dice benign", "Dice malignant", "lost", "invented", "boundary, px"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _change(values: tuple[float, float]) -> str:
    reference, candidate = (100 * value for value in values)
    return f"{reference:.2f} to {candidate:.2f}" if math.isfinite(reference) else "no truth"


def _limit(sign: str, value: float | None) -> str:
    return "" if value is None else f"{sign} {value:g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"<= {100 * value:g} %"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
