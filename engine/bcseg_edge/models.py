"""Finding model files and loading them into a backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, get_args
from weakref import WeakSet

import numpy as np

from bcseg_edge.backends import AUTO, CUDA_BACKENDS, PLAN_SUFFIX, Backend, create_backend, require_machine_for
from bcseg_edge.errors import DataError, ModelError
from bcseg_edge.frames import Float32Array, UInt8Array
from bcseg_edge.passport import Passport, Precision, Tiling, read_passport

if TYPE_CHECKING:
    from typing_extensions import Self

    from bcseg_edge.cuda.frame_path import FramePath

PACKAGE = Path(__file__).parent
SUFFIXES = (".onnx", PLAN_SUFFIX)
# What follows the name of a shipped file, by precision: on the CPU, and on a GPU. The first that is there is taken
# where none is asked for; float32 serves everywhere, and is what training reads and every other file is compared with.
CPU_FILES: dict[Precision, str] = {"int8": ".int8.onnx", "fp32": ".onnx", "fp16": ".fp16.onnx"}
GPU_FILES: dict[Precision, str] = {"fp16": ".fp16.onnx", "fp32": ".onnx", "int8": ".int8.tensorrt.onnx"}
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class Model:
    """A model file on disk, verified, not loaded.

    Attributes:
        path: the `.onnx` or `.engine` file.
        passport: what its passport says.
    """

    path: Path
    passport: Passport


class LoadedModel:
    """A model in a backend, ready to execute patches. Not thread-safe.

    Args:
        passport: of the model file.
        backend: that loaded it; owned from now on.
    """

    def __init__(self, passport: Passport, backend: Backend) -> None:
        self.passport = passport
        self.backend_name = backend.name
        self._backend: Backend | None = backend
        self._frame_paths: WeakSet[FramePath] = WeakSet()

    @property
    def window_hw(self) -> tuple[int, int]:
        """Size of its patches, px."""
        return self.passport.window_hw

    @property
    def tiling(self) -> Tiling:
        """The tiling it was trained for."""
        return self.passport.tiling

    @property
    def max_batch(self) -> int:
        """Most patches per call of `infer`."""
        return self.passport.profile.max_batch

    @property
    def batch_invariant(self) -> bool:
        """Whether a patch's logits are bit for bit the same whatever it is batched with; False where unknown."""
        return bool(getattr(self._backend, "batch_invariant", False))

    def infer(self, patches: UInt8Array) -> Float32Array:
        """Execute the network.

        Args:
            patches: uint8 `[N, 1, h, w]`, 1 <= N <= `max_batch`, h and w the window's.

        Returns:
            logits: float32 `[N, 3, h, w]`, a fresh array.

        Raises:
            DataError: patches of another type or shape.
            ModelError: the model was closed.
        """
        if self._backend is None:
            raise self._closed_error()
        fits = patches.ndim == 4 and 1 <= len(patches) <= self.max_batch
        if not fits or patches.shape[1:] != (1, *self.window_hw) or patches.dtype != np.uint8:
            height, width = self.window_hw
            raise DataError(
                f"expected patches uint8 [1..{self.max_batch}, 1, {height}, {width}], "
                f"got {patches.dtype} {list(patches.shape)}",
                "cut frames with TileGrid.split, or use Segmenter",
            )
        return self._backend.infer(patches)

    def open_frame_path(self, tiling: Tiling, *, graphs: bool = True) -> FramePath | None:
        """The frame path on the GPU; None where the backend runs on the CPU. Closing the model closes it.

        Args:
            tiling: of its frames.
            graphs: replay the steady state as a CUDA graph where the backend can be captured.

        Raises:
            ModelError: the model was closed.
        """
        if self._backend is None:
            raise self._closed_error()
        open_frame_path = getattr(self._backend, "open_frame_path", None)
        if open_frame_path is None:
            return None
        path: FramePath = open_frame_path(tiling, graphs=graphs)
        self._frame_paths.add(path)
        return path

    def close(self) -> None:
        """Release the backend and its frame paths; a second call does nothing."""
        if self._backend is None:
            return
        for path in self._frame_paths:  # first: their work needs what the backend holds
            path.close()
        self._backend.close()
        self._backend = None

    def _closed_error(self) -> ModelError:
        return ModelError(f"model {self.passport.name} is closed", "load it again with load_model")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_model(
    name_or_path: str | Path, backend: str = AUTO, threads: int | None = None, precision: Precision | None = None
) -> LoadedModel:
    """Verify a model file and load it.

    Args:
        name_or_path: a shipped model's name (`edge`) or a model file.
        backend: `auto`, `openvino`, `onnxruntime`, `cuda` or `tensorrt`.
        threads: CPU threads that the backend may use, >= 1; None leaves the choice to it.
        precision: `fp32`, `fp16` or `int8`; None takes INT8 on the CPU and FP16 on a GPU where the model has them.

    Raises:
        ModelError: no such model, none of that precision, no passport, a damaged file, or not a bcseg-edge graph.
        BackendUnavailable: the backend cannot run here.
        DataError: `threads` below 1, or an unknown precision.
    """
    require_machine_for(backend)
    model = read_model(name_or_path, backend, precision)
    return LoadedModel(model.passport, create_backend(backend, model.path, model.passport, threads))


def read_model(name_or_path: str | Path, backend: str = AUTO, precision: Precision | None = None) -> Model:
    """Find a model file and verify it against its passport, without loading it; see `load_model`.

    Raises:
        ModelError: no such model, none of that precision, no passport, or a damaged file.
        DataError: an unknown precision.
    """
    path = find_model(name_or_path, backend, precision)
    model = Model(path, read_passport(path))
    if precision is not None and model.passport.precision != precision:
        raise ModelError(
            f"{path.name} is of precision {model.passport.precision}, {precision} was asked for",
            "leave --precision out, or name another file",
        )
    return model


def find_model(name_or_path: str | Path, backend: str = AUTO, precision: Precision | None = None) -> Path:
    """The file of a shipped model's name (`edge`) that fits, or the path itself where it names a file.

    A text with a model file's suffix or a folder in it is a path, anything else a name.

    Args:
        name_or_path: see `load_model`.
        backend: what will execute it.
        precision: of the file; None takes what `backend` runs best.

    Raises:
        ModelError: no shipped model of that name or precision, or no such file.
        DataError: an unknown precision.
    """
    if precision is not None and precision not in PRECISIONS:
        raise DataError(f"unknown precision {precision!r}", f"choose one of: {', '.join(PRECISIONS)}")
    path = Path(name_or_path)
    if path.suffix in SUFFIXES or len(path.parts) > 1 or isinstance(name_or_path, Path):
        if not path.is_file():
            raise ModelError(f"no model file at {path}", "give an existing .onnx file, or a shipped model's name")
        return path
    files = model_files(path.name, backend)
    chosen = precision or next(iter(files))
    if chosen not in files:
        raise ModelError(
            f"model {path.name} has no {chosen} file for backend {backend}, it has: {', '.join(files)}",
            "leave --precision out, or make the file: bcseg-edge export CHECKPOINT --precision int8|fp16 ...",
        )
    return files[chosen]


def model_files(name: str, backend: str = AUTO) -> dict[Precision, Path]:
    """The files of a shipped model that `backend` executes by their precision, the one it runs best first.

    Raises:
        ModelError: no shipped model is called so.
    """
    shipped = _shipped_models()
    if name not in shipped:
        raise ModelError(
            f"no shipped model is called {name!r}",
            f"choose one of: {', '.join(shipped) or '(none is shipped)'}; or give a path ending in .onnx",
        )
    reference = shipped[name]
    suffixes = GPU_FILES if backend in CUDA_BACKENDS else CPU_FILES
    paths = {precision: reference.with_name(name + suffix) for precision, suffix in suffixes.items()}
    return {precision: path for precision, path in paths.items() if path.is_file()}


def list_models() -> tuple[str, ...]:
    """Names of the shipped models, sorted."""
    return tuple(_shipped_models())


def list_files(name: str) -> tuple[Path, ...]:
    """Every model file of a shipped model, the float32 one first.

    Raises:
        ModelError: no shipped model is called so.
    """
    reference = find_model(name, precision="fp32")
    others = sorted(path for path in reference.parent.glob(f"{name}.*.onnx") if path != reference)
    return (reference, *others)


def _shipped_models() -> dict[str, Path]:
    """Name to its float32 file: `NAME/NAME.onnx` in the package (wheel), or at the root of a source checkout."""
    roots = [PACKAGE / "models"]
    if PACKAGE.parent.name == "engine":
        roots.append(PACKAGE.parents[1] / "models")
    files = (path for root in roots for path in root.glob("*/*.onnx") if path.stem == path.parent.name)
    return {path.stem: path for path in sorted(files)}
