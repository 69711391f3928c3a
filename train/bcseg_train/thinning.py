"""A few of many, spread evenly: what a limit on the number of images takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

Item = TypeVar("Item")


class Labelled(Protocol):
    """Something of a class: `busi.Sample`, `pretraining_sets.MaskedImage`."""

    @property
    def label(self) -> int:
        """Its class; its lesions' label where it has any."""


LabelledItem = TypeVar("LabelledItem", bound=Labelled)


def thin(items: Sequence[Item], count: int | None) -> list[Item]:
    """At most `count` items in their order, evenly from first to last; None: all of them."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


def thin_classes(items: Sequence[LabelledItem], count: int | None) -> list[LabelledItem]:
    """At most `count` items in their order, evenly within each class, each class by its share; None: all of them.

    No class is left out as long as `count` allows it, and with fewer the lesions come first.
    """
    if count is None or count >= len(items):
        return list(items)
    labels = np.array([item.label for item in items])
    classes = sorted(set(labels.tolist()), reverse=True)
    members = [np.flatnonzero(labels == label).tolist() for label in classes]
    quotas = [1 if rank < count else 0 for rank in range(len(classes))]
    for _ in range(count - sum(quotas)):  # to the class that is furthest below its share
        behind = [count * len(of) / len(items) - quota for of, quota in zip(members, quotas, strict=True)]
        quotas[int(np.argmax(behind))] += 1
    chosen = [index for of, quota in zip(members, quotas, strict=True) for index in thin(of, quota)]
    return [items[index] for index in sorted(chosen)]
