"""Temperature scaling: it finds the factor by which logits are too large, and changes no label."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bcseg_edge.errors import DataError
from bcseg_train.busi import read_busi
from bcseg_train.models import load_checkpoint
from bcseg_train.temperature import LIMITS, calibrate_checkpoint, fit_temperature, lesion_pixels
from tests.fixtures.checkpoints import random_network, write_checkpoint
from tests.fixtures.grey_busi import write_grey_busi


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_it_finds_how_much_too_large_logits_are(factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(20_000, 3, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator).squeeze(1)
    assert fit_temperature(honest * factor, labels) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize(("off", "limit"), [(0, LIMITS[0]), (1, LIMITS[1])])
def test_it_stays_within_reason(off: int, limit: float) -> None:
    """Without limits a network that is always wrong gets logits of nothing but zero, which every gate passes."""
    labels = torch.tensor([0, 1, 2, 0])
    logits = torch.nn.functional.one_hot((labels + off) % 3, 3) * 0.3
    assert fit_temperature(logits, labels) == pytest.approx(limit)


def test_a_checkpoint_gets_its_temperature_and_keeps_its_labels(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.ckpt")
    samples = read_busi(write_grey_busi(tmp_path / "busi"))
    before, info = load_checkpoint(path)
    temperature = calibrate_checkpoint(path, samples)
    after, _ = load_checkpoint(path)
    assert float(after.temperature) == pytest.approx(temperature)
    assert temperature != pytest.approx(1.5)  # what it was
    logits, labels = lesion_pixels(before, info, samples)
    scaled, _ = lesion_pixels(after, info, samples)
    torch.testing.assert_close(scaled * temperature, logits * float(before.temperature), rtol=1e-4, atol=1e-4)
    loss = torch.nn.functional.cross_entropy
    assert float(loss(scaled, labels)) <= float(loss(logits, labels)) + 1e-6
    assert calibrate_checkpoint(path, samples) == pytest.approx(temperature, rel=1e-2)  # a second time changes nothing


def test_without_a_lesion_there_is_nothing_to_fit(tmp_path: Path) -> None:
    network = random_network()
    torch.nn.init.zeros_(network.unet.segmentation_head[0].weight)
    torch.nn.init.constant_(network.unet.segmentation_head[0].bias, -1e4)
    path = write_checkpoint(tmp_path / "best.ckpt", network)
    samples = [sample for sample in read_busi(write_grey_busi(tmp_path / "busi")) if sample.label == 0]
    with pytest.raises(DataError, match="no image holds a lesion"):
        calibrate_checkpoint(path, samples)
