"""The kernels compile for every GPU that we name, and are compiled once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bcseg_edge.cuda import nvrtc
from bcseg_edge.errors import BackendUnavailable

# Turing, Orin, Hopper, Thor
ARCHITECTURES = ("sm_75", "sm_87", "sm_90", "sm_110")
KERNELS = (b"split_frame", b"stitch_float32", b"stitch_float16")


class Source:
    """Kernels that are read although nothing else can be."""

    def read_bytes(self):
        return b"__global__"


@pytest.fixture
def known():
    """The architectures NVRTC compiles for; skipped where it is not installed."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    try:
        return nvrtc._nvrtc_facts()[1]
    except BackendUnavailable as error:
        pytest.skip(error.message)


@pytest.mark.parametrize("target", [*ARCHITECTURES, "compute_90"])
def test_nvrtc_compiles_every_kernel(known, target):
    if int(target.rpartition("_")[2]) not in known:
        pytest.skip(f"this NVRTC does not know {target}")
    code = nvrtc.compile_kernels(nvrtc.SOURCE.read_bytes(), target)
    assert all(name in code for name in KERNELS)
    assert code.startswith(b"\x7fELF") == target.startswith("sm_")


def test_products_are_not_contracted(known):
    ptx = nvrtc.compile_kernels(nvrtc.SOURCE.read_bytes(), "compute_90")
    stitch = ptx[ptx.index(b".entry stitch_float32") :]
    assert b"mul.rn.f32" in stitch or b"mul.f32" in stitch
    assert b"ld.global.f32" in stitch
    # expf itself holds two fused multiply-adds; a contracted blend would hold three more for its sums.
    assert stitch[: stitch.index(b"ex2.approx")].count(b"fma.rn.f32") <= 4


@pytest.mark.parametrize("target", ARCHITECTURES)
def test_nvcc_compiles_without_a_warning(tmp_path, target):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    if target not in subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout:
        pytest.skip(f"this nvcc does not know {target}")
    command = [nvcc, "-cubin", f"-arch={target}", *nvrtc.OPTIONS, "-Werror", "all-warnings", str(nvrtc.SOURCE)]
    process = subprocess.run([*command, "-o", str(tmp_path / "kernels")], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert not process.stderr


@pytest.mark.parametrize("denied", ["read_bytes", "write_bytes", "mkdir"])
def test_where_nothing_can_be_kept_it_is_compiled_at_each_start(monkeypatch, tmp_path, denied):
    def deny(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    if denied == "read_bytes":
        monkeypatch.setattr(nvrtc, "SOURCE", Source())
    monkeypatch.setattr(Path, denied, deny)
    monkeypatch.setenv("BCSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(nvrtc, "_nvrtc_facts", lambda: ((12, 6), [87]))
    monkeypatch.setattr(nvrtc, "compile_kernels", lambda source, target: b"for " + target.encode())
    assert nvrtc.compiled_kernels((8, 7)) == b"for sm_87"


def test_a_compiled_kernel_is_kept(known, monkeypatch, tmp_path):
    monkeypatch.setenv("BCSEG_CACHE", str(tmp_path))
    first = nvrtc.compiled_kernels((7, 5))
    monkeypatch.setattr(nvrtc, "compile_kernels", None)
    assert nvrtc.compiled_kernels((7, 5)) == first
    assert [path.suffix for path in tmp_path.rglob("*.*")] == [".bin"]


def test_another_source_is_another_entry(known, monkeypatch, tmp_path):
    monkeypatch.setenv("BCSEG_CACHE", str(tmp_path / "cache"))
    nvrtc.compiled_kernels((7, 5))
    edited = tmp_path / "kernels.cu"
    edited.write_bytes(nvrtc.SOURCE.read_bytes() + b"\n// edited\n")
    monkeypatch.setattr(nvrtc, "SOURCE", edited)
    nvrtc.compiled_kernels((7, 5))
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 2


def test_a_compile_error_is_told(known):
    with pytest.raises(nvrtc.KernelError, match=r"does not compile for sm_75.*error"):
        nvrtc.compile_kernels(b"__global__ void f() { nonsense; }", "sm_75")


@pytest.mark.parametrize(
    ("capability", "target"), [((8, 7), "sm_87"), ((9, 0), "sm_90"), ((8, 9), "compute_87"), ((12, 1), "compute_90")]
)
def test_a_gpu_newer_than_nvrtc_takes_ptx(capability, target):
    assert nvrtc.target_architecture(capability, [75, 87, 90]) == target


def test_a_gpu_older_than_nvrtc_is_refused():
    with pytest.raises(BackendUnavailable, match=r"5\.3, this CUDA compiles for 7\.5"):
        nvrtc.target_architecture((5, 3), [75, 87, 90])
