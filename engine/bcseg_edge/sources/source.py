"""What every source of frames offers."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from bcseg_edge.frames import Frame

if TYPE_CHECKING:
    from typing_extensions import Self


class Source(Protocol):
    """Frames, one after the other; a context manager, safe to close twice.

    Attributes:
        description: what it is, for people.
        frame_hz: frames per second of a moving source, None for still images.
        count: how many frames it expects to give, None where unknown or endless.
        problems: what it could not deliver so far, one sentence each (a skipped image, a video that ended early);
            complete once the iteration has ended.
    """

    @property
    def description(self) -> str: ...

    @property
    def frame_hz(self) -> float | None: ...

    @property
    def count(self) -> int | None: ...

    @property
    def problems(self) -> list[str]: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
