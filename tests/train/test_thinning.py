"""A few of many: first and last among them, evenly, in order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bcseg_train.thinning import thin, thin_classes


@pytest.mark.parametrize(
    ("count", "chosen"), [(5, [0, 2, 4, 7, 9]), (2, [0, 9]), (1, [0]), (10, list(range(10))), (99, list(range(10)))]
)
def test_evenly_from_first_to_last(count, chosen):
    assert thin(range(10), count) == chosen


@dataclass(frozen=True)
class Image:
    label: int
    number: int


IMAGES = [Image(label, number) for label, count in ((1, 87), (2, 42), (0, 27)) for number in range(count)]  # BUSI's val


@pytest.mark.parametrize(
    ("count", "normal_benign_malignant"),
    [(1, [0, 0, 1]), (2, [0, 1, 1]), (3, [1, 1, 1]), (10, [2, 5, 3]), (30, [5, 17, 8]), (156, [27, 87, 42])],
)
def test_every_class_has_its_share(count, normal_benign_malignant):
    chosen = thin_classes(IMAGES, count)
    assert [sum(image.label == label for image in chosen) for label in range(3)] == normal_benign_malignant
    assert chosen == sorted(chosen, key=IMAGES.index)
    assert len(set(chosen)) == count


def test_without_a_limit_all_are_taken():
    assert thin("abc", None) == ["a", "b", "c"]
