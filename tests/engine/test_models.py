"""Finding, verifying and loading model files."""

from __future__ import annotations

import numpy as np
import pytest

from bcseg_edge import models
from bcseg_edge.errors import BcsegError, DataError, ModelError
from bcseg_edge.models import find_model, list_files, list_models, load_model, model_files, read_model
from tests.fixtures.tiny_model import write_model


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package folder that ships `tiny`, laid out as the wheel is."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    monkeypatch.setattr(models, "PACKAGE", tmp_path)
    return write_model(folder, (16, 16))


def test_a_shipped_model_is_found_by_name(shipped):
    assert list_models() == ("tiny",)
    assert find_model("tiny") == shipped
    assert read_model("tiny").passport.name == "tiny"


def test_a_source_checkout_ships_the_models_at_its_root(tmp_path, monkeypatch):
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    path = write_model(folder, (16, 16))
    monkeypatch.setattr(models, "PACKAGE", tmp_path / "engine" / "bcseg_edge")
    assert find_model("tiny") == path


def test_only_files_named_as_their_folder_are_shipped(shipped):
    (shipped.parent / "notes.onnx").write_bytes(b"")
    assert list_models() == ("tiny",)


def test_the_file_that_fits_backend_and_precision(shipped):
    assert model_files("tiny") == {"fp32": shipped}
    derived = {
        stem: write_model(shipped.parent, (16, 16), name=stem, passport={"precision": stem.split(".")[1], **target})
        for stem, target in (
            ("tiny.int8", {"target": "cpu"}),
            ("tiny.fp16", {"target": "tensorrt"}),
            ("tiny.int8.tensorrt", {"target": "tensorrt"}),
        )
    }
    assert find_model("tiny") == find_model("tiny", "openvino") == derived["tiny.int8"]
    assert find_model("tiny", "tensorrt") == find_model("tiny", "cuda") == derived["tiny.fp16"]
    assert find_model("tiny", "tensorrt", "int8") == derived["tiny.int8.tensorrt"]
    assert find_model("tiny", precision="fp32") == find_model("tiny", "cuda", "fp32") == shipped
    assert read_model("tiny").passport.precision == "int8"
    assert list_files("tiny") == (shipped, *sorted(derived.values()))
    assert list_models() == ("tiny",)


def test_a_precision_that_is_not_shipped_is_refused_with_the_choice(shipped):
    with pytest.raises(ModelError, match="has no int8 file for backend auto, it has: fp32"):
        load_model("tiny", precision="int8")
    with pytest.raises(DataError, match="unknown precision 'int4'"):
        load_model("tiny", precision="int4")


def test_a_file_of_another_precision_than_asked_for_is_refused(shipped):
    with pytest.raises(ModelError, match="is of precision fp32, int8 was asked for"):
        load_model(shipped, precision="int8")


def test_paths_as_text_and_as_path(tmp_path):
    path = write_model(tmp_path, (16, 16))
    assert find_model(path) == find_model(str(path)) == path


@pytest.mark.parametrize("name", ["missing.onnx", "folder/missing", "."])
def test_a_missing_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        load_model(name)


def test_an_unknown_name_is_refused_with_the_choice(shipped):
    with pytest.raises(ModelError, match="'huge'") as caught:
        load_model("huge")
    assert "tiny" in caught.value.hint


def test_a_changed_file_is_refused_before_any_backend_reads_it(tmp_path):
    path = write_model(tmp_path, (16, 16))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged or was changed"):
        load_model(path, backend="no such backend")


def test_what_the_passport_says_is_what_the_model_offers(tmp_path):
    path = write_model(tmp_path, (16, 24), "overlap", max_batch=3)
    with load_model(path) as model:
        assert (model.window_hw, model.tiling, model.max_batch) == ((16, 24), "overlap", 3)
        assert model.backend_name in ("openvino", "onnxruntime")


@pytest.mark.parametrize(
    "patches",
    [
        np.zeros((1, 1, 16, 17), np.uint8),
        np.zeros((1, 3, 16, 16), np.uint8),
        np.zeros((1, 16, 16), np.uint8),
        np.zeros((0, 1, 16, 16), np.uint8),
        np.zeros((4, 1, 16, 16), np.uint8),
        np.zeros((1, 1, 16, 16), np.float32),
    ],
)
def test_other_patches_are_refused(tmp_path, patches):
    with (
        load_model(write_model(tmp_path, (16, 16), max_batch=3)) as model,
        pytest.raises(DataError, match=r"expected patches uint8 \[1\.\.3, 1, 16, 16\]"),
    ):
        model.infer(patches)


def test_closing_twice_and_using_after(tmp_path):
    with load_model(write_model(tmp_path, (16, 16))) as model:
        model.close()
    model.close()
    with pytest.raises(BcsegError, match="tiny is closed"):
        model.infer(np.zeros((1, 1, 16, 16), np.uint8))
