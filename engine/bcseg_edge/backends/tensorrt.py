"""TensorRT: a plan built by `bcseg-edge build`, on our buffers and stream."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.backends.graph import INPUT, OUTPUT
from bcseg_edge.cuda.driver import Cuda
from bcseg_edge.cuda.faults import CudaError
from bcseg_edge.errors import BackendUnavailable, ModelError
from bcseg_edge.plans import Place, RuntimeName, compiled_of, parse_version, read_plan, rebuild_hint, this_platform

if TYPE_CHECKING:
    from bcseg_edge.passport import Passport

MODULES: dict[RuntimeName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
OLDEST = (10, 3)
INSTALL_HINT = 'pip install "bcseg-edge[tensorrt]"; on Jetson TensorRT comes with JetPack: see docs/jetson.md'


def import_tensorrt(runtime: RuntimeName) -> Any:
    """The module `tensorrt`, or `tensorrt_rtx`.

    Raises:
        BackendUnavailable: it is missing or broken, or older than 10.3.
    """
    try:
        trt = import_module(MODULES[runtime])
        version = trt.__version__
    except (ImportError, OSError, AttributeError) as error:  # OSError: a library that it loads is missing
        raise BackendUnavailable(f"{MODULES[runtime]} cannot be imported: {error}", INSTALL_HINT) from error
    if runtime == "tensorrt" and parse_version(version) < OLDEST:
        raise BackendUnavailable(f"TensorRT {version} is installed, at least 10.3 is needed", INSTALL_HINT)
    return trt


class TensorRtExecutor:
    """Executes patches with a TensorRT plan.

    Args:
        cuda: the GPU; that it exists has to be known before TensorRT is touched, which crashes without.
        path: `.engine` file.
        passport: its passport.

    Raises:
        BackendUnavailable: TensorRT is missing or too old.
        ModelError: the plan does not fit version or GPU, or is not what its passport says.
    """

    name = "tensorrt"
    capturable = True

    def __init__(self, cuda: Cuda, path: Path, passport: Passport) -> None:
        compiled = compiled_of(path, passport)
        trt = import_tensorrt(compiled.runtime)
        place = Place(compiled.runtime, trt.__version__, cuda.gpu.name, cuda.gpu.capability, this_platform())
        plan = read_plan(path, passport, place)
        self.profile = passport.profile
        self.window_hw = passport.window_hw
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        # A version-compatible plan brings its runtime along as code; its hash was checked above.
        self._runtime.engine_host_code_allowed = compiled.version_compatible
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            if len(plan) > cuda.free_memory():  # its weights are most of it
                raise cuda.out_of_memory(len(plan))
            raise ModelError(f"TensorRT {trt.__version__} cannot read {path.name}", rebuild_hint(path, compiled))
        self._cuda = cuda
        _check_engine(self._engine, path, passport)
        self.logits_dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(OUTPUT)))

    def open_lane(self) -> TensorRtLane:
        """A lane with execution contexts of its own."""
        return TensorRtLane(self._cuda, self._engine, self.window_hw)

    def close(self) -> None:
        """Release engine and runtime, in this order; a second call does nothing."""
        self._engine = None
        self._runtime = None


class TensorRtLane:
    """One execution context for each batch size: a context's shape is set once, before anything is captured."""

    def __init__(self, cuda: Cuda, engine: Any, window_hw: tuple[int, int]) -> None:
        self._cuda = cuda
        self._engine: Any = engine
        self._window_hw = window_hw
        self._contexts: dict[int, Any] = {}

    def prepare(self, batches: Iterable[int]) -> None:
        """Make a context for each batch size, and release those of other sizes.

        Raises:
            CudaOutOfMemory: says what a context needs and what is free.
            CudaError: TensorRT refuses the size, or makes no context.
        """
        wanted = set(batches)
        self._contexts = {size: context for size, context in self._contexts.items() if size in wanted}
        for size in sorted(wanted - self._contexts.keys()):
            context = self._engine.create_execution_context()
            if context is None:
                needed = int(self._engine.device_memory_size_v2)
                if needed > self._cuda.free_memory():
                    raise self._cuda.out_of_memory(needed)
                raise _failed(f"make an execution context for {size} patches", "end other programs that use the GPU")
            if not context.set_input_shape(INPUT, (size, 1, *self._window_hw)) or context.infer_shapes():
                raise _failed(f"take {size} patches", "build the plan with a --frame-size that needs as many")
            self._contexts[size] = context

    def enqueue(self, patches: int, logits: int, batch: int, stream: int) -> None:
        """Queue the network on `stream`.

        Raises:
            CudaError: TensorRT refuses.
        """
        context = self._contexts[batch]
        addressed = context.set_tensor_address(INPUT, patches) and context.set_tensor_address(OUTPUT, logits)
        if not addressed or not context.execute_async_v3(stream):
            raise _failed("queue the network", "add --debug and look at what TensorRT wrote to stderr")

    def close(self) -> None:
        """Release the contexts; a second call does nothing."""
        self._contexts = {}
        self._engine = None


def _failed(what: str, hint: str) -> CudaError:
    return CudaError(f"TensorRT could not {what}", hint, 0)


def _check_engine(engine: Any, path: Path, passport: Passport) -> None:
    """Compare inputs, outputs and profile with the passport; raises ModelError."""
    names = {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
    height, width = passport.window_hw
    sizes = passport.profile
    expected = [(size, 1, height, width) for size in (sizes.min_batch, sizes.opt_batch, sizes.max_batch)]
    if {INPUT, OUTPUT} - names:
        found: object = sorted(names)
    else:
        found = [tuple(shape) for shape in engine.get_tensor_profile_shape(INPUT, 0)]
    if found != expected:
        raise ModelError(
            f"{path.name} takes {found}, its passport says {INPUT} {expected}",
            rebuild_hint(path, compiled_of(path, passport)),
        )
