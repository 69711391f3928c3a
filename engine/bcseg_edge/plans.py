"""May a TensorRT plan be loaded here? Its passport decides: a plan is native code and crashes where it does not fit.

The rules are TensorRT's (developer guide, "Version Compatibility" and "Hardware Compatibility"): a plan runs with the
version and on the GPU type that built it; a version-compatible one also with later versions of the same major, a
hardware-compatible one on Ampere and newer.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bcseg_edge.errors import ModelError

if TYPE_CHECKING:
    from bcseg_edge.passport import Compiled, Passport

SUFFIX = ".engine"
AMPERE = (8, 0)

RuntimeName = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plan is to run.

    Attributes:
        runtime: `tensorrt` or `tensorrt-rtx`.
        version: of the runtime, such as `10.3.0`.
        gpu: name of the GPU.
        capability: its compute capability.
    """

    runtime: RuntimeName
    version: str
    gpu: str
    capability: tuple[int, int]


def parse_version(text: str) -> tuple[int, ...]:
    """`10.13.3.9.post1` -> (10, 13, 3, 9): compared as numbers, for 10.3 is older than 10.13."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def compiled_of(path: Path, passport: Passport) -> Compiled:
    """What the passport of a plan says of its build.

    Raises:
        ModelError: the file is no plan.
    """
    if path.suffix != SUFFIX or passport.compiled is None:
        raise ModelError(
            f"backend tensorrt executes {SUFFIX} files, got {path.name}",
            _build_hint(path.with_suffix(".onnx").name, path),
        )
    return passport.compiled


def read_plan(path: Path, passport: Passport, place: Place) -> bytes:
    """The plan's bytes, after everything that can be checked without deserialising was.

    Raises:
        ModelError: no plan, or one for another runtime, version or GPU, or not the bytes that the passport vouches for.
    """
    reason = why_not(compiled_of(path, passport), place)
    if reason:
        raise ModelError(f"{path.name} {reason}", _build_hint(f"{path.stem}.onnx", path))
    plan = path.read_bytes()
    # Hashed again in memory: the file may have changed since the passport was read.
    if hashlib.sha256(plan).hexdigest() != passport.sha256:
        raise ModelError(f"{path.name} changed while it was read", _build_hint(f"{path.stem}.onnx", path))
    return plan


def why_not(compiled: Compiled, place: Place) -> str:
    """Why a plan cannot run at `place`; empty where it can."""
    if compiled.runtime != place.runtime:
        return f"was built by {compiled.runtime}, here is {place.runtime}"
    return _wrong_version(compiled, place) or _wrong_gpu(compiled, place)


def _wrong_version(compiled: Compiled, place: Place) -> str:
    built, here = parse_version(compiled.runtime_version), parse_version(place.version)
    if built == here or (compiled.version_compatible and built[:1] == here[:1] and built <= here):
        return ""
    kind = "version-compatible plan of " if compiled.version_compatible else ""
    return f"is a {kind}{compiled.runtime} {compiled.runtime_version} build, here is {place.version}"


def _wrong_gpu(compiled: Compiled, place: Place) -> str:
    here = f"{place.capability[0]}.{place.capability[1]}"
    if compiled.hardware_compatible and place.capability >= AMPERE:
        return ""
    if here not in compiled.capabilities:
        built = ", ".join(compiled.capabilities)
        return f"was built for compute capability {built}, the GPU here ({place.gpu}) has {here}"
    if compiled.gpu and compiled.gpu != place.gpu:
        return f"was built on {compiled.gpu}, the GPU here is {place.gpu}"
    return ""


def _build_hint(source: str, plan: Path) -> str:
    return f"build it on this machine: bcseg-edge build {source} --output {plan.with_suffix(SUFFIX).name}"
