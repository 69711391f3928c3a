"""What of NVIDIA's a machine has: GPU, driver, Jetson, and what its backends would need. For `doctor`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from bcseg_edge.check import Check
from bcseg_edge.cuda.driver import cuda_version, find_gpu, require_gpu
from bcseg_edge.cuda.nvrtc import compiled_kernels
from bcseg_edge.errors import BcsegError

ROOT = Path("/")


def nvidia_facts(root: Path = ROOT) -> dict[str, str]:
    """Facts by name; those of a Jetson only where there is one."""
    gpu = find_gpu()
    facts = {
        "gpu": "none that CUDA can use" if gpu is None else f"{gpu}, {gpu.memory / 2**30:.1f} GiB",
        "nvidia driver": _driver(root),
        "cuda": cuda_version() or "unknown: cuda-bindings is not installed",
    }
    release = jetson_release(root)
    if release:
        facts["jetson linux"] = release
        facts["jetpack"] = _first_lines("dpkg-query", "--show", "--showformat=${Version}", "nvidia-jetpack")
        facts["power mode"] = _first_lines("nvpmodel", "-q")
        facts["clocks"] = _first_lines("jetson_clocks", "--show")
    return facts


def cameras(root: Path = ROOT) -> str:
    """Video devices with their names, such as `/dev/video0 USB Grabber`."""
    devices = sorted((root / "sys/class/video4linux").glob("video*"), key=lambda path: int(path.name[5:] or 0))
    names = [f"/dev/{path.name} {_read(path / 'name')}".strip() for path in devices]
    return ", ".join(names) or "none"


def jetson_release(root: Path = ROOT) -> str:
    """Version of Jetson Linux, such as `36.4.3`; empty elsewhere."""
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", _read(root / "etc/nv_tegra_release"))
    return f"{match[1]}.{match[2]}" if match else ""


def gpu_checks() -> tuple[Check, ...]:
    """Whether the backends `cuda` and `tensorrt` would work, and what each lacks first."""
    return (_check("cuda", _cuda_problem()), _check("tensorrt", _tensorrt_problem()))


def _check(backend: str, problem: BcsegError | None) -> Check:
    name = f"backend {backend}"
    if problem is None:
        return Check(name, True, False, "installed, with a GPU; the kernels compile")
    return Check(name, False, False, problem.message, problem.hint)


def _cuda_problem() -> BcsegError | None:
    from bcseg_edge.backends.cuda import require_provider

    return _first_problem(require_gpu, require_provider, _require_kernels)


def _tensorrt_problem() -> BcsegError | None:
    from bcseg_edge.backends.tensorrt import INSTALL_HINT, import_tensorrt

    problem = _first_problem(require_gpu)
    # Without a GPU TensorRT is looked for but not imported: what it does then is its own affair.
    if problem is not None and find_spec("tensorrt") is None:
        problem.hint += f"; then {INSTALL_HINT}"
    return problem or _first_problem(lambda: import_tensorrt("tensorrt"), _require_kernels)


def _require_kernels() -> None:
    """NVRTC, and a GPU that it compiles for."""
    gpu = find_gpu()
    if gpu is not None:
        compiled_kernels(gpu.capability)


def _first_problem(*requirements: Callable[[], object]) -> BcsegError | None:
    try:
        for require in requirements:
            require()
    except BcsegError as problem:
        return problem
    return None


def _driver(root: Path) -> str:
    text = _read(root / "proc/driver/nvidia/version")
    match = re.search(r"\b(\d{3}\.\d+(\.\d+)?)\b", text)
    return match[1] if match else "none"


def _first_lines(*command: str) -> str:
    """The first lines of what a program prints, as one; why not, where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except OSError as error:
        return f"unknown: {command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"unknown: {command[0]} did not answer"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[:2]
    prefix = "" if done.returncode == 0 else f"unknown: {command[0]}: "
    return prefix + ", ".join(line.strip() for line in lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
