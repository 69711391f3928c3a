"""The losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from bcseg_train.losses import IGNORE, UNKNOWN_LESION, combined_loss, dice_loss, lesion_class_loss, lesion_dice_loss
from bcseg_train.recipes import Loss


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


TERMS = [{"dice": 1.0}, {"dice": 0.0, "cross_entropy": 1.0}, {"dice": 0.0, "lesion_dice": 1.0}]
ALL_TERMS = {"dice": 1.0, "cross_entropy": 1.0, "lesion_dice": 1.0, "lesion_class": 1.0}


@pytest.mark.parametrize("weights", [*TERMS, {"dice": 0.0, "lesion_class": 1.0}, ALL_TERMS])
def test_a_certain_right_answer_costs_nothing_and_a_wrong_one_much(weights: dict[str, float]) -> None:
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    right = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 40.0
    assert float(combined_loss(right, labels, Loss(**weights))) < 1e-3
    assert float(combined_loss(-right, labels, Loss(**weights))) > 0.4


@pytest.mark.parametrize("weights", [*TERMS, {"dice": 0.0, "lesion_class": 1.0}, ALL_TERMS])
def test_ignored_pixels_change_nothing(weights: dict[str, float]) -> None:
    labels = torch.randint(0, 3, (1, 6, 6), generator=torch.Generator().manual_seed(2))
    labels[:, 3:] = IGNORE
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    changed = logits.clone()
    changed[:, :, 3:] += 7 * torch.randn(1, 3, 3, 6)
    assert float(combined_loss(logits, labels, Loss(**weights))) == pytest.approx(
        float(combined_loss(changed, labels, Loss(**weights))), abs=1e-6
    )


@pytest.mark.parametrize("weights", [*TERMS[:2], {"dice": 0.0, "lesion_class": 1.0}])
def test_the_class_of_an_unknown_lesion_is_not_asked(weights: dict[str, float]) -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[:, :3] = UNKNOWN_LESION
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    other_class = logits.clone()
    other_class[:, :, :3] = logits[:, [0, 2, 1], :3]
    assert float(combined_loss(logits, labels, Loss(**weights))) == pytest.approx(
        float(combined_loss(other_class, labels, Loss(**weights))), abs=1e-6
    )


def test_an_unknown_lesion_is_a_lesion() -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[:, :3] = UNKNOWN_LESION
    seen = torch.zeros(1, 3, 6, 6)
    seen[:, 1, :3] = seen[:, 0, 3:] = 40
    assert float(lesion_dice_loss(seen, labels)) < 1e-3
    assert float(lesion_dice_loss(seen.flip(2), labels)) > 0.9


def test_a_small_lesion_counts_as_much_as_a_large_one_in_the_class_loss() -> None:
    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0] = 1
    labels[1, 0, 0] = 2
    logits = torch.zeros(2, 3, 8, 8)
    logits[:, 1] = 40  # benign everywhere: the large lesion right, the small one wrong by 40
    assert float(lesion_class_loss(logits, labels)) == pytest.approx(20, rel=1e-3)


def test_without_a_lesion_there_is_no_class_loss() -> None:
    assert float(lesion_class_loss(torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))) == 0


def test_a_smoothed_class_is_best_left_a_little_open() -> None:
    labels = torch.full((1, 4, 4), 2)

    def loss(margin: float) -> float:
        logits = torch.zeros(1, 3, 4, 4)
        logits[:, 2] = margin
        return float(lesion_class_loss(logits, labels, smoothing=0.2))

    assert loss(math.log(9)) < min(loss(1.0), loss(6.0))  # 0.9 is the smoothed target
    assert float(lesion_class_loss(torch.zeros(1, 3, 4, 4), labels)) == pytest.approx(math.log(2))
