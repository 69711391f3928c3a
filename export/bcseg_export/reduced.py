"""FP16 and INT8 graphs, made more precise layer by layer until the gate holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from bcseg_calibration.bias import correct_biases, measure_shifts
from bcseg_calibration.calibration_set import CalibrationSet
from bcseg_calibration.half import overflowing_nodes, to_half
from bcseg_calibration.prepare import fold, layer_names
from bcseg_calibration.quantize import Target, quantize, symmetric_ranges
from bcseg_calibration.ranges import RangeMethod, measure_ranges
from bcseg_calibration.rescue import LayerDamage, Progress, rank_layers, rescue_steps
from bcseg_edge.frames import UInt8Array
from bcseg_edge.passport import Passport, file_sha256
from bcseg_export.damage import DamageMeter
from bcseg_export.gate import Gate, Judgement

# A range of float16's size is wide enough to be seen on a few patches.
FP16_PATCHES = 16
BIAS_PATCHES = 32  # a mean over 32 patches' pixels is known well


@dataclass(frozen=True, slots=True)
class Reduced:
    """A file of reduced precision that was written and judged.

    Attributes:
        passport: of the file, with its parity.
        judgement: the gate's.
        damages: of every layer, the worst first; empty where none had to be measured.
        attempts: what was tried and failed before, in words.
    """

    passport: Passport
    judgement: Judgement
    damages: tuple[LayerDamage, ...] = ()
    attempts: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.judgement.failures

    @property
    def summary(self) -> str:
        """The attempt in words, for an error that lists several."""
        return f"with {len(self.passport.layer_damage)} layers kept the lowest Dice is {self.judgement.lowest_dice:.4f}"


@dataclass(frozen=True, slots=True)
class Int8Options:
    """How to quantize.

    Attributes:
        target: what executes the file.
        ranges: method that measures them.
        grouped: quantize convolutions with several groups too.
        rescue: keep the layers precise that lose lesions, until the gate holds.
        progress: of the ranking, called with (layers done, layers in all).
    """

    target: Target
    ranges: RangeMethod = "minmax"
    grouped: bool = True
    rescue: bool = True
    progress: Progress | None = None


def write_half(graph: onnx.ModelProto, path: Path, passport: Passport, chosen: CalibrationSet, gate: Gate) -> Reduced:
    """Write the FP16 file for TensorRT and judge it.

    Args:
        graph: float32, as `build_graph` gives it.
        passport: of the float32 model.
        chosen: patches that show which activations float16 cannot hold.
    """
    folded = fold(graph)
    ranges = measure_ranges(folded, _some(chosen.patches, FP16_PATCHES), "minmax", symmetric=False)
    keep = overflowing_nodes(folded, ranges)
    onnx.save(to_half(folded, keep), path)
    passport = passport.model_copy(
        update={
            "precision": "fp16",
            "target": "tensorrt",
            "weights": "float16",
            "layers": dict.fromkeys(keep, "fp32"),
            "calibration_sha256": chosen.digest,
        }
    )
    return _judge(gate, path, passport)


def write_int8(
    graph: onnx.ModelProto, path: Path, passport: Passport, chosen: CalibrationSet, gate: Gate, options: Int8Options
) -> Reduced:
    """Write the INT8 file and judge it; where it fails, keep ever more of the worst layers in floating point.

    What is not quantized is float32 for the CPU and float16 for TensorRT.

    Args:
        graph: float32, as `build_graph` gives it.
        passport: of the float32 model.

    Returns:
        The first file that the gate lets pass, or the best where none does.
    """
    writer = _Int8Writer(graph, path, passport, chosen, gate, options)
    best = writer.write(())
    if best.passed or not options.rescue:
        return best
    damages = writer.rank()
    attempts = [best.summary]
    for kept in rescue_steps(damages):
        step = writer.write(kept)
        if step.passed:
            return replace(step, damages=damages, attempts=tuple(attempts))
        attempts.append(step.summary)
        best = max(best, step, key=lambda reduced: reduced.judgement.lowest_dice)
    # What lies at `path` is the last attempt, not the best.
    again = writer.write(tuple(damage for damage in damages if damage.name in best.passport.layer_damage))
    return replace(again, damages=damages, attempts=tuple(attempts))


class _Int8Writer:
    """A folded model with its ranges, quantized to one file with any layers kept, and judged."""

    def __init__(
        self,
        graph: onnx.ModelProto,
        path: Path,
        passport: Passport,
        chosen: CalibrationSet,
        gate: Gate,
        options: Int8Options,
    ) -> None:
        self._folded = fold(graph)
        self._path, self._passport, self._chosen, self._gate, self._options = path, passport, chosen, gate, options
        symmetric = symmetric_ranges(options.target)
        self._ranges = measure_ranges(self._folded, chosen.patches, options.ranges, symmetric=symmetric)
        self._layers = layer_names(self._folded, grouped=options.grouped)
        self._always_kept = tuple(name for name in layer_names(self._folded) if name not in self._layers)
        self._wide = overflowing_nodes(self._folded, self._ranges)
        few = _some(chosen.patches, BIAS_PATCHES)
        self._shifts = measure_shifts(self._folded, self._ranges, options.target, few, self._always_kept)

    def write(self, kept: tuple[LayerDamage, ...]) -> Reduced:
        """Write the file with `kept` in floating point, and judge it."""
        names = (*self._always_kept, *(damage.name for damage in kept))
        corrected = correct_biases(
            self._folded, {name: self._shifts[name] for name in self._shifts if name not in names}
        )
        model = quantize(corrected, self._ranges, self._options.target, names)
        for_gpu = self._options.target == "tensorrt"
        onnx.save(to_half(model, self._wide) if for_gpu else model, self._path)
        passport = self._passport.model_copy(
            update={
                "precision": "int8",
                "target": self._options.target,
                "weights": "int8",
                "layers": {name: "fp16" if for_gpu and name not in self._wide else "fp32" for name in names},
                "layer_damage": {damage.name: round(damage.damage, 6) for damage in kept},
                "calibration_sha256": self._chosen.digest,
            }
        )
        return _judge(self._gate, self._path, passport)

    def rank(self) -> tuple[LayerDamage, ...]:
        """Damage of each layer, the worst first."""
        meter = DamageMeter(self._folded, self._chosen, self._options.target)
        options = self._options

        def quantize_alone(name: str) -> onnx.ModelProto:
            corrected = correct_biases(self._folded, {name: self._shifts[name]})
            others = set(layer_names(self._folded)) - {name}
            return quantize(corrected, self._ranges, options.target, others, around=False)

        return rank_layers(self._layers, lambda name: meter(quantize_alone(name)), options.progress)


def _some(patches: UInt8Array, count: int) -> UInt8Array:
    """About `count` of the patches, all over the set: benign images come first in it."""
    return patches[:: max(1, len(patches) // count)]


def _judge(gate: Gate, path: Path, passport: Passport) -> Reduced:
    passport = passport.model_copy(update={"sha256": file_sha256(path)})
    judgement = gate.judge(path, passport)
    return Reduced(passport.model_copy(update={"parity": judgement.parity()}), judgement)
