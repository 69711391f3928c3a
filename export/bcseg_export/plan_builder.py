"""From an ONNX graph to a TensorRT plan: all calls of TensorRT's builder, 10.3 to 11 and TensorRT-RTX.

Precision is in the graph and the network is strongly typed, the one way that every version has: the FP16 and INT8
flags and the calibrators are gone in TensorRT 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bcseg_edge.backends.graph import INPUT, OUTPUT
from bcseg_edge.errors import BcsegError, ModelError
from bcseg_edge.passport import Profile

PARSE_HINT = "export it again with: bcseg-edge export CHECKPOINT --output FILE.onnx"


class BuildError(BcsegError):
    """TensorRT did not build the plan."""


class Progress(Protocol):
    """Told how a build goes: phases lie in each other, each has its steps."""

    def start(self, phase: str, steps: int) -> None:
        """A phase of so many steps begins."""

    def step(self, phase: str, step: int) -> bool:
        """A step is done; False stops the build."""

    def finish(self, phase: str) -> None:
        """A phase ends, done or not."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What the builder is told.

    Attributes:
        window_hw: of the model, px.
        profile: batch sizes of the plan.
        workspace: bytes a layer may use for scratch; None leaves it to TensorRT.
        version_compatible: the plan runs with later versions of the same major; slower.
        hardware_compatible: the plan runs on every GPU since Ampere; slower.
        capabilities: TensorRT-RTX only: compute capabilities to build for, such as 8.6.
        detailed: keep what the engine inspector tells of each layer.
    """

    window_hw: tuple[int, int]
    profile: Profile
    workspace: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    capabilities: tuple[str, ...] = ()
    detailed: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a build.

    Attributes:
        plan: the bytes, nothing before or after them: trtexec and DeepStream read the file too.
        timing_cache: to begin the next build with; empty where the runtime has none.
    """

    plan: bytes
    timing_cache: bytes


def build_plan(trt: Any, graph: bytes, settings: PlanSettings, timing_cache: bytes, progress: Progress) -> Built:
    """Build a plan.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`; the former needs a GPU and crashes without one.
        graph: the ONNX file's bytes.
        settings: see there.
        timing_cache: of an earlier build on the same GPU with the same version; empty for none.
        progress: told how it goes.

    Raises:
        ModelError: TensorRT cannot parse the graph.
        BuildError: it cannot build a plan of it, or `progress` stopped it.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    _parse(trt, network, logger, graph)
    _keep_logits(network)
    config = builder.create_builder_config()
    _configure(trt, config, settings)
    profile = builder.create_optimization_profile()
    batches = (settings.profile.min_batch, settings.profile.opt_batch, settings.profile.max_batch)
    profile.set_shape(INPUT, *((batch, 1, *settings.window_hw) for batch in batches))
    config.add_optimization_profile(profile)
    config.progress_monitor = _monitor(trt, progress)
    timed = not settings.capabilities  # without a GPU nothing is timed
    if timed:
        _use_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(
            f"{trt.__name__} {trt.__version__} built no plan; what it wrote to stderr says why",
            "give it more memory with --workspace, or end other programs that use the GPU",
        )
    if not timed:
        return Built(bytes(plan), b"")
    cache = config.get_timing_cache()
    return Built(bytes(plan), bytes(cache.serialize()))


def layer_table(trt: Any, plan: bytes) -> str:
    """The layers of a plan with their precisions and tactics, as JSON; needs a GPU that the plan fits."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError("the plan cannot be read back for its layer table", "build it on the GPU that it is for")
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _network_flags(trt: Any) -> int:
    wanted = [trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED]
    explicit_batch = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)  # ignored by 10, gone in 11
    if explicit_batch is not None:
        wanted.append(explicit_batch)
    return sum(1 << int(flag) for flag in wanted)


def _parse(trt: Any, network: Any, logger: Any, graph: bytes) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reason = "no reason given"
        if parser.num_errors:
            error = parser.get_error(0)
            reason = error.desc().splitlines()[0]
        raise ModelError(f"{trt.__name__} {trt.__version__} cannot parse the graph: {reason}", PARSE_HINT)


def _keep_logits(network: Any) -> None:
    """Check the graph's ends, and drop outputs for host backends: the frame path takes the logits alone."""
    tensors = [network.get_input(number) for number in range(network.num_inputs)]
    inputs = {tensor.name for tensor in tensors}
    tensors = [network.get_output(number) for number in range(network.num_outputs)]
    outputs = {tensor.name: tensor for tensor in tensors}
    if inputs != {INPUT} or OUTPUT not in outputs:
        takes, gives = (", ".join(sorted(names)) or "nothing" for names in (inputs, outputs))
        raise ModelError(f"the graph takes {takes} and gives {gives}, expected {INPUT} and {OUTPUT}", PARSE_HINT)
    for name, tensor in outputs.items():
        if name != OUTPUT:
            network.unmark_output(tensor)


def _configure(trt: Any, config: Any, settings: PlanSettings) -> None:
    # On by default, and ten bits of mantissa: not the float32 that the graph asks for.
    config.clear_flag(trt.BuilderFlag.TF32)
    if settings.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.capabilities:
        known = trt.ComputeCapability.__members__
        config.num_compute_capabilities = len(settings.capabilities)
        for number, capability in enumerate(settings.capabilities):
            config.set_compute_capability(known["SM" + capability.replace(".", "")], number)


def _use_timings(config: Any, earlier: bytes) -> None:
    """Begin with the timings of earlier builds; with none where they are damaged or another GPU's."""
    cache = config.create_timing_cache(earlier)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # known only at run time
        """TensorRT's three calls, passed on."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
