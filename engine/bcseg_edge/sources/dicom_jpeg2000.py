"""JPEG 2000 in DICOM: what has to be looked at before pydicom does.

Frames in the JP2 file format are not allowed in DICOM (PS3.5 A.4.4) and exist. pydicom walks through their boxes to the
codestream (`get_j2k_parameters`), and in 3.0.2 never gets past one whose length is damaged to 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SIGNATURE = b"\0\0\0\x0cjP  "  # the start of a box of 12 bytes
_LEAST_BOX = 8  # length and type
_ELEMENT_HEAD = 12  # tag, VR, two reserved bytes, length (PS3.5 7.1.2)


def encoded_frames(path: Path, header: Dataset) -> Iterator[bytes]:
    """The frames of an encapsulated file, encoded, as pydicom's decoders get them.

    Raises:
        Exception: what pydicom raises on a damaged file.
    """
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    extended = None
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        extended = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    with path.open("rb") as stream:
        dcmread(stream, stop_before_pixels=True)  # leaves the stream at the pixels
        stream.seek(_ELEMENT_HEAD, 1)
        count = int(header.get("NumberOfFrames") or 1)
        yield from generate_frames(stream, number_of_frames=count, extended_offsets=extended)


def check_boxes(frame: bytes) -> None:
    """Refuse a frame in whose boxes pydicom would get lost.

    Args:
        frame: JPEG 2000, with or without the boxes of a JP2 file.

    Raises:
        ValueError: a box shorter than its own head.
    """
    if not frame.startswith(_SIGNATURE):
        return
    offset = 12
    while offset < len(frame):
        if frame[offset + 4 : offset + 8] == b"jp2c":
            return
        length = int.from_bytes(frame[offset : offset + 4], "big")
        if length < _LEAST_BOX:
            raise ValueError(f"a JP2 box of {length} bytes")
        offset += length
