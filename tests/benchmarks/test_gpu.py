"""The GPU benchmark's arithmetic, on the lazy GPU, and its refusal where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto
from typer.testing import CliRunner

from bcseg_benchmarks import gpu
from bcseg_benchmarks.gpu import STAGES, figures, measure, subject_figures, with_plan, without_graph
from bcseg_benchmarks.gpu_peak import GpuPeak, share_of_roof
from bcseg_benchmarks.subjects import SHIPPED, UNGATED, Subject, open_subjects
from bcseg_benchmarks.work import work_of
from bcseg_edge.cuda.driver import find_gpu
from bcseg_edge.errors import BcsegError, DataError
from bcseg_edge.models import find_model
from bcseg_edge.passport import file_sha256, passport_path, read_passport
from tests.fixtures.lazy_cuda import lazy_segmenter
from tests.fixtures.tiny_model import write_model


@pytest.fixture
def segmenter(tmp_path):
    with lazy_segmenter(tmp_path) as opened:
        yield opened


def test_the_figures_of_known_timings(segmenter):
    """Each stage of the lazy GPU takes one millisecond."""
    result = figures(
        segmenter, ("tiny", "tensorrt"), [np.zeros((64, 96), np.uint8)], 5, gmac_per_patch=1.0, megabytes_per_patch=2.0
    )
    assert result.stages_ms == dict.fromkeys(STAGES, 1.0)
    assert set(result.latency_ms.values()) == {5.0}
    assert (result.patches, result.frames, result.variation) == (6, 5, 0)
    assert result.kernel_share == pytest.approx(0.4)
    assert result.tera_operations == pytest.approx(12)  # 6 patches of 2e9 operations in a millisecond
    assert result.fps > 0
    frame_px, window_px = 64 * 96, 32 * 32
    assert result.bus_bytes == 6 * frame_px
    moved = 6 * frame_px + 6 * window_px * (1 + 12)
    assert result.kernel_gbytes == pytest.approx(moved / 2e-3 / 1e9)
    assert result.network_gbytes == pytest.approx(6 * 2e6 / 1e-3 / 1e9)


def test_graph_against_no_graph(segmenter):
    """Without graphs no frame is captured, and the figures stand beside those with."""
    images = [np.zeros((64, 96), np.uint8)]
    result = figures(segmenter, ("tiny", "tensorrt"), images, 3)
    assert result.fps_without_graph is None
    completed = without_graph(segmenter.model, result, images, 3)
    assert completed.fps_without_graph > 0
    assert completed.network_ms_without_graph == pytest.approx(1)
    assert without_graph(segmenter.model, replace(result, backend="cuda"), images, 3).fps_without_graph is None


def test_a_subject_is_measured_under_its_roof(segmenter, monkeypatch, tmp_path):
    """The tiny model's 3 x 64 x 64 multiply-accumulates, in a network that takes one millisecond."""
    path = write_model(tmp_path, (64, 64))
    subject = Subject("tiny", "fp32", path, read_passport(path), "the file's own", path)
    monkeypatch.setattr(gpu, "load_model", lambda path, backend: segmenter.model)
    monkeypatch.setattr(gpu, "Segmenter", lambda model, tiling: segmenter)
    peak = GpuPeak(fp32_tera_operations=50, fp16_tera_operations=900, gbytes=3000)
    result = subject_figures(subject, "cuda", "paper", [np.zeros((64, 96), np.uint8)], 3, peak)
    assert result.tera_operations == pytest.approx(6 * 2 * 3 * 64 * 64 / 1e-3 / 1e12)
    assert result.share_of_roof == pytest.approx(result.network_gbytes / 3000)  # memory is its limit
    assert (result.precision, result.weights) == ("fp32", "the file's own")
    assert len(result.targets) == 2
    json.dumps(asdict(result))


@pytest.mark.parametrize(
    ("tera_operations", "gbytes", "precision", "share"),
    [
        (25.0, 10.0, "fp32", 0.5),  # arithmetic is the limit
        (90.0, 10.0, "fp16", 0.1),
        (1.0, 1500.0, "fp16", 0.5),  # memory is
        (None, 10.0, "fp16", None),
        (1.0, None, "fp16", None),
    ],
)
def test_the_roof_is_arithmetic_or_memory(tera_operations, gbytes, precision, share):
    peak = GpuPeak(fp32_tera_operations=50, fp16_tera_operations=900, gbytes=3000)
    assert share_of_roof(tera_operations, gbytes, precision, peak) == (share and pytest.approx(share))
    assert share_of_roof(tera_operations, gbytes, precision, None) is None


def test_a_plan_is_built_for_exactly_these_frames(monkeypatch, tmp_path):
    build = pytest.importorskip("bcseg_export.build")
    path = write_model(tmp_path, (64, 64))
    subject = Subject("tiny", "fp32", path, read_passport(path), "the file's own", path)
    made = []

    def fake(options):
        made.append(options)
        return SimpleNamespace(path=options.output, passport=subject.passport)

    monkeypatch.setattr(build, "build", fake)
    plan = with_plan(subject, "overlap", (480, 640), tmp_path)
    assert plan.path == tmp_path / "tiny.engine"
    (options,) = made
    assert (options.model, options.frame_sizes, options.tiling) == (path, ((640, 480),), "overlap")
    assert with_plan(plan, "overlap", (480, 640), tmp_path) == plan


def test_on_a_gpu_a_name_stands_for_its_float16_file(tmp_path):
    (subject,) = open_subjects(("edge",), (), (), tmp_path, "cuda")
    assert (subject.precision, subject.path.name) == ("fp16", "edge.fp16.onnx")
    pair = open_subjects(("edge",), (), ("fp32", "fp16"), tmp_path, "cuda")
    assert [one.path.name for one in pair] == ["edge.onnx", "edge.fp16.onnx"]


@pytest.fixture
def edge_alone(tmp_path):
    """The float32 file of `edge`, without its siblings."""
    shipped = find_model("edge", precision="fp32")
    for path in (shipped, passport_path(shipped)):
        shutil.copy(path, tmp_path)
    return tmp_path / shipped.name


def test_float16_of_a_model_without_such_a_file_is_made(edge_alone, tmp_path):
    (subject,) = open_subjects((str(edge_alone),), (), ("fp16",), tmp_path)
    assert (subject.title, subject.passport.precision) == ("edge fp16", "fp16")
    assert file_sha256(subject.path) == subject.passport.sha256
    types = {tensor.data_type for tensor in onnx.load(subject.path).graph.initializer}
    assert TensorProto.FLOAT16 in types


@pytest.mark.parametrize(
    ("backend", "name", "target", "types"),
    [
        ("openvino", "edge.int8.onnx", "cpu", {TensorProto.UINT8, TensorProto.FLOAT}),
        ("tensorrt", "edge.int8.tensorrt.onnx", "tensorrt", {TensorProto.INT8, TensorProto.FLOAT16}),
        ("cuda", "edge.int8.tensorrt.onnx", "tensorrt", {TensorProto.INT8, TensorProto.FLOAT16}),
    ],
)
def test_int8_is_for_the_backend_that_executes_it(backend, name, target, types, edge_alone, tmp_path):
    """TensorRT takes no unsigned activations; what is made, and then what lies beside the model."""
    (made,) = open_subjects((str(edge_alone),), (), ("int8",), tmp_path, backend)
    assert (made.path.name, made.passport.precision, made.passport.target) == (name, "int8", target)
    assert made.weights == UNGATED
    graph = onnx.load(made.path).graph
    tensors = {tensor.name: tensor.data_type for tensor in graph.initializer}
    activation = [node for node in graph.node if node.op_type == "QuantizeLinear"][-1]  # the first may keep float32
    assert {tensors[name] for name in activation.input[1:]} == types
    for path in (made.path, passport_path(made.path)):
        shutil.copy(path, edge_alone.parent)
    (beside,) = open_subjects((str(edge_alone),), (), ("int8",), tmp_path, backend)
    assert (beside.path, beside.weights) == (edge_alone.parent / name, SHIPPED)


def test_random_weights_without_pytorch_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BcsegError, match="PyTorch, which is not installed") as caught:
        open_subjects((), ("resnext50",), (), tmp_path)
    assert "leave --random-weights out" in caught.value.hint


@pytest.mark.slow
def test_every_file_of_a_run_is_measured():
    """The command as `make gpu` calls it, on a backend that needs no GPU."""
    command = [sys.executable, "-m", "bcseg_benchmarks.gpu", "--backend", "onnxruntime", "--frames", "2", "--json"]
    command += ["--model", "edge@overlap", "--precision", "fp32", "--precision", "fp16", "--frame-size", "240x200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [(one["model"], one["precision"], one["tiling"], one["frames"]) for one in results] == [
        ("edge@overlap", "fp32", "overlap", 2),
        ("edge@overlap", "fp16", "overlap", 2),
    ]
    assert all(one["tera_operations"] > 0 and len(one["targets"]) == 2 for one in results)


def test_a_file_that_fails_does_not_keep_the_others_from_being_measured(monkeypatch):
    measured = gpu.subject_figures

    def fail_in_half(subject, *rest):
        if subject.precision == "fp16":
            raise BcsegError("it broke")
        return measured(subject, *rest)

    monkeypatch.setattr(gpu, "subject_figures", fail_in_half)
    app = typer.Typer()
    app.command()(gpu.main)
    asked = ["--backend", "onnxruntime", "--frames", "2", "--json", "--precision", "fp16", "--precision", "fp32"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    broken, whole = json.loads(done.stdout)
    assert broken == {"model": "edge", "precision": "fp16", "problem": "it broke"}
    assert (whole["precision"], whole["frames"]) == ("fp32", 2)


def test_without_onnx_nothing_is_said_of_the_arithmetic(monkeypatch, tmp_path):
    subject = open_subjects(("edge",), (), ("fp32",), tmp_path)[0]
    assert work_of(subject).mac > 0
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert work_of(subject) is None


def test_nothing_to_measure_is_refused(segmenter):
    with pytest.raises(DataError, match="0 frames of 0 images"):
        measure(segmenter, [], 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gpu",), "error: "),
        (("backend_there", "cuda"), "NOT MEASURED, backend cuda: "),
        (("backend_there", "openvino"), "error: there is no backend openvino on a GPU"),
    ],
)
def test_without_a_gpu_it_says_so(arguments, said):
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    module, *rest = arguments
    command = [sys.executable, "-m", f"bcseg_benchmarks.{module}", *rest]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 2
    assert process.stderr.startswith(said)
    assert "hint: " in process.stderr
