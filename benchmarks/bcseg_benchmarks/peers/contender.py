"""What takes part in a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bcseg_edge.frames import UInt8Array

Scope = Literal["frame to labels", "network alone"]

OURS = "bcseg-edge"


class Opened(Protocol):
    """A contender that is ready. `prepare` and `labels` are not timed, `run` is."""

    def prepare(self, image: UInt8Array) -> Any:
        """What `run` takes: the frame, uint8 `[H, W]`, or for a network alone its patches."""

    def run(self, prepared: Any) -> Any:
        """One frame of work."""

    def labels(self, result: Any) -> UInt8Array:
        """uint8 `[H, W]` from what `run` gave."""

    def close(self) -> None:
        """Release everything; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to execute a model.

    Attributes:
        model: its name.
        precision: of the arithmetic: fp32, bf16, int8, ...
        way: name of the way, unique for a model and a precision.
        how: the settings, in words.
        source: where they are recommended, a link; empty for our own.
        scope: what a call does.
        open: loads it; may take long (compilation), and raises ImportError or any other error where it cannot run.
    """

    model: str
    precision: str
    way: str
    how: str
    source: str
    scope: Scope
    open: Callable[[], Opened]

    @property
    def name(self) -> str:
        """`resnext50 int8 bcseg-edge`: how thresholds name it."""
        return f"{self.model} {self.precision} {self.way}"
