"""Exports a checkpoint: graph, gate, passport; the file gets its name only when the gate holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import ValidationError

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.passport import NOT_MEASURED, Accuracy, Passport, file_sha256, passport_path
from bcseg_export.onnx_graph import build_graph, round_weights
from bcseg_export.patches import collect_patches
from bcseg_export.verify import verify
from bcseg_train.models import load_checkpoint
from bcseg_train.predictors import TorchBackend, checkpoint_passport

SUFFIX = ".onnx"
PRECISIONS = ("fp32",)
PLANNED_PRECISIONS = ("fp16", "int8")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export and where to.

    Attributes:
        checkpoint: Lightning `.ckpt`, or a shipped `.onnx` whose weights are read back.
        output: `.onnx` file to write; its passport goes beside it.
        precision: of the arithmetic. Weights are stored as float16 in any case.
        data: BUSI-like folder whose patches the gate compares on; None takes seeded phantom frames.
        patches: how many.
        accuracy: `report.json` that `bcseg-edge evaluate` wrote for this checkpoint, for the passport.
        name: of the model; None takes the output's stem.
    """

    checkpoint: Path
    output: Path
    precision: str = "fp32"
    data: Path | None = None
    patches: int = 32
    accuracy: Path | None = None
    name: str | None = None


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
    accuracy = _accuracy(options, passport)
    patches, data = collect_patches(options.data, info.window_hw, info.tiling, options.patches)
    round_weights(network)
    onnx.save(build_graph(network, info.window_hw), onnx_file)
    passport = passport.model_copy(
        update={"sha256": file_sha256(onnx_file), "weights": "float16", "accuracy": accuracy}
    )
    parity = verify(TorchBackend(network).infer, onnx_file, passport, patches, data)
    return passport.model_copy(update={"parity": parity})


def _check_options(options: ExportOptions) -> None:
    if options.precision in PLANNED_PRECISIONS:
        raise DataError(
            f"--precision {options.precision} is not part of this version", "export fp32: bcseg-edge export CHECKPOINT"
        )
    if options.precision not in PRECISIONS:
        raise DataError(f"unknown precision '{options.precision}'", f"choose one of: {', '.join(PRECISIONS)}")
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
