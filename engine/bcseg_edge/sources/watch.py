"""A folder that fills: each image that appears is a frame."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from bcseg_edge.errors import SourceError, SourceLost
from bcseg_edge.frames import UInt8Array
from bcseg_edge.sources.image_file import open_image
from bcseg_edge.sources.images import IMAGE_SUFFIXES, name_parts, natural_key
from bcseg_edge.sources.live import TIMEOUT, LiveSource, Read, lost

POLL_S = 0.1
WAIT_S = 0.5
GIVE_UP_S = 10.0  # an image that cannot be read for so long is damaged and not half-written


class WatchSource(LiveSource):
    """New images of a folder, in natural order; those that are there at the start are left out.

    A file is taken once its size has stayed the same between two looks and it can be decoded; one that never can is
    reported in `problems`. Nothing is lost: files wait. A file that is replaced (another size or time of writing) is
    a new image. Each page of a TIFF stack or of an animated PNG or WebP is a frame.

    Args:
        folder: existing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"new images in {folder}", lossless=True)
        self.folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}
        self._pending: dict[Path, tuple[tuple[int, int], float]] = {}
        self._pages: deque[tuple[UInt8Array, str]] = deque()  # of the file that was taken last
        self._opened = False

    def open(self) -> None:
        """Remember what is there.

        Raises:
            SourceLost: no such folder.
        """
        if not self.folder.is_dir():
            raise SourceLost(f"no folder {self.folder} to watch", "make it first: watch:FOLDER")
        if not self._opened:  # after a loss, what came meanwhile is new
            self._seen = self._look()
            self._opened = True

    def read(self) -> Read:
        """The next new image, waiting up to half a second."""
        until_s = time.monotonic() + WAIT_S
        while True:
            try:
                found = self._next()
            except OSError as error:
                return lost(f"{self.folder}: {error.strerror}")
            if found is not None:
                return found
            if time.monotonic() >= until_s:
                return TIMEOUT
            time.sleep(POLL_S)

    def close(self) -> None:
        """Nothing to release."""

    def _next(self) -> Read | None:
        if not self._pages:
            self._take_file()
        return self._frame(*self._pages.popleft()) if self._pages else None

    def _take_file(self) -> None:
        """Decode the next new file that is whole."""
        now_s = time.monotonic()
        for path, state in sorted(self._look().items(), key=lambda item: natural_key(item[0].name)):
            if self._seen.get(path) == state:
                continue
            before, since_s = self._pending.get(path, (None, now_s))
            if before != state:
                self._pending[path] = (state, now_s)
                continue
            try:
                images = list(open_image(path))
            except SourceError as error:
                if now_s - since_s > GIVE_UP_S:
                    self._settle(path, state)
                    self.problems.append(f"skipped: {error.message}")
                continue
            self._settle(path, state)
            self._pages.extend(zip(images, name_parts(path.stem, len(images), ()), strict=True))
            return

    def _settle(self, path: Path, state: tuple[int, int]) -> None:
        self._seen[path] = state
        self._pending.pop(path, None)

    def _look(self) -> dict[Path, tuple[int, int]]:
        """Size and time of writing of each image; those of files that went away are forgotten."""
        found = {}
        for path in self.folder.iterdir():
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue
                found[path] = (state.st_size, state.st_mtime_ns)
        self._seen = {path: state for path, state in self._seen.items() if path in found}
        self._pending = {path: state for path, state in self._pending.items() if path in found}
        return found
