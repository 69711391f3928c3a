"""A passport is read back as written, and a file that is not its own is refused with the reason."""

from __future__ import annotations

import hashlib
import json

import pytest

from bcseg_edge.errors import ModelError
from bcseg_edge.passport import file_sha256, passport_path, read_passport, write_passport
from tests.fixtures.tiny_model import write_model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path, (16, 16))


def change(model_path, **fields):
    path = passport_path(model_path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **fields}))


def test_written_and_read_back(model):
    passport = read_passport(model)
    write_passport(passport, model)
    assert read_passport(model) == passport
    assert passport.window_hw == (16, 16)


def test_it_lies_beside_its_file(model):
    assert passport_path(model).name == "tiny.onnx.json"
    assert sorted(path.name for path in model.parent.iterdir()) == ["tiny.onnx", "tiny.onnx.json"]


def test_what_was_not_measured_says_so(model):
    record = json.loads(passport_path(model).read_text())
    assert record["parity"] == record["accuracy"] == "not measured"


def test_sha256_of_a_file_larger_than_a_chunk(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelError, match="no model file"):
        read_passport(tmp_path / "none.onnx")


def test_a_file_without_a_passport(model):
    passport_path(model).unlink()
    with pytest.raises(ModelError, match="has no passport") as caught:
        read_passport(model)
    assert "bcseg-edge export" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 1}'])
def test_a_passport_that_is_none(model, text):
    passport_path(model).write_text(text)
    with pytest.raises(ModelError, match="not a passport of format 1"):
        read_passport(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format_version", 2),
        ("sha256", "abc"),
        ("tiling", "cascade"),
        ("window_hw", [256]),
        ("temperature", 0),
        ("parity", "good"),
        ("profile", {"min_batch": 0}),
        ("invented", 1),
    ],
)
def test_a_field_that_does_not_fit_is_named(model, field, value):
    change(model, **{field: value})
    with pytest.raises(ModelError, match=field):
        read_passport(model)


def test_a_truncated_file_is_refused_by_its_hash(model):
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged or was changed") as caught:
        read_passport(model)
    assert "restore the file" in caught.value.hint
