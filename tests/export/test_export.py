"""Export from checkpoint to shipped file: it says what PyTorch says, or it does not exist."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bcseg_export.export
import bcseg_export.verify
from bcseg_edge.errors import BackendUnavailable, BcsegError, DataError, ModelError, ParityError
from bcseg_edge.models import load_model
from bcseg_edge.passport import Parity, file_sha256, passport_path, read_passport
from bcseg_export.export import ExportOptions, export
from bcseg_export.onnx_graph import round_weights
from bcseg_export.patches import collect_patches
from bcseg_train.evaluate import EvaluateOptions, evaluate
from bcseg_train.models import load_checkpoint
from bcseg_train.predictors import TorchBackend
from tests.fixtures.checkpoints import WINDOW_HW, random_network, write_checkpoint
from tests.fixtures.grey_busi import write_grey_busi


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grey_busi(tmp_path_factory.mktemp("data") / "busi")


@pytest.fixture(scope="module")
def exported(checkpoint: Path, busi: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("models") / "edge" / "edge.onnx"
    return export(ExportOptions(checkpoint, output, data=busi, patches=8))


@pytest.fixture
def known_graph(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds of an export where only what surrounds it is tested."""
    graph = onnx.load(exported)
    monkeypatch.setattr(bcseg_export.export, "build_graph", lambda network, window_hw: graph)


@pytest.fixture
def perturbed_graph(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that gets one kernel wrong by 2 %."""
    graph = onnx.load(exported)
    tensor = next(t for t in graph.graph.initializer if t.name == "unet.decoder.blocks.4.conv2.0.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(1.02), tensor.name))
    monkeypatch.setattr(bcseg_export.export, "build_graph", lambda network, window_hw: graph)


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 1, *WINDOW_HW), dtype=np.uint8)


def test_passport_describes_the_file(exported: Path, checkpoint: Path) -> None:
    passport = read_passport(exported)
    assert passport.sha256 == file_sha256(exported)
    assert passport.source_sha256 == file_sha256(checkpoint)
    assert (passport.name, passport.precision, passport.weights) == ("edge", "fp32", "float16")
    assert (passport.window_hw, passport.tiling, passport.temperature) == (WINDOW_HW, "paper", 1.5)
    assert passport.architecture.parameters == sum(p.numel() for p in random_network().parameters())
    assert passport.accuracy == "not measured"
    assert isinstance(passport.parity, Parity)
    assert passport.parity.passed
    assert (passport.parity.patches, passport.parity.data) == (8, "busi")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_every_backend_says_what_the_reference_says(exported: Path, patches: np.ndarray, backend: str) -> None:
    pytest.importorskip(backend)
    network = random_network()
    round_weights(network)
    expected = TorchBackend(network).infer(patches)
    with load_model(exported, backend=backend) as model:
        received = model.infer(patches)
    assert np.abs(received - expected).max() <= 1e-3
    assert len(np.unique(expected.argmax(axis=1))) > 1


def test_one_set_of_weights_serves_training_and_runtime(exported: Path, patches: np.ndarray) -> None:
    network, info = load_checkpoint(exported)
    expected = random_network()
    round_weights(expected)
    assert np.array_equal(TorchBackend(network).infer(patches), TorchBackend(expected).infer(patches))
    assert (info.window_hw, info.tiling) == (WINDOW_HW, "paper")


def test_a_shipped_file_can_be_exported_again(exported: Path, tmp_path: Path, busi: Path) -> None:
    again = export(ExportOptions(exported, tmp_path / "again.onnx", data=busi, patches=2))
    assert file_sha256(again) == file_sha256(exported)


def test_checkpoint_and_file_score_the_same(exported: Path, checkpoint: Path, busi: Path) -> None:
    figures = [evaluate(EvaluateOptions(model, busi)).accuracy().figures for model in (checkpoint, exported)]
    for name in ("mean_iou", "lesion_iou", "pixel_accuracy"):
        assert figures[0][name] == pytest.approx(figures[1][name], abs=2e-3)  # float16 weights


@pytest.mark.usefixtures("known_graph")
def test_without_data_the_gate_takes_phantom_frames(checkpoint: Path, tmp_path: Path) -> None:
    output = export(ExportOptions(checkpoint, tmp_path / "edge.onnx", patches=3))
    parity = read_passport(output).parity
    assert isinstance(parity, Parity)
    assert parity.data.startswith("phantom:")
    assert parity.patches == 3


def test_phantom_patches_are_the_same_every_time() -> None:
    first, second = (collect_patches(None, WINDOW_HW, "paper", 4)[0] for _ in range(2))
    assert first.shape == (4, 1, *WINDOW_HW)
    assert np.array_equal(first, second)
    assert first.std() > 5


@pytest.mark.usefixtures("perturbed_graph")
def test_a_wrong_file_is_refused_and_leaves_nothing(checkpoint: Path, busi: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError) as caught:
        export(ExportOptions(checkpoint, tmp_path / "edge.onnx", data=busi, patches=2))
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("perturbed_graph")
def test_a_wrong_file_does_not_touch_the_one_before(exported: Path, checkpoint: Path, busi: Path) -> None:
    before = exported.read_bytes(), passport_path(exported).read_bytes()
    with pytest.raises(ParityError):
        export(ExportOptions(checkpoint, exported, data=busi, patches=2))
    assert (exported.read_bytes(), passport_path(exported).read_bytes()) == before
    assert len(list(exported.parent.iterdir())) == 2


@pytest.mark.usefixtures("known_graph")
def test_interrupted_export_leaves_nothing(
    checkpoint: Path, busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bcseg_export.export, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(ExportOptions(checkpoint, tmp_path / "edge.onnx", data=busi, patches=2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int8"}, "int8 needs --calibration"),
        ({"precision": "fp16"}, "fp16 needs --calibration"),
        ({"precision": "fp16", "target": "cpu"}, "fp16 is for TensorRT"),
        ({"precision": "int8", "target": "tpu"}, "unknown target 'tpu'"),
        ({"precision": "int8", "ranges": "guess"}, "unknown ranges 'guess'"),
        ({"target": "cpu"}, "--target is of int8 files"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"output": Path("edge.engine")}, "does not end in .onnx"),
        ({"patches": 0}, "0 patches"),
        ({"data": Path("no such folder")}, "no folder at"),
        ({"accuracy": Path("no such report.json")}, "no report at"),
    ],
)
def test_wrong_options_are_named(checkpoint: Path, tmp_path: Path, changes: dict, message: str) -> None:
    options = {"checkpoint": checkpoint, "output": tmp_path / "edge.onnx", **changes}
    with pytest.raises(DataError, match=message) as caught:
        export(ExportOptions(**options))
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_exported_onto_itself(exported: Path) -> None:
    with pytest.raises(DataError, match="is the checkpoint itself"):
        export(ExportOptions(exported, exported))


@pytest.mark.parametrize("name", ["none.ckpt", "none.onnx"])
def test_missing_checkpoint(tmp_path: Path, name: str) -> None:
    with pytest.raises((DataError, ModelError), match=name):
        export(ExportOptions(tmp_path / name, tmp_path / "edge.onnx"))


def test_unwritable_output(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file where the folder should be")
    with pytest.raises(BcsegError, match="cannot write"):
        export(ExportOptions(checkpoint, tmp_path / "folder" / "edge.onnx"))


@pytest.mark.usefixtures("known_graph")
def test_measured_figures_go_into_the_passport(checkpoint: Path, busi: Path, tmp_path: Path) -> None:
    evaluation = evaluate(EvaluateOptions(checkpoint, busi, report=tmp_path / "report"))
    report = tmp_path / "report" / "report.json"
    output = export(ExportOptions(checkpoint, tmp_path / "edge.onnx", data=busi, patches=2, accuracy=report))
    assert read_passport(output).accuracy == evaluation.accuracy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda report: report["model"].update(sha256="0" * 64), "measured on another model"),
        (lambda report: report.pop("accuracy"), "is not the report.json"),
        (lambda report: report["accuracy"].update(images=0), "is not the report.json"),
    ],
)
def test_figures_of_something_else_are_refused(
    checkpoint: Path, busi: Path, tmp_path: Path, change: object, message: str
) -> None:
    evaluate(EvaluateOptions(checkpoint, busi, max_images=1, report=tmp_path / "report"))
    path = tmp_path / "report" / "report.json"
    report = json.loads(path.read_text())
    change(report)  # type: ignore[operator]
    path.write_text(json.dumps(report))
    with pytest.raises(DataError, match=message):
        export(ExportOptions(checkpoint, tmp_path / "edge.onnx", data=busi, accuracy=path))


@pytest.mark.usefixtures("known_graph")
def test_the_gate_needs_onnx_runtime(
    checkpoint: Path, busi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bcseg_export.verify, "available_backends", lambda: ("openvino",))
    with pytest.raises(BackendUnavailable, match="ONNX Runtime"):
        export(ExportOptions(checkpoint, tmp_path / "edge.onnx", data=busi, patches=2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.data
def test_parity_on_real_patches(checkpoint: Path, data_dir: Path, tmp_path: Path) -> None:
    output = export(ExportOptions(checkpoint, tmp_path / "edge.onnx", data=data_dir / "busi", patches=24))
    parity = read_passport(output).parity
    assert isinstance(parity, Parity)
    assert parity.labels_equal >= 0.9999
    assert parity.max_abs_logit_difference <= 1e-3
