"""What every live source offers: one `read()` with a status, so that a hiccup is an answer and not an exception."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING

from bcseg_edge.errors import SourceLost
from bcseg_edge.frames import Frame, UInt8Array

if TYPE_CHECKING:
    from typing_extensions import Self


class Status(str, Enum):
    """What came of one `read()`."""

    OK = "ok"  # a frame
    TIMEOUT = "timeout"  # none yet: ask again
    END = "end"  # none any more
    ERROR = "error"  # the connection is lost: open it again


@dataclass(frozen=True, slots=True)
class Read:
    """The answer of a live source.

    Attributes:
        status: see `Status`.
        frame: with OK only.
        reason: one sentence with ERROR, else empty.
    """

    status: Status
    frame: Frame | None = None
    reason: str = ""


class LiveSource(ABC):
    """A source that gives frames when they come: a camera, a stream, a folder that fills.

    It is a `Source` too: iterating asks until there is no more. `open` may be called again after a loss; frame numbers
    go on. Not thread-safe: one thread reads.

    Attributes:
        description: what it is, for people.
        frame_hz: frames per second that it is known to give, None where they come when they come.
        lossless: its frames wait until they are taken (files); of a camera the newest wins.
        problems: what it could not deliver, one sentence each.
    """

    def __init__(self, description: str, frame_hz: float | None = None, *, lossless: bool = False) -> None:
        self.description = description
        self.frame_hz = frame_hz
        self.lossless = lossless
        self.count: int | None = None
        self.problems: list[str] = []
        self._next_index = 0

    @abstractmethod
    def open(self) -> None:
        """Connect, or connect again.

        Raises:
            SourceLost: nobody there.
            SourceError: it is there and does not give what was asked for.
        """

    @abstractmethod
    def read(self) -> Read:
        """Wait for the next frame, a second at most where the device allows it; never raises what a device does."""

    def skip_old(self) -> None:  # noqa: B027  (most keep nothing)
        """Forget what came while nobody read: the next frame is a new one. SourceLost where that needs a connection."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect; a second call does nothing."""

    def __iter__(self) -> Iterator[Frame]:
        while True:
            read = self.read()
            if read.frame is not None:
                yield read.frame
            elif read.status is Status.END:
                return
            elif read.status is Status.ERROR:
                raise SourceLost(f"{self.description}: {read.reason}", "check cable, power and network")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, image: UInt8Array, name: str = "", spacing_mm: tuple[float, float] | None = None) -> Read:
        """The answer for an image that just came."""
        index = self._next_index
        self._next_index += 1
        return Read(Status.OK, Frame(image, index, time.monotonic_ns(), spacing_mm, name or f"{index:06d}"))


def lost(reason: str) -> Read:
    """The answer where the connection broke."""
    return Read(Status.ERROR, reason=reason)


TIMEOUT = Read(Status.TIMEOUT)
END = Read(Status.END)
