"""What an earlier run left in an output folder goes before the next one writes there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bcseg_edge.errors import DataError

_FOLDERS = ("labels", "overlay")
_FILES = ("overlay.mp4", "segmentation.dcm", "measurements.dcm")
_RECORDS = "results.jsonl"


def remove_earlier_run(output: Path) -> None:
    """Remove the files that an earlier run wrote into `output`, and nothing else.

    Which ones these are is known from its `results.jsonl`, or from what was written of that file by a run that was
    killed: without this, the labels of a longer run stay among those of a shorter one.

    Raises:
        DataError: a file cannot be removed.
    """
    records = [path for path in (output / _RECORDS, *output.glob(".results.*.jsonl")) if path.is_file()]
    if not records:
        return
    try:
        for record in records:
            for name in _names(record):
                for folder in _FOLDERS:
                    (output / folder / f"{name}.png").unlink(missing_ok=True)
        for path in (*(output / name for name in _FILES), *records):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot remove {error.filename} of an earlier run: {error.strerror}", "choose another output folder"
        ) from error


def _names(record: Path) -> Iterator[str]:
    """Names of the frames in a file of results; what cannot be read, or is no plain name, is left out."""
    with record.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                name = json.loads(line)["name"]
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(name, str) and name and "\0" not in name and Path(name).name == name:
                yield name
