"""Several DICOM files, one after the other: a patient's study."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bcseg_edge.errors import BackendUnavailable, SourceError
from bcseg_edge.frames import Frame
from bcseg_edge.sources.dicom import DicomSource, is_dicom, load_pydicom
from bcseg_edge.sources.images import name_parts, natural_key, unique_names

if TYPE_CHECKING:
    from typing_extensions import Self


class DicomFilesSource:
    """The frames of DICOM images and cines in the order given, each with its own size, region and spacing.

    They are still images: files have rates of their own. A file that cannot be read, and one that holds no image (a
    report), is skipped and listed in `problems`, as in an `ImageSource`. One file is open at a time.

    Args:
        paths: DICOM files, at least one.
        description: for people.

    Raises:
        BackendUnavailable: pydicom is not installed.
    """

    def __init__(self, paths: Sequence[Path], description: str) -> None:
        load_pydicom()
        self.paths = list(paths)
        self.frame_hz: float | None = None
        self.count: int | None = None  # to know it would be to open them all
        self.problems: list[str] = []
        self._description = description
        self._notes: Counter[str] = Counter()
        self._names = unique_names(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        self._notes.clear()
        index = 0
        for path, name in zip(self.paths, self._names, strict=True):
            for frame in self._frames_of(path, name):
                yield dataclasses.replace(frame, index=index)
                index += 1

    @property
    def description(self) -> str:
        """What was asked for, and what is to be known of files that were read so far."""
        notes = (f"{note} ({count} of {len(self.paths)} files)" for note, count in self._notes.items())
        return "; ".join([self._description, *notes])

    def close(self) -> None:
        """Nothing to release: a file is open only while it is iterated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frames_of(self, path: Path, name: str) -> Iterator[Frame]:
        try:
            source = DicomSource(path)
            if source.note:
                self._notes[source.note] += 1
            names = name_parts(name, source.count or 1, self._names)
            for frame in source:
                yield dataclasses.replace(frame, name=names[frame.index])
            self.problems += source.problems
        except (SourceError, BackendUnavailable) as error:
            self.problems.append(f"skipped: {error.message}")


def choose_dicom(paths: Sequence[Path]) -> list[Path]:
    """The DICOM files among `paths` in natural order, by name or content; a DICOMDIR and hidden files are left out.

    Raises:
        SourceError: a file cannot be read.
    """
    named = (path for path in paths if path.name.upper() != "DICOMDIR" and not path.name.startswith("."))
    return sorted(
        (path for path in named if path.is_file() and is_dicom(path)), key=lambda path: natural_key(str(path))
    )
