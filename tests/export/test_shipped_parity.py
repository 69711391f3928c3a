"""Every file that is shipped finds what its float32 weights find, on every backend that is installed here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bcseg_edge.backends import BACKENDS, available_backends
from bcseg_edge.models import list_files, list_models, read_model
from bcseg_edge.passport import Parity
from bcseg_export.parity.command import ParityOptions, parity
from bcseg_export.parity.thresholds import DEFAULTS, Thresholds

FILES = [path for name in list_models() for path in list_files(name)]
MAX_IMAGES = 30
# All of val held the gate when the file was written. Of so few images one lesion is more than the gate's 1 %, and one
# outline moves the pooled figures.
FEW = {
    "min_dice": 0.95,
    "max_iou_loss": 1.5,
    "min_mean_overlap": 0.85,
    "max_lost": 0.05,
    "max_invented": 0.05,
    "max_reclassified": 0.05,
}
# The phantom is no breast: what a network makes of it is at the edge of a class, and says that the file works at all.
PHANTOM = Thresholds(min_labels_equal=0.99, max_lost=0.05)


def check(path: Path, backend: str, data: Path | None) -> None:
    """Compare a shipped file with its weights; skips where `backend` does not execute it here."""
    passport = read_model(path).passport
    if backend not in available_backends(passport.target):
        pytest.skip(f"{backend} is not installed, or does not execute files for {passport.target} as they are written")
    limits = DEFAULTS[passport.precision]
    few = limits if passport.precision == "fp32" else limits.model_copy(update=FEW)
    report = parity(
        ParityOptions(
            path.with_name(f"{path.parent.name}.onnx"),
            path,
            reference_backend="onnxruntime",
            backend=backend,
            data=data,
            max_images=MAX_IMAGES if data else 12,
            thresholds=few if data else PHANTOM,
        )
    )
    assert report.passed, report.failures


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_on_par_on_the_phantom(path: Path, backend: str) -> None:
    check(path, backend, None)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_on_par_on_val(path: Path, backend: str) -> None:
    check(path, backend, Path(os.environ["BCSEG_DATA"]) / "busi")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_gate_held_and_it_is_made_of_the_shipped_weights(path: Path) -> None:
    passport, reference = read_model(path).passport, read_model(path.parent.name, precision="fp32")
    assert isinstance(passport.parity, Parity)
    assert passport.parity.passed
    if path != reference.path:
        assert passport.source_sha256 == reference.passport.sha256
        assert passport.calibration_sha256 is not None
        assert path.name.removeprefix(path.parent.name).split(".")[1] == passport.precision
