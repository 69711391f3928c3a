"""The two executors through the whole CUDA path, with stand-ins where a GPU would be needed.

ONNX Runtime's binding is the real one, on host memory; TensorRT is a stand-in whose calls `test_tensorrt_contract`
finds in the real bindings.
"""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from bcseg_edge.backends.cuda import OnnxRuntimeCudaExecutor, require_provider
from bcseg_edge.backends.tensorrt import TensorRtExecutor
from bcseg_edge.cuda.backend import CudaBackend
from bcseg_edge.cuda.faults import CudaError, CudaFault, CudaOutOfMemory
from bcseg_edge.errors import BackendUnavailable, ModelError
from bcseg_edge.passport import read_passport
from tests.engine.test_plans import write_plan
from tests.fixtures.lazy_cuda import LazyCuda
from tests.fixtures.tiny_model import expected_labels, expected_logits, seal, write_graph, write_model

WINDOW_HW = (24, 32)
PROFILE = {"min_batch": 2, "opt_batch": 2, "max_batch": 4}


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def assert_works(cuda, backend, tiling="paper"):
    patches = noise(5, 1, *WINDOW_HW)
    np.testing.assert_allclose(backend.infer(patches), expected_logits(patches[:, 0]), rtol=1e-5, atol=1e-5)
    path = backend.open_frame_path(tiling)
    for shape in [(50, 70)] * 4 + [(24, 30)] * 3:
        frame = noise(*shape)
        assert np.array_equal(path(frame).labels, expected_labels(frame))
    path.close()
    path.close()
    backend.close()
    backend.close()
    assert not cuda.live
    assert not cuda.handles


class CpuBoundExecutor(OnnxRuntimeCudaExecutor):
    """The executor with its session on the CPU, on host addresses: that is where `LazyCuda` keeps its memory."""

    device_type = "cpu"

    def _open_session(self, path):
        import onnxruntime

        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("tiling", ["paper", "overlap"])
def test_onnx_runtime_is_bound_to_our_buffers(tmp_path, tiling):
    pytest.importorskip("onnxruntime")
    cuda = LazyCuda(eager=True)
    path = write_model(tmp_path, WINDOW_HW)
    executor = CpuBoundExecutor(cuda, path, read_passport(path))
    assert executor.logits_dtype == np.float32
    assert_works(cuda, CudaBackend(cuda, executor, WINDOW_HW), tiling)
    assert "begin_capture" not in cuda.journal


def test_bindings_to_buffers_of_another_size_are_released(tmp_path):
    pytest.importorskip("onnxruntime")
    cuda, path = LazyCuda(eager=True), write_model(tmp_path, WINDOW_HW)
    lane = CpuBoundExecutor(cuda, path, read_passport(path)).open_lane()
    memory = np.zeros((4, 3, *WINDOW_HW), np.float32)
    for batch in (1, 2, 3):
        lane.prepare([batch])
        lane.enqueue(memory.ctypes.data, memory.ctypes.data, batch, cuda.create_stream())
        assert len(lane._bindings) == 1


class FailingSession:
    """A session whose run fails with a message of ONNX Runtime's."""

    def __init__(self, message):
        self._message = message

    def io_binding(self):
        return SimpleNamespace(bind_input=lambda *arguments: None, bind_output=lambda *arguments: None)

    def run_with_iobinding(self, binding, options):
        raise RuntimeError(self._message)


def failing_lane(cuda, folder, message):
    path = write_model(folder, WINDOW_HW)
    executor = CpuBoundExecutor(cuda, path, read_passport(path))
    executor._session = FailingSession(message)
    return executor.open_lane()


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        (
            "[ONNXRuntimeError] Failed to allocate memory for requested buffer of size 536870912\nmore",
            CudaOutOfMemory,
            r"no room for 512\.0 MiB: \d+\.\d MiB of 2048\.0 MiB are free",
        ),
        ("CUDNN failure 3: something\nmore", CudaError, "could not run the network: CUDNN failure 3: something$"),
    ],
)
def test_a_failure_of_onnx_runtime_is_told_as_one_of_ours(tmp_path, message, kind, said):
    pytest.importorskip("onnxruntime")
    cuda = LazyCuda(eager=True)
    with pytest.raises(kind, match=said):
        failing_lane(cuda, tmp_path, message).enqueue(0, 0, 1, cuda.create_stream())


def test_a_context_lost_inside_onnx_runtime_says_that_the_process_must_restart(tmp_path):
    pytest.importorskip("onnxruntime")
    cuda = LazyCuda(eager=True)
    lane = failing_lane(cuda, tmp_path, "CUDA failure 700: an illegal memory access was encountered")
    cuda.faults["synchronize"] = 700
    with pytest.raises(CudaFault, match="this process cannot use the GPU any more"):
        lane.enqueue(0, 0, 1, cuda.create_stream())


def test_the_libraries_of_the_provider_are_loaded_first_and_stdout_stays_clean(monkeypatch, capsys):
    def preload():
        print("Failed to load libcudnn.so.9")

    module = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"], preload_dlls=preload)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    assert require_provider() is module
    captured = capsys.readouterr()
    assert (captured.out, "libcudnn" in captured.err) == ("", True)


def test_onnx_runtime_without_cuda_says_what_to_install(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    cuda, path = LazyCuda(), write_model(tmp_path, WINDOW_HW)
    with pytest.raises(BackendUnavailable, match="was built without CUDA") as caught:
        OnnxRuntimeCudaExecutor(cuda, path, read_passport(path))
    assert 'pip install "bcseg-edge[gpu]"' in caught.value.hint
    assert not cuda.handles


def test_a_foreign_graph_is_refused_and_the_stream_released(tmp_path):
    pytest.importorskip("onnxruntime")
    cuda, path = LazyCuda(), tmp_path / "foreign.onnx"
    write_graph(path, WINDOW_HW, input_name="image")
    seal(path, WINDOW_HW)
    with pytest.raises(ModelError, match="takes image"):
        CpuBoundExecutor(cuda, path, read_passport(path))
    assert not cuda.handles


class FakeTensorRt:
    """As much of `tensorrt` as the executor calls, with the tiny model for a plan.

    Attributes:
        deserialized: how many plans were read.
        refuse: names of calls that report failure.
        context_bytes: what an execution context needs.
    """

    context_bytes = 2**20
    __version__ = "10.3.0"
    Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None})

    def __init__(self, cuda):
        self._cuda = cuda
        self.deserialized = 0
        self.refuse = set()
        self.profile_shapes = [(size, 1, *WINDOW_HW) for size in PROFILE.values()]

    def nptype(self, dtype):
        return dtype

    def Runtime(self, logger):
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def _deserialize(self, plan):
        self.deserialized += 1
        if "deserialize" in self.refuse:
            return None
        names = ["patches", "logits"]
        return SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=lambda number: names[number],
            get_tensor_profile_shape=lambda name, number: self.profile_shapes,
            get_tensor_dtype=lambda name: np.float32,
            device_memory_size_v2=self.context_bytes,
            create_execution_context=lambda: None if "context" in self.refuse else _Context(self._cuda, self.refuse),
        )


class _Context:
    def __init__(self, cuda, refuse):
        self._cuda, self._refuse, self._addresses, self._batch = cuda, refuse, {}, 0

    def set_input_shape(self, name, shape):
        self._batch = shape[0]
        return True

    def infer_shapes(self):
        return ["patches"] if "shape" in self._refuse else []

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        if "execute" in self._refuse:
            return False
        addresses, batch = dict(self._addresses), self._batch

        def work():
            count = batch * WINDOW_HW[0] * WINDOW_HW[1]
            grey = np.frombuffer((ctypes.c_ubyte * count).from_address(addresses["patches"]), np.uint8)
            logits = expected_logits(grey.reshape(batch, *WINDOW_HW))
            ctypes.memmove(addresses["logits"], logits.ctypes.data, logits.nbytes)

        self._cuda.queue(stream, work)
        return True


@pytest.fixture
def cuda():
    return LazyCuda()


@pytest.fixture
def tensorrt(monkeypatch, cuda):
    fake = FakeTensorRt(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


def plan(folder, **changes):
    fields = {"gpu": "Lazy", **changes}
    path, passport = write_plan(folder, **fields)
    return path, passport.model_copy(
        update={"window_hw": WINDOW_HW, "profile": passport.profile.model_copy(update=PROFILE)}
    )


def test_tensorrt_through_the_whole_path(tmp_path, cuda, tensorrt):
    executor = TensorRtExecutor(cuda, *plan(tmp_path))
    assert_works(cuda, CudaBackend(cuda, executor, WINDOW_HW))
    assert cuda.journal.count("begin_capture") == 2  # one for each frame size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtime_version": "10.13.0"}, "10.13.0 build"),
        ({"gpu": "Orin"}, "was built on Orin"),
        ({"capabilities": ()}, "8.7"),
    ],
)
def test_a_plan_that_does_not_fit_is_not_deserialized(tmp_path, cuda, tensorrt, changes, said):
    with pytest.raises(ModelError, match=said):
        TensorRtExecutor(cuda, *plan(tmp_path, **changes))
    assert not tensorrt.deserialized


def test_an_old_tensorrt_is_refused(tmp_path, cuda, tensorrt, monkeypatch):
    monkeypatch.setattr(tensorrt, "__version__", "8.6.1", raising=False)
    with pytest.raises(BackendUnavailable, match=r"8\.6\.1 is installed, at least 10\.3"):
        TensorRtExecutor(cuda, *plan(tmp_path))


def test_a_missing_tensorrt_says_what_to_install(tmp_path, cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailable, match="tensorrt cannot be imported") as caught:
        TensorRtExecutor(cuda, *plan(tmp_path))
    assert "bcseg-edge[tensorrt]" in caught.value.hint
    assert "jetson.md" in caught.value.hint


def test_a_plan_that_tensorrt_cannot_read(tmp_path, cuda, tensorrt):
    tensorrt.refuse.add("deserialize")
    with pytest.raises(ModelError, match=r"cannot read tiny\.engine") as caught:
        TensorRtExecutor(cuda, *plan(tmp_path))
    assert "bcseg-edge build tiny.onnx" in caught.value.hint


def test_a_plan_larger_than_what_is_free(tmp_path, tensorrt):
    tensorrt.refuse.add("deserialize")
    with pytest.raises(CudaOutOfMemory, match="are free"):
        TensorRtExecutor(LazyCuda(memory=3), *plan(tmp_path))


def test_a_context_larger_than_what_is_free(tmp_path, cuda, tensorrt):
    tensorrt.context_bytes = 2**40
    backend = CudaBackend(cuda, TensorRtExecutor(cuda, *plan(tmp_path)), WINDOW_HW)
    tensorrt.refuse.add("context")
    with pytest.raises(CudaOutOfMemory, match=r"no room for 1048576\.0 MiB: \d+\.\d MiB of 2048\.0 MiB are free"):
        backend.open_frame_path("paper")(noise(48, 64))


def test_a_plan_of_another_profile_is_refused(tmp_path, cuda, tensorrt):
    tensorrt.profile_shapes = [(1, 1, *WINDOW_HW)] * 3
    with pytest.raises(ModelError, match="its passport says patches"):
        TensorRtExecutor(cuda, *plan(tmp_path))


@pytest.mark.parametrize(
    ("call", "said"), [("context", "context for 4"), ("shape", "take 4"), ("execute", "queue the")]
)
def test_a_refusal_of_tensorrt_is_told(tmp_path, cuda, tensorrt, call, said):
    backend = CudaBackend(cuda, TensorRtExecutor(cuda, *plan(tmp_path)), WINDOW_HW)
    path, frame = backend.open_frame_path("paper"), noise(48, 64)  # 4 patches
    tensorrt.refuse.add(call)
    with pytest.raises(CudaError, match=said):
        path(frame)
    tensorrt.refuse.clear()
    assert np.array_equal(path(frame).labels, expected_labels(frame))
