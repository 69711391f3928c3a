"""The soak, short: a dozen seconds with a fault of every kind; `make soak` does half an hour of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("onnxruntime", reason="a backend is needed")

from bcseg_benchmarks.soak import BACKEND_FAULTS, SOURCE_FAULTS, soak
from tests.fixtures.tiny_model import write_model


@pytest.mark.slow
def test_every_fault_is_survived(tmp_path):
    model = write_model(tmp_path, (64, 64), "frame")
    report = soak(
        seconds=14.5,
        every_s=1.5,
        model=str(model),
        backend="onnxruntime",
        phantom="phantom:64x48@30?frames=20",
        deadline_ms=2000,  # a loaded machine: what is tested is that nothing is lost, not how quick it is
        folder=tmp_path,
    )
    assert report["failures"] == []
    assert set(report["injected"]) == {*SOURCE_FAULTS, *BACKEND_FAULTS}
    assert report["ledger"]["shown"] > 30
    assert (tmp_path / "health.json").read_text().startswith("{")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "nope"), "error: no shipped model is called 'nope'"),
        (("--phantom", "phantom:big"), "error: "),
    ],
)
def test_wrong_use_is_told_without_a_traceback(arguments, said):
    command = [sys.executable, "-m", "bcseg_benchmarks.soak", "--minutes", "0.01", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert "hint: " in done.stderr
