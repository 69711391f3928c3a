"""The split: stratified, seeded, and near-duplicates never on both sides."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcseg_edge.errors import DataError
from bcseg_train.busi import read_busi
from bcseg_train.split import (
    SPLITS,
    find_split_file,
    group_near_duplicates,
    make_split,
    read_split,
    select,
    write_split,
)


def speckle(seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 60, (height // 10, width // 10)).clip(0, 255).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_brighter_and_rescaled_copies_are_near_duplicates() -> None:
    first, second = speckle(0), speckle(1)
    brighter = np.clip(first.astype(int) + 15, 0, 255).astype(np.uint8)
    rescaled = cv2.resize(first, (200, 150), interpolation=cv2.INTER_CUBIC)
    assert group_near_duplicates([first, second, brighter, rescaled]).tolist() == [0, 1, 0, 0]


@settings(max_examples=50, deadline=None)
@given(
    groups=st.lists(st.integers(0, 60), min_size=30, max_size=150),
    seed=st.integers(0, 1000),
)
def test_groups_stay_whole_whatever_they_are(groups: list[int], seed: int) -> None:
    group_array = np.array(groups, np.int32)
    labels = group_array % 3
    split = make_split(labels, group_array, seed)
    for group in set(groups):
        assert len(set(split[group_array == group])) == 1


def test_shares_hold_for_every_class() -> None:
    labels = np.repeat([0, 1, 2], [133, 437, 210])
    groups = np.arange(780, dtype=np.int32) // 2 * 2  # pairs
    split = make_split(labels, groups, seed=3)
    for label in range(3):
        shares = np.bincount(split[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(shares, (0.7, 0.2, 0.1), atol=0.02)
    assert (make_split(labels, groups, seed=3) == split).all()
    assert (make_split(labels, groups, seed=4) != split).any()


def test_select_names_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("image,split\nA (1).png,val\nb.png,train\n")
    assignment = read_split(path)
    with pytest.raises(DataError, match=r"a \(1\).png"):
        select([], assignment, "val")
    with pytest.raises(DataError, match="names no image"):
        select([], assignment, "test")
    with pytest.raises(DataError, match="No such file"):
        read_split(tmp_path / "nowhere.csv")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no columns"):
        read_split(path)


@pytest.mark.data
@pytest.mark.slow
def test_busi_splits_without_leaks(busi_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "split.csv"
    rows = write_split(busi_dir, output, seed=0)
    assert len(rows) == 702
    with output.open() as stream:
        assert len(list(csv.DictReader(stream))) == 702
    parts = {}
    for row in rows:
        assert parts.setdefault(row.group, row.split) == row.split
    for split, share in zip(SPLITS, (0.7, 0.2, 0.1), strict=True):
        assert sum(row.split == split for row in rows) / 702 == pytest.approx(share, abs=0.02)


@pytest.mark.data
def test_the_given_split_is_found_and_its_groups_agree_with_ours(busi_dir: Path) -> None:
    path = find_split_file(busi_dir)
    assert path is not None
    samples = read_busi(busi_dir)
    assignment = read_split(path)
    assert len(select(samples, assignment, "train")) == 546
    assert len(select(samples, assignment, "val")) == 156
    groups = group_near_duplicates([sample.load()[0] for sample in samples])
    sides: dict[int, set[str]] = {}
    for sample, group in zip(samples, groups, strict=True):
        sides.setdefault(int(group), set()).add(assignment[sample.name])
    leaks = [group for group, parts in sides.items() if len(parts) > 1]
    assert not leaks


def test_a_split_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x83\xff")
    with pytest.raises(DataError, match="is not CSV text"):
        read_split(tmp_path / "model.onnx")
