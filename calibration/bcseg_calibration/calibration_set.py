"""A calibration set: patches, where they came from, and a digest; a poisoned one is refused."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bcseg_calibration.features import correlate, is_blank, is_noise
from bcseg_edge.errors import DataError
from bcseg_edge.files import write_bytes_atomic
from bcseg_edge.frames import UInt8Array
from bcseg_edge.tiling import TILINGS

FORMAT_VERSION = 2
MIN_PATCHES = 16
MAX_BAD = 0.1  # share of blank or noisy patches: a few hurt no range, many make ranges of nothing
MAX_ALIKE = 0.5  # share of patches that look like an earlier one
SAME_ABOVE = 0.96  # correlation of patches, of which a second one adds nothing; frames: bcseg_edge.near_duplicates
CALIBRATE_HINT = "choose patches with: bcseg-edge calibrate --data DIR --output calibration.npz"


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """Patches to measure ranges on.

    Attributes:
        patches: uint8 `[N, 1, h, w]`.
        labels: uint8 `[N]`, the most serious class in each patch's truth, 0 where there is none or no truth.
        sources: name of the frame that each patch was cut from.
        frame_digests: hex SHA-256 of each patch's frame, so that a gate can see that it does not share frames.
        tiling: how frames were cut.
        data: where the frames came from, in words.
        thumbnails: uint8 `[N, 64, 64]` of each patch's frame, so that a gate can see near-duplicates.
    """

    patches: UInt8Array
    labels: UInt8Array
    sources: tuple[str, ...]
    frame_digests: tuple[str, ...]
    tiling: str
    data: str
    thumbnails: UInt8Array

    @property
    def window_hw(self) -> tuple[int, int]:
        """Size of the patches, px."""
        return self.patches.shape[2], self.patches.shape[3]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the patches, their frames and the thumbnails, for passports."""
        digest = hashlib.sha256(f"{FORMAT_VERSION} {self.patches.shape} {self.tiling}".encode())
        digest.update(np.ascontiguousarray(self.patches).tobytes())
        digest.update(np.ascontiguousarray(self.thumbnails).tobytes())
        digest.update("".join(self.frame_digests).encode())
        return digest.hexdigest()


def check_patches(patches: UInt8Array) -> None:
    """Refuse patches whose ranges would not be those of ultrasound.

    Args:
        patches: uint8 `[N, 1, h, w]`.

    Raises:
        DataError: too few, too many blank, of noise, or alike.
    """
    count = len(patches)
    if count < MIN_PATCHES:
        raise DataError(f"{count} calibration patches, at least {MIN_PATCHES} are needed", CALIBRATE_HINT)
    for kind, bad in (("blank", is_blank(patches)), ("noise", is_noise(patches))):
        if bad.mean() > MAX_BAD:
            raise DataError(
                f"{int(bad.sum())} of {count} calibration patches are {kind}, not ultrasound", CALIBRATE_HINT
            )
    alike = np.triu(correlate(patches) > SAME_ABOVE, 1).any(axis=0)
    if alike.mean() > MAX_ALIKE:
        raise DataError(
            f"{int(alike.sum())} of {count} calibration patches look like another one of them", CALIBRATE_HINT
        )


def save(chosen: CalibrationSet, path: Path) -> None:
    """Write a calibration set as `.npz`, atomically.

    Raises:
        DataError: the place cannot be written.
    """
    facts = {
        "format_version": FORMAT_VERSION,
        "digest": chosen.digest,
        "sources": chosen.sources,
        "frame_digests": chosen.frame_digests,
        "tiling": chosen.tiling,
        "data": chosen.data,
    }
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        patches=chosen.patches,
        labels=chosen.labels,
        thumbnails=chosen.thumbnails,
        facts=np.array(json.dumps(facts)),
    )
    write_bytes_atomic(path, stream.getvalue())


def load(path: Path) -> CalibrationSet:
    """Read a calibration set and verify it: format, digest, patches.

    Raises:
        DataError: not a calibration set, changed since it was written, or one that `check_patches` refuses.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            facts = json.loads(str(content["facts"]))
            chosen = CalibrationSet(
                patches=content["patches"],
                labels=content["labels"],
                sources=tuple(facts["sources"]),
                frame_digests=tuple(facts["frame_digests"]),
                tiling=facts["tiling"],
                data=facts["data"],
                thumbnails=content["thumbnails"],
            )
            digest, version = facts["digest"], facts["format_version"]
    except FileNotFoundError as error:
        raise DataError(f"no calibration set at {path}", CALIBRATE_HINT) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} is not a calibration set", CALIBRATE_HINT) from error
    fits = chosen.patches.ndim == 4 and chosen.patches.shape[1] == 1 and chosen.patches.dtype == np.uint8
    if version != FORMAT_VERSION or not fits or chosen.tiling not in TILINGS:
        raise DataError(f"{path} is not a calibration set of format {FORMAT_VERSION}", CALIBRATE_HINT)
    if chosen.digest != digest:
        raise DataError(f"{path} was changed: its patches do not have the digest {digest[:12]}...", CALIBRATE_HINT)
    check_patches(chosen.patches)
    return chosen
