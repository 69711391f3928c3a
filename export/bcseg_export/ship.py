"""`make ship MODEL=edge`: derives every file that is shipped beside a model's float32 weights, each behind the gate.

From `NAME.onnx` come `NAME.int8.onnx` for the CPU and `NAME.fp16.onnx` for TensorRT. A file whose gate fails is not
written, and the one of earlier weights that lay there is removed: a file of other weights must not be shipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import onnx
import typer

from bcseg_calibration.calibration_set import CalibrationSet, save
from bcseg_edge.files import atomic_path, write_text_atomic
from bcseg_edge.models import CPU_FILES, find_model
from bcseg_edge.passport import NOT_MEASURED, Passport, Precision, passport_path, read_passport
from bcseg_edge.told import errors_told
from bcseg_export.calibrate import choose_from
from bcseg_export.gate import Gate, refuse_overlap
from bcseg_export.onnx_graph import build_graph, round_weights
from bcseg_export.parity.frames import collect_frames
from bcseg_export.parity.report import write_report
from bcseg_export.parity.table import comparison_table
from bcseg_export.reduced import Int8Options, Reduced, write_half, write_int8
from bcseg_export.reduced_report import write_reduced_report
from bcseg_train.evaluate import EvaluateOptions, evaluate
from bcseg_train.models import load_checkpoint
from bcseg_train.predictors import checkpoint_passport

Tell = Callable[[str], None]
DERIVED: tuple[Precision, ...] = ("int8", "fp16")


@dataclass(frozen=True, slots=True)
class ShipOptions:
    """What to derive from.

    Attributes:
        model: a shipped model's name, or its `NAME.onnx`.
        data: BUSI-like folder with its split: calibration draws on train, the gate and the accuracy on val.
        report: folder for the calibration set, the gate's reports and the table.
    """

    model: str | Path
    data: Path
    report: Path


def ship(options: ShipOptions, tell: Tell = lambda text: None) -> tuple[Path, ...]:
    """Derive the files.

    Args:
        options: see there.
        tell: called with a line for each step.

    Returns:
        The files that were written; one that the gate refused is missing.

    Raises:
        DataError: the data does not fit.
        ModelError: no such model, or a damaged one.
    """
    reference = find_model(options.model, precision="fp32")
    network, info = load_checkpoint(reference)
    chosen = choose_from(str(options.data), info.window_hw, info.tiling)
    save(chosen, options.report / "calibration.npz")
    tell(f"calibration: {len(chosen.patches)} patches of {chosen.data}")
    frames = collect_frames(options.data)
    refuse_overlap(frames, chosen)
    round_weights(network)
    passport = checkpoint_passport(network, info, reference.stem).model_copy(update={"accuracy": NOT_MEASURED})
    gate = Gate(network, passport, frames)
    tell(f"reference: {len(frames.frames)} frames of {frames.data} on PyTorch")
    for backend, report in gate.judge(reference, read_passport(reference)).reports.items():
        write_report(report, options.report / "fp32" / backend)
    source = _Source(build_graph(network, info.window_hw), passport, chosen, gate)
    written = []
    for precision in DERIVED:
        path = reference.with_name(reference.stem + CPU_FILES[precision])
        started_s = time.perf_counter()
        reduced = _derive(path, precision, source)
        write_reduced_report(reduced, gate, options.report / precision)
        tell(f"{path.name}: {_verdict(reduced)}, {time.perf_counter() - started_s:.0f} s")
        if reduced.passed:
            if reduced.passport.target != "tensorrt":  # whose figures a GPU has to measure
                evaluate(EvaluateOptions(path, options.data, record=True))
            written.append(path)
    table = comparison_table(sorted(options.report.glob("*/*/parity.json")))
    write_text_atomic(options.report / "table.md", table)
    tell(table)
    return tuple(written)


@dataclass(frozen=True, slots=True)
class _Source:
    """What files are derived from: the float32 graph and its passport, the calibration set, the gate."""

    graph: onnx.ModelProto
    passport: Passport
    chosen: CalibrationSet
    gate: Gate

    def write(self, path: Path, precision: Precision) -> Reduced:
        given = (self.graph, path, self.passport, self.chosen, self.gate)
        return write_half(*given) if precision == "fp16" else write_int8(*given, Int8Options("cpu"))


def _derive(path: Path, precision: Precision, source: _Source) -> Reduced:
    """Write one file with its passport under its name where the gate holds; remove what lay there where it does not."""
    with atomic_path(passport_path(path)) as passport_file, atomic_path(path) as model_file:
        reduced = source.write(model_file, precision)
        passport_file.write_text(reduced.passport.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if not reduced.passed:
        path.unlink()
        passport_path(path).unlink()
    return reduced


def _verdict(reduced: Reduced) -> str:
    kept = f"{len(reduced.passport.layer_damage)} layers kept precise"
    if reduced.passed:
        return f"passed with {kept}, lowest Dice {reduced.judgement.lowest_dice:.4f}"
    return f"REFUSED: {'; '.join(reduced.judgement.failures)}"


def main(
    data: Annotated[Path, typer.Option(help="BUSI folder with busi_split.csv in or beside it.")],
    model: Annotated[str, typer.Option(help="A shipped model's name, or its NAME.onnx.")] = "edge",
    report: Annotated[Path, typer.Option(help="Folder for the gate's reports and the table.")] = Path("out/ship"),
) -> None:
    """Derive a model's INT8 and FP16 files from its float32 weights; exit 3 where the gate refused one."""
    started_s = time.perf_counter()
    with errors_told():
        written = ship(ShipOptions(model, data, report), lambda text: typer.echo(text))
    typer.echo(
        f"{', '.join(path.name for path in written) or 'nothing'} written in {time.perf_counter() - started_s:.0f} s"
    )
    if len(written) < 2:
        raise typer.Exit(3)


if __name__ == "__main__":
    typer.run(main)
