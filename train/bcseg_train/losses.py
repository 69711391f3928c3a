"""Segmentation losses on logits `[N, 3, h, w]` and labels `[N, h, w]` (255: not counted)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from bcseg_edge.frames import BENIGN, MALIGNANT
from bcseg_train.recipes import Loss

IGNORE = 255  # label of padding: no part of the frame
UNKNOWN_LESION = 254  # label of a lesion whose class nobody gave: a lesion to `lesion_dice_loss`, not counted elsewhere
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


def lesion_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """`dice_loss` of lesion against background, whatever the class; same arguments, any label above 0 is a lesion."""
    probability = 1 - logits.float().softmax(1)[:, 0]  # [N, h, w]
    counted = labels != IGNORE
    truth = ((labels > 0) & counted).to(probability.dtype)
    probability = probability * counted
    overlap = (truth * probability).sum()
    return 1 - 2 * overlap / (truth.sum() + probability.square().sum() + EPSILON)


def lesion_class_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Benign against malignant on lesion pixels: cross-entropy, mean per patch, then over the patches with a lesion.

    Large lesions count no more than small ones, as in a reader's decision. Arguments as for `dice_loss`, and
    `smoothing` of the targets in 0..1: certainty is not asked for (Szegedy et al. 2016).
    """
    benign, malignant = labels == BENIGN, labels == MALIGNANT
    known = (benign | malignant).float()
    margin = (logits[:, MALIGNANT] - logits[:, BENIGN]).float()
    target = malignant.float() * (1 - smoothing) + smoothing / 2
    each = functional.binary_cross_entropy_with_logits(margin, target, reduction="none")  # [N, h, w]
    pixels = known.sum((1, 2))  # [N]
    per_patch = (each * known).sum((1, 2)) / pixels.clamp(min=1)
    return per_patch.sum() / (pixels > 0).sum().clamp(min=1)


def combined_loss(logits: Tensor, labels: Tensor, weights: Loss) -> Tensor:
    """The weighted sum of the losses above; those without weight are not computed. Arguments as for `dice_loss`."""
    known = labels.masked_fill(labels == UNKNOWN_LESION, IGNORE)
    terms = (
        (weights.dice, dice_loss, known),
        (weights.cross_entropy, cross_entropy, known),
        (weights.lesion_dice, lesion_dice_loss, labels),
        (weights.lesion_class, partial(lesion_class_loss, smoothing=weights.class_smoothing), labels),
    )
    loss = logits.new_zeros((), dtype=torch.float32)
    for weight, term, counted in terms:
        if weight:
            loss = loss + weight * term(logits, counted)
    return loss
