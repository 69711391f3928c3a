"""Exports a checkpoint: graph, gate, passport; the file gets its name only when the gate holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import onnx
from pydantic import ValidationError

from bcseg_calibration.calibration_set import CALIBRATE_HINT
from bcseg_calibration.quantize import TARGETS, Target
from bcseg_calibration.ranges import RANGE_METHODS, RangeMethod
from bcseg_calibration.rescue import Progress
from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.passport import NOT_MEASURED, Accuracy, Passport, file_sha256, passport_path
from bcseg_export.calibrate import load_calibration
from bcseg_export.gate import Gate, refusal, refuse_overlap
from bcseg_export.onnx_graph import build_graph, round_weights
from bcseg_export.parity.frames import collect_frames
from bcseg_export.patches import collect_patches
from bcseg_export.reduced import Int8Options, write_half, write_int8
from bcseg_export.reduced_report import write_reduced_report
from bcseg_export.verify import verify
from bcseg_train.models import SegmentationNet, load_checkpoint
from bcseg_train.predictors import TorchBackend, checkpoint_passport

SUFFIX = ".onnx"
PRECISIONS = ("fp32", "fp16", "int8")
DEFAULT_TARGET: dict[str, Target] = {"fp16": "tensorrt", "int8": "cpu"}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export and where to.

    Attributes:
        checkpoint: Lightning `.ckpt`, or a shipped `.onnx` whose weights are read back.
        output: `.onnx` file to write; its passport goes beside it.
        precision: of the arithmetic: fp32, fp16 or int8. Weights are stored as float16 in fp32 files too.
        target: what executes an int8 file: cpu or tensorrt; fp16 is for tensorrt. None takes what fits.
        data: BUSI-like folder that the gate compares on; None takes seeded phantom frames.
        split: of that folder, for fp16 and int8; None takes `val` of its `busi_split.csv`.
        patches: how many, for fp32.
        max_images: how many at most, for fp16 and int8; None takes all.
        calibration: set that `bcseg-edge calibrate` wrote, or a folder or video to choose one from; fp16 and int8
            need it.
        ranges: how int8 ranges are measured: minmax, entropy or percentile.
        grouped: quantize convolutions with several groups (ResNeXt's) too.
        rescue: keep the layers precise that lose lesions, until the gate holds.
        accept_parity_loss: write a file that fails the gate; its passport and every `run` say so.
        report: folder for the gate's report and the picture of the layers; None writes none.
        accuracy: `report.json` that `bcseg-edge evaluate` wrote for this checkpoint, for the passport.
        name: of the model; None takes the output's stem.
        progress: of the ranking of layers, called with (layers done, layers in all).
    """

    checkpoint: Path
    output: Path
    precision: str = "fp32"
    target: str | None = None
    data: Path | None = None
    split: str | None = None
    patches: int = 32
    max_images: int | None = None
    calibration: Path | None = None
    ranges: str = "minmax"
    grouped: bool = True
    rescue: bool = True
    accept_parity_loss: bool = False
    report: Path | None = None
    accuracy: Path | None = None
    name: str | None = None
    progress: Progress | None = None


def export(options: ExportOptions) -> Path:
    """Export a checkpoint to ONNX, compare the file with PyTorch, and only then give it its name.

    Returns:
        The written file.

    Raises:
        DataError: an option does not fit, the data folder is not sound, or the place cannot be written.
        ModelError: the checkpoint is missing or damaged.
        ParityError: the file does not say what PyTorch says; nothing was written.
    """
    _check_options(options)
    # The passport is renamed last: a model file without one is refused, a passport without a file is harmless.
    with atomic_path(passport_path(options.output)) as passport_file, atomic_path(options.output) as onnx_file:
        passport = _export(options, onnx_file)
        passport_file.write_text(passport.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return options.output


def _export(options: ExportOptions, onnx_file: Path) -> Passport:
    """Write the graph to a temporary file, hold it against PyTorch, and return its passport."""
    network, info = load_checkpoint(options.checkpoint)
    passport = checkpoint_passport(network, info, options.name or options.output.stem)
    passport = passport.model_copy(update={"accuracy": _accuracy(options, passport)})
    if options.precision != "fp32":
        return _export_reduced(options, onnx_file, network, passport)
    patches, data = collect_patches(options.data, info.window_hw, info.tiling, options.patches)
    round_weights(network)
    onnx.save(build_graph(network, info.window_hw), onnx_file)
    passport = passport.model_copy(update={"sha256": file_sha256(onnx_file), "weights": "float16"})
    parity = verify(TorchBackend(network).infer, onnx_file, passport, patches, data)
    return passport.model_copy(update={"parity": parity})


def _export_reduced(options: ExportOptions, path: Path, network: SegmentationNet, passport: Passport) -> Passport:
    """Write the FP16 or INT8 graph, judge it through the frame path, and return its passport.

    Figures of the float32 checkpoint are not this file's: they are left out, and `evaluate --record` measures them.
    """
    if options.calibration is None:
        raise DataError(f"--precision {options.precision} needs --calibration", CALIBRATE_HINT)
    chosen = load_calibration(options.calibration, passport.window_hw, passport.tiling)
    frames = collect_frames(options.data, options.split, options.max_images)
    refuse_overlap(frames, chosen)
    round_weights(network)
    gate = Gate(network, passport, frames)
    graph = build_graph(network, passport.window_hw)
    passport = passport.model_copy(update={"accuracy": NOT_MEASURED})
    if options.precision == "fp16":
        reduced = write_half(graph, path, passport, chosen, gate)
    else:
        target = cast(Target, options.target or DEFAULT_TARGET[options.precision])
        method = cast(RangeMethod, options.ranges)
        int8 = Int8Options(target, method, options.grouped, options.rescue, options.progress)
        reduced = write_int8(graph, path, passport, chosen, gate, int8)
    if options.report is not None:
        write_reduced_report(reduced, gate, options.report)
    if not reduced.passed and not options.accept_parity_loss:
        raise refusal(reduced.judgement, reduced.attempts)
    return reduced.passport


def _check_options(options: ExportOptions) -> None:
    for what, value, choices in (
        ("precision", options.precision, PRECISIONS),
        ("target", options.target, (None, *TARGETS)),
        ("ranges", options.ranges, RANGE_METHODS),
    ):
        if value not in choices:
            raise DataError(f"unknown {what} '{value}'", f"choose one of: {', '.join(filter(None, choices))}")
    if options.precision == "fp32" and options.target is not None:
        raise DataError("--target is of int8 files; an fp32 file serves all", "leave --target out")
    if options.precision == "fp16" and options.target == "cpu":
        raise DataError(
            "fp16 is for TensorRT: CPUs calculate in float32", "leave --target out, or export --precision int8"
        )
    if options.output.suffix != SUFFIX:
        raise DataError(f"--output {options.output} does not end in {SUFFIX}", "give --output FILE.onnx")
    if options.output.resolve() == options.checkpoint.resolve():
        raise DataError("--output is the checkpoint itself", "give --output another name")


def _accuracy(options: ExportOptions, passport: Passport) -> Accuracy | str:
    """The figures of an evaluation's report, after checking that they are this checkpoint's."""
    if options.accuracy is None:
        return NOT_MEASURED
    hint = "write it with: bcseg-edge evaluate CHECKPOINT --data DIR --report DIR"
    try:
        report = json.loads(options.accuracy.read_bytes())
        accuracy, measured = Accuracy.model_validate(report["accuracy"]), report["model"]["sha256"]
    except OSError as error:
        raise DataError(f"no report at {options.accuracy}: {error.strerror}", hint) from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(f"{options.accuracy} is not the report.json of an evaluation", hint) from error
    if measured != passport.source_sha256:
        raise DataError(
            f"{options.accuracy.name} was measured on another model: sha256 {str(measured)[:12]}..., "
            f"the checkpoint has {str(passport.source_sha256)[:12]}...",
            hint,
        )
    return accuracy
