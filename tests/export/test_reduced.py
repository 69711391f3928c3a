"""Reduced precision from checkpoint to file: nothing without proof, and the passport says what was proved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bcseg_export.reduced
import bcseg_export.reduced_report
from bcseg_calibration.calibration_set import CalibrationSet, save
from bcseg_calibration.rescue import LayerDamage
from bcseg_edge.cli.run import passport_warnings
from bcseg_edge.errors import DataError, ParityError
from bcseg_edge.frames import UInt8Array
from bcseg_edge.passport import Parity, Passport, read_passport
from bcseg_export.calibrate import CalibrateOptions, calibrate
from bcseg_export.export import ExportOptions, export
from bcseg_export.parity.frames import GateFrame, GateFrames, frame_digest
from bcseg_export.parity.thresholds import DEFAULTS, Thresholds
from bcseg_export.reduced_report import draw_damage
from tests.fixtures.checkpoints import WINDOW_HW, write_checkpoint
from tests.fixtures.speckle import speckle, thumbnails

Graph = onnx.ModelProto


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", tiling="frame")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patches = np.stack([speckle(WINDOW_HW, seed) for seed in range(100, 120)])[:, None]
    digests = tuple(frame_digest(patch[0]) for patch in patches)
    chosen = CalibrationSet(
        patches, np.zeros(20, np.uint8), ("speckle",) * 20, digests, "frame", "speckle", thumbnails(patches)
    )
    path = tmp_path_factory.mktemp("calibration") / "calibration.npz"
    save(chosen, path)
    return path


def test_some_patches_come_from_all_over_the_set() -> None:
    """Benign ones come first: the first 16 of 96 would hold no malignant one, and so no activation of it."""
    patches = np.arange(96, dtype=np.uint8).reshape(-1, 1, 1, 1)
    assert bcseg_export.reduced._some(patches, 16).ravel().tolist() == list(range(0, 96, 6))
    assert len(bcseg_export.reduced._some(patches[:5], 16)) == 5


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> GateFrames:
    """Six frames of speckle instead of the phantom's: random weights see lesions in anything."""
    frames = GateFrames(tuple(GateFrame(f"frame {seed}", speckle((80, 110), seed)) for seed in range(6)), "speckle")
    monkeypatch.setattr("bcseg_export.export.collect_frames", lambda *_: frames)
    return frames


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that random weights keep: their margins are those of coin tosses."""
    monkeypatch.setitem(DEFAULTS, "int8", Thresholds(min_labels_equal=0.5))


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantizing that swaps benign and malignant, as a wrong class order would."""
    quantize = bcseg_export.reduced.quantize

    def swapped(*arguments: Any) -> Graph:
        model = quantize(*arguments)
        (classes,) = [node for node in model.graph.node if node.op_type == "Concat" and len(node.input) == 3]
        classes.input[1], classes.input[2] = classes.input[2], classes.input[1]
        return model

    monkeypatch.setattr(bcseg_export.reduced, "quantize", swapped)


def options(checkpoint: Path, calibration: Path, folder: Path, **changes: Any) -> ExportOptions:
    plain = ExportOptions(checkpoint, folder / "edge.onnx", precision="int8", calibration=calibration, rescue=False)
    return replace(plain, **changes)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(("target", "other"), [("cpu", {}), ("tensorrt", {"target": "tensorrt"})])
def test_int8_with_its_passport(
    checkpoint: Path, calibration: Path, tmp_path: Path, target: str, other: dict[str, str]
) -> None:
    passport = read_passport(export(options(checkpoint, calibration, tmp_path, **other)))
    assert (passport.precision, passport.target, passport.weights) == ("int8", target, "int8")
    assert passport.calibration_sha256 is not None
    assert passport.accuracy == "not measured"
    assert isinstance(passport.parity, Parity)
    assert passport.parity.passed
    assert passport.parity.frames == 6
    assert passport.parity.figures["lesions"] > 0
    assert passport_warnings(passport) == []


def test_fp16_with_its_passport(checkpoint: Path, calibration: Path, tmp_path: Path) -> None:
    output = export(options(checkpoint, calibration, tmp_path, precision="fp16", report=tmp_path / "report"))
    passport = read_passport(output)
    assert (passport.precision, passport.target, passport.layers) == ("fp16", "tensorrt", {})
    assert isinstance(passport.parity, Parity)
    for backend in passport.parity.backends:
        assert (tmp_path / "report" / backend / "parity.json").is_file()


@pytest.mark.usefixtures("spoil")
def test_swapped_classes_are_refused_and_nothing_is_written(
    checkpoint: Path, calibration: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParityError, match="Dice of malignant") as caught:
        export(options(checkpoint, calibration, tmp_path))
    assert caught.value.exit_code == 3
    assert "--accept-parity-loss" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("spoil")
def test_an_accepted_loss_is_written_down_and_told_at_every_start(
    checkpoint: Path, calibration: Path, tmp_path: Path
) -> None:
    passport = read_passport(export(options(checkpoint, calibration, tmp_path, accept_parity_loss=True)))
    assert isinstance(passport.parity, Parity)
    assert not passport.parity.passed
    (warning,) = passport_warnings(passport)
    assert "parity failed and was accepted" in warning
    assert "Dice of malignant" in warning


def test_a_gate_on_calibration_frames_is_refused(
    checkpoint: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = GateFrames((GateFrame("renamed", speckle(WINDOW_HW, 105)),), "the same again")
    monkeypatch.setattr("bcseg_export.export.collect_frames", lambda *_: shared)
    with pytest.raises(DataError, match="1 of the 1 gate frames are in the calibration set, first renamed"):
        export(options(checkpoint, calibration, tmp_path))


def brighter_with_noise(frame: UInt8Array) -> UInt8Array:
    noise = np.random.default_rng(0).integers(0, 6, frame.shape)
    return np.clip(frame * 0.9 + 12 + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [brighter_with_noise, lambda frame: frame[4:, 3:]], ids=["brighter", "cropped"])
def test_a_gate_on_near_duplicates_is_refused(
    change: Callable[[UInt8Array], UInt8Array],
    checkpoint: Path,
    calibration: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same view with another digest."""
    other = GateFrame("other", speckle(WINDOW_HW, 7))
    frames = GateFrames((other, GateFrame("twin", change(speckle(WINDOW_HW, 105)))), "nearly the same again")
    monkeypatch.setattr("bcseg_export.export.collect_frames", lambda *_: frames)
    with pytest.raises(DataError, match=r"1 of the 2 gate frames look like .* first twin like speckle"):
        export(options(checkpoint, calibration, tmp_path))


def test_a_set_for_another_window_is_refused(checkpoint: Path, tmp_path: Path, calibration: Path) -> None:
    patches = np.stack([speckle((64, 64), seed) for seed in range(20)])[:, None]
    other = CalibrationSet(patches, np.zeros(20, np.uint8), ("x",) * 20, ("x",) * 20, "frame", "x", thumbnails(patches))
    save(other, tmp_path / "other.npz")
    with pytest.raises(DataError, match="64x64 px patches of tiling frame, the model takes 96x64"):
        export(options(checkpoint, tmp_path / "other.npz", tmp_path))


def test_layers_are_kept_until_the_gate_holds(
    checkpoint: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate fails while the head is quantized; the ranking puts it second, so two layers are kept."""
    ranked = tuple(
        LayerDamage(name, damage)
        for name, damage in (
            ("unet.encoder.features.0.0", 0.3),
            ("unet.segmentation_head.0", 0.2),
            ("unet.decoder.blocks.4.conv2.0", 0.1),
            ("unet.decoder.blocks.4.conv1.0", 0.0),
        )
    )
    monkeypatch.setattr(bcseg_export.reduced, "rank_layers", lambda *_: ranked)
    judge = bcseg_export.reduced.Gate.judge

    def strict(gate: Any, path: Path, passport: Passport) -> Any:
        kept = "unet.segmentation_head.0" in passport.layers
        monkeypatch.setitem(DEFAULTS, "int8", Thresholds(min_dice=0.0 if kept else 1.0))
        return judge(gate, path, passport)

    monkeypatch.setattr(bcseg_export.reduced.Gate, "judge", strict)
    output = export(options(checkpoint, calibration, tmp_path, rescue=True, report=tmp_path / "report"))
    passport = read_passport(output)
    assert passport.layers == {"unet.encoder.features.0.0": "fp32", "unet.segmentation_head.0": "fp32"}
    assert passport.layer_damage == {"unet.encoder.features.0.0": 0.3, "unet.segmentation_head.0": 0.2}
    assert (tmp_path / "report" / "layers.png").stat().st_size > 5000
    assert (tmp_path / "report" / "layers.json").is_file()


def test_damage_can_be_drawn_for_any_number_of_layers(tmp_path: Path) -> None:
    damages = [LayerDamage(f"layer {index}", 1 / (index + 1)) for index in range(70)]
    assert draw_damage(damages, {"layer 0": "fp32"}, tmp_path / "layers.png").is_file()


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({}, "3 of 3 layers"),
        ({"layer 0": "fp32"}, "3 of 3 layers, 1 stay in fp32 (coloured)"),
        (
            {"layer 0": "fp16", "layer 1": "fp32", "layer 2": "fp16"},
            "3 of 3 layers, 2 stay in fp16, 1 stay in fp32 (coloured)",
        ),
    ],
)
def test_the_figure_says_in_which_precision_layers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, str], said: str
) -> None:
    titles = []
    monkeypatch.setattr(
        bcseg_export.reduced_report, "save_figure", lambda figure, path: titles.append(figure.axes[0].get_title())
    )
    draw_damage([LayerDamage(f"layer {index}", 0.1) for index in range(3)], kept, tmp_path / "layers.png")
    assert titles == [said]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.with_suffix(".json"), "does not end in .npz"),
        (lambda path: path, "usable"),
    ],
)
def test_calibrate_refuses_what_it_cannot_use(
    checkpoint: Path, tmp_path: Path, change: Callable[[Path], Path], message: str
) -> None:
    """Twelve frames of one phantom look alike: a set of them would be one patch."""
    output = change(tmp_path / "set.npz")
    with pytest.raises(DataError, match=message):
        calibrate(CalibrateOptions("phantom:96x64@30?frames=12", output, checkpoint))
    assert list(tmp_path.iterdir()) == []
