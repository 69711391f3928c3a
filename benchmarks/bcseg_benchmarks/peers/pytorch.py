"""PyTorch: as the paper would do it, and as its documentation recommends.

All of them take our split, stitch and decision around the network, which are faster than what a script would do:
the ratios are those of the networks, and rather too kind to PyTorch than too harsh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_benchmarks.peers.contender import Contender
from bcseg_benchmarks.subjects import Subject
from bcseg_edge.decision import decide
from bcseg_edge.frames import UInt8Array
from bcseg_edge.tiling import TileGrid

if TYPE_CHECKING:
    from torch import Tensor

    from bcseg_train.models import SegmentationNet

EAGER = "pytorch-eager-loop"
CHANNELS_LAST = "pytorch-channels-last"
COMPILE = "torch-compile"
_TUNING = "https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html"
_COMPILE = "https://docs.pytorch.org/docs/stable/generated/torch.compile.html"

Infer = Callable[["Tensor"], "Tensor"]  # uint8 [N, 1, h, w] -> logits [N, 3, h, w]


def pytorch_contenders(subject: Subject, grid: TileGrid, threads: int | None) -> Iterator[Contender]:
    """The PyTorch ways for a model whose float32 weights are at hand."""
    if subject.reference is None:
        return
    path = subject.reference

    def contender(precision: str, way: str, how: str, source: str, infer: Callable[[Path], Infer]) -> Contender:
        def opened() -> PyTorchFrames:
            set_threads(threads)
            return PyTorchFrames(grid, infer(path))

        return Contender(subject.name, precision, way, how, source, "frame to labels", opened)

    yield contender("fp32", EAGER, "float32, one patch after the other in a Python loop", "Katar 2023", _eager_loop)
    yield contender("fp32", CHANNELS_LAST, "float32, channels-last, all patches in a batch", _TUNING, _batch)
    yield contender("bf16", CHANNELS_LAST, "bfloat16 autocast, channels-last, all in a batch", _TUNING, _batch_bf16)
    yield contender("fp32", COMPILE, "as channels-last, torch.compile with freezing", _COMPILE, _compiled)
    yield contender("bf16", COMPILE, "as channels-last bf16, torch.compile with freezing", _COMPILE, _compiled_bf16)


class PyTorchFrames:
    """Frame to labels, with a PyTorch network in the middle.

    Args:
        grid: of the frames.
        infer: the network.
    """

    def __init__(self, grid: TileGrid, infer: Infer) -> None:
        self._grid = grid
        self._infer: Infer | None = infer

    def prepare(self, image: UInt8Array) -> UInt8Array:
        return image

    def run(self, image: UInt8Array) -> UInt8Array:
        import torch

        if self._infer is None:
            raise RuntimeError("closed")
        with torch.inference_mode():
            logits = self._infer(torch.from_numpy(self._grid.split(image)).to(device()))
            return decide(self._grid.stitch(logits.float().cpu().numpy()))[0]

    def labels(self, labels: UInt8Array) -> UInt8Array:
        return labels

    def close(self) -> None:
        self._infer = None


def reference_labels(subject: Subject, grid: TileGrid, images: list[UInt8Array]) -> list[UInt8Array]:
    """What PyTorch says in float32, patch for patch: the labels that every contender is compared with."""
    if subject.reference is None:
        return []
    frames = PyTorchFrames(grid, _batch(subject.reference))
    return [frames.run(image) for image in images]


def device() -> str:
    """The GPU where PyTorch has one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def set_threads(threads: int | None) -> None:
    """As many threads as everything else gets."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def load_network(path: Path, *, channels_last: bool) -> SegmentationNet:
    """The network of a float32 model file, in evaluation mode."""
    import torch

    from bcseg_train.models import load_checkpoint

    # On by default for convolutions, and ten bits of mantissa: not the float32 that the others calculate in.
    torch.backends.cudnn.allow_tf32 = False
    network = load_checkpoint(path)[0].eval().to(device())
    return network.to(memory_format=torch.channels_last) if channels_last else network


@contextmanager
def autocast() -> Iterator[None]:
    """bfloat16 where PyTorch recommends it."""
    import torch

    with torch.autocast(device(), torch.bfloat16):
        yield


def _eager_loop(path: Path) -> Infer:
    import torch

    network = load_network(path, channels_last=False)
    return lambda patches: torch.cat([network(patches[index : index + 1]) for index in range(len(patches))])


def _batch(path: Path) -> Infer:
    return load_network(path, channels_last=True)


def _batch_bf16(path: Path) -> Infer:
    return in_bf16(load_network(path, channels_last=True))


def _compiled(path: Path) -> Infer:
    import torch

    # Freezing makes constants of the weights and lays them out once, which inference wants; on a GPU graphs too.
    options: dict[str, Any] = {"freezing": True, "triton.cudagraphs": device() == "cuda"}
    compiled: Infer = torch.compile(load_network(path, channels_last=True), options=options)
    return compiled


def _compiled_bf16(path: Path) -> Infer:
    return in_bf16(_compiled(path))


def in_bf16(infer: Infer) -> Infer:
    """`infer` under autocast."""

    def run(patches: Tensor) -> Tensor:
        with autocast():
            return infer(patches)

    return run


def as_float_tensor(array: UInt8Array) -> Tensor:
    """A float32 tensor on the device from uint8."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(device()).float()
