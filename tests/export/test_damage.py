"""The damage that layers are ranked by: nothing for the same model, more the more lesion pixels change."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bcseg_calibration.calibration_set import CalibrationSet
from bcseg_edge.errors import DataError
from bcseg_export.damage import MAX_PATCHES, DamageMeter
from tests.fixtures.grey_busi import GREY_OF
from tests.fixtures.speckle import thumbnails
from tests.fixtures.tiny_model import write_graph

HW = (64, 64)
LESION = np.s_[:, :, 20:50, 20:50]


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_graph(path, HW)
    return onnx.load(path)


def calibration_set(*classes: tuple[str, int]) -> CalibrationSet:
    """Patches with a square lesion of each class, as many as asked for."""
    names = ("normal", "benign", "malignant")
    parts, labels = [], []
    for name, count in classes:
        patches = np.full((count, 1, *HW), GREY_OF["normal"], np.uint8)
        patches[LESION] = GREY_OF[name]
        parts.append(patches)
        labels += [names.index(name)] * count
    nothing = ("",) * len(labels)
    patches = np.concatenate(parts)
    return CalibrationSet(
        patches, np.array(labels, np.uint8), nothing, nothing, "frame", "squares", thumbnails(patches)
    )


def shifted(model: onnx.ModelProto, malignant: float) -> onnx.ModelProto:
    """The model with another belief in malignant lesions."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == "offsets":
            values = numpy_helper.to_array(tensor) + np.array([0, 0, malignant], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return changed


def test_the_same_model_does_no_damage(model: onnx.ModelProto) -> None:
    assert DamageMeter(model, calibration_set(("benign", 3), ("malignant", 3)), "cpu")(model) == 0


def test_damage_is_the_share_of_lesion_pixels_that_change(model: onnx.ModelProto) -> None:
    meter = DamageMeter(model, calibration_set(("benign", 3), ("malignant", 1)), "cpu")
    assert meter(shifted(model, -9)) == pytest.approx(1 / 4)


def test_both_classes_are_measured_however_they_are_sorted(model: onnx.ModelProto) -> None:
    many = calibration_set(("normal", 40), ("benign", 40), ("malignant", 40))
    assert MAX_PATCHES < 40
    assert DamageMeter(model, many, "cpu")(shifted(model, -9)) == pytest.approx(1 / 2)


def test_patches_without_lesions_measure_nothing(model: onnx.ModelProto) -> None:
    with pytest.raises(DataError, match="finds no lesion"):
        DamageMeter(model, calibration_set(("normal", 20)), "cpu")
