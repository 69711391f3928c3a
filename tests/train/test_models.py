"""The networks: the paper's parameter counts, and what a model does to its input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bcseg_edge.errors import DataError
from bcseg_train.models import SPECS, SegmentationNet, find_spec, load_checkpoint, trainable_parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("unet", 23_748_531), ("resnext50", 31_993_270), ("resnext101", 51_142_070), ("edge", 4_306_675)],
)
def test_trainable_parameters_are_the_papers(name: str, parameters: int) -> None:
    assert trainable_parameters(SegmentationNet(SPECS[name])) == parameters


def test_uint8_and_float_patches_give_the_same_logits_of_the_patches_size() -> None:
    model = SegmentationNet(SPECS["edge"]).eval()
    patches = torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        logits = model(patches)
        assert logits.shape == (2, 3, 64, 96)
        assert torch.equal(logits, model(patches.float()))


def test_temperature_divides_the_logits() -> None:
    model = SegmentationNet(SPECS["edge"]).eval()
    patches = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        logits = model(patches)
        model.temperature.fill_(2.0)
        torch.testing.assert_close(model(patches), logits / 2)


def test_the_decoder_has_no_say_in_the_class_and_the_head_none_in_the_outline() -> None:
    model = SegmentationNet(SPECS["edge"]).eval()
    patches = torch.randint(0, 256, (1, 1, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        before = model(patches)
        torch.nn.init.normal_(model.unet.segmentation_head[0].weight)
        other_outline = model(patches)
        torch.nn.init.normal_(model.class_head.local[3].weight)
        other_class = model(patches)
    assert not torch.equal(other_outline[:, 0], before[:, 0])
    assert torch.equal(other_outline[:, 1:], before[:, 1:])
    assert torch.equal(other_class[:, 0], other_outline[:, 0])
    assert not torch.equal(other_class[:, 1:], other_outline[:, 1:])
    torch.testing.assert_close(other_class[:, 1], -other_class[:, 2])


def test_normalization_is_part_of_the_model() -> None:
    model = SegmentationNet(SPECS["edge"])
    patches = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    model.set_normalization((0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
    expected = torch.tensor([[-1.0, -0.6, 1.0], [-2.0, -1.0, 3.0], [-3.0, -1.0, 7.0]])
    torch.testing.assert_close(model.normalize(patches)[0, :, 0], expected)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError) as caught:
        find_spec("resnet")
    assert "resnext50" in caught.value.hint


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint"):
        load_checkpoint(tmp_path / "nowhere.ckpt")
    path = tmp_path / "text.ckpt"
    path.write_text("text")
    with pytest.raises(DataError, match="not a checkpoint"):
        load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(DataError, match="not a checkpoint"):
        load_checkpoint(path)
