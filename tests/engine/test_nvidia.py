"""What `doctor` says of GPUs and Jetsons, on machines made of files."""

from __future__ import annotations

import subprocess

import pytest

from bcseg_edge import nvidia
from bcseg_edge.check import Check
from bcseg_edge.cuda.driver import Gpu
from bcseg_edge.errors import BackendUnavailable


@pytest.fixture
def jetson(tmp_path, monkeypatch):
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release",
        "sys/class/video4linux/video10/name": "USB3 Grabber",
        "sys/class/video4linux/video2/name": "vi-output, imx219 9-0010",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def answer(command, **options):
        if command[0] == "dpkg-query":
            return subprocess.CompletedProcess(command, 0, "6.2+b77", "")
        return subprocess.CompletedProcess(command, 0, "NV Power Mode: MAXN_SUPER\n2\n", "")

    monkeypatch.setattr(nvidia.subprocess, "run", answer)
    monkeypatch.setattr(nvidia, "find_gpu", lambda: Gpu("Orin", (8, 7), True, 8 * 2**30))
    return tmp_path


def test_a_jetson(jetson):
    facts = nvidia.nvidia_facts(jetson)
    assert facts["gpu"] == "Orin (compute capability 8.7), 8.0 GiB"
    assert (facts["nvidia driver"], facts["jetson linux"]) == ("540.4.0", "36.4.3")
    assert facts["jetpack"] == "6.2+b77"
    assert facts["power mode"] == "NV Power Mode: MAXN_SUPER, 2"
    assert nvidia.cameras(jetson) == "/dev/video2 vi-output, imx219 9-0010, /dev/video10 USB3 Grabber"


def test_a_machine_without_any_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(nvidia, "find_gpu", lambda: None)
    facts = nvidia.nvidia_facts(tmp_path)
    assert (facts["gpu"], facts["nvidia driver"]) == ("none that CUDA can use", "none")
    assert not {"jetson linux", "jetpack", "power mode", "clocks"} & set(facts)
    assert nvidia.cameras(tmp_path) == "none"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (FileNotFoundError(2, "No such file or directory"), "unknown: nvpmodel: No such file or directory"),
        (subprocess.TimeoutExpired("nvpmodel", 5), "unknown: nvpmodel did not answer"),
    ],
)
def test_a_program_that_does_not_answer_does_not_matter(jetson, monkeypatch, failure, said):
    def fail(command, **options):
        raise failure

    monkeypatch.setattr(nvidia.subprocess, "run", fail)
    assert nvidia.nvidia_facts(jetson)["power mode"] == said


def test_every_lack_has_its_fix(monkeypatch):
    def lack():
        raise BackendUnavailable("no GPU", "buy one")

    monkeypatch.setattr(nvidia, "require_gpu", lack)
    monkeypatch.setattr(nvidia, "find_spec", lambda name: None)
    cuda, tensorrt = nvidia.gpu_checks()
    assert cuda == Check("backend cuda", ok=False, required=False, found="no GPU", fix="buy one")
    assert tensorrt.fix.startswith("buy one; then pip install")


def test_a_gpu_without_nvrtc(monkeypatch):
    """The frame path compiles its kernels on first use: without NVRTC neither backend works."""

    def lack(capability):
        raise BackendUnavailable(f"NVRTC cannot be loaded for {capability}", "install it")

    monkeypatch.setattr(nvidia, "require_gpu", lambda: None)
    monkeypatch.setattr(nvidia, "find_gpu", lambda: Gpu("Orin", (8, 7), True, 8 * 2**30))
    monkeypatch.setattr(nvidia, "compiled_kernels", lack)
    monkeypatch.setattr("bcseg_edge.backends.cuda.require_provider", lambda: None)
    monkeypatch.setattr("bcseg_edge.backends.tensorrt.import_tensorrt", lambda runtime: None)
    for check in nvidia.gpu_checks():
        assert (check.ok, check.found, check.fix) == (False, "NVRTC cannot be loaded for (8, 7)", "install it")
    monkeypatch.setattr(nvidia, "compiled_kernels", lambda capability: b"")
    assert all(check.ok for check in nvidia.gpu_checks())


def test_a_gpu_without_the_packages(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is installed")
    monkeypatch.setattr(nvidia, "require_gpu", lambda: None)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    cuda, tensorrt = nvidia.gpu_checks()
    assert "built without CUDA" in cuda.found
    assert "tensorrt cannot be imported" in tensorrt.found
    assert all("pip install" in check.fix for check in (cuda, tensorrt))
