"""Builds a TensorRT plan of a model file, unless the plan is there already; writes its passport beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcseg_edge.backends import PLAN_SUFFIX, available_backends, create_backend
from bcseg_edge.backends.tensorrt import import_tensorrt
from bcseg_edge.cuda.driver import Gpu, cuda_version, find_gpu, require_gpu
from bcseg_edge.errors import BackendUnavailable, DataError, ModelError, ParityError
from bcseg_edge.files import atomic_path, cache_folder, write_bytes_atomic, write_text_atomic
from bcseg_edge.models import LoadedModel, Model, read_model
from bcseg_edge.passport import (
    NOT_MEASURED,
    Compiled,
    Parity,
    Passport,
    Profile,
    file_sha256,
    passport_path,
    read_passport,
    write_passport,
)
from bcseg_edge.plans import RuntimeName, this_platform
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TileGrid
from bcseg_export.build_progress import BuildProgress
from bcseg_export.plan_builder import PlanSettings, build_plan, layer_table

if TYPE_CHECKING:
    from bcseg_edge.passport import Precision, Tiling

RUNTIMES: tuple[RuntimeName, ...] = ("tensorrt", "tensorrt-rtx")
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What to build and where to.

    Attributes:
        model: `.onnx` file, or a shipped model's name.
        output: `.engine` file to write; its passport goes beside it.
        frame_sizes: (width, height) of the frames to come: one makes a plan for exactly its batch, several a profile
            from the smallest to the largest with the first as optimum; none takes the model's own profile.
        tiling: of those frames; None takes the model's.
        runtime: `tensorrt`, or `tensorrt-rtx`, which builds without a GPU.
        capabilities: TensorRT-RTX only: compute capabilities; none takes all that it knows.
        workspace_mib: scratch memory a layer may use; None leaves it to TensorRT.
        version_compatible, hardware_compatible: TensorRT only, see `PlanSettings`; the latter not on a Jetson.
        layers: JSON file for the engine inspector's layer table; needs a GPU.
        precision: of a shipped model's file; None takes FP16 where there is one.
        data: BUSI-like folder that the gate compares on, a plan that is there already too; None takes seeded phantom
            frames, and leaves a plan that was measured as it is.
    """

    model: str | Path
    output: Path
    frame_sizes: tuple[tuple[int, int], ...] = ()
    tiling: Tiling | None = None
    runtime: RuntimeName = "tensorrt"
    capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    layers: Path | None = None
    precision: Precision | None = None
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What `build` did.

    Attributes:
        path: the plan.
        passport: its passport.
        reused: the plan was there already, built from the same inputs by the same versions.
    """

    path: Path
    passport: Passport
    reused: bool


def build(options: BuildOptions) -> BuildResult:
    """Build a plan and, where there is a GPU, compare it with the file that it was built from.

    Two processes may build the same output at once: one waits for the other and reuses its plan.

    Raises:
        DataError: an option does not fit, or the place cannot be written.
        ModelError: no such model, or the runtime cannot parse it.
        BackendUnavailable: TensorRT is not installed, there is no GPU for it, or `data` is given and nothing judges.
        BuildError: the runtime built no plan.
        ParityError: the plan does not say what its source says; a new plan is not written, one that was there is
            refused from now on.
    """
    _check_options(options)
    if options.runtime == "tensorrt" or options.layers is not None:
        require_gpu()  # TensorRT crashes without one
    gpu = find_gpu()
    if options.hardware_compatible and gpu is not None and gpu.integrated:
        raise DataError("TensorRT builds no hardware-compatible plans on a Jetson", "leave --hardware-compatible out")
    trt = import_tensorrt(options.runtime)
    model = read_model(options.model, "tensorrt", options.precision)
    if model.path.suffix != ".onnx":
        raise ModelError(f"build takes an .onnx file, got {model.path.name}", "name the file that it was built from")
    if model.passport.target == "cpu":
        raise ModelError(
            f"{model.path.name} is quantized for the CPU: TensorRT takes no unsigned activations",
            "export it with --target tensorrt, or build from the fp16 file",
        )
    judge = _judge(options, model.passport, gpu)
    settings = _settings(options, model.passport)
    compiled = _compiled(options, settings, model.passport, trt.__version__, gpu)
    with _locked(options.output):
        there = _existing(options, compiled.key)
        if there is not None:
            return BuildResult(options.output, _measured(options, judge, model, there), reused=True)
        passport = _build(options, settings, model.path, model.passport, compiled, trt, judge)
    return BuildResult(options.output, passport, reused=False)


def _build(
    options: BuildOptions,
    settings: PlanSettings,
    source: Path,
    source_passport: Passport,
    compiled: Compiled,
    trt: Any,
    judge: str | None,
) -> Passport:
    timing_cache = _timing_cache(compiled)
    # Opened before a build of minutes, so that a folder that cannot be written is told at once. The passport is renamed
    # last: a plan without one is refused.
    with atomic_path(passport_path(options.output)) as passport_file, atomic_path(options.output) as plan_file:
        with BuildProgress() as progress:
            earlier = timing_cache.read_bytes() if timing_cache.is_file() else b""
            built = build_plan(trt, source.read_bytes(), settings, earlier, progress)
        if built.timing_cache:
            write_bytes_atomic(timing_cache, built.timing_cache)
        plan_file.write_bytes(built.plan)
        passport = source_passport.model_copy(
            update={
                "sha256": file_sha256(plan_file),
                "profile": settings.profile,
                "compiled": compiled,
                "accuracy": NOT_MEASURED,  # the source's figures are those of another engine
                "parity": NOT_MEASURED,
                "created": datetime.date.today().isoformat(),
            }
        )
        if judge is not None:
            gate = _gate(judge, source, source_passport, plan_file, passport, options.data)
            if not gate.passed:
                raise _refusal(gate, "nothing was written")
            passport = passport.model_copy(update={"parity": gate})
        passport_file.write_text(passport.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if options.layers is not None:
        write_text_atomic(options.layers, layer_table(trt, built.plan))
    return passport


def _measured(options: BuildOptions, judge: str | None, model: Model, there: Passport) -> Passport:
    """The passport of the plan that is there, after the gate where one was asked for or was not possible before."""
    if judge is None or (options.data is None and there.parity != NOT_MEASURED):
        return there
    gate = _gate(judge, model.path, model.passport, options.output, there, options.data)
    if not gate.passed:
        passport_path(options.output).unlink()  # a plan without one is refused
        raise _refusal(gate, f"{options.output.name} lost its passport, so that it will not run")
    passport = there.model_copy(update={"parity": gate})
    write_passport(passport, options.output)
    return passport


def _check_options(options: BuildOptions) -> None:
    if options.output.suffix != PLAN_SUFFIX:
        raise DataError(f"--output names {options.output.name}, a plan ends in {PLAN_SUFFIX}", "name FILE.engine")
    if options.runtime not in RUNTIMES:
        raise DataError(f"unknown runtime {options.runtime!r}", f"choose one of: {', '.join(RUNTIMES)}")
    if options.workspace_mib is not None and options.workspace_mib < 1:
        raise DataError(f"--workspace {options.workspace_mib} MiB is no room", "give at least 1")
    if options.capabilities and options.runtime == "tensorrt":
        raise DataError(
            "--capability was given, but TensorRT builds for the GPU of this machine",
            "leave it out, or build with --runtime rtx",
        )
    if options.runtime == "tensorrt-rtx" and (options.version_compatible or options.hardware_compatible):
        # It has no lean runtime to put into a plan, and takes no notice of the other.
        raise DataError(
            "TensorRT-RTX has neither version-compatible nor hardware-compatible plans",
            "leave the switch out; its plans run on every GPU that --capability names",
        )
    if options.data is not None and not options.data.is_dir():
        raise DataError(f"no folder at {options.data}", "--data takes a folder with benign, malignant and normal in it")
    if options.data is not None and options.runtime == "tensorrt-rtx":
        raise DataError("--data was given, but no plan of TensorRT-RTX is compared with its source", "leave it out")
    unknown = [capability for capability in options.capabilities if capability not in RTX_CAPABILITIES]
    if unknown:
        raise DataError(
            f"TensorRT-RTX does not build for compute capability {', '.join(unknown)}",
            f"choose from: {', '.join(RTX_CAPABILITIES)}",
        )


def _settings(options: BuildOptions, passport: Passport) -> PlanSettings:
    rtx = options.runtime == "tensorrt-rtx"
    return PlanSettings(
        window_hw=passport.window_hw,
        profile=_profile(options, passport),
        workspace=None if options.workspace_mib is None else options.workspace_mib << 20,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        capabilities=(options.capabilities or RTX_CAPABILITIES) if rtx else (),
        detailed=options.layers is not None,
    )


def _profile(options: BuildOptions, passport: Passport) -> Profile:
    if not options.frame_sizes:
        return passport.profile
    tiling = options.tiling or passport.tiling
    counts = [TileGrid((height, width), passport.window_hw, tiling).count for width, height in options.frame_sizes]
    return Profile(min_batch=min(counts), opt_batch=counts[0], max_batch=max(counts))


def _compiled(
    options: BuildOptions, settings: PlanSettings, passport: Passport, version: str, gpu: Gpu | None
) -> Compiled:
    on_gpu = gpu is not None and options.runtime == "tensorrt"
    facts = {
        "runtime": options.runtime,
        "runtime_version": version,
        "cuda_version": cuda_version(),
        "gpu": gpu.name if gpu is not None and on_gpu else "",
        "capabilities": ("{}.{}".format(*gpu.capability),) if gpu is not None and on_gpu else settings.capabilities,
        "platform": this_platform(),
        "version_compatible": settings.version_compatible,
        "hardware_compatible": settings.hardware_compatible,
        "source_sha256": passport.sha256,
    }
    inputs = {**facts, **dataclasses.asdict(settings), "profile": settings.profile.model_dump()}
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return Compiled.model_validate({**facts, "key": key, "command": _command(options)})


def _command(options: BuildOptions) -> tuple[str, ...]:
    """What to call `bcseg-edge` with to build the plan again; what concerns its making alone is left out."""
    words = ["build", str(options.model), "--output", str(options.output)]
    for width, height in options.frame_sizes:
        words += ["--frame-size", f"{width}x{height}"]
    for name, value in (("tiling", options.tiling), ("precision", options.precision)):
        words += [f"--{name}", value] if value else []
    words += ["--runtime", "rtx"] if options.runtime == "tensorrt-rtx" else []
    for capability in options.capabilities:
        words += ["--capability", capability]
    words += ["--workspace", str(options.workspace_mib)] if options.workspace_mib is not None else []
    words += ["--version-compatible"] if options.version_compatible else []
    words += ["--hardware-compatible"] if options.hardware_compatible else []
    return tuple(words)


def _timing_cache(compiled: Compiled) -> Path:
    """Timings hold for one GPU type and one version."""
    place = f"{compiled.runtime} {compiled.runtime_version} {compiled.cuda_version} {compiled.gpu}"
    return cache_folder("timings") / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.cache"


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Hold a lock on `output` that ends with the process, however that ends."""
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    lock = cache_folder("locks") / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _existing(options: BuildOptions, key: str) -> Passport | None:
    """The passport of a whole plan of the same inputs and versions; None where one has to be built."""
    if options.layers is not None and not options.layers.is_file():
        return None
    try:
        passport = read_passport(options.output)
    except ModelError:
        return None
    return passport if passport.compiled is not None and passport.compiled.key == key else None


def _judge(options: BuildOptions, source: Passport, gpu: Gpu | None) -> str | None:
    """The CPU backend that a plan is compared with; None where it cannot be.

    Raises:
        BackendUnavailable: there is none, and `data` asks for the gate.
    """
    if gpu is None or options.runtime != "tensorrt":
        return None
    backends = available_backends(source.target)
    if backends and find_spec("scipy") is not None:  # on a Jetson with nothing but JetPack
        return backends[0]
    if options.data is not None:
        raise BackendUnavailable(
            "--data was given, but nothing here can compare the plan with its source",
            'install OpenVINO or ONNX Runtime and SciPy: pip install "bcseg-edge[tensorrt]"; or leave --data out',
        )
    return None


def _gate(
    judge: str, source: Path, source_passport: Passport, plan: Path, passport: Passport, data: Path | None
) -> Parity:
    """Compare the plan with its source on the backend `judge`, by the gate that every file passes."""
    from bcseg_export.parity.comparison import compare, segment_all
    from bcseg_export.parity.frames import collect_frames
    from bcseg_export.parity.report import key_figures
    from bcseg_export.parity.thresholds import DEFAULTS, find_failures

    frames = collect_frames(data)
    with Segmenter(LoadedModel(source_passport, create_backend(judge, source, source_passport))) as segmenter:
        expected = segment_all(segmenter, frames.frames)
    with Segmenter(LoadedModel(passport, create_backend("tensorrt", plan, passport))) as segmenter:
        received = segment_all(segmenter, frames.frames)
    comparison = compare(expected, received, frames)
    limits = DEFAULTS[passport.precision]
    failures = find_failures(comparison, limits)
    return Parity(
        reference=f"{source.name} on {judge}",
        backends=("tensorrt",),
        data=comparison.data,
        frames=len(comparison.frames),
        labels_equal=comparison.labels_equal,
        figures=key_figures(comparison, limits.lesion_px),
        failures=tuple(failures),
        passed=not failures,
    )


def _refusal(gate: Parity, outcome: str) -> ParityError:
    return ParityError(
        f"the plan does not find what its source does ({gate.reference}): {'; '.join(gate.failures)}",
        f"{outcome}; look at the layers with --layers FILE.json, or build from a file of higher precision",
    )
