"""One PNG file, whole or not there."""

from __future__ import annotations

from pathlib import Path

import cv2

from bcseg_edge.errors import DataError
from bcseg_edge.files import write_bytes_atomic
from bcseg_edge.frames import UInt8Array


def write_png(path: Path, image: UInt8Array) -> None:
    """Encode uint8 `[H, W]` or `[H, W, 3]` BGR and write it atomically.

    Raises:
        DataError: it cannot be encoded or written.
    """
    encoded, data = cv2.imencode(".png", image)
    if not encoded:
        raise DataError(f"cannot encode {path.name} as PNG, image {image.dtype} {list(image.shape)}")
    try:
        write_bytes_atomic(path, data.tobytes())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", "free space or choose another folder") from error
