"""`bcseg-edge calibrate`: chooses calibration patches from images, a video or a BUSI-like folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bcseg_calibration.calibration_set import CalibrationSet, load, save
from bcseg_calibration.selection import DEFAULT_COUNT, CalibrationFrame, choose_patches
from bcseg_edge.errors import DataError
from bcseg_edge.models import read_model
from bcseg_edge.passport import Tiling
from bcseg_edge.sources import open_source
from bcseg_export.parity.frames import frame_digest
from bcseg_train.busi import ARCHIVE_FOLDERS, FOLDERS, read_busi
from bcseg_train.evaluate import ALL_IMAGES, select_images
from bcseg_train.models import load_checkpoint
from bcseg_train.predictors import is_checkpoint
from bcseg_train.split import find_crossings, find_split_file, read_split

CALIBRATION_SPLIT = "train"
SUFFIX = ".npz"
MAX_SOURCE_FRAMES = 1000  # of a video or an endless source


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What to choose from and where to write it.

    Attributes:
        data: BUSI-like folder, or any SOURCE of `bcseg-edge run`: folder of images, glob, video, phantom.
        output: `.npz` file.
        model: checkpoint, model file or name of a shipped model: its window and tiling cut the frames.
        split: of a BUSI-like folder, `FILE:NAME` or `all`; None takes `train` of its `busi_split.csv`, or all
            images without one.
        count: patches wanted.
        seed: of the clustering.
    """

    data: str
    output: Path
    model: str | Path = "edge"
    split: str | None = None
    count: int = DEFAULT_COUNT
    seed: int = 0


def calibrate(options: CalibrateOptions) -> CalibrationSet:
    """Choose patches and write them.

    Raises:
        DataError: the data does not fit, holds too few usable patches, or the output cannot be written.
        SourceError: nothing readable in `data`.
        ModelError: the model is missing or damaged.
    """
    if options.output.suffix != SUFFIX:
        raise DataError(f"--output {options.output} does not end in {SUFFIX}", "give --output calibration.npz")
    window_hw, tiling = _cut_of(options.model)
    chosen = choose_from(options.data, window_hw, tiling, options.split, options.count, options.seed)
    save(chosen, options.output)
    return chosen


def choose_from(
    data: str,
    window_hw: tuple[int, int],
    tiling: Tiling,
    split: str | None = None,
    count: int = DEFAULT_COUNT,
    seed: int = 0,
) -> CalibrationSet:
    """Choose calibration patches without writing them; see `CalibrateOptions` for the arguments."""
    if is_labelled(Path(data)):
        frames, name = _labelled_frames(Path(data), split)
        return choose_patches(frames, window_hw, tiling, name, count, seed)
    if split is not None:
        raise DataError(f"--split is of a folder like BUSI's, and {data} is none", "leave --split out")
    return choose_patches(_source_frames(data), window_hw, tiling, data, count, seed)


def load_calibration(path: Path, window_hw: tuple[int, int], tiling: Tiling) -> CalibrationSet:
    """Read a calibration set for a model, or choose one where `path` is a folder or a video.

    Raises:
        DataError: not a sound set, or one for another window or tiling.
    """
    if path.suffix != SUFFIX:
        return choose_from(str(path), window_hw, tiling)
    chosen = load(path)
    if (chosen.window_hw, chosen.tiling) != (window_hw, tiling):
        height, width = chosen.window_hw
        raise DataError(
            f"{path.name} holds {width}x{height} px patches of tiling {chosen.tiling}, "
            f"the model takes {window_hw[1]}x{window_hw[0]} px of tiling {tiling}",
            "choose patches for this model: bcseg-edge calibrate --model CHECKPOINT --data DIR --output FILE.npz",
        )
    return chosen


def is_labelled(path: Path) -> bool:
    """Whether `path` is a folder like BUSI's, by the names of its folders."""
    known = {*FOLDERS, *ARCHIVE_FOLDERS}
    return path.is_dir() and any(child.is_dir() and child.name.lower() in known for child in path.iterdir())


def _cut_of(model: str | Path) -> tuple[tuple[int, int], Tiling]:
    """Window and tiling of a checkpoint, a model file or a shipped model."""
    if is_checkpoint(model):
        info = load_checkpoint(Path(model))[1]
        return info.window_hw, info.tiling
    passport = read_model(model).passport
    return passport.window_hw, passport.tiling


def _labelled_frames(data: Path, split: str | None) -> tuple[Iterator[CalibrationFrame], str]:
    """Frames of a folder like BUSI's and what they are, in words.

    Those that show the same as an image of another split of the file are left out: a gate on that split would refuse
    them.
    """
    file = find_split_file(data)
    split = split or (f"{file}:{CALIBRATION_SPLIT}" if file else ALL_IMAGES)
    selection = select_images(data, split)
    crossing = set()
    if split != ALL_IMAGES:
        assignment = read_split(Path(split.rpartition(":")[0]))
        samples = read_busi(data, require_all_classes=False)
        crossing = {name for pair in find_crossings(samples, assignment) for name in (pair.first, pair.second)}
    loaded = ((sample.name, *sample.load()) for sample in selection.samples if sample.name not in crossing)
    return (CalibrationFrame(name, image, frame_digest(image), truth) for name, image, truth in loaded), selection.data


def _source_frames(spec: str) -> Iterator[CalibrationFrame]:
    with open_source(spec) as source:
        for frame in islice(source, MAX_SOURCE_FRAMES):
            yield CalibrationFrame(frame.name, frame.image, frame_digest(frame.image))
