"""The black box: the last seconds of a live run on disk, so that what was shown can be looked into afterwards.

A run has a folder of its own in the box, with `run.json` (which model, how it was used) and segments of about a second
each. A segment is a row of records, each with its length and checksum, and only ever grows: whatever ends the program,
all records but the one being written can be read. The oldest segments go when the rest holds enough seconds or too many
bytes; the last few runs are kept, since a restart must not wipe out what led to it.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from bcseg_edge.errors import DataError
from bcseg_edge.files import write_text_atomic
from bcseg_edge.frames import Frame, Segmentation, UInt8Array
from bcseg_edge.lesions import Lesion
from bcseg_edge.live.results import LiveResult
from bcseg_edge.sinks.folder import make_folder
from bcseg_edge.sinks.jsonl import live_record

SEGMENT_S = 1.0
MAX_BYTES = 2 << 30  # of one run; 60 s of 640x480 at 30 Hz are 250 MB
RUNS_KEPT = 3
_RECORD = struct.Struct(">4sIIII")  # mark, lengths of the JSON, the image and the labels, CRC-32 of the three
_MARK = b"BCB1"
_SUFFIX = ".segment"
_RUN_FILE = "run.json"
_LARGEST = 1 << 28  # a length beyond is damage


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What computed the labels of a black box.

    Attributes:
        model_path: the model file; informative, since it may have moved.
        model_sha256: of the model file.
        backend: that executed it.
        tiling: of the frames.
        version: of this program.
        deidentified: rectangles were blackened before the frames were segmented.
        reuse: patches were executed as `Segmenter` does with `reuse`, which changes how they are batched.
    """

    model_path: str
    model_sha256: str
    backend: str
    tiling: str
    version: str
    deidentified: bool = False
    reuse: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record of a black box.

    Attributes:
        facts: the keys of `live_record`.
        image: uint8 `[H, W]` or `[H, W, 3]` BGR, exactly as it was segmented where there are labels.
        labels: what the backend said, uint8 `[H, W]`; None where there was no result, or not of this image.
    """

    facts: dict[str, Any]
    image: UInt8Array
    labels: UInt8Array | None


class BlackBoxSink:
    """Writes a black box; for a `WriterThread`, since encoding a frame takes 4 ms at 640x480.

    Args:
        folder: the box; made where it does not exist.
        facts: about the run.
        seconds: how much of the past is kept, by the frames' capture times.
        max_bytes: upper bound of the run's folder, whatever the seconds.

    Raises:
        DataError: the folder cannot be written, or there is nothing to keep.
    """

    def __init__(self, folder: Path, facts: RunFacts, seconds: float, max_bytes: int = MAX_BYTES) -> None:
        if not 0 < seconds < 86_400:
            raise DataError(f"a black box of {seconds:g} s keeps nothing or everything", "give seconds, e.g. 60")
        make_folder(folder)
        _forget_old_runs(folder)
        started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        self.folder = make_folder(folder / f"run-{started}-{os.getpid()}")
        write_text_atomic(self.folder / _RUN_FILE, json.dumps({"format": 1, **asdict(facts)}, indent=2) + "\n")
        self._kept_ns = int(seconds * 1e9)
        self._max_bytes = max_bytes
        self._segments: list[tuple[Path, int, int]] = []  # finished: path, last capture, bytes
        self._stream: BinaryIO | None = None
        self._path = self.folder
        self._first_ns = self._last_ns = self._bytes = 0
        self._number = 0
        self._image: UInt8Array | None = None  # the last one in this segment

    def write(self, frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> None:
        """Record a frame that was not live."""
        self.write_result(_as_result(frame, segmentation, lesions))

    def write_result(self, result: LiveResult) -> None:
        """Record one result; DataError where that fails."""
        captured_ns = result.frame.captured_ns
        try:
            too_old = abs(captured_ns - self._first_ns) > SEGMENT_S * 1e9
            if self._stream is None or too_old or self._bytes > self._max_bytes // 4:
                self._next_segment(captured_ns)
            self._append(result)
            self._last_ns = captured_ns
            self._drop_old(captured_ns)
        except OSError as error:
            raise DataError(f"cannot write {self._path}: {error.strerror}", "free space on the disk") from error

    def close(self) -> None:
        """Finish the segment; a second call does nothing."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            self._segments.append((self._path, self._last_ns, self._bytes))

    def _next_segment(self, captured_ns: int) -> None:
        self.close()
        self._number += 1
        self._path = self.folder / f"{self._number:08d}{_SUFFIX}"
        self._stream = self._path.open("wb", buffering=0)
        self._first_ns, self._bytes, self._image = captured_ns, 0, None

    def _append(self, result: LiveResult) -> None:
        image = result.frame.image
        same = self._image is not None and np.array_equal(self._image, image)
        picture = b"" if same else _png(image)
        self._image = image
        labels = result.computed_labels
        if labels is None and result.segmentation is not None:
            labels = result.segmentation.labels
        if result.hidden:  # a replay could not compute them again
            labels = None
        facts = json.dumps(live_record(result), separators=(",", ":")).encode()
        body = (facts, picture, b"" if labels is None else _png(labels))
        checksum = zlib.crc32(b"".join(body))
        record = _RECORD.pack(_MARK, *map(len, body), checksum) + b"".join(body)
        if self._stream is not None:
            self._stream.write(record)
            self._bytes += len(record)

    def _drop_old(self, now_ns: int) -> None:
        total = self._bytes + sum(size for *_, size in self._segments)
        while self._segments:
            path, last_ns, size = self._segments[0]
            if now_ns - last_ns <= self._kept_ns and total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
            del self._segments[0]


def find_runs(folder: Path) -> list[Path]:
    """The runs in a box, oldest first; the folder itself where it is a run's.

    Raises:
        DataError: there is none.
    """
    runs = [folder] if (folder / _RUN_FILE).is_file() else _runs_in(folder)
    if not runs:
        raise DataError(f"{folder} is no black box", "name the folder of: run --black-box DIR")
    return runs


def read_run_facts(run: Path) -> RunFacts:
    """What computed the labels of a run.

    Raises:
        DataError: its `run.json` is missing or damaged.
    """
    try:
        facts = json.loads((run / _RUN_FILE).read_text(encoding="utf-8"))
        if facts.pop("format") != 1:
            raise ValueError("another format")
        return RunFacts(**facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{run / _RUN_FILE} cannot be read: {error}", "the box may be of another version") from error


def read_records(run: Path) -> Iterator[Recorded]:
    """The records of a run in order; what is cut or damaged ends its segment, and the next one goes on."""
    for path in sorted(run.glob(f"*{_SUFFIX}")):
        image: UInt8Array | None = None
        with path.open("rb") as stream:
            while (parts := _read_record(stream)) is not None:
                facts, picture, labels = parts
                image = _decode(picture) if picture else image
                if image is None:
                    break
                yield Recorded(json.loads(facts), image, _decode(labels) if labels else None)


def _read_record(stream: BinaryIO) -> tuple[bytes, bytes, bytes] | None:
    head = stream.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    mark, *lengths, checksum = _RECORD.unpack(head)
    if mark != _MARK or max(lengths) > _LARGEST:
        return None
    body = [stream.read(length) for length in lengths]
    if [len(part) for part in body] != lengths or zlib.crc32(b"".join(body)) != checksum:
        return None
    return body[0], body[1], body[2]


def _runs_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"run-*/{_RUN_FILE}"))


def _forget_old_runs(folder: Path) -> None:
    for run in _runs_in(folder)[: -RUNS_KEPT or None]:
        shutil.rmtree(run, ignore_errors=True)


def _as_result(frame: Frame, segmentation: Segmentation, lesions: Sequence[Lesion]) -> LiveResult:
    from bcseg_edge.live.results import Validity

    return LiveResult(frame, Validity.OK, segmentation, tuple(lesions))


def _png(image: UInt8Array) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _decode(data: bytes) -> UInt8Array:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
