"""May a TensorRT plan be loaded here? Its passport decides: a plan is native code and crashes where it does not fit.

The rules are TensorRT's (developer guide, "Version Compatibility" and "Hardware Compatibility"): a plan runs with the
version and on the GPU type that built it, under the same operating system and processor; a version-compatible one also
with later versions (of the same major here; TensorRT allows more), a hardware-compatible one on Ampere and newer.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bcseg_edge.backends import PLAN_SUFFIX
from bcseg_edge.errors import ModelError

if TYPE_CHECKING:
    from bcseg_edge.passport import Compiled, Passport

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
        platform: see `this_platform`.
    """

    runtime: RuntimeName
    version: str
    gpu: str
    capability: tuple[int, int]
    platform: str


def this_platform() -> str:
    """Operating system and processor, such as `Linux aarch64`."""
    return f"{platform.system()} {platform.machine()}"


def parse_version(text: str) -> tuple[int, ...]:
    """`10.13.3.9.post1` -> (10, 13, 3, 9): compared as numbers, for 10.3 is older than 10.13."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def compiled_of(path: Path, passport: Passport) -> Compiled:
    """What the passport of a plan says of its build.

    Raises:
        ModelError: the file is no plan.
    """
    if path.suffix != PLAN_SUFFIX or passport.compiled is None:
        raise ModelError(
            f"backend tensorrt executes {PLAN_SUFFIX} files, got {path.name}",
            _hint("build", path.with_suffix(".onnx").name, "--output", path.with_suffix(PLAN_SUFFIX).name),
        )
    return passport.compiled


def read_plan(path: Path, passport: Passport, place: Place) -> bytes:
    """The plan's bytes, after everything that can be checked without deserialising was.

    Raises:
        ModelError: no plan, or one for another runtime, version or GPU, or not the bytes that the passport vouches for.
    """
    compiled = compiled_of(path, passport)
    reason = why_not(compiled, place)
    if reason:
        raise ModelError(f"{path.name} {reason}", rebuild_hint(path, compiled))
    plan = path.read_bytes()
    # Hashed again in memory: the file may have changed since the passport was read.
    if hashlib.sha256(plan).hexdigest() != passport.sha256:
        raise ModelError(f"{path.name} changed while it was read", rebuild_hint(path, compiled))
    return plan


def why_not(compiled: Compiled, place: Place) -> str:
    """Why a plan cannot run at `place`; empty where it can."""
    if compiled.runtime != place.runtime:
        return f"was built by {compiled.runtime}, here is {place.runtime}"
    if compiled.platform not in ("", place.platform):
        return f"was built on {compiled.platform}, here is {place.platform}"
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


def rebuild_hint(plan: Path, compiled: Compiled) -> str:
    """The command that builds `plan` again: the one that built it, or one made up from its name."""
    return _hint(*(compiled.command or ("build", f"{plan.stem}.onnx", "--output", plan.name)))


def _hint(*arguments: str) -> str:
    return f"build it on this machine: {shlex.join(('bcseg-edge', *arguments))}"
