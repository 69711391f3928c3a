"""ONNX Runtime on the GPU: its CUDA provider on our stream, bound to our buffers."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.backends.graph import INPUT, OUTPUT, broken_package, check_graph, unreadable
from bcseg_edge.backends.onnxruntime import LOG_FATAL, signature
from bcseg_edge.cuda.driver import Cuda
from bcseg_edge.cuda.faults import CudaError
from bcseg_edge.errors import BackendUnavailable

if TYPE_CHECKING:
    from bcseg_edge.passport import Passport

PROVIDER = "CUDAExecutionProvider"
# Of its arena: "Failed to allocate memory for requested buffer of size 1048576".
_NO_ROOM = re.compile(r"requested buffer of size (\d+)")
INSTALL_HINT = (
    'pip uninstall onnxruntime; pip install "bcseg-edge[gpu]" (the two share a module and exclude each other)'
)


def require_provider() -> Any:
    """The module `onnxruntime`, built with CUDA.

    Raises:
        BackendUnavailable: it is missing or broken, or was built without.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise broken_package("onnxruntime", error, INSTALL_HINT) from error
    found = onnxruntime.get_available_providers()
    if PROVIDER not in found:
        raise BackendUnavailable(
            f"onnxruntime {onnxruntime.__version__} was built without CUDA; it has: {', '.join(found)}", INSTALL_HINT
        )
    _preload_libraries(onnxruntime)
    return onnxruntime


def _preload_libraries(onnxruntime: Any) -> None:
    """Load cuBLAS, cuDNN and the rest from NVIDIA's packages, where the loader would not find them by itself."""
    preload = getattr(onnxruntime, "preload_dlls", None)  # from 1.21 on
    if preload is not None:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find; stdout may be our JSON
            preload()


class OnnxRuntimeCudaExecutor:
    """Executes patches on the device with ONNX Runtime's CUDA provider.

    A session has one stream of its own, so all lanes compute on it, one after the other; events hand the work over
    from a slot's stream and back. It cannot be captured: the provider allocates where it likes. Its own graphs
    (`enable_cuda_graph`) wait for the GPU at every replay before the release that holds onnxruntime pull request 28686,
    and are not used.

    Args:
        cuda: the GPU.
        path: `.onnx` file.
        passport: its passport.

    Raises:
        BackendUnavailable: the package is missing or broken, or its CUDA provider does not load.
        ModelError: not an ONNX file, or not a bcseg-edge graph.
    """

    name = "cuda"
    capturable = False
    device_type = "cuda"

    def __init__(self, cuda: Cuda, path: Path, passport: Passport) -> None:
        self.profile = passport.profile
        self._cuda = cuda
        self._stream = cuda.create_stream()
        try:
            self._session: Any = self._open_session(path)
            check_graph(path, passport, *signature(self._session))
        except BaseException:
            cuda.destroy_stream(self._stream)
            raise
        outputs = {node.name: node.type for node in self._session.get_outputs()}
        self.logits_dtype = np.dtype(np.float16 if outputs[OUTPUT] == "tensor(float16)" else np.float32)
        self.logits_shape = (len(passport.classes), *passport.window_hw)

    def open_lane(self) -> OnnxRuntimeLane:
        """A lane with bindings of its own."""
        return OnnxRuntimeLane(self._cuda, self, self._session, self._stream)

    def close(self) -> None:
        """Release the session and its stream; a second call does nothing."""
        if self._session is not None:
            self._session = None
            self._cuda.destroy_stream(self._stream)

    def _open_session(self, path: Path) -> Any:
        onnxruntime = require_provider()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=self._providers())
        except Exception as error:  # its exceptions share no base class below this one
            room = _NO_ROOM.search(str(error))
            if room is not None:
                raise self._cuda.out_of_memory(int(room[1])) from error
            raise unreadable(path, self.name, error) from error
        # Where the provider's libraries do not load it falls back to the CPU, and says so only on stderr.
        if session.get_providers()[0] != PROVIDER:
            raise BackendUnavailable(
                "ONNX Runtime could not load its CUDA provider: CUDA, cuDNN or the driver is missing or does not fit",
                'pip install "onnxruntime-gpu[cuda,cudnn]" brings the libraries; see the rest with: bcseg-edge doctor',
            )
        return session

    def _providers(self) -> list[tuple[str, dict[str, str]]]:
        # TF32 keeps 10 bits of a float32's mantissa: the file asks for float32.
        return [(PROVIDER, {"device_id": "0", "user_compute_stream": str(self._stream), "use_tf32": "0"})]


class OnnxRuntimeLane:
    """Bindings of a session to the buffers of one slot."""

    def __init__(self, cuda: Cuda, executor: OnnxRuntimeCudaExecutor, session: Any, compute_stream: int) -> None:
        import onnxruntime

        self._cuda = cuda
        self._executor = executor
        self._session = session
        self._compute_stream = compute_stream
        self._bindings: dict[tuple[int, int, int], Any] = {}
        self._handover: int | None = cuda.create_event()
        self._options = onnxruntime.RunOptions()
        # Without it every run waits for the GPU (onnxruntime issue 28539); the slot's stream waits instead.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def prepare(self, batches: Iterable[int]) -> None:
        """Forget the buffers bound so far: a change of size moves them."""
        del batches
        self._bindings.clear()

    def enqueue(self, patches: int, logits: int, batch: int, stream: int) -> None:
        """Queue the network between what is on `stream` and what comes after.

        Raises:
            CudaFault: the context is lost.
            CudaOutOfMemory: says what was needed and what is free.
            CudaError: ONNX Runtime refuses.
        """
        self._hand_over(stream, self._compute_stream)
        try:
            self._session.run_with_iobinding(self._binding(patches, logits, batch), self._options)
        except Exception as error:  # its exceptions share no base class below this one
            raise self._explain(error) from error
        self._hand_over(self._compute_stream, stream)

    def close(self) -> None:
        """Release bindings and event; a second call does nothing."""
        self._bindings.clear()
        if self._handover is not None:
            self._cuda.destroy_event(self._handover)
            self._handover = None

    def _explain(self, error: Exception) -> CudaError:
        """What `error` means for the program; a context that is lost is raised by CUDA itself."""
        self._cuda.synchronize(self._compute_stream)
        room = _NO_ROOM.search(str(error))
        if room is not None:
            return self._cuda.out_of_memory(int(room[1]))
        text = next(iter(str(error).splitlines()), type(error).__name__)
        return CudaError(f"ONNX Runtime could not run the network: {text}", "see what is free with: nvidia-smi", 0)

    def _hand_over(self, before: int, after: int) -> None:
        assert self._handover is not None  # a closed lane gets no work
        self._cuda.record(self._handover, before)
        self._cuda.wait(after, self._handover)

    def _binding(self, patches: int, logits: int, batch: int) -> Any:
        key = (patches, logits, batch)
        if key not in self._bindings:
            executor = self._executor
            binding = self._session.io_binding()
            device = (executor.device_type, 0)
            window_hw = executor.logits_shape[1:]
            binding.bind_input(INPUT, *device, np.uint8, (batch, 1, *window_hw), patches)
            binding.bind_output(OUTPUT, *device, executor.logits_dtype.type, (batch, *executor.logits_shape), logits)
            self._bindings[key] = binding
        return self._bindings[key]
