"""Snapshots: what is on the screen when a person asks, as files."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from bcseg_edge.drawing import draw_overlay
from bcseg_edge.errors import DataError
from bcseg_edge.files import write_text_atomic
from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.live.results import Controls, Health, LiveResult
from bcseg_edge.live.writer import WriterThread
from bcseg_edge.sinks.folder import make_folder
from bcseg_edge.sinks.jsonl import live_record
from bcseg_edge.sinks.png import write_png


class SnapshotSink:
    """Saves the shown result when `controls.snapshot` is set, and clears it; below `Shown`, so the frozen one too.

    That is the result that was on the screen when the person asked, not the next one, which may be long in coming.

    A snapshot is `TIME-FRAME.png` (the image), `TIME-FRAME-overlay.png` where there is a mask, and `TIME-FRAME.json`.

    Args:
        folder: made where it does not exist.
        controls: of the run.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(self, folder: Path, controls: Controls) -> None:
        self._controls = controls
        self._shown: LiveResult | None = None
        self._writer = WriterThread([_SnapshotFiles(folder)], folder, name="snapshots")

    @property
    def count(self) -> int:
        """Snapshots saved."""
        return self._writer.counts.written

    @property
    def problems(self) -> list[str]:
        """Why a snapshot could not be saved."""
        return self._writer.problems

    def write(self, result: LiveResult) -> None:
        """Show the result; save what was shown before it where a person asked for that, or else the first one."""
        self._save(self._shown or result)
        self._shown = result

    def update(self, health: Health) -> None:
        """Save what is shown where a person asked for it."""
        if self._shown is not None:
            self._save(self._shown)

    def _save(self, shown: LiveResult) -> None:
        if self._controls.snapshot.is_set():
            self._controls.snapshot.clear()
            self._writer.write(shown)

    def close(self) -> None:
        """Finish what waits; a second call does nothing."""
        self._writer.close()


class _SnapshotFiles:
    """Writes the files of each result it gets."""

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Results that are not live are not asked for."""

    def write_result(self, result: LiveResult) -> None:
        """Save one; DataError where that fails."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        stem = f"{now}Z-{result.frame.name}"
        write_png(self._folder / f"{stem}.png", result.frame.image)
        if result.segmentation is not None:
            overlay = draw_overlay(
                result.frame.image, result.segmentation.labels, result.lesions, track_ids=result.track_ids
            )
            write_png(self._folder / f"{stem}-overlay.png", overlay)
        try:
            write_text_atomic(self._folder / f"{stem}.json", json.dumps(live_record(result), indent=2) + "\n")
        except OSError as error:
            raise DataError(f"cannot write {self._folder}: {error.strerror}", "free space on the disk") from error

    def close(self) -> None:
        """Nothing is pending."""
