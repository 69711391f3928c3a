"""What the live loop needs of a backend, and the one without a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import Segmentation, UInt8Array


class BackendDown(BcsegError):
    """The backend cannot take frames now; it is being started again.

    Attributes:
        had_image: it broke down over the image that it was asked for.
    """

    def __init__(self, message: str, hint: str = "", *, had_image: bool = False) -> None:
        super().__init__(message, hint)
        self.had_image = had_image


class LiveBackend(Protocol):
    """Segments images, and tells how it does.

    Attributes:
        restarts: how often it was started again.
        trouble: why it cannot take frames now, one line; empty where it can.
        process_ids: processes of its own.
    """

    @property
    def restarts(self) -> int: ...

    @property
    def trouble(self) -> str: ...

    @property
    def process_ids(self) -> list[int]: ...

    def segment(self, image: UInt8Array) -> Segmentation:
        """Segment one image.

        Raises:
            BackendDown: not now.
            BcsegError: not this image.
        """

    def check(self) -> None:
        """Called when there is nothing to segment: notices what died meanwhile."""

    def close(self) -> None:
        """Release everything; a second call does nothing."""


class InProcessBackend:
    """A segmenter in this very process: no copies, and no protection against a driver that hangs or dies.

    Args:
        segment: a `Segmenter`, or anything that segments an image.
    """

    def __init__(self, segment: Callable[[UInt8Array], Segmentation]) -> None:
        self.restarts = 0
        self.trouble = ""
        self.process_ids: list[int] = []
        self._segment = segment

    def segment(self, image: UInt8Array) -> Segmentation:
        """Segment one image; a BcsegError where that fails, whatever it was."""
        try:
            found = self._segment(image)
        except BcsegError as error:
            self.trouble = error.message
            raise
        except Exception as error:  # a backend's library raises what it likes; the session goes on
            self.trouble = f"{type(error).__name__}: {error}"
            raise BcsegError(f"the backend failed: {self.trouble}", "try another --backend") from error
        self.trouble = ""
        return found

    def check(self) -> None:
        """Nothing can die without this process."""

    def close(self) -> None:
        """The segmenter belongs to whoever made it."""
