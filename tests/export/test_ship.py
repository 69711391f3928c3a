"""Deriving what is shipped: every file behind the gate, and none of other weights left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

import bcseg_export.ship
from bcseg_calibration.calibration_set import CalibrationSet
from bcseg_edge.backends import available_backends
from bcseg_edge.models import find_model
from bcseg_edge.passport import Accuracy, Parity, file_sha256, read_passport
from bcseg_export.export import ExportOptions, export
from bcseg_export.parity.frames import GateFrame, GateFrames, frame_digest
from bcseg_export.parity.thresholds import DEFAULTS, Thresholds
from bcseg_export.ship import ShipOptions, ship
from tests.fixtures.checkpoints import WINDOW_HW, write_checkpoint
from tests.fixtures.grey_busi import write_grey_busi
from tests.fixtures.speckle import speckle, speckle_patches, thumbnails

LENIENT = Thresholds(min_labels_equal=0.3)  # random weights decide by the last bit
IMPOSSIBLE = Thresholds(min_dice=1.0)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShipOptions:
    """Random weights shipped as `tiny`, speckle to calibrate on and to compare on."""
    (tmp_path / "tiny").mkdir()
    reference = tmp_path / "tiny" / "tiny.onnx"
    export(ExportOptions(write_checkpoint(tmp_path / "best.ckpt", tiling="frame"), reference, patches=2))
    patches = speckle_patches(WINDOW_HW, range(100, 116))
    digests = tuple(frame_digest(patch[0]) for patch in patches)
    chosen = CalibrationSet(patches, patches[:, 0, 0, 0] * 0, digests, digests, "frame", "speckle", thumbnails(patches))
    frames = GateFrames(tuple(GateFrame(f"{seed}", speckle((80, 110), seed)) for seed in range(3)), "speckle")
    monkeypatch.setattr(bcseg_export.ship, "choose_from", lambda *_: chosen)
    monkeypatch.setattr(bcseg_export.ship, "collect_frames", lambda *_: frames)
    monkeypatch.setattr("bcseg_export.reduced.rank_layers", lambda *_: ())
    for precision in ("fp32", "fp16", "int8"):
        monkeypatch.setitem(DEFAULTS, precision, LENIENT)
    return ShipOptions(reference, write_grey_busi(tmp_path / "busi", images=1), tmp_path / "report")


@pytest.mark.slow
def test_the_files_of_a_model(options: ShipOptions) -> None:
    told: list[str] = []
    reference = Path(options.model)
    written = ship(options, told.append)
    assert [path.name for path in written] == ["tiny.int8.onnx", "tiny.fp16.onnx"]
    for path in written:
        passport = read_passport(path)
        assert passport.name == "tiny"
        assert passport.source_sha256 == file_sha256(reference)
        assert isinstance(passport.parity, Parity)
        assert isinstance(passport.accuracy, Accuracy)
        assert passport.accuracy.images == 3
    assert find_model(reference) == reference
    reports = {path.parent.name for path in options.report.glob("int8/*/parity.json")}
    assert reports == set(available_backends())
    table = (options.report / "table.md").read_text()
    assert table == told[-1]
    assert "| tiny | int8 |" in table
    assert "| tiny | fp32 |" in table


@pytest.mark.slow
def test_a_refused_file_is_not_left_from_earlier_weights(options: ShipOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = Path(options.model).with_name("tiny.int8.onnx")
    earlier.write_bytes(b"of other weights")
    monkeypatch.setitem(DEFAULTS, "int8", IMPOSSIBLE)
    told: list[str] = []
    assert [path.name for path in ship(options, told.append)] == ["tiny.fp16.onnx"]
    assert any(line.startswith("tiny.int8.onnx: REFUSED") for line in told)
    assert not list(earlier.parent.glob("tiny.int8.onnx*"))
