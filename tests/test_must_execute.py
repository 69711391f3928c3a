"""`make gpu` must not pass where nothing was executed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bcseg_edge.cuda.driver import find_gpu

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_gpu_tests_fail_where_there_is_no_gpu_and_say_why() -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    done = run("-m", "gpu", "--must-execute", "tests/gpu")
    assert done.returncode == 1, done.stdout
    assert "there is no NVIDIA GPU that CUDA can use" in done.stdout
    assert "NO TEST WAS EXECUTED" in done.stdout


def test_it_passes_where_a_test_was_executed() -> None:
    assert run("--must-execute", "tests/engine/test_files.py").returncode == 0
