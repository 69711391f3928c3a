"""Results as JSON lines: one object a frame, in the order of the frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_edge.frames import Frame, Segmentation
from bcseg_edge.lesions import Lesion
from bcseg_edge.sinks.folder import make_folder

if TYPE_CHECKING:
    from bcseg_edge.live.results import LiveResult

SCHEMA_VERSION = 1


def frame_record(frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> dict[str, Any]:
    """One frame's result as JSON values, schema version 1.

    | key | value |
    |---|---|
    | `version` | 1; goes up when a key changes its meaning or is removed, not when one is added |
    | `index` | position in the source, from 0 |
    | `name` | stem of the frame's files: `labels/NAME.png`, `overlay/NAME.png` |
    | `captured_ns` | when the frame was taken, on the machine's monotonic clock |
    | `size_hw` | height and width, px, of the frame and of its files |
    | `region_xywh` | part of the file's frame that this is (a DICOM region), px; null for all of it |
    | `spacing_mm` | height and width of a pixel in mm, or null |
    | `lesions` | list, largest first; see `Lesion.to_dict` |
    | `timings_ms` | `split`, `network`, `stitch` |
    | `patches`, `patches_reused` | windows of the frame, and how many of them needed no computing |

    Lesions, labels and overlay are in the coordinates of the frame: in those of the file once the left and top of
    `region_xywh` are added.
    """
    timings = segmentation.timings
    return {
        "version": SCHEMA_VERSION,
        "index": frame.index,
        "name": frame.name,
        "captured_ns": frame.captured_ns,
        "size_hw": list(segmentation.labels.shape),
        "region_xywh": None if frame.region_xywh is None else list(frame.region_xywh),
        "spacing_mm": None if frame.spacing_mm is None else list(frame.spacing_mm),
        "lesions": [lesion.to_dict() for lesion in lesions],
        "timings_ms": {
            "split": round(timings.split_ms, 3),
            "network": round(timings.network_ms, 3),
            "stitch": round(timings.stitch_ms, 3),
        },
        "patches": segmentation.patches,
        "patches_reused": segmentation.patches_reused,
    }


def live_record(result: LiveResult) -> dict[str, Any]:
    """One live result as JSON values: the keys of `frame_record`, and these.

    | key | value |
    |---|---|
    | `validity` | `ok`, `frozen`, `blank`, `stale` or `lost`; the last three have no lesions |
    | `age_ms` | from the frame's capture to the result |
    | `crop_xywh` | the part of the frame that was segmented, px; null for all of it. Lesions stay in the frame's |
    | `lesions[].track_id` | the same for the same lesion over time; absent where not tracked |
    """
    segmentation = result.segmentation or Segmentation(
        np.zeros(result.frame.image.shape[:2], np.uint8), np.ones(result.frame.image.shape[:2], np.float32)
    )
    record = frame_record(result.frame, segmentation, result.lesions)
    for lesion, track_id in zip(record["lesions"], result.track_ids, strict=False):
        lesion["track_id"] = track_id
    crop = None if result.crop_xywh is None else list(result.crop_xywh)
    return {**record, "validity": result.validity.value, "age_ms": round(result.age_ms, 3), "crop_xywh": crop}


class JsonLinesSink:
    """Writes `frame_record` lines; the file gets its name when the sink is closed.

    Args:
        path: the file; its folder is made.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        self._pending = ExitStack()
        temporary = self._pending.enter_context(atomic_path(path))
        self._stream = self._pending.enter_context(temporary.open("w", encoding="utf-8", buffering=1))

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Add one line; DataError where that fails."""
        self._write(frame_record(frame, segmentation, lesions))

    def write_result(self, result: LiveResult) -> None:
        """Add one line for a live result, with or without a segmentation; DataError where that fails."""
        self._write(live_record(result))

    def _write(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":"), allow_nan=False)
        try:
            self._stream.write(line + "\n")
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Give the file its name; a second call does nothing. DataError where the last lines do not fit."""
        try:
            self._pending.close()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> DataError:
        return DataError(f"cannot write {self.path}: {error.strerror}", "free space or choose another folder")
