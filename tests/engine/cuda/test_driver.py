"""The wrapper against the real `cuda.bindings`, on a machine without a driver: every call has the arguments it wants.

Without a driver each function converts its arguments, in Cython, and then reports that there is no driver. A wrong
number or type of arguments would be a `TypeError` before that.
"""

from __future__ import annotations

import ctypes
import inspect
from types import SimpleNamespace

import pytest

from bcseg_edge.cuda import driver
from bcseg_edge.cuda.driver import Cuda, find_gpu
from bcseg_edge.cuda.faults import STICKY, CudaError, CudaFault, CudaOutOfMemory, explain, out_of_memory
from bcseg_edge.cuda.launches import Launch
from bcseg_edge.cuda.memory import Arena
from bcseg_edge.errors import BackendUnavailable
from tests.fixtures.lazy_cuda import LazyCuda

CALLS = {
    "use": (),
    "free_memory": (),
    "allocate": (64,),
    "out_of_memory": (64,),
    "free": (4096,),
    "allocate_host": (64,),
    "free_host": (4096,),
    "mapped": (4096,),
    "copy": (4096, 8192, 64, 1),
    "copy_rows": (4096, 8192, 16, 8, 4, 1),
    "create_stream": (),
    "destroy_stream": (4096,),
    "synchronize": (1,),
    "create_event": (),
    "destroy_event": (4096,),
    "record": (4096, 1),
    "wait": (1, 4096),
    "elapsed_ms": (4096, 8192),
    "begin_capture": (1,),
    "end_capture": (1,),
    "launch_graph": (4096, 1),
    "destroy_graph": (4096,),
}
SEPARATE = {"abandon_capture", "launch"}  # tested below, since they report in another way


@pytest.fixture
def cuda(monkeypatch):
    """A `Cuda` that could be made although there is no driver."""
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU: tests/gpu calls these for real")
    monkeypatch.setattr(driver, "require_gpu", lambda: None)
    monkeypatch.setattr(Cuda, "use", lambda self: None)
    made = Cuda()
    monkeypatch.undo()
    return made


@pytest.mark.parametrize("method", CALLS)
def test_every_call_has_the_arguments_that_the_bindings_want(cuda, method):
    with pytest.raises(CudaError, match="cudaErrorInsufficientDriver"):
        getattr(cuda, method)(*CALLS[method])


def test_bindings_that_raise_where_there_is_no_driver(monkeypatch):
    """As those of 12.8 do, which JetPack 6 may need."""

    def fail():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(driver, "_runtime", lambda: SimpleNamespace(cudaGetDeviceCount=fail))
    with pytest.raises(BackendUnavailable, match="there is no driver"):
        driver.require_gpu()
    assert find_gpu() is None


def test_every_method_is_tried():
    methods = {name for name, _ in inspect.getmembers(Cuda, inspect.isfunction) if not name.startswith("_")}
    assert methods == set(CALLS) | SEPARATE


def test_the_properties_are_asked_for(cuda):
    with pytest.raises(CudaError, match="cudaGetDeviceProperties"):
        _ = cuda.gpu


def test_recording_in_a_graph_is_a_flag(cuda):
    with pytest.raises(CudaError, match="cudaEventRecordWithFlags"):
        cuda.record(4096, 1, in_graph=True)


def test_a_capture_can_be_abandoned_whatever_happened(cuda):
    cuda.abandon_capture(1)


def test_a_launch_passes_structures_by_address(cuda, monkeypatch):
    """The driver library itself is missing here, which is reported once the arguments are converted."""
    monkeypatch.setattr(cuda, "_function", lambda kernel: 4096)
    launch = Launch("split_frame", (100, 20, 3), ctypes.c_int(5))
    assert (launch.grid, launch.block) == ((4, 3, 3), (32, 8, 1))
    with pytest.raises((RuntimeError, CudaError), match=r"driver|CUDA|libcuda"):
        cuda.launch(launch, 1)


def test_after_a_fault_every_call_says_the_same(cuda, monkeypatch):
    runtime = cuda._runtime
    monkeypatch.setattr(runtime, "cudaStreamSynchronize", lambda stream: (runtime.cudaError_t(700),))
    with pytest.raises(CudaFault, match="illegal memory access") as first:
        cuda.synchronize(1)
    with pytest.raises(CudaFault) as second:
        cuda.create_stream()
    assert second.value is first.value
    assert "start it again" in first.value.hint


def test_out_of_memory_asks_what_is_free(cuda, monkeypatch):
    runtime = cuda._runtime
    monkeypatch.setattr(runtime, "cudaMalloc", lambda size: (runtime.cudaError_t(2), None))
    monkeypatch.setattr(runtime, "cudaMemGetInfo", lambda: (runtime.cudaError_t(0), 2**20, 8 * 2**30))
    with pytest.raises(CudaOutOfMemory, match=r"no room for 512\.0 MiB: 1\.0 MiB of 8192\.0 MiB are free"):
        cuda.allocate(2**29)


def test_the_mirror_offers_what_the_wrapper_offers():
    """`LazyCuda` stands in for `Cuda` in every other test: same methods, same parameters."""
    for name in set(CALLS) | SEPARATE:
        real, mirror = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (Cuda, LazyCuda))
        assert mirror[: len(real)] == real or name == "free_host", name


@pytest.mark.parametrize("code", sorted(STICKY))
def test_sticky_errors_are_cudas(code):
    runtime = pytest.importorskip("cuda.bindings.runtime")
    assert code in {error.value for error in runtime.cudaError_t}
    assert isinstance(explain(code, "name", "text", "call"), CudaFault)


def test_every_error_that_ends_the_process_is_sticky():
    """By the words of CUDA's own description, which the bindings carry since 13."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    described = {int(error): " ".join((error.__doc__ or "").split()) for error in runtime.cudaError_t}
    if not any(described.values()):
        pytest.skip("these bindings carry no descriptions")
    ending = {code for code, text in described.items() if "process must be terminated and relaunched" in text}
    assert len(ending) > 8
    assert ending <= STICKY


def test_other_errors_leave_the_gpu_usable():
    assert not isinstance(explain(1, "cudaErrorInvalidValue", "text", "call"), CudaFault)
    assert not isinstance(out_of_memory(1, 2, 3), CudaFault)


def test_buffers_of_an_arena_are_aligned_and_apart():
    cuda = LazyCuda()
    arena = Arena(cuda, {"a": 1, "b": 257, "c": 0, "d": 5})
    starts = {name: address - arena.addresses["a"] for name, address in arena.addresses.items()}
    assert starts == {"a": 0, "b": 256, "c": 768, "d": 768}
    arena.close()
    arena.close()
    assert not cuda.live
