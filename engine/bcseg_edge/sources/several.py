"""Several files as one source: what a folder holds, and what a glob matches."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from bcseg_edge.errors import SourceError
from bcseg_edge.sources.dicom import DicomSource
from bcseg_edge.sources.dicom_files import DicomFilesSource, choose_dicom
from bcseg_edge.sources.images import IMAGE_SUFFIXES, ImageSource, choose_images, natural_key
from bcseg_edge.sources.source import Source

_KINDS = f"{', '.join(IMAGE_SUFFIXES)} or DICOM"


def open_folder(folder: Path) -> Source:
    """The images of a folder, or, where it holds none, its DICOM files; subfolders are not entered.

    Raises:
        SourceError: the folder holds neither, or cannot be listed.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"cannot list {folder}: {error.strerror}", "check its permissions") from error
    source = _open(entries, str(folder))
    if source is None:
        inner = sorted((entry.name for entry in entries if entry.is_dir()), key=natural_key)
        others = len(entries) - len(inner)
        hint = "videos are read one at a time: name one" if others else "name a folder that holds images"
        raise SourceError(
            f"no image in {folder} ({_KINDS})" + (f", but {others} other files" if others else ""),
            f"name one of its folders: {', '.join(inner[:5])}" if inner else hint,
        )
    return source


def open_glob(pattern: str) -> Source:
    """The images that match a glob (`**` enters subfolders), or, where none does, the DICOM files.

    Raises:
        SourceError: nothing matches, or neither images nor DICOM files do.
    """
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise SourceError(f"nothing matches {pattern!r}", "put the glob in quotes and check the folder")
    source = _open(matches, pattern)
    if source is None:
        matching = "1 match" if len(matches) == 1 else f"{len(matches)} matches"
        raise SourceError(
            f"{matching} of {pattern!r}, none an image ({_KINDS})",
            "videos, and BUSI's masks, are read one at a time: name one",
        )
    return source


def _open(paths: Sequence[Path], description: str) -> Source | None:
    """Images where there are any, else DICOM files, one as if it were named; None where there is neither."""
    if images := choose_images(paths):
        return ImageSource(images, description)
    dicom = choose_dicom([path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES])
    if len(dicom) == 1:
        return DicomSource(dicom[0])
    return DicomFilesSource(dicom, description) if dicom else None
