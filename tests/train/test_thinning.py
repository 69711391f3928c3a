"""A few of many: first and last among them, evenly, in order."""

from __future__ import annotations

import pytest

from bcseg_train.thinning import thin


@pytest.mark.parametrize(
    ("count", "chosen"), [(5, [0, 2, 4, 7, 9]), (2, [0, 9]), (1, [0]), (10, list(range(10))), (99, list(range(10)))]
)
def test_evenly_from_first_to_last(count, chosen):
    assert thin(range(10), count) == chosen


def test_without_a_limit_all_are_taken():
    assert thin("abc", None) == ["a", "b", "c"]
