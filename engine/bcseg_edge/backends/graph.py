"""The graph that every backend expects: `patches` uint8 `[N, 1, h, w]` to `logits` `[N, classes, h, w]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bcseg_edge.errors import BackendUnavailable, ModelError

if TYPE_CHECKING:
    from bcseg_edge.passport import Passport

INPUT = "patches"
OUTPUT = "logits"
EXPORT_HINT = "export it again with: bcseg-edge export CHECKPOINT --output FILE.onnx"

Shape = Sequence[int | None]  # None: free


def check_graph(
    path: Path, passport: Passport, inputs: dict[str, tuple[str, Shape]], outputs: dict[str, Shape]
) -> None:
    """Compare what a backend read with what the passport says.

    Args:
        path: the model file, for the message.
        passport: its passport.
        inputs: numpy dtype name and shape by input name.
        outputs: shape by output name.

    Raises:
        ModelError: another graph.
    """
    free_batch = (None, 1, *passport.window_hw)
    if set(inputs) != {INPUT} or inputs[INPUT][0] != "uint8" or tuple(inputs[INPUT][1]) != free_batch:
        received = ", ".join(f"{name} {dtype} {_shape(shape)}" for name, (dtype, shape) in inputs.items())
        raise ModelError(f"{path.name} takes {received}, expected {INPUT} uint8 {_shape(free_batch)}", EXPORT_HINT)
    expected = (None, len(passport.classes), *passport.window_hw)
    if OUTPUT not in outputs or not _matches(outputs[OUTPUT], expected):
        received = ", ".join(f"{name} {_shape(shape)}" for name, shape in outputs.items())
        raise ModelError(f"{path.name} gives {received}, expected {OUTPUT} {_shape(expected)}", EXPORT_HINT)


def unreadable(path: Path, backend: str, error: Exception) -> ModelError:
    """The error for a file that `backend` cannot load."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ModelError(f"{backend} cannot read {path.name} as an ONNX model: {reason}", EXPORT_HINT)


def broken_package(package: str, error: ImportError, install_hint: str) -> BackendUnavailable:
    """The error for a backend whose package cannot be imported."""
    return BackendUnavailable(f"backend {package} cannot be imported: {error}", install_hint)


def _matches(received: Shape, expected: Shape) -> bool:
    # A backend may leave a size of an output open that it cannot infer.
    return len(received) == len(expected) and all(r is None or r == e for r, e in zip(received, expected, strict=True))


def _shape(shape: Shape) -> str:
    return "[" + ", ".join("N" if size is None else str(size) for size in shape) + "]"
