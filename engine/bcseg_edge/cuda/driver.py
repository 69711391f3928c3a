"""One GPU through `cuda.bindings`: what the frame path needs of CUDA, with addresses and handles as integers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bcseg_edge.cuda.faults import OUT_OF_MEMORY, CudaError, CudaFault, CudaOutOfMemory, explain, out_of_memory
from bcseg_edge.cuda.launches import Launch
from bcseg_edge.cuda.nvrtc import compiled_kernels
from bcseg_edge.errors import BackendUnavailable

INSTALL_HINT = 'pip install "bcseg-edge[gpu]"; on Jetson: pip install "bcseg-edge[jetson]"'
NO_DRIVER, NO_DEVICE = 35, 100


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as CUDA describes it.

    Attributes:
        name: such as `Orin`.
        capability: compute capability, (8, 7).
        integrated: whether it shares its memory with the CPU.
        memory: bytes in all.
    """

    name: str
    capability: tuple[int, int]
    integrated: bool
    memory: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


def require_gpu() -> None:
    """Make sure that there is a driver and a GPU, before any library that would crash without.

    Raises:
        BackendUnavailable: `cuda.bindings`, the driver or the GPU is missing.
    """
    runtime = _runtime()
    no_driver = BackendUnavailable(
        "no NVIDIA GPU can be used: there is no driver, or it is older than the CUDA libraries",
        "install or update the NVIDIA driver, or use a CPU backend: --backend auto",
    )
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError as error:  # of cuda-bindings 12.8, which looks for the driver's library itself
        raise no_driver from error
    if status.value == NO_DRIVER:
        raise no_driver
    if status.value == NO_DEVICE or not count:
        raise BackendUnavailable(
            "this machine has no NVIDIA GPU that CUDA can use",
            "use a CPU backend: --backend auto; in a container start it with --gpus all",
        )
    if status.value:
        raise _explain(runtime, status, "cudaGetDeviceCount")


def find_gpu(device: int = 0) -> Gpu | None:
    """The GPU, or None where there is none that can be used."""
    try:
        require_gpu()
    except BackendUnavailable:
        return None
    return _describe(_check(_runtime(), "cudaGetDeviceProperties", device))


def cuda_version() -> str:
    """Version of the CUDA runtime that `cuda.bindings` brings, such as 13.0; empty where it is not installed."""
    try:
        status, number = _runtime().cudaRuntimeGetVersion()
    except BackendUnavailable:
        return ""
    return "" if status.value else f"{number // 1000}.{number % 1000 // 10}"


class Cuda:
    """A GPU with the kernels of this package. Streams, events and graphs are handles, memory is addresses: integers.

    After a fault that loses the context every method raises the same `CudaFault`.

    Args:
        device: number of the GPU.

    Raises:
        BackendUnavailable: no `cuda.bindings`, driver or GPU.
        CudaError: CUDA refuses the device.
    """

    def __init__(self, device: int = 0) -> None:
        require_gpu()
        self._device = device
        self._runtime = _runtime()
        self._fault: CudaFault | None = None
        self._functions: dict[str, Any] = {}
        self.use()

    @cached_property
    def gpu(self) -> Gpu:
        """What the GPU is."""
        return _describe(self._call("cudaGetDeviceProperties", self._device))

    def use(self) -> None:
        """Make this GPU the one of the calling thread."""
        self._call("cudaSetDevice", self._device)

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device.

        Raises:
            CudaOutOfMemory: says what was needed and what is free.
        """
        return int(self._allocate("cudaMalloc", size))

    def free_memory(self) -> int:
        """Bytes of device memory that nobody uses."""
        return int(self._call("cudaMemGetInfo")[0])

    def out_of_memory(self, needed: int) -> CudaOutOfMemory:
        """The error for an allocation of `needed` bytes that did not succeed, whoever tried it."""
        return out_of_memory(needed, *self._call("cudaMemGetInfo"))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", address)

    def allocate_host(self, size: int) -> int:
        """Address of `size` bytes of pinned host memory, mapped into the device's address space.

        Raises:
            CudaOutOfMemory: says what was needed and what is free.
        """
        return int(self._allocate("cudaHostAlloc", size, self._runtime.cudaHostAllocMapped))

    def free_host(self, address: int) -> None:
        """Give pinned memory back."""
        self._call("cudaFreeHost", address)

    def mapped(self, host_address: int) -> int:
        """Where the device sees pinned memory."""
        return int(self._call("cudaHostGetDevicePointer", host_address, 0))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy of `size` bytes, between host and device in either direction or on one of them."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def copy_rows(self, target: int, source: int, source_pitch: int, row_size: int, rows: int, stream: int) -> None:
        """Queue a copy of `rows` rows of `row_size` bytes, `source_pitch` bytes apart, to rows without a gap."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDefault
        self._call("cudaMemcpy2DAsync", target, row_size, source, source_pitch, row_size, rows, kind, stream)

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Release a stream."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until the work queued on `stream` is done; an error of that work is raised here."""
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        """An event that carries a time."""
        return int(self._call("cudaEventCreateWithFlags", self._runtime.cudaEventDefault))

    def destroy_event(self, event: int) -> None:
        """Release an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int, *, in_graph: bool = False) -> None:
        """Queue recording `event`; `in_graph`: while capturing, so that each launch of the graph records it anew."""
        flags = self._runtime.cudaEventRecordExternal if in_graph else self._runtime.cudaEventRecordDefault
        self._call("cudaEventRecordWithFlags", event, stream, flags)

    def wait(self, stream: int, event: int) -> None:
        """Let `stream` wait until `event`, as recorded last, is reached."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Milliseconds between two events that are reached."""
        return float(self._call("cudaEventElapsedTime", start, end))

    def begin_capture(self, stream: int) -> None:
        """Collect what is queued on `stream` from now on, instead of executing it."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        """An executable graph of what was collected."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        """End a capture in which something failed; the stream is usable again."""
        _, graph = self._runtime.cudaStreamEndCapture(stream)
        if graph is not None and int(graph):
            self._runtime.cudaGraphDestroy(graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        """Queue the work of a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Release an executable graph."""
        self._call("cudaGraphExecDestroy", graph)

    def launch(self, launch: Launch, stream: int) -> None:
        """Queue a kernel of `kernels.cu`."""
        function = self._function(launch.kernel)
        self._call("cuLaunchKernel", function, *launch.grid, *launch.block, 0, stream, launch.arguments, 0)

    def _function(self, kernel: str) -> Any:
        if kernel not in self._functions:
            image = compiled_kernels(self.gpu.capability)
            module = self._call("cuModuleLoadData", image)
            self._functions[kernel] = self._call("cuModuleGetFunction", module, kernel.encode())
        return self._functions[kernel]

    def _allocate(self, name: str, size: int, *flags: int) -> int:
        try:
            return int(self._call(name, size, *flags))
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise
        raise self.out_of_memory(size)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime (`cuda...`) or the driver (`cu...`) and raise what it reports."""
        if self._fault is not None:
            raise self._fault
        library = self._runtime if name.startswith("cuda") else _driver()
        try:
            return _check(library, name, *arguments)
        except CudaFault as fault:
            self._fault = fault
            raise


def _check(library: Any, name: str, *arguments: Any) -> Any:
    """Call a function; what it returns, or the error that it reports."""
    status, *values = getattr(library, name)(*arguments)
    if status.value:
        raise _explain(_runtime(), status, name)
    return values[0] if len(values) == 1 else tuple(values)


def _describe(found: Any) -> Gpu:
    """From `cudaDeviceProp`."""
    name = found.name.decode(errors="replace").strip("\0")
    return Gpu(name, (found.major, found.minor), bool(found.integrated), found.totalGlobalMem)


def _explain(runtime: Any, status: Any, call: str) -> CudaError:
    """`cudaError_t` and `CUresult` share their numbers where it matters: memory and faults."""
    code = int(status.value)
    _, text = runtime.cudaGetErrorString(runtime.cudaError_t(code))
    return explain(code, status.name, text.decode(errors="replace"), call)


def _runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendUnavailable(f"cuda.bindings cannot be imported: {error}", INSTALL_HINT) from error
    return runtime


def _driver() -> Any:
    from cuda.bindings import driver

    return driver
