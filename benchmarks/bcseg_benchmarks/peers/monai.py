"""MONAI's `sliding_window_inference`, what medical imaging reaches for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bcseg_benchmarks.peers.contender import Contender
from bcseg_benchmarks.peers.pytorch import as_float_tensor, in_bf16, load_network, set_threads
from bcseg_benchmarks.subjects import Subject
from bcseg_edge.decision import decide
from bcseg_edge.frames import UInt8Array
from bcseg_edge.tiling import TileGrid

WAY = "monai-sliding-window"
_SOURCE = "https://docs.monai.io/en/stable/inferers.html#monai.inferers.sliding_window_inference"


def monai_contenders(subject: Subject, grid: TileGrid, threads: int | None) -> Iterator[Contender]:
    """MONAI around the fastest uncompiled PyTorch network: channels-last, bfloat16."""
    if subject.reference is None:
        return

    def opened() -> _MonaiFrames:
        set_threads(threads)
        return _MonaiFrames(subject, grid)

    blend = "overlap 0.5, mode gaussian" if grid.mode == "overlap" else "overlap 0"
    how = f"sliding_window_inference, {blend}, sw_batch_size {grid.count}; network bfloat16, channels-last"
    yield Contender(subject.name, "bf16", WAY, how, _SOURCE, "frame to labels", opened)


class _MonaiFrames:
    """Frame to labels. Padding and scaling of a frame are ours: MONAI's inferer leaves them to the caller."""

    def __init__(self, subject: Subject, grid: TileGrid) -> None:
        from monai.inferers.utils import sliding_window_inference

        if subject.reference is None:
            raise ValueError("no float32 weights")
        self._sliding_window: Any = sliding_window_inference
        self._network: Any = in_bf16(load_network(subject.reference, channels_last=True))
        self._grid = grid

    def prepare(self, image: UInt8Array) -> UInt8Array:
        return image

    def run(self, image: UInt8Array) -> UInt8Array:
        import torch

        grid = self._grid
        with torch.inference_mode():
            logits = self._sliding_window(
                as_float_tensor(self._content(image)[None, None]),
                grid.window_hw,
                grid.count,
                self._network,
                overlap=0.5 if grid.mode == "overlap" else 0.0,
                mode="gaussian" if grid.mode == "overlap" else "constant",
            )
            frame_logits = logits.float().cpu().numpy()
        if grid.mode == "frame":
            return decide(grid.stitch(frame_logits))[0]
        height, width = grid.frame_hw
        return decide(frame_logits[0, :, :height, :width])[0]

    def _content(self, image: UInt8Array) -> UInt8Array:
        grid = self._grid
        if grid.mode == "frame":
            return np.asarray(grid.split(image)[0, 0])
        if grid.mode == "overlap":
            return image
        bottom, right = (padded - side for padded, side in zip(grid.padded_hw, grid.frame_hw, strict=True))
        return np.pad(image, ((0, bottom), (0, right)))

    def labels(self, labels: UInt8Array) -> UInt8Array:
        return labels

    def close(self) -> None:
        self._network = None
