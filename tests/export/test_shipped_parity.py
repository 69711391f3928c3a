"""Every file that is shipped finds what its float32 file finds, on every backend that is installed here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bcseg_edge.backends import BACKENDS, available_backends
from bcseg_export.parity.command import ParityOptions, parity

MODELS = Path(__file__).parents[2] / "models"
FILES = sorted(MODELS.glob("*/*.onnx"))
MAX_IMAGES = 40


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.name if path else "none shipped")
def test_it_is_on_par_with_its_float32_file(path: Path | None, backend: str) -> None:
    if path is None:
        pytest.skip(f"no model is shipped in {MODELS}")
    if backend not in available_backends():
        pytest.skip(f"{backend} is not installed")
    reference = path.with_name(f"{path.parent.name}.onnx")
    data = os.environ.get("BCSEG_DATA")
    report = parity(
        ParityOptions(
            reference,
            path,
            reference_backend="onnxruntime",
            backend=backend,
            data=Path(data) / "busi" if data else None,
            max_images=MAX_IMAGES,
        )
    )
    assert report.passed, report.failures
