"""Every installed backend says exactly what the model's arithmetic says."""

from __future__ import annotations

import builtins
import platform
import sys

import numpy as np
import pytest

from bcseg_edge import backends
from bcseg_edge.backends import BACKENDS, CUDA_BACKENDS, available_backends, create_backend
from bcseg_edge.backends.openvino import MAX_COMPILED
from bcseg_edge.errors import BackendUnavailable, BcsegError, DataError, ModelError
from bcseg_edge.models import load_model
from tests.fixtures.tiny_model import expected_logits, seal, write_graph, write_model

WINDOW_HW = (24, 40)


@pytest.fixture(params=BACKENDS)
def backend(request):
    pytest.importorskip(request.param)
    return request.param


def noise(count, window_hw=WINDOW_HW):
    return np.random.default_rng(count).integers(0, 256, (count, 1, *window_hw), dtype=np.uint8)


def test_logits_are_those_of_numpy_for_any_batch(tmp_path, backend):
    with load_model(write_model(tmp_path, WINDOW_HW), backend) as model:
        for count in (1, 3, 16, 3, 2, 5, 7, 1):
            patches = noise(count)
            logits = model.infer(patches)
            assert logits.dtype == np.float32
            assert logits.flags.c_contiguous
            np.testing.assert_allclose(logits, expected_logits(patches[:, 0]), rtol=1e-5, atol=1e-5)


def test_logits_are_arrays_of_their_own(tmp_path, backend):
    with load_model(write_model(tmp_path, WINDOW_HW), backend) as model:
        first = model.infer(np.zeros((2, 1, *WINDOW_HW), np.uint8))
        kept = first.copy()
        second = model.infer(np.full((2, 1, *WINDOW_HW), 255, np.uint8))
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_strided_patches_are_read_in_order(tmp_path, backend):
    patches = noise(6)[::-2, :, :, ::-1]
    with load_model(write_model(tmp_path, WINDOW_HW), backend) as model:
        np.testing.assert_allclose(model.infer(patches), expected_logits(patches[:, 0]), rtol=1e-5, atol=1e-5)


def test_float32_is_not_lowered_to_bfloat16(tmp_path, backend):
    """A convolution deep enough for oneDNN's bfloat16 kernels: their error would be about 1e-2."""
    onnx = pytest.importorskip("onnx")
    path = write_model(tmp_path, (32, 32))
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in [(64, 1, 3, 3), (3, 64, 3, 3)]]
    del model.graph.node[1], model.graph.initializer[:]
    for number, (source, target) in enumerate([("grey", "hidden"), ("hidden", "logits")]):
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights[number], f"w{number}"))
        model.graph.node.append(onnx.helper.make_node("Conv", [source, f"w{number}"], [target], pads=[1, 1, 1, 1]))
    path.write_bytes(model.SerializeToString())
    seal(path, (32, 32))
    patches = noise(1, (32, 32))
    with load_model(path, backend) as loaded:
        logits = loaded.infer(patches)[0]
    padded = np.pad(patches[0, 0].astype(np.float64), 1)
    hidden = np.einsum("yxij,kij->kyx", np.lib.stride_tricks.sliding_window_view(padded, (3, 3)), weights[0][:, 0])
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = np.einsum("kyxij,ckij->cyx", views, weights[1])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_threads_are_accepted_and_none_refused(tmp_path, backend):
    path = write_model(tmp_path, WINDOW_HW)
    with load_model(path, backend, threads=1) as model:
        assert model.infer(noise(1)).shape == (1, 3, *WINDOW_HW)
    with pytest.raises(DataError, match="0 threads"):
        load_model(path, backend, threads=0)


@pytest.mark.parametrize("content", [b"", b"not an ONNX file", b"\x08\x08\x12\x07pytorch"])
def test_a_file_that_is_not_onnx_is_refused(tmp_path, backend, content):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    seal(path)
    with pytest.raises(ModelError, match=r"odd\.onnx") as caught:
        load_model(path, backend)
    assert "export" in caught.value.hint


def test_a_truncated_file_with_a_passport_of_its_own_is_refused(tmp_path, backend):
    path = write_model(tmp_path, WINDOW_HW)
    path.write_bytes(path.read_bytes()[:-40])
    seal(path, WINDOW_HW)
    with pytest.raises(ModelError, match=r"tiny\.onnx"):
        load_model(path, backend)


def test_a_foreign_graph_is_refused_with_what_it_takes(tmp_path, backend, capfd):
    path = tmp_path / "foreign.onnx"
    write_graph(path, WINDOW_HW, input_name="image")
    seal(path, WINDOW_HW)
    with pytest.raises(ModelError, match=r"takes image uint8 \[N, 1, 24, 40\], expected patches uint8"):
        load_model(path, backend)
    assert capfd.readouterr() == ("", "")


def test_a_graph_of_another_window_is_refused(tmp_path, backend):
    path = tmp_path / "wide.onnx"
    write_graph(path, WINDOW_HW)
    seal(path, (24, 48))
    with pytest.raises(ModelError, match=r"\[N, 1, 24, 40\], expected patches uint8 \[N, 1, 24, 48\]"):
        load_model(path, backend)


def test_a_backend_closes_twice(tmp_path, backend):
    model = load_model(write_model(tmp_path, WINDOW_HW))
    created = create_backend(backend, tmp_path / "tiny.onnx", model.passport)
    created.close()
    created.close()


def test_openvino_keeps_a_few_batch_sizes(tmp_path):
    pytest.importorskip("openvino")
    path = write_model(tmp_path, WINDOW_HW)
    passport = load_model(path, "openvino").passport
    created = create_backend("openvino", path, passport)
    for count in (1, 2, 3, 4, 1, 5):
        created.infer(noise(count))
    assert list(created._requests) == [3, 4, 1, 5]
    assert len(created._requests) == MAX_COMPILED


@pytest.mark.parametrize("name", ["OpenVINO", "CUDA", "tpu", ""])
def test_other_names_are_refused_with_the_choice(tmp_path, name):
    path = write_model(tmp_path, WINDOW_HW)
    with pytest.raises(BackendUnavailable) as caught:
        load_model(path, name)
    assert "auto, openvino, onnxruntime, cuda, tensorrt" in caught.value.hint


@pytest.mark.parametrize(
    ("machine", "installed", "expected"),
    [
        ("x86_64", BACKENDS, ("openvino", "onnxruntime")),
        ("AMD64", BACKENDS, ("openvino", "onnxruntime")),
        ("aarch64", BACKENDS, ("onnxruntime", "openvino")),
        ("x86_64", ("onnxruntime",), ("onnxruntime",)),
        ("x86_64", (), ()),
    ],
)
def test_the_order_of_auto(monkeypatch, machine, installed, expected):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(backends, "find_spec", lambda name: name if name in installed else None)
    assert available_backends() == expected


def test_auto_without_any_backend_says_what_to_install(monkeypatch, tmp_path):
    path = write_model(tmp_path, WINDOW_HW)
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable) as caught:
        load_model(path)
    assert caught.value.hint == 'pip install "bcseg-edge[cpu]"'


@pytest.mark.parametrize("name", BACKENDS)
def test_a_missing_package_says_what_to_install(monkeypatch, tmp_path, name):
    path = write_model(tmp_path, WINDOW_HW)
    real_import = builtins.__import__

    def refuse(module, *arguments, **keywords):
        if module == name:
            raise ImportError(f"No module named {name!r}")
        return real_import(module, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BackendUnavailable, match=name) as caught:
        load_model(path, name)
    assert caught.value.hint == 'pip install "bcseg-edge[cpu]"'


def test_a_plan_is_not_given_to_a_cpu_backend(tmp_path):
    path = tmp_path / "tiny.engine"
    path.write_bytes(b"plan")
    seal(path)
    with pytest.raises(BcsegError, match=r"\.onnx files, got tiny\.engine"):
        load_model(path, "onnxruntime")


@pytest.mark.parametrize(
    ("count", "said", "hint"),
    [((35, None), "no driver", "driver"), ((100, None), "has no NVIDIA GPU", "--gpus all"), ((0, 0), "has no", "auto")],
)
@pytest.mark.parametrize("backend", CUDA_BACKENDS)
def test_without_a_gpu_nothing_of_the_model_is_read(monkeypatch, backend, count, said, hint):
    runtime = pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (runtime.cudaError_t(count[0]), count[1]))
    with pytest.raises(BackendUnavailable, match=said) as caught:
        load_model("missing.onnx", backend)
    assert hint in caught.value.hint


def test_auto_takes_tensorrt_for_a_plan(monkeypatch, tmp_path):
    runtime = pytest.importorskip("cuda.bindings.runtime")
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: (runtime.cudaError_t(35), None))
    path = tmp_path / "tiny.engine"
    path.write_bytes(b"plan")
    seal(path)
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        load_model(path)


def test_a_gpu_backend_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendUnavailable, match=r"cuda\.bindings cannot be imported") as caught:
        load_model("edge", "tensorrt")
    assert 'pip install "bcseg-edge[gpu]"' in caught.value.hint


def write_concat_model(folder):
    """Two branches, joined, quantized behind the Concat and convolved: the decoder of a U-Net laid out for TensorRT."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    kernels = {name: rng.normal(size=(4, 1, 1, 1)).astype(np.float32) for name in ("first", "second")}
    weights = rng.integers(-127, 128, (3, 8, 1, 1)).astype(np.int8)
    scale, weight_scale = np.float32(0.1), np.float32(0.01)
    nodes = [
        make("Cast", ["patches"], ["grey"], to=onnx.TensorProto.FLOAT),
        make("Sub", ["grey", "centre"], ["centred"]),
        make("Div", ["centred", "spread"], ["input"]),
        make("Conv", ["input", "first"], ["a"]),
        make("Conv", ["input", "second"], ["b"]),
        make("Relu", ["a"], ["positive"]),
        make("Concat", ["positive", "b"], ["joined"], axis=1),
        make("QuantizeLinear", ["joined", "scale", "zero"], ["quantized"]),
        make("DequantizeLinear", ["quantized", "scale", "zero"], ["dequantized"]),
        make("DequantizeLinear", ["weights", "weight scale", "zero"], ["kernel"]),
        make("Conv", ["dequantized", "kernel"], ["logits"]),
    ]
    constants = {
        "centre": np.float32(128), "spread": np.float32(20), **kernels, "scale": scale, "zero": np.int8(0),
        "weights": weights, "weight scale": weight_scale,
    }  # fmt: skip
    inputs = onnx.helper.make_tensor_value_info("patches", onnx.TensorProto.UINT8, ["N", 1, *WINDOW_HW])
    outputs = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 3, *WINDOW_HW])
    initializers = [constant(np.asarray(value), name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "concat", [inputs], [outputs], initializers)
    path = folder / "concat.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)

    def expected(patches):
        values = (patches.astype(np.float32) - 128) / 20
        joined = np.concatenate([np.maximum(values * kernels["first"][:, 0], 0), values * kernels["second"][:, 0]], 1)
        steps = np.clip(np.round(joined / scale), -128, 127)
        return np.einsum("nchw,kc->nkhw", steps * scale, weights[:, :, 0, 0] * weight_scale, optimize=True)

    return path, expected


def test_a_file_for_tensorrt_is_executed_as_it_is_written(tmp_path):
    pytest.importorskip("onnxruntime")
    path, expected = write_concat_model(tmp_path)
    seal(path, WINDOW_HW, passport={"precision": "int8", "target": "tensorrt"})
    patches = np.random.default_rng(1).integers(0, 256, (2, 1, *WINDOW_HW), dtype=np.uint8)
    with load_model(path) as model:
        assert model.backend_name == "onnxruntime"
        received = model.infer(patches)
    reference = expected(patches)
    # A value half-way between two steps may go to either.
    assert np.mean(np.abs(received - reference) < 1e-3) > 0.999
    assert np.abs(received - reference).max() < 0.2


def test_openvino_does_not_judge_files_for_tensorrt(tmp_path):
    """Its low-precision transformations move the quantization in front of the Concat, and the answer with it."""
    path, _ = write_concat_model(tmp_path)
    seal(path, WINDOW_HW, passport={"precision": "int8", "target": "tensorrt"})
    assert "openvino" not in available_backends("tensorrt")
    with pytest.raises(BackendUnavailable, match="laid out for TensorRT, and openvino does not calculate") as caught:
        load_model(path, "openvino")
    assert "onnxruntime" in caught.value.hint
