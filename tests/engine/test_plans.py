"""Which plan may be loaded where: decided before any of its bytes is executed."""

from __future__ import annotations

import pytest

from bcseg_edge.errors import ModelError
from bcseg_edge.passport import Compiled, read_passport
from bcseg_edge.plans import Place, compiled_of, parse_version, read_plan, why_not
from tests.fixtures.tiny_model import seal

ORIN = Place("tensorrt", "10.3.0", "Orin", (8, 7), "Linux aarch64")


def compiled(**changes):
    fields = {
        "runtime": "tensorrt",
        "runtime_version": "10.3.0",
        "cuda_version": "12.6",
        "gpu": "Orin",
        "capabilities": ("8.7",),
        "source_sha256": "0" * 64,
        "key": "0" * 64,
    }
    return Compiled(**{**fields, **changes})


def write_plan(folder, **changes):
    path = folder / "tiny.engine"
    path.write_bytes(b"a plan")
    seal(path, passport={"compiled": compiled(**changes)})
    return path, read_passport(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"runtime": "tensorrt-rtx"}, "was built by tensorrt-rtx, here is tensorrt"),
        ({"runtime_version": "10.13.3.9"}, "is a tensorrt 10.13.3.9 build, here is 10.3.0"),
        ({"runtime_version": "10.2.0"}, "10.2.0 build"),
        ({"runtime_version": "10.2.0", "version_compatible": True}, ""),
        ({"runtime_version": "10.13.0", "version_compatible": True}, "version-compatible plan of tensorrt 10.13.0"),
        ({"runtime_version": "9.3.0", "version_compatible": True}, "9.3.0"),
        ({"gpu": "Thor", "capabilities": ("11.0",)}, r"compute capability 11.0, the GPU here \(Orin\) has 8.7"),
        ({"gpu": "Thor", "capabilities": ("11.0",), "hardware_compatible": True}, ""),
        ({"platform": "Linux aarch64"}, ""),
        ({"platform": "Linux x86_64"}, "was built on Linux x86_64, here is Linux aarch64"),
        ({"platform": "Linux x86_64", "hardware_compatible": True}, "was built on Linux x86_64"),
        ({"gpu": "AGX Orin"}, "was built on AGX Orin, the GPU here is Orin"),
        ({"gpu": "", "capabilities": ("8.6", "8.7")}, ""),
        ({"gpu": "", "capabilities": ()}, "the GPU here"),
    ],
)
def test_where_a_plan_runs(tmp_path, changes, said):
    path, passport = write_plan(tmp_path, **changes)
    if not said:
        assert read_plan(path, passport, ORIN) == b"a plan"
        return
    with pytest.raises(ModelError, match=said) as caught:
        read_plan(path, passport, ORIN)
    assert caught.value.hint == "build it on this machine: bcseg-edge build tiny.onnx --output tiny.engine"


def test_the_hint_is_the_command_that_built_the_plan(tmp_path):
    command = ("build", "edge", "--output", "my plan.engine", "--frame-size", "640x480")
    path, passport = write_plan(tmp_path, runtime_version="10.2.0", command=command)
    with pytest.raises(ModelError) as caught:
        read_plan(path, passport, ORIN)
    assert caught.value.hint.endswith("bcseg-edge build edge --output 'my plan.engine' --frame-size 640x480")


def test_a_hardware_compatible_plan_needs_ampere():
    turing = Place("tensorrt", "10.3.0", "T4", (7, 5), "Linux x86_64")
    assert "7.5" in why_not(compiled(hardware_compatible=True), turing)


def test_a_plan_that_changed_after_its_passport_was_read_is_refused(tmp_path):
    path, passport = write_plan(tmp_path)
    path.write_bytes(b"another")
    with pytest.raises(ModelError, match="changed while it was read"):
        read_plan(path, passport, ORIN)


def test_an_onnx_file_is_no_plan(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"graph")
    seal(path)
    with pytest.raises(ModelError, match=r"executes \.engine files, got tiny\.onnx") as caught:
        compiled_of(path, read_passport(path))
    assert "bcseg-edge build tiny.onnx --output tiny.engine" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "version"),
    [("10.3.0", (10, 3, 0)), ("10.13.3.9.post1", (10, 13, 3, 9)), ("11.0.0.114", (11, 0, 0, 114)), ("odd", ())],
)
def test_versions_are_numbers(text, version):
    assert parse_version(text) == version


def test_10_3_is_older_than_10_13():
    assert parse_version("10.3.0") < parse_version("10.13.0") < parse_version("11.0")
