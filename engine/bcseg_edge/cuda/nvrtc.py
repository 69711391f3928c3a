"""Compiling `kernels.cu` for the GPU found, once per machine: the result is cached by content and architecture."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from bcseg_edge.errors import BackendUnavailable, BcsegError, DataError
from bcseg_edge.files import cache_folder, write_bytes_atomic

SOURCE = Path(__file__).with_name("kernels.cu")
# Without fused multiply-adds the sums of overlapping windows are rounded as on the host.
OPTIONS = ("--std=c++17", "--fmad=false")
INSTALL_HINT = 'pip install "bcseg-edge[gpu]"; on Jetson JetPack brings NVRTC: sudo apt install cuda-nvrtc-12-6'


class KernelError(BcsegError):
    """The kernels do not compile: a fault of the program or of the CUDA installation."""


def compiled_kernels(capability: tuple[int, int]) -> bytes:
    """The kernels for a GPU of compute `capability`, from the cache or freshly compiled.

    Returns:
        A cubin; for a GPU newer than NVRTC, PTX of the newest architecture that NVRTC knows, which the driver compiles.

    Raises:
        BackendUnavailable: NVRTC is not installed.
        KernelError: the source does not compile.
    """
    version, architectures = _nvrtc_facts()
    target = target_architecture(capability, architectures)
    content = SOURCE.read_bytes()
    key = hashlib.sha256(repr((version, target, OPTIONS)).encode() + content).hexdigest()
    cached = cache_folder("kernels") / f"{key[:32]}-{target}.bin"
    with contextlib.suppress(OSError):  # not there, or not for this user: a service may have no home
        return cached.read_bytes()
    code = compile_kernels(content, target)
    with contextlib.suppress(DataError, OSError):  # then it is compiled at every start
        write_bytes_atomic(cached, code)
    return code


def target_architecture(capability: tuple[int, int], architectures: list[int]) -> str:
    """`sm_87` where NVRTC knows the GPU, else `compute_121`, the newest before it.

    Raises:
        BackendUnavailable: the GPU is older than all that NVRTC compiles for.
    """
    wanted = capability[0] * 10 + capability[1]
    if wanted in architectures:
        return f"sm_{wanted}"
    older = [architecture for architecture in architectures if architecture < wanted]
    if not older:
        raise BackendUnavailable(
            f"the GPU has compute capability {capability[0]}.{capability[1]}, "
            f"this CUDA compiles for {min(architectures) / 10:.1f} and newer",
            "use a CPU backend, or install the CUDA release that still knows this GPU",
        )
    return f"compute_{max(older)}"


def compile_kernels(source: bytes, target: str) -> bytes:
    """Compile CUDA source for `sm_NN` (gives a cubin) or `compute_NN` (gives PTX).

    Raises:
        KernelError: it does not compile; the message holds the first error.
    """
    from cuda.bindings import nvrtc

    program = _check(nvrtc.nvrtcCreateProgram(source, SOURCE.name.encode(), 0, [], []))
    try:
        options = [option.encode() for option in (f"--gpu-architecture={target}", *OPTIONS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * _check(nvrtc.nvrtcGetProgramLogSize(program))
            _check(nvrtc.nvrtcGetProgramLog(program, log))
            raise KernelError(f"{SOURCE.name} does not compile for {target}: {_first_error(log)}", INSTALL_HINT)
        size_of, code_of = (
            (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            if target.startswith("sm_")
            else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        )
        code = bytes(_check(size_of(program)))
        _check(code_of(program, code))
        return code
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc_facts() -> tuple[tuple[int, int], list[int]]:
    """NVRTC's version and the architectures it compiles for, such as 87."""
    try:
        from cuda.bindings import nvrtc

        return _check(nvrtc.nvrtcVersion()), sorted(_check(nvrtc.nvrtcGetSupportedArchs()))
    except (ImportError, RuntimeError) as error:  # cuda.pathfinder's error where the library is missing
        raise BackendUnavailable(f"NVRTC cannot be loaded: {_first_line(error)}", INSTALL_HINT) from error


def _check(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status.value:
        raise KernelError(f"NVRTC reports {status.name}", "see what is installed with: bcseg-edge doctor")
    return values[0] if len(values) == 1 else tuple(values)


def _first_error(log: bytes) -> str:
    lines = log.decode(errors="replace").strip("\0 \n").splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "no reason given")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
