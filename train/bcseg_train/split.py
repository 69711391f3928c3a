"""Splits of BUSI that keep near-duplicates together, so that no test image has a twin in training.

BUSI holds the same frame several times, also cropped a few px differently (see `bcseg_edge.near_duplicates`), so a
random split leaks. A split made by another test, as the `busi_split.csv` of the shipped models was, may let pairs
cross: `find_crossings` lists them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bcseg_edge.errors import DataError
from bcseg_edge.files import write_text_atomic
from bcseg_edge.near_duplicates import similar_pairs, thumbnails_of
from bcseg_train.busi import FOLDERS, Sample, read_busi

SPLITS = ("train", "val", "test")
FRACTIONS = (0.7, 0.2, 0.1)  # Katar and Yildirim 2023
SPLIT_FILE = "busi_split.csv"


@dataclass(frozen=True, slots=True)
class SplitRow:
    """One line of a split file; `width` and `height` in px."""

    image: str
    label: str
    group: int
    split: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two images of different splits that show the same.

    Attributes:
        similarity: highest correlation of their thumbnails, above `bcseg_edge.near_duplicates.SAME_ABOVE`.
        first, second: their names.
        first_split, second_split: where they are.
        same_label: whether both are in one class folder.
    """

    similarity: float
    first: str
    first_split: str
    second: str
    second_split: str
    same_label: bool


def group_near_duplicates(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.int32]:
    """Number the groups of images that show the same (see `bcseg_edge.near_duplicates`), chains included.

    Args:
        images: grey uint8 `[H, W]` of any sizes.

    Returns:
        Group of each image, int32 `[N]`, numbered from 0 in order of first appearance.
    """
    rows, columns = similar_pairs(thumbnails_of(images))[0].T
    pairs = coo_matrix((np.ones(len(rows)), (rows, columns)), (len(images), len(images)))
    _, component = connected_components(pairs, directed=False)
    _, first, group = np.unique(component, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[group].astype(np.int32)


def make_split(
    labels: npt.NDArray[np.int_],
    groups: npt.NDArray[np.int32],
    seed: int,
    fractions: Sequence[float] = FRACTIONS,
) -> npt.NDArray[np.int_]:
    """Divide images into train, val and test, stratified by class, groups kept whole.

    Groups go, largest first and in seeded random order among equals, to the split that is furthest below its share of
    the group's own classes.

    Args:
        labels: class of each image, `[N]`.
        groups: group of each image, `[N]`.
        seed: of the order among groups of one size.
        fractions: share of each split.

    Returns:
        Index into `SPLITS` of each image, `[N]`.
    """
    group_ids, group_of = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(group_ids), len(FOLDERS)), int)  # [groups, classes]
    np.add.at(counts, (group_of, labels), 1)
    shares = np.asarray(fractions)[:, None] * counts.sum(0)  # [splits, classes]
    filled = np.zeros_like(shares)
    chosen = np.zeros(len(group_ids), int)
    shuffled = np.random.default_rng(seed).permutation(len(group_ids))
    for group in shuffled[np.argsort(-counts[shuffled].sum(1), kind="stable")]:
        missing = ((shares - filled) / np.maximum(shares, 1e-9))[:, counts[group] > 0]
        chosen[group] = int(missing.mean(1).argmax())
        filled[chosen[group]] += counts[group]
    return chosen[group_of]


def write_split(data: Path, output: Path, seed: int = 0) -> list[SplitRow]:
    """Group and split the BUSI folder `data` and write the CSV `output` (see `SplitRow`).

    Raises:
        DataError: the folder is not a sound BUSI, or `output` cannot be written.
    """
    samples = read_busi(data)
    images = [sample.load()[0] for sample in samples]
    groups = group_near_duplicates(images)
    split = make_split(np.array([sample.label for sample in samples]), groups, seed)
    rows = [
        SplitRow(sample.name, FOLDERS[sample.label], int(group), SPLITS[part], image.shape[1], image.shape[0])
        for sample, image, group, part in zip(samples, images, groups, split, strict=True)
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "class", "group", "split", "width", "height"])
    writer.writerows([row.image, row.label, row.group, row.split, row.width, row.height] for row in rows)
    write_text_atomic(output, stream.getvalue())
    return rows


def read_split(path: Path) -> dict[str, str]:
    """Read a split file.

    Returns:
        Image name (lower case) -> split name.

    Raises:
        DataError: the file is missing, is not CSV text, or lacks the columns `image` and `split`.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(
            f"split file {path}: {error.strerror}",
            f"make one with: bcseg-edge split --data DIR --output {SPLIT_FILE}",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"split file {path} is not CSV text: {error}", "give the CSV file itself") from error
    if not rows or not {"image", "split"} <= rows[0].keys():
        raise DataError(
            f"split file {path}: no columns 'image' and 'split'",
            "its first line is: image,class,group,split,...",
        )
    return {(row["image"] or "").lower(): row["split"] or "" for row in rows}


def find_crossings(samples: Sequence[Sample], assignment: dict[str, str]) -> list[Crossing]:
    """Pairs of near-duplicates that a split divides, most alike first.

    Args:
        samples: images that are there; the others of the split cannot be compared.
        assignment: as `read_split` gives it; images that it does not name are left out.
    """
    named = [sample for sample in samples if sample.name in assignment]
    if not named:
        return []
    pairs, similarities = similar_pairs(thumbnails_of([sample.load()[0] for sample in named]))
    found = []
    for (first, second), similarity in zip(pairs.tolist(), similarities.tolist(), strict=True):
        one, other = named[first], named[second]
        parts = assignment[one.name], assignment[other.name]
        if parts[0] != parts[1]:
            found.append(Crossing(similarity, one.name, parts[0], other.name, parts[1], one.label == other.label))
    return sorted(found, key=lambda crossing: -crossing.similarity)


def find_split_file(data: Path) -> Path | None:
    """`busi_split.csv` in the data folder or beside it."""
    return next((path for path in (data / SPLIT_FILE, data.resolve().parent / SPLIT_FILE) if path.is_file()), None)


def select(samples: Sequence[Sample], assignment: dict[str, str], split: str) -> list[Sample]:
    """The samples of one split; images that the split file does not name are left out.

    Raises:
        DataError: the split is unknown, or images it names are not among the samples.
    """
    names = {name for name, part in assignment.items() if part == split}
    if not names:
        known = ", ".join(sorted(set(assignment.values())))
        raise DataError(f"split '{split}' names no image", f"the split file has: {known}")
    missing = sorted(names - {sample.name for sample in samples})
    if missing:
        raise DataError(
            "\n  ".join(
                [
                    f"{len(missing)} of the {len(names)} images of split '{split}' are not in the data:",
                    *missing,
                ]
            ),
            "use the folder that the split file was made for",
        )
    return [sample for sample in samples if sample.name in names]
