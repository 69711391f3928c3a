"""What executes patches that lie on the device; `backends/cuda.py` and `backends/tensorrt.py` are the two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from bcseg_edge.passport import Profile


class Lane(Protocol):
    """A network for one slot: nothing that a lane writes is shared with another lane."""

    def prepare(self, batches: Iterable[int]) -> None:
        """Make ready for these batch sizes and no others; all that allocates happens here."""

    def enqueue(self, patches: int, logits: int, batch: int, stream: int) -> None:
        """Queue the network on `stream`: uint8 `[batch, 1, h, w]` -> `[batch, 3, h, w]`, both device addresses."""

    def close(self) -> None:
        """Release what it holds; a second call does nothing."""


class Executor(Protocol):
    """One model file on one GPU."""

    @property
    def name(self) -> str:
        """`cuda` or `tensorrt`."""

    @property
    def profile(self) -> Profile:
        """Batch sizes it takes."""

    @property
    def logits_dtype(self) -> np.dtype[Any]:
        """float32 or float16."""

    @property
    def capturable(self) -> bool:
        """Whether a lane's work may be captured into a CUDA graph."""

    def open_lane(self) -> Lane:
        """A lane of its own; closed before the executor."""

    def close(self) -> None:
        """Release the model; a second call does nothing."""


def split_batches(count: int, profile: Profile) -> list[tuple[int, int]]:
    """First patch and size of each batch that covers `count` patches.

    The last batch is filled up to the profile's smallest: its surplus patches are computed and ignored, and the
    buffers must have room for them.
    """
    firsts = range(0, count, profile.max_batch)
    return [(first, max(profile.min_batch, min(profile.max_batch, count - first))) for first in firsts]
