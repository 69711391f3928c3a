"""Segmentation losses on logits `[N, 3, h, w]` and labels `[N, h, w]` (255: not counted)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = 255  # label of padding: no part of the frame
EPSILON = 1e-5


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the paper's Dice: 2 sum(t p) / (sum t^2 + sum p^2 + eps), summed over the batch, mean over classes.

    Katar and Yildirim 2023, section 2.4; the squares are those of Milletari et al. 2016 (V-Net).

    Args:
        logits: float `[N, C, h, w]`.
        labels: int64 `[N, h, w]`.

    Returns:
        Scalar in 0..1.
    """
    counted = (labels != IGNORE).unsqueeze(1)
    probabilities = logits.float().softmax(1) * counted  # [N, C, h, w]
    truth = functional.one_hot(labels.masked_fill(labels == IGNORE, 0), logits.shape[1])
    truth = truth.movedim(-1, 1).to(probabilities.dtype) * counted
    overlap = (truth * probabilities).sum((0, 2, 3))  # [C]
    squares = (truth.square() + probabilities.square()).sum((0, 2, 3))
    return 1 - (2 * overlap / (squares + EPSILON)).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the counted pixels; same arguments as `dice_loss`."""
    return functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE)


def combined_loss(logits: Tensor, labels: Tensor, dice: float, cross_entropy_weight: float) -> Tensor:
    """`dice` times the Dice loss plus `cross_entropy_weight` times the cross-entropy."""
    loss = logits.new_zeros((), dtype=torch.float32)
    if dice:
        loss = loss + dice * dice_loss(logits, labels)
    if cross_entropy_weight:
        loss = loss + cross_entropy_weight * cross_entropy(logits, labels)
    return loss
