"""`run --backend tensorrt` with a model file builds its plan on first use; with a plan it takes that."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bcseg_edge import backends
from bcseg_edge.cli.run import _plan_of
from bcseg_edge.errors import BackendUnavailable
from bcseg_edge.passport import file_sha256
from tests.fixtures.tiny_model import seal, write_model


@pytest.fixture
def built(monkeypatch, tmp_path):
    """The options of each build."""
    build = pytest.importorskip("bcseg_export.build")
    made = []

    def fake(options):
        made.append(options)
        return SimpleNamespace(path=options.output)

    monkeypatch.setenv("BCSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "build", fake)
    monkeypatch.setattr(backends, "require_machine_for", lambda name: None)
    return made


def test_a_model_file_is_built_into_the_cache_by_its_content(built, tmp_path):
    path = write_model(tmp_path)
    plan = _plan_of(str(path))
    assert plan == tmp_path / "cache" / "plans" / f"tiny-{file_sha256(path)[:12]}.engine"
    assert [options.model for options in built] == [path]


def test_a_plan_is_itself(built, tmp_path):
    path = tmp_path / "tiny.engine"
    path.write_bytes(b"plan")
    seal(path)
    assert _plan_of(str(path)) == path
    assert not built


def test_the_machine_comes_first(monkeypatch):
    def refuse(name):
        raise BackendUnavailable("no GPU", "")

    monkeypatch.setattr(backends, "require_machine_for", refuse)
    with pytest.raises(BackendUnavailable, match="no GPU"):
        _plan_of("missing.onnx")
