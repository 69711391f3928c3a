"""The losses against their formulas."""

from __future__ import annotations

import pytest
import torch

from bcseg_train.losses import IGNORE, combined_loss, dice_loss


def test_dice_is_the_papers_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 3, (2, 4, 5), generator=generator)
    probabilities = logits.softmax(1)
    per_class = []
    for label in range(3):
        truth, predicted = (labels == label).float(), probabilities[:, label]
        per_class.append(2 * (truth * predicted).sum() / (truth.square().sum() + predicted.square().sum() + 1e-5))
    assert dice_loss(logits, labels) == pytest.approx(float(1 - sum(per_class) / 3), abs=1e-6)


@pytest.mark.parametrize(("dice", "cross_entropy"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_a_certain_right_answer_costs_nothing_and_a_wrong_one_much(dice: float, cross_entropy: float) -> None:
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    right = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 40.0
    assert float(combined_loss(right, labels, dice, cross_entropy)) < 1e-3
    assert float(combined_loss(-right, labels, dice, cross_entropy)) > 0.5


@pytest.mark.parametrize(("dice", "cross_entropy"), [(1.0, 0.0), (0.0, 1.0)])
def test_ignored_pixels_change_nothing(dice: float, cross_entropy: float) -> None:
    labels = torch.randint(0, 3, (1, 6, 6), generator=torch.Generator().manual_seed(2))
    labels[:, 3:] = IGNORE
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    changed = logits.clone()
    changed[:, :, 3:] += 7 * torch.randn(1, 3, 3, 6)
    assert float(combined_loss(logits, labels, dice, cross_entropy)) == pytest.approx(
        float(combined_loss(changed, labels, dice, cross_entropy)), abs=1e-6
    )
