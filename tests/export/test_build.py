"""Plans built through our own `build`: with the real TensorRT-RTX where it is installed, which needs no GPU."""

from __future__ import annotations

import json
import multiprocessing
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from bcseg_edge import cli
from bcseg_edge.errors import BackendUnavailable, DataError, ModelError, ParityError
from bcseg_edge.models import find_model
from bcseg_edge.passport import NOT_MEASURED, Profile, file_sha256, read_passport, write_passport
from bcseg_edge.plans import Place, read_plan
from bcseg_export import build as build_module
from bcseg_export import plan_builder
from bcseg_export.build import BuildOptions, build
from bcseg_export.plan_builder import BuildError, Built, PlanSettings, build_plan
from tests.fixtures.grey_busi import write_grey_busi
from tests.fixtures.speckle import speckle
from tests.fixtures.tiny_model import seal, write_graph, write_model

ROOT = Path(__file__).parents[2]
WINDOW_HW = (64, 96)
MODEL_FILES = [
    path for path in sorted((ROOT / "models").glob("*/*.onnx")) if read_passport(path).target in ("any", "tensorrt")
]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("BCSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path, WINDOW_HW)


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


@pytest.fixture
def builds(monkeypatch):
    """TensorRT-RTX without TensorRT-RTX: the settings of each build, whose plan is a text."""
    made: list[PlanSettings] = []

    def fake(trt, graph, settings, timing_cache, progress):
        made.append(settings)
        return Built(f"plan {len(made)}".encode(), b"")

    monkeypatch.setattr(build_module, "build_plan", fake)
    monkeypatch.setattr(build_module, "import_tensorrt", lambda runtime: type("trt", (), {"__version__": "1.7.1"}))
    return made


def options(model, **changes):
    return BuildOptions(
        **{"model": model, "output": model.with_suffix(".engine"), "runtime": "tensorrt-rtx", **changes}
    )


class Silent:
    """Progress that counts, and stops the build after so many steps."""

    def __init__(self, steps=10**9):
        self.phases, self.finished, self.steps_left = [], [], steps

    def start(self, phase, steps):
        self.phases.append(phase)

    def step(self, phase, step):
        self.steps_left -= 1
        return self.steps_left > 0

    def finish(self, phase):
        self.finished.append(phase)


def test_rtx_builds_a_plan_and_its_passport_vouches_for_it(rtx, model):
    result = build(options(model, frame_sizes=((300, 100), (96, 64)), capabilities=("8.6",)))
    passport, source = read_passport(result.path), read_passport(model)
    assert passport == result.passport
    assert passport.sha256 == file_sha256(result.path)
    assert passport.profile == Profile(min_batch=1, opt_batch=8, max_batch=8)
    assert (passport.accuracy, passport.parity) == (NOT_MEASURED, NOT_MEASURED)
    assert (passport.window_hw, passport.precision) == (source.window_hw, source.precision)
    compiled = passport.compiled
    assert (compiled.runtime, compiled.runtime_version) == ("tensorrt-rtx", rtx.__version__)
    assert (compiled.gpu, compiled.capabilities) == ("", ("8.6",))
    assert compiled.source_sha256 == source.sha256
    assert result.path.read_bytes()[:1] != b"{"  # a pure plan: no metadata in front of it


@pytest.mark.slow
@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.stem)
def test_rtx_builds_every_shipped_model_file(rtx, path, tmp_path):
    result = build(options(path, output=tmp_path / "model.engine", frame_sizes=((640, 480),), capabilities=("8.6",)))
    assert result.path.stat().st_size > 1e6
    assert read_passport(result.path).compiled.source_sha256 == file_sha256(path)


@pytest.mark.slow
def test_rtx_builds_the_shipped_model_in_8_bits(rtx, tmp_path):
    """No such file is shipped: on a GPU float16 comes first. Made here as `export --target tensorrt` does."""
    onnx = pytest.importorskip("onnx")
    from bcseg_calibration.half import to_half
    from bcseg_calibration.prepare import fold
    from bcseg_calibration.quantize import quantize
    from bcseg_calibration.ranges import measure_ranges

    shipped = find_model("edge", precision="fp32")
    passport = read_passport(shipped)
    patches = np.stack([speckle(passport.window_hw, seed) for seed in range(2)])[:, None]
    folded = fold(onnx.load(shipped))
    int8 = quantize(folded, measure_ranges(folded, patches, "minmax", symmetric=True), "tensorrt")
    path = tmp_path / "edge.int8.tensorrt.onnx"
    onnx.save(to_half(int8), path)
    changes = {"sha256": file_sha256(path), "precision": "int8", "target": "tensorrt", "weights": "int8"}
    write_passport(passport.model_copy(update=changes), path)
    result = build(options(path, frame_sizes=((640, 480),), capabilities=("8.6",)))
    assert (result.passport.precision, result.passport.target) == ("int8", "tensorrt")
    assert result.passport.compiled.source_sha256 == file_sha256(path)
    assert result.passport.profile == Profile(min_batch=1, opt_batch=1, max_batch=1)


def test_rtx_tells_progress_and_can_be_stopped(rtx, model):
    settings = PlanSettings(WINDOW_HW, Profile(), capabilities=("8.6",))
    progress = Silent()
    build_plan(rtx, model.read_bytes(), settings, b"", progress)
    assert progress.phases
    assert sorted(progress.finished) == sorted(progress.phases)
    with pytest.raises(BuildError, match="built no plan"):
        build_plan(rtx, model.read_bytes(), settings, b"", Silent(steps=1))


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "takes nothing and gives nothing"), (b"not an ONNX file", "cannot parse the graph")]
)
def test_rtx_refuses_what_is_not_onnx(rtx, tmp_path, content, said):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    seal(path)
    with pytest.raises(ModelError, match=said):
        build(options(path))
    assert not path.with_suffix(".engine").exists()


def test_rtx_keeps_the_logits_alone(rtx, model):
    """An output for host backends would need a buffer that the frame path does not have."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(model)
    graph.graph.node.append(onnx.helper.make_node("ArgMax", ["logits"], ["labels"], axis=1))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, None))
    dropped = []

    class Network:
        num_inputs, num_outputs = 1, 2

        def get_input(self, number):
            return SimpleNamespace(name="patches")

        def get_output(self, number):
            return SimpleNamespace(name=("logits", "labels")[number])

        def unmark_output(self, tensor):
            dropped.append(tensor.name)

    plan_builder._keep_logits(Network())
    assert dropped == ["labels"]
    settings = PlanSettings(WINDOW_HW, Profile(), capabilities=("8.6",))
    assert build_plan(rtx, graph.SerializeToString(), settings, b"", Silent()).plan


def test_rtx_refuses_a_foreign_graph(rtx, tmp_path):
    path = tmp_path / "foreign.onnx"
    write_graph(path, WINDOW_HW, input_name="image")
    seal(path, WINDOW_HW)
    with pytest.raises(ModelError, match="takes image and gives logits, expected patches and logits"):
        build(options(path, capabilities=("8.6",)))
    assert not path.with_suffix(".engine").exists()


def test_the_same_inputs_reuse_the_plan(builds, model):
    first, second = build(options(model)), build(options(model))
    assert (first.reused, second.reused) == (False, True)
    assert second.passport == first.passport
    assert len(builds) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_sizes": ((640, 480),)},
        {"frame_sizes": ((96, 64),)},
        {"frame_sizes": ((640, 480),), "tiling": "overlap"},
        {"capabilities": ("8.6",)},
        {"workspace_mib": 64},
    ],
)
def test_other_settings_build_anew(builds, model, changes):
    build(options(model))
    assert not build(options(model, **changes)).reused
    assert build(options(model, **changes)).reused
    assert builds[0] != builds[1]


def test_another_source_of_the_same_name_builds_anew(builds, model):
    build(options(model))
    model.write_bytes(model.read_bytes() + b"\x00")
    seal(model, WINDOW_HW)
    assert not build(options(model)).reused


def test_another_version_builds_anew(builds, model, monkeypatch):
    build(options(model))
    monkeypatch.setattr(build_module, "import_tensorrt", lambda runtime: type("trt", (), {"__version__": "1.7.2"}))
    assert not build(options(model)).reused


@pytest.mark.parametrize("damage", ["truncate the plan", "remove the passport", "spoil the passport"])
def test_a_damaged_plan_builds_anew(builds, model, damage):
    path = build(options(model)).path
    passport = path.with_name(path.name + ".json")
    if damage == "truncate the plan":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "remove the passport":
        passport.unlink()
    else:
        passport.write_text("{")
    assert not build(options(model)).reused
    assert build(options(model)).reused


def test_a_failed_build_leaves_the_plan_that_is_there(builds, model, monkeypatch):
    before = build(options(model))

    def fail(*arguments):
        raise BuildError("no plan", "")

    monkeypatch.setattr(build_module, "build_plan", fail)
    with pytest.raises(BuildError):
        build(options(model, workspace_mib=1))
    assert read_passport(before.path) == before.passport
    assert {path.name for path in model.parent.iterdir()} == {
        "cache", "tiny.onnx", "tiny.onnx.json", "tiny.engine", "tiny.engine.json"
    }  # fmt: skip


def test_a_plan_that_cannot_be_written_is_not_built(builds, model, monkeypatch):
    monkeypatch.setattr(build_module, "build_plan", lambda *_: pytest.fail("minutes lost"))
    (model.parent / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        build(replace(options(model), output=model.parent / "file" / "tiny.engine"))


def _build_in_a_process(model, outcomes):
    import time

    def slow(trt, graph, settings, timing_cache, progress):
        time.sleep(0.3)
        return Built(b"plan", b"")

    build_module.build_plan = slow
    build_module.import_tensorrt = lambda runtime: type("trt", (), {"__version__": "1.7.1"})
    outcomes.put(build(options(model)).reused)


def test_two_processes_at_once_build_one_plan(model):
    context = multiprocessing.get_context("fork")
    outcomes = context.Queue()
    processes = [context.Process(target=_build_in_a_process, args=(model, outcomes)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(outcomes.get(timeout=30) for _ in processes) == [False, True]
    for process in processes:
        process.join(timeout=30)
    assert read_passport(model.with_suffix(".engine")).compiled is not None


@pytest.mark.parametrize(
    ("frame_sizes", "tiling", "profile"),
    [
        ((), None, (1, 1, 16)),
        (((300, 100),), None, (8, 8, 8)),
        (((300, 100), (96, 64), (960, 640)), None, (1, 8, 100)),
        (((300, 100),), "frame", (1, 1, 1)),
        (((300, 100),), "overlap", (18, 18, 18)),
    ],
)
def test_the_profile_is_the_batch_of_the_frames(builds, model, frame_sizes, tiling, profile):
    result = build(options(model, frame_sizes=frame_sizes, tiling=tiling))
    found = result.passport.profile
    assert (found.min_batch, found.opt_batch, found.max_batch) == profile
    assert builds[0].profile == found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output": Path("plan.trt")}, r"plan ends in \.engine"),
        ({"runtime": "tensor"}, "unknown runtime 'tensor'"),
        ({"workspace_mib": 0}, "0 MiB is no room"),
        ({"capabilities": ("8.7",)}, "does not build for compute capability 8.7"),
        ({"capabilities": ("8.6",), "runtime": "tensorrt"}, "builds for the GPU of this machine"),
        ({"version_compatible": True}, "RTX has neither version-compatible nor"),
        ({"hardware_compatible": True}, "RTX has neither version-compatible nor"),
    ],
)
def test_options_that_do_not_fit_are_refused(model, changes, said):
    with pytest.raises(DataError, match=said):
        build(options(model, **changes))


def test_tensorrt_without_a_gpu_is_refused_before_it_is_imported(model, monkeypatch):
    runtime = pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (runtime.cudaError_t(35), None))
    monkeypatch.setattr(build_module, "import_tensorrt", None)
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        build(options(model, runtime="tensorrt"))
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        build(options(model, layers=model.with_suffix(".json")))


def test_a_file_for_the_cpu_is_refused(builds, tmp_path):
    path = write_model(tmp_path, WINDOW_HW, passport={"precision": "int8", "target": "cpu"})
    with pytest.raises(ModelError, match="is quantized for the CPU"):
        build(options(path))
    assert not builds


class FakeGpu:
    """A GPU on which TensorRT would run, for the gate after a build."""

    name, capability, integrated = "NVIDIA Test", (9, 0), False


@pytest.fixture
def on_gpu(builds, monkeypatch):
    """`build` for TensorRT on a made-up GPU, whose plan answers as the ONNX file that `plan_says` names."""
    monkeypatch.setattr(build_module, "require_gpu", FakeGpu)
    monkeypatch.setattr(build_module, "find_gpu", FakeGpu)
    monkeypatch.setattr(build_module, "cuda_version", lambda: "13.0")
    create = build_module.create_backend
    plan_says = {}

    def create_any(name, path, passport):
        if name == "tensorrt":
            return create("onnxruntime", plan_says["path"], passport)
        return create(name, path, passport)

    monkeypatch.setattr(build_module, "create_backend", create_any)
    return plan_says


@pytest.fixture
def ungated(on_gpu, monkeypatch):
    """`on_gpu` where nothing judges the plan."""
    monkeypatch.setattr(build_module, "available_backends", lambda target: ())


@pytest.mark.parametrize("changes", [{"version_compatible": True}, {"hardware_compatible": True}])
def test_a_compatible_plan_is_another_plan(ungated, builds, model, changes):
    build(options(model, runtime="tensorrt"))
    result = build(options(model, runtime="tensorrt", **changes))
    assert not result.reused
    assert changes.items() <= result.passport.compiled.model_dump().items()
    assert builds[0] != builds[1]


def test_a_jetson_builds_no_hardware_compatible_plan(ungated, builds, model, monkeypatch):
    monkeypatch.setattr(FakeGpu, "integrated", True)
    with pytest.raises(DataError, match="on a Jetson"):
        build(options(model, runtime="tensorrt", hardware_compatible=True))
    assert not builds


def test_another_gpu_builds_anew(ungated, model, monkeypatch):
    build(options(model, runtime="tensorrt"))
    assert build(options(model, runtime="tensorrt")).reused
    monkeypatch.setattr(FakeGpu, "name", "NVIDIA Other")
    assert not build(options(model, runtime="tensorrt")).reused


def test_timings_are_kept_by_gpu_and_version(ungated, model, monkeypatch):
    """A build begins with the timings of the build before it on this GPU with this version, and with no others."""
    began = []

    def fake(trt, graph, settings, timing_cache, progress):
        began.append(timing_cache)
        return Built(b"plan", f"timings {len(began)}".encode())

    def build_with(workspace_mib):
        build(options(model, runtime="tensorrt", workspace_mib=workspace_mib))

    monkeypatch.setattr(build_module, "build_plan", fake)
    build_with(1)
    build_with(2)
    monkeypatch.setattr(FakeGpu, "name", "NVIDIA Other")
    build_with(3)
    monkeypatch.setattr(build_module, "import_tensorrt", lambda runtime: type("trt", (), {"__version__": "1.7.2"}))
    build_with(4)
    monkeypatch.setattr(FakeGpu, "name", "NVIDIA Test")
    monkeypatch.setattr(build_module, "import_tensorrt", lambda runtime: type("trt", (), {"__version__": "1.7.1"}))
    build_with(5)
    assert began == [b"", b"timings 1", b"", b"", b"timings 2"]


def test_the_layer_table_is_written_where_it_is_asked_for(ungated, builds, model, monkeypatch, tmp_path):
    monkeypatch.setattr(build_module, "layer_table", lambda trt, plan: f"layers of {plan.decode()}")
    table = tmp_path / "layers.json"
    build(options(model, runtime="tensorrt", layers=table))
    assert table.read_text() == "layers of plan 1"
    assert builds[0].detailed


def test_a_refused_plan_names_the_command_that_built_it(ungated, model, tmp_path):
    result = build(
        options(model, runtime="tensorrt", frame_sizes=((300, 100),), tiling="overlap", version_compatible=True)
    )
    words = ("build", str(model), "--output", str(result.path), "--frame-size", "300x100", "--tiling", "overlap")
    assert result.passport.compiled.command == (*words, "--version-compatible")
    with pytest.raises(ModelError) as caught:
        read_plan(result.path, result.passport, Place("tensorrt", "10.3.0", "Orin", (8, 7), "Linux aarch64"))
    again = shlex.split(caught.value.hint.partition(": ")[2])
    result.path.unlink()
    assert CliRunner().invoke(cli.app, again[1:]).exit_code == 0
    assert read_passport(result.path).compiled.key == result.passport.compiled.key


def test_a_plan_that_finds_what_its_source_finds_passes_the_gate(on_gpu, model):
    on_gpu["path"] = model
    result = build(options(model, runtime="tensorrt"))
    parity = result.passport.parity
    assert parity.passed
    assert (parity.backends, parity.labels_equal, parity.figures["lesions_lost"]) == (("tensorrt",), 1, 0)
    assert parity.frames == 36
    assert parity.figures["lesions"] > 0


@pytest.fixture
def swapped(model, tmp_path):
    """`model` with its classes swapped."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(model)
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)[[0, 2, 1]]
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "swapped.onnx"
    onnx.save(graph, path)
    return path


def test_a_plan_of_swapped_classes_is_refused_and_not_written(on_gpu, model, swapped):
    on_gpu["path"] = swapped
    with pytest.raises(ParityError, match="Dice of") as caught:
        build(options(model, runtime="tensorrt"))
    assert caught.value.exit_code == 3
    assert not model.with_suffix(".engine").exists()


def test_a_plan_that_nothing_can_judge_says_so(on_gpu, model, monkeypatch):
    on_gpu["path"] = model
    monkeypatch.setattr(build_module, "available_backends", lambda target: ())
    assert build(options(model, runtime="tensorrt")).passport.parity == NOT_MEASURED


def test_a_plan_that_nothing_could_judge_is_judged_where_it_is_reused(on_gpu, builds, model, monkeypatch):
    on_gpu["path"] = model
    with monkeypatch.context() as without:
        without.setattr(build_module, "available_backends", lambda target: ())
        build(options(model, runtime="tensorrt"))
        assert build(options(model, runtime="tensorrt")).passport.parity == NOT_MEASURED
    result = build(options(model, runtime="tensorrt"))
    assert (result.reused, len(builds)) == (True, 1)
    assert result.passport.parity.passed
    assert read_passport(result.path) == result.passport


def test_a_plan_that_is_there_is_judged_on_the_data_that_are_given(on_gpu, builds, model, tmp_path):
    on_gpu["path"] = model
    on_phantoms = build(options(model, runtime="tensorrt")).passport.parity
    result = build(options(model, runtime="tensorrt", data=write_grey_busi(tmp_path / "busi")))
    assert (result.reused, len(builds)) == (True, 1)
    assert (on_phantoms.frames, result.passport.parity.frames) == (36, 9)
    assert read_passport(result.path).parity.data == "busi all images"
    assert build(options(model, runtime="tensorrt")).passport == result.passport


def test_a_plan_that_is_there_and_fails_does_not_run_any_more(on_gpu, builds, model, swapped, tmp_path):
    on_gpu["path"] = model
    data = write_grey_busi(tmp_path / "busi")
    path = build(options(model, runtime="tensorrt")).path
    on_gpu["path"] = swapped
    with pytest.raises(ParityError, match="Dice of") as caught:
        build(options(model, runtime="tensorrt", data=data))
    assert "tiny.engine lost its passport" in caught.value.hint
    with pytest.raises(ModelError, match="has no passport"):
        read_passport(path)
    on_gpu["path"] = model
    assert not build(options(model, runtime="tensorrt", data=data)).reused
    assert len(builds) == 2


def test_a_gate_that_is_asked_for_and_not_possible_is_refused(on_gpu, builds, model, tmp_path, monkeypatch):
    on_gpu["path"] = model
    data = write_grey_busi(tmp_path / "busi")
    build(options(model, runtime="tensorrt"))
    with pytest.raises(DataError, match="no folder at"):
        build(options(model, runtime="tensorrt", data=tmp_path / "missing"))
    with pytest.raises(DataError, match="no plan of TensorRT-RTX is compared"):
        build(options(model, data=data))
    monkeypatch.setattr(build_module, "available_backends", lambda target: ())
    for output in (model.with_suffix(".engine"), tmp_path / "new.engine"):
        with pytest.raises(BackendUnavailable, match="nothing here can compare"):
            build(options(model, runtime="tensorrt", output=output, data=data))
    assert len(builds) == 1


def test_a_plan_is_not_a_source(builds, model):
    path = build(options(model)).path
    with pytest.raises(ModelError, match=r"takes an \.onnx file, got tiny\.engine"):
        build(options(path, output=path.with_name("again.engine")))


def test_the_command(builds, model):
    arguments = ["build", str(model), "--output", str(model.with_suffix(".engine")), "--runtime", "rtx"]
    arguments += ["--frame-size", "300x100", "--frame-size", "96x64"]
    runner = CliRunner()
    for said in ("built: ", "up to date: "):
        result = runner.invoke(cli.app, arguments)
        assert result.exit_code == 0, result.output
        assert result.output.startswith(said)
        assert "1 to 8 patches, best 8" in result.output.replace("\n", "")
    inspected = runner.invoke(cli.app, ["inspect", str(model.with_suffix(".engine")), "--json"])
    assert json.loads(inspected.output)["compiled"]["runtime"] == "tensorrt-rtx"


@pytest.mark.parametrize("size", ["640", "0x480", "640x480x3", "axb", "-1x5"])
def test_a_frame_size_that_is_none_is_refused(builds, model, size):
    arguments = ["build", str(model), "--output", "x.engine", "--runtime", "rtx", f"--frame-size={size}"]
    result = CliRunner().invoke(cli.app, arguments)
    assert isinstance(result.exception, DataError)
    assert not builds
