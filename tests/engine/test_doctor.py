"""What `doctor` says of a machine, good or lacking."""

from __future__ import annotations

import json

import pytest

from bcseg_edge import doctor
from bcseg_edge.check import Check
from tests.fixtures.tiny_model import write_model


@pytest.fixture
def edge(tmp_path, monkeypatch):
    """A model called edge, shipped."""
    path = write_model(tmp_path, name="edge")
    monkeypatch.setattr(doctor, "list_models", lambda: ("edge",))
    monkeypatch.setattr(doctor, "find_model", lambda name, backend: path)
    return path


def check(health, name):
    return next(check for check in health.checks if check.name == name)


def test_ready_where_a_backend_loads_the_model(edge):
    pytest.importorskip("onnxruntime", reason="a backend has to be installed")
    health = doctor.examine()
    assert health.ready
    assert check(health, "model edge loads").ok
    assert all(not item.fix for item in health.checks if item.ok)
    assert {"python", "cpu", "instruction sets", "cores", "memory"} <= health.machine.keys()
    assert health.packages["numpy"]


def test_without_a_backend_it_names_the_extra(edge, monkeypatch):
    monkeypatch.setattr(doctor, "available_backends", lambda: ())
    health = doctor.examine()
    assert not health.ready
    assert check(health, "a backend").fix == 'pip install "bcseg-edge[cpu]"'
    assert check(health, "backend openvino").fix == 'pip install "bcseg-edge[cpu]"'


def test_one_backend_is_enough(edge, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the one backend")
    monkeypatch.setattr(doctor, "available_backends", lambda: ("onnxruntime",))
    health = doctor.examine()
    assert health.ready
    assert not check(health, "backend openvino").ok


def test_a_damaged_model_is_named(edge):
    pytest.importorskip("onnxruntime", reason="a backend has to be installed")
    edge.write_bytes(edge.read_bytes()[:-9])
    health = doctor.examine()
    assert not health.ready
    assert "damaged" in check(health, "model edge loads").found


def test_without_a_model(monkeypatch):
    monkeypatch.setattr(doctor, "list_models", lambda: ())
    health = doctor.examine()
    assert not health.ready
    assert "models/edge" in check(health, "shipped models").fix


def test_a_gpu_alone_is_enough(edge, monkeypatch):
    """As on a Jetson, where TensorRT is there and a CPU backend need not be."""
    monkeypatch.setattr(doctor, "available_backends", lambda: ())
    tensorrt = Check("backend tensorrt", ok=True, required=False, found="installed, with a GPU")
    monkeypatch.setattr(doctor, "gpu_checks", lambda: (tensorrt,))
    health = doctor.examine()
    assert health.ready
    assert check(health, "a backend").found == "--backend tensorrt"
    assert "bcseg-edge build edge" in check(health, "model edge loads").found


def test_findings_are_json():
    record = json.loads(json.dumps(doctor.examine().to_dict()))
    assert set(record) == {"ready", "machine", "packages", "checks"}
