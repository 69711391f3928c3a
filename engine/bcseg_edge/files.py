"""Writing files so that a half-written one never has its final name."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from bcseg_edge.errors import DataError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder; on success fsync it and rename it to `path`.

    The temporary keeps `path`'s suffix, since OpenCV chooses its encoder by it. On an error it is removed
    and `path` stays as it was.

    Raises:
        DataError: the folder cannot be written, or `path` is a folder.
    """
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder", "give the name of a file in it")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror}", "choose a folder that exists and that you may write to"
        ) from error
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`; see `atomic_path`."""
    write_bytes_atomic(path, text.encode())


def cache_folder(kind: str) -> Path:
    """Folder for what can be made again: `$BCSEG_CACHE/kind`, by default below `$XDG_CACHE_HOME` or `~/.cache`."""
    root = os.environ.get("BCSEG_CACHE")
    if root:
        return Path(root) / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bcseg-edge" / kind
