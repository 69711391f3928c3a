"""The folder that a sink writes to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bcseg_edge.errors import DataError


def make_folder(folder: Path) -> Path:
    """Make `folder` and prove that files can be written to it, so that a run fails at its start and not at its end.

    Raises:
        DataError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"cannot write to the output folder {folder}: {error.strerror}", "choose a folder that you may write to"
        ) from error
    return folder
