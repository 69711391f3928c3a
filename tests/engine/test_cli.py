"""The command line as a user meets it: in a process of its own, by its output, its files and its exit code."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fixtures.tiny_model import write_model

pytest.importorskip("onnxruntime", reason="run needs a backend")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(
        str(ROOT / part) for part in ("engine", "train", "export", "calibration", "benchmarks")
    ),
    "COLUMNS": "120",
    "NO_COLOR": "1",
    "TERM": "dumb",
}
HEAVY = ("torch", "lightning", "openvino", "onnxruntime", "onnx", "matplotlib", "scipy")
SMALL = "phantom:64x48@30?frames=4"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("model"), tiling="frame"))


def command(*arguments, code=None):
    start = ["-c", code] if code else ["-m", "bcseg_edge"]
    return [sys.executable, *start, *map(str, arguments)]


def bcseg(*arguments, code=None, expect=0):
    """Run the command line; returns (stdout, stderr)."""
    done = subprocess.run(
        command(*arguments, code=code), capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout, done.stderr


def run(model, *arguments, expect=0):
    return bcseg("run", *arguments, "--model", model, "--backend", "onnxruntime", expect=expect)


@pytest.mark.parametrize("backend", ["cuda", "tensorrt"])
def test_a_gpu_backend_without_a_gpu_is_one_line_and_a_hint(model, backend):
    driver = pytest.importorskip("bcseg_edge.cuda.driver")
    if driver.find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    printed, said = bcseg("run", SMALL, "--model", model, "--backend", backend, expect=2)
    lines = said.splitlines()
    assert not printed
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    assert "GPU" in lines[0] or "cuda.bindings" in lines[0]


def test_what_did_not_change_is_computed_once_and_labelled_the_same(model, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    (tmp_path / "scans").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "scans" / f"{name}.png"), image)
    arguments = (tmp_path / "scans", "--tiling", "paper", "--output")
    table, _ = run(model, *arguments, tmp_path / "with")
    assert "4 of 8 computed, 50% saved" in table
    found, _ = run(model, *arguments, tmp_path / "without", "--no-reuse", "--json")
    assert (json.loads(found)["patches"], json.loads(found)["patches_reused"]) == (8, 0)
    for name in ("a", "b"):
        labels = [(tmp_path / folder / "labels" / f"{name}.png").read_bytes() for folder in ("with", "without")]
        assert labels[0] == labels[1]


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from bcseg_edge.cli import main\n"
        "try: main()\n"
        f"finally: print('loaded', [name for name in {HEAVY!r} + ('cv2', 'numpy') if name in sys.modules])"
    )
    out, _ = bcseg("--help", code=code)
    assert "loaded []" in out
    for name in ("run", "train", "split", "evaluate", "calibrate", "export", "parity", "inspect", "doctor"):
        assert f" {name} " in out


def test_version():
    assert bcseg("--version")[0].startswith("bcseg-edge ")


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("run", "--nonsense"), ("run", SMALL, "--max-frames", "0"), ("train",)]
)
def test_wrong_usage_exits_2(arguments):
    bcseg(*arguments, expect=2)


def test_run_prints_the_summary_and_leaves_whole_files(model, tmp_path):
    out, err = run(model, SMALL, "--output", tmp_path / "out")
    for word in ("frames per second", "latency", "p50=", "p99=", "network=", "Dice with the truth", "benign"):
        assert word in out
    assert "parity with its reference is not measured" in err
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == [*(f"out/labels/{index:06d}.png" for index in range(4)), "out/overlay.mp4", "out/results.jsonl"]


def test_run_on_images_with_spacing_as_json(model, tmp_path):
    image = np.zeros((60, 80), np.uint8)
    image[20:40, 30:60] = 120
    cv2.imwrite(str(tmp_path / "scan.png"), image)
    out, _ = run(model, tmp_path, "--spacing", "0.5", "--output", tmp_path / "out", "--json")
    summary = json.loads(out)
    assert summary["frames"] == 1
    assert summary["lesions"] == {"benign": 1, "malignant": 0}
    assert summary["truth_dice"] is None
    assert len(summary["warnings"]) == 1
    (line,) = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["name"] == "scan"
    assert record["lesions"][0]["long_axis_mm"] == pytest.approx(18, abs=2)
    labels = cv2.imread(str(tmp_path / "out" / "labels" / "scan.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(np.unique(labels), [0, 1])
    assert (tmp_path / "out" / "overlay" / "scan.png").is_file()


def test_max_frames_ends_an_endless_source(model):
    out, _ = run(model, "phantom:64x48?frames=0", "--max-frames", "3", "--json")
    assert json.loads(out)["frames"] == 3


def test_a_skipped_image_is_told_and_exits_2(model, tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((20, 20), np.uint8))
    (tmp_path / "2.png").touch()
    out, err = run(model, tmp_path, "--json", expect=2)
    assert json.loads(out)["frames"] == 1
    assert "problem: skipped" in err
    assert "2.png" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "run needs a SOURCE"),
        (("nowhere.png",), "no such file or folder"),
        (("camera:one",), "neither a number nor a device"),
        (("camera:0?size=big",), "camera option size='big'"),
        (("gopher://host",), "no live source is called gopher"),
        ((SMALL, "--live", "--crop", "1,2,3"), "not four whole numbers"),
        ((SMALL, "--live", "--deadline", "0"), "--deadline 0 ms"),
        (("phantom:64x48?speed=1",), "the options are"),
        ((SMALL, "--tiling", "spiral"), "unknown tiling 'spiral'"),
        ((SMALL, "--spacing", "-1"), "--spacing -1 mm"),
        ((SMALL, "--spacing", "nan"), "--spacing nan mm"),
    ],
)
def test_bad_input_is_two_lines_and_exit_2(model, arguments, message):
    _, err = run(model, *arguments, expect=2)
    lines = [line for line in err.splitlines() if not line.startswith("warning:")]
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert lines[1].startswith("hint: ")


def test_an_unwritable_output_is_refused_before_the_first_frame(model, tmp_path):
    (tmp_path / "file").touch()
    out, err = run(model, "phantom:64x48?frames=0", "--output", tmp_path / "file" / "out", expect=2)
    assert "cannot write to the output folder" in err
    assert out == ""


@pytest.mark.parametrize("damage", ["cut", "not a model", "no passport"])
def test_a_bad_model_is_refused(tmp_path, damage):
    path = write_model(tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "not a model":
        path.write_bytes(b"nonsense")
    else:
        path.with_name(path.name + ".json").unlink()
    for arguments in (("run", SMALL, "--model", path), ("inspect", path)):
        _, err = bcseg(*arguments, expect=2)
        assert err.startswith("error: tiny.onnx")


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(model, place):
    arguments = ["run", "nowhere.png", "--model", model]
    arguments.insert(0 if place == "before" else 4, "--debug")
    _, err = bcseg(*arguments, expect=2)
    assert "Traceback" in err
    assert "error: no such file" in err


def test_a_fault_is_one_line_and_exit_1():
    code = (
        "import bcseg_edge.models as models; from bcseg_edge.cli import main\n"
        "def broken(*given, **options): raise RuntimeError('broken inside')\n"
        "models.read_model = broken\n"
        "main()"
    )
    _, err = bcseg("inspect", "edge", code=code, expect=1)
    assert err.splitlines()[0] == "error: RuntimeError: broken inside"
    assert "Traceback" not in err


def test_a_file_that_the_system_refuses_is_two_lines_and_exit_2():
    code = (
        "import bcseg_edge.models as models; from bcseg_edge.cli import main\n"
        "def refused(name, **_): raise PermissionError(13, 'Permission denied', 'secret.onnx')\n"
        "models.read_model = refused\n"
        "main()"
    )
    _, err = bcseg("inspect", "edge", code=code, expect=2)
    assert err.startswith("error: secret.onnx: Permission denied\nhint: check the path")


def test_a_failed_gate_exits_3():
    code = (
        "import bcseg_edge.models as models; from bcseg_edge.cli import main\n"
        "from bcseg_edge.errors import ParityError\n"
        "def failed(name, **_): raise ParityError('labels differ', 'train again')\n"
        "models.read_model = failed\n"
        "main()"
    )
    _, err = bcseg("inspect", "edge", code=code, expect=3)
    assert err == "error: labels differ\nhint: train again\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "expect"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_in_the_middle_what_was_written_is_whole(model, tmp_path, number, expect):
    out = tmp_path / "out"
    arguments = ("run", "phantom:160x120?frames=0", "--model", model, "--backend", "onnxruntime", "--output", out)
    with subprocess.Popen(
        command(*arguments, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        deadline = time.monotonic() + 60
        while not (out / "labels" / "000004.png").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == expect, stderr
    assert "Traceback" not in stderr
    summary = json.loads(stdout)
    assert summary["interrupted"]
    assert summary["frames"] >= 5
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    names = [record["name"] for record in records]
    assert len(names) == summary["frames"]
    assert sorted(path.stem for path in (out / "labels").iterdir()) == names
    for name in names:
        assert cv2.imread(str(out / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED).shape == (120, 160)
    capture = cv2.VideoCapture(str(out / "overlay.mp4"))
    assert sum(capture.read()[0] for _ in range(len(names) + 1)) == len(names)
    assert sorted(path.name for path in out.iterdir()) == ["labels", "overlay.mp4", "results.jsonl"]


def test_a_split_is_not_replaced_by_accident(tmp_path):
    (tmp_path / "busi_split.csv").write_text("image,split\n")
    _, err = bcseg("split", "--data", tmp_path, "--output", tmp_path / "busi_split.csv", expect=2)
    assert "--force" in err
    assert (tmp_path / "busi_split.csv").read_text() == "image,split\n"


def test_inspect(model):
    out, _ = bcseg("inspect", model)
    for word in ("tiny", "256x256 px", "frame", "parity", "not measured"):
        assert word in out
    record = json.loads(bcseg("inspect", model, "--json")[0])
    assert record["name"] == "tiny"
    assert record["sha256"] in "".join(out.split())
    for precision, said in (("int8", "int8 was asked for"), ("bogus", "unknown precision")):
        assert said in bcseg("inspect", model, "--precision", precision, expect=2)[1]


def test_doctor_exit_code_says_ready_or_not():
    done = subprocess.run(command("doctor", "--json"), capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == (0 if json.loads(done.stdout)["ready"] else 2)
    table = subprocess.run(command("doctor"), capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert "backend openvino" in table.stdout
    assert table.returncode == done.returncode


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from bcseg_edge.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("train", "--data", ".", "--output", "runs"), "lightning", "train"),
        (("split", "--data", "."), "scipy", "train"),
        (("evaluate", "x.ckpt", "--data", "."), "torch", "train"),
        (("export", "x.ckpt", "--output", "x.onnx"), "onnx", "export"),
        (("calibrate", "--data", ".", "--output", "x.npz"), "onnx", "export"),
        (("parity", "x.onnx", "y.onnx"), "torch", "export"),
    ],
)
def test_a_missing_extra_is_named(arguments, package, extra):
    _, err = bcseg(*arguments, code=BLOCK.format(blocked=(package,)), expect=2)
    assert f"the package {package!r}" in err
    assert f'hint: pip install "bcseg-edge[{extra}]"' in err


@pytest.mark.parametrize(
    ("name", "module", "options"),
    [
        ("train", "bcseg_train.train", "TrainOptions"),
        ("evaluate", "bcseg_train.evaluate", "EvaluateOptions"),
        ("export", "bcseg_export.export", "ExportOptions"),
        ("calibrate", "bcseg_export.calibrate", "CalibrateOptions"),
        ("parity", "bcseg_export.parity.command", "ParityOptions"),
    ],
)
def test_every_option_can_be_reached(name, module, options):
    """An option that a library grows and the command line forgets is found here."""
    pytest.importorskip("torch", reason="the extras' own modules")
    fields = {field.name for field in dataclasses.fields(getattr(import_module(module), options))} - {"progress"}
    function = getattr(import_module(f"bcseg_edge.cli.{name}"), name)
    assert fields <= set(inspect.signature(function).parameters)
