"""Writing a DICOM file: whole or not at all, and without a word about the patient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path


def write_dicom(path: Path, make: Callable[[], Any]) -> None:
    """Make a data set and write it.

    Args:
        path: the file.
        make: gives the data set, from pydicom or highdicom.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        # Both libraries quote what they find odd: a patient's name would end up in the terminal and in logs.
        with warnings.catch_warnings(), atomic_path(path) as temporary:
            warnings.simplefilter("ignore")
            make().save_as(temporary)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", "free space or choose another folder") from error
