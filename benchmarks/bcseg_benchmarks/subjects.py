"""The models to measure: shipped or given files, random weights exported on the fly, INT8 made for speed alone."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bcseg_edge.backends import AUTO, CUDA_BACKENDS
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.models import CPU_FILES, GPU_FILES, PRECISIONS, read_model
from bcseg_edge.passport import Passport, Tiling, file_sha256, passport_path, read_passport, write_passport
from bcseg_edge.tiling import TILINGS

if TYPE_CHECKING:
    import onnx

    from bcseg_calibration.quantize import Target
    from bcseg_edge.passport import Precision
    from bcseg_train.models import SegmentationNet

SHIPPED = "the file's own"
RANDOM = "random weights: speed only"
UNGATED = "INT8 without calibration set and gate: speed only"
RANDOM_WINDOW_HW = (256, 256)  # what the paper's models take, in the paper's tiling
RANDOM_TILING: Tiling = "paper"
BACKGROUND_BIAS = 100.0
CALIBRATION_PATCHES = 8  # any ranges will do where only speed is looked at


@dataclass(frozen=True, slots=True)
class Subject:
    """A model file to measure.

    Attributes:
        name: of the model, with the tiling where the command names one: `resnext50@paper`.
        precision: of its arithmetic: fp32, fp16 or int8.
        path: `.onnx` or `.engine`, its passport beside it.
        passport: of that file.
        weights: where they come from, in words; what only shows speed says so.
        reference: float32 file that PyTorch reads the same weights from; None where there is none.
        tiling: named in the command; None leaves it to the option of that name, or to the passport.
    """

    name: str
    precision: str
    path: Path
    passport: Passport
    weights: str
    reference: Path | None
    tiling: Tiling | None = None

    @property
    def title(self) -> str:
        """`edge int8`."""
        return f"{self.name} {self.precision}"

    @property
    def random(self) -> bool:
        """Whether its labels mean nothing."""
        return self.weights.startswith(RANDOM)


def open_subjects(
    models: tuple[str, ...],
    random_weights: tuple[str, ...],
    precisions: tuple[str, ...],
    folder: Path,
    backend: str = AUTO,
) -> list[Subject]:
    """Find or make every model file to measure.

    `NAME@TILING` names a tiling, so that one report can hold a model in several: `resnext50@frame`, `resnext50@paper`.

    Args:
        models: names of shipped models, or model files.
        random_weights: architectures to measure with random weights.
        precisions: fp32, fp16, int8, made where a file is missing; empty takes the files as they are, and float32
            for random weights.
        folder: for the files that are made; it has to outlive the subjects.
        backend: what will execute them: which file a name stands for, and what INT8 is made for.

    Raises:
        ModelError: no such model, or a damaged file.
        DataError: an unknown architecture or precision.
        BcsegError: INT8 of a file that PyTorch cannot read.
    """
    unknown = set(precisions) - set(PRECISIONS)
    if unknown:
        raise DataError(f"cannot measure precision {sorted(unknown)[0]!r}", "give --precision fp32, fp16 or int8")

    @cache  # two tilings of a model share its files
    def files(model: str, random: bool) -> list[Subject]:
        made = folder / ("random" if random else "made")  # apart, since both may hold a resnext50
        made.mkdir(exist_ok=True)
        found = _random(model, made) if random else _shipped(model, backend)
        wanted = precisions or (found.precision,)
        return [found if one == found.precision else _in_precision(found, one, made, backend) for one in wanted]

    asked = [(text, False) for text in models] + [(text, True) for text in random_weights]
    subjects: dict[tuple[str, str], Subject] = {}
    for text, random in asked:
        model, tiling = _named_tiling(text)
        for file in files(model, random):
            name = file.name if tiling is None else f"{file.name}@{tiling}"
            subjects.setdefault((name, file.precision), replace(file, name=name, tiling=tiling))
    return list(subjects.values())


def _named_tiling(text: str) -> tuple[str, Tiling | None]:
    """`resnext50@paper` as model and tiling."""
    for tiling in TILINGS:
        if text.endswith(f"@{tiling}"):
            return text.removesuffix(f"@{tiling}"), tiling
    return text, None


def _shipped(model: str, backend: str) -> Subject:
    found = read_model(model, backend)
    passport = found.passport
    trained = found.path.suffix == ".onnx" and passport.precision == "fp32"
    reference = found.path if trained else _float_sibling(found.path)
    return Subject(passport.name, passport.precision, found.path, passport, SHIPPED, reference)


def _float_sibling(path: Path) -> Path | None:
    """`edge.onnx` beside `edge.int8.onnx` or `edge.engine`, where it is a float32 model."""
    sibling = path.with_name(f"{path.name.split('.')[0]}.onnx")
    if sibling == path or not passport_path(sibling).is_file():
        return None
    return sibling if read_passport(sibling).precision == "fp32" else None


def _in_precision(subject: Subject, precision: str, folder: Path, backend: str) -> Subject:
    """The same model in another precision, for `backend`: the file beside it, or one that is made."""
    on_gpu = backend in CUDA_BACKENDS
    suffixes = GPU_FILES if on_gpu else CPU_FILES
    beside = subject.path.with_name(subject.name + suffixes[cast("Precision", precision)])
    if precision == "fp32" and subject.reference is not None:
        passport = read_passport(subject.reference)
        return Subject(subject.name, "fp32", subject.reference, passport, subject.weights, subject.reference)
    if beside.is_file():
        return Subject(subject.name, precision, beside, read_passport(beside), subject.weights, subject.reference)
    if precision == "int8" and subject.reference is not None:
        return _quantized(subject, subject.reference, folder / beside.name, "tensorrt" if on_gpu else "cpu")
    if precision == "fp16" and subject.reference is not None:
        return _halved(subject, subject.reference, folder)
    raise BcsegError(f"there is no {precision} file of {subject.path.name}", f"leave --precision {precision} out")


def _halved(subject: Subject, reference: Path, folder: Path) -> Subject:
    import onnx

    from bcseg_calibration.half import to_half
    from bcseg_calibration.prepare import fold

    path = folder / f"{subject.name}.fp16.onnx"
    onnx.save(to_half(fold(onnx.load(reference))), path)
    changes = {"sha256": file_sha256(path), "precision": "fp16", "accuracy": "not measured", "parity": "not measured"}
    passport = read_passport(reference).model_copy(update=changes)
    write_passport(passport, path)
    return Subject(subject.name, "fp16", path, passport, subject.weights, reference)


def _random(architecture: str, folder: Path) -> Subject:
    import onnx

    try:
        import torch
    except ImportError as error:
        raise BcsegError(
            "random weights are made by PyTorch, which is not installed",
            'leave --random-weights out, or: pip install "bcseg-edge[bench]"',
        ) from error

    from bcseg_export.onnx_graph import build_graph, round_weights
    from bcseg_train.models import SegmentationNet, find_spec

    torch.manual_seed(0)
    network = SegmentationNet(find_spec(architecture)).eval()
    # Random labels are thousands of specks, which no frame has: background everywhere costs what most frames cost.
    with torch.no_grad():
        towards_background = -1 if network.class_head is not None else 1  # one output there: evidence for a lesion
        network.unet.segmentation_head[0].bias[0] = towards_background * BACKGROUND_BIAS
    round_weights(network)
    path = folder / f"{architecture}.onnx"
    onnx.save(build_graph(network, RANDOM_WINDOW_HW), path)
    passport = _random_passport(network, path, RANDOM_WINDOW_HW, RANDOM_TILING)
    write_passport(passport, path)
    return Subject(architecture, "fp32", path, passport, RANDOM, path)


def _random_passport(network: SegmentationNet, path: Path, window_hw: tuple[int, int], tiling: Tiling) -> Passport:
    from bcseg_train.models import CheckpointInfo
    from bcseg_train.predictors import checkpoint_passport

    info = CheckpointInfo(network.spec, window_hw, tiling, file_sha256(path))
    return checkpoint_passport(network, info, path.stem).model_copy(
        update={"weights": "float16", "source_sha256": None, "created": datetime.date.today().isoformat()}
    )


def _quantized(subject: Subject, reference: Path, path: Path, target: Target) -> Subject:
    import onnx

    from bcseg_calibration.half import overflowing_nodes, to_half
    from bcseg_calibration.prepare import fold
    from bcseg_calibration.quantize import quantize, symmetric_ranges
    from bcseg_calibration.ranges import measure_ranges
    from bcseg_export.patches import collect_patches

    passport = read_passport(reference)
    patches, _ = collect_patches(None, passport.window_hw, passport.tiling, CALIBRATION_PATCHES)
    folded = fold(onnx.load(reference))
    ranges = measure_ranges(folded, patches, "minmax", symmetric=symmetric_ranges(target))
    quantized: onnx.ModelProto = quantize(folded, ranges, target)
    if target == "tensorrt":  # what is not INT8 is float16 there, as in a file that is shipped
        quantized = to_half(quantized, overflowing_nodes(folded, ranges))
    onnx.save(quantized, path)
    passport = passport.model_copy(
        update={
            "sha256": file_sha256(path),
            "precision": "int8",
            "target": target,
            "weights": "int8",
            "accuracy": "not measured",
            "parity": "not measured",
        }
    )
    write_passport(passport, path)
    weights = f"{subject.weights}; {UNGATED}" if subject.random else UNGATED
    return Subject(subject.name, "int8", path, passport, weights, reference)
