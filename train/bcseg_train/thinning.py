"""A few of many, spread evenly: what a limit on the number of images takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def thin(items: Sequence[Item], count: int | None) -> list[Item]:
    """At most `count` items in their order, evenly from first to last; None: all of them."""
    if count is None or count >= len(items):
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]
