"""What this machine has, and what is missing before `run` works."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bcseg_edge.backends import BACKENDS, CUDA_BACKENDS, INSTALL_HINT, available_backends, create_backend
from bcseg_edge.check import Check
from bcseg_edge.cores import usable_cores
from bcseg_edge.errors import BcsegError
from bcseg_edge.models import find_model, list_models, read_model
from bcseg_edge.nvidia import cameras, gpu_checks, nvidia_facts

DEFAULT_MODEL = "edge"
PACKAGES = (
    "bcseg-edge",
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "pydantic",
    "openvino",
    "onnxruntime",
    "onnxruntime-gpu",
    "cuda-bindings",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
    "lightning",
    "onnx",
)
# What int8 and bf16 kernels on x86 look for; on Arm: int8 dot product, int8 matrix multiply, bf16.
_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "bf16")


@dataclass(frozen=True, slots=True)
class Health:
    """The findings.

    Attributes:
        machine: facts by name.
        packages: version by distribution, None where it is not installed.
        checks: what works and what does not.
    """

    machine: dict[str, str]
    packages: dict[str, str | None]
    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether `bcseg-edge run` with its defaults would work."""
        return all(check.ok for check in self.checks if check.required)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the attributes above and `ready`."""
        return {"ready": self.ready, **dataclasses.asdict(self)}


def examine() -> Health:
    """Look at the machine, the installed packages, the backends and the shipped models; loads the default model."""
    available = available_backends()
    backends = (
        Check(
            f"backend {name}",
            name in available,
            required=False,
            found="installed" if name in available else "not installed",
            fix="" if name in available else INSTALL_HINT,
        )
        for name in BACKENDS
    )
    on_gpu = gpu_checks()
    usable = (*available, *(check.name.removeprefix("backend ") for check in on_gpu if check.ok))
    checks = (*backends, *on_gpu, _any_backend(usable), _shipped_models(), _default_model_runs(usable))
    return Health(system_facts(), package_versions(), checks)


def _any_backend(usable: tuple[str, ...]) -> Check:
    if usable:
        name = usable[0]
        return Check("a backend", True, True, f"--backend {name}" if name in CUDA_BACKENDS else f"auto takes {name}")
    return Check("a backend", False, True, f"none of {', '.join(BACKENDS)}", INSTALL_HINT)


def _shipped_models() -> Check:
    names = list_models()
    fix = "" if DEFAULT_MODEL in names else "install the wheel, or work in a checkout that has models/edge/edge.onnx"
    return Check("shipped models", not fix, True, ", ".join(names) or "none", fix)


def _default_model_runs(usable: tuple[str, ...]) -> Check:
    """Whether the default model passes its hash check and loads into the first usable backend."""
    name = f"model {DEFAULT_MODEL} loads"
    if not usable or DEFAULT_MODEL not in list_models():
        return Check(name, False, True, "not tried")
    try:
        model = read_model(find_model(DEFAULT_MODEL, usable[0]))
        if usable[0] == "tensorrt":
            found = f"its plan comes first: bcseg-edge build {DEFAULT_MODEL} --output {DEFAULT_MODEL}.engine"
            return Check(name, True, True, found)
        create_backend(usable[0], model.path, model.passport).close()
    except BcsegError as error:
        return Check(name, False, True, error.message, error.hint)
    return Check(name, True, True, f"with {usable[0]}")


def system_facts() -> dict[str, str]:
    """Facts of this machine by name: python, system, cpu, instruction sets, cores, memory, GPU, cameras."""
    cpu, flags = _cpu()
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpu": cpu,
        "instruction sets": ", ".join(name for name in _INSTRUCTIONS if name in flags) or "unknown",
        "cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "memory": _memory(),
        **nvidia_facts(),
        "cameras": cameras(),
    }


def _cpu() -> tuple[str, set[str]]:
    """Name and instruction-set flags as Linux tells them; elsewhere the name alone."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return name, flags
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("model name", "Model"):
            name = value
        elif key in ("flags", "Features"):
            return name, set(value.split())
    return name, flags


def _memory() -> str:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return "unknown"
    gib = {line.split(":")[0]: int(line.split()[1]) / 2**20 for line in lines if line.endswith("kB")}
    return f"{gib['MemTotal']:.1f} GiB, {gib['MemAvailable']:.1f} GiB available"


def package_versions(further: Sequence[str] = ()) -> dict[str, str | None]:
    """Version by distribution of `PACKAGES` and `further` ones; None where it is not installed."""
    return {name: _version(name) for name in (*PACKAGES, *further)}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
