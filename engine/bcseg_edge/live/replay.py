"""Replaying a black box: the recorded frames through the same model file, and whether the labels are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bcseg_edge.errors import ModelError
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.live.blackbox import Recorded, RunFacts, read_records
from bcseg_edge.passport import file_sha256

MOST_LISTED = 20


@dataclass(slots=True)
class Replay:
    """What came of replaying a run.

    Attributes:
        run: its folder.
        frames: records read.
        compared: those with labels, computed again.
        differing: of these, how many are not equal bit for bit.
        differences: the first of them: `index` and `captured_ns` of the frame, `pixels` that differ.
    """

    run: str
    frames: int = 0
    compared: int = 0
    differing: int = 0
    differences: list[dict[str, int]] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether anything was compared, and all of it was equal."""
        return self.compared > 0 and not self.differing


def check_model(facts: RunFacts, path: Path) -> None:
    """Refuse a model file that is not the run's.

    Raises:
        ModelError: another SHA-256.
    """
    digest = file_sha256(path)
    if digest != facts.model_sha256:
        raise ModelError(
            f"{path.name} has sha256 {digest[:12]}..., the black box was made with {facts.model_sha256[:12]}...",
            f"give the file that was used with --model; it was {facts.model_path}",
        )


def replay(
    run: Path, segment: Callable[[UInt8Array], Segmentation], on_frame: Callable[[], None] = lambda: None
) -> Replay:
    """Segment a run's frames again and compare the labels.

    Args:
        run: from `find_runs`.
        segment: a `Segmenter` with the run's model file, backend and tiling.
        on_frame: called after each frame.

    Raises:
        BcsegError: of the segmenter.
    """
    outcome = Replay(str(run))
    for record in read_records(run):
        outcome.frames += 1
        on_frame()
        if record.labels is None:
            continue
        outcome.compared += 1
        labels = _segment_again(record, segment)
        pixels = int(np.count_nonzero(labels != record.labels)) if labels.shape == record.labels.shape else labels.size
        if pixels:
            outcome.differing += 1
            if len(outcome.differences) < MOST_LISTED:
                facts = record.facts
                outcome.differences.append(
                    {"index": facts["index"], "captured_ns": facts["captured_ns"], "pixels": pixels}
                )
    return outcome


def _segment_again(record: Recorded, segment: Callable[[UInt8Array], Segmentation]) -> UInt8Array:
    """Labels of the whole frame, of which only the crop was segmented."""
    crop = record.facts.get("crop_xywh")
    if crop is None:
        return segment(record.image).labels
    left, top, width, height = crop
    part = (slice(top, top + height), slice(left, left + width))
    labels = np.zeros(record.image.shape[:2], np.uint8)
    labels[part] = segment(record.image[part]).labels
    return labels


def describe(outcome: Replay, facts: RunFacts) -> Iterator[str]:
    """The outcome in sentences."""
    what = f"{outcome.run}: {outcome.frames} frames, {outcome.compared} with labels"
    if outcome.equal:
        yield f"{what}; all computed again with {facts.backend}: bit for bit equal"
        return
    if not outcome.compared:
        yield f"{what}: nothing to compare"
        return
    yield f"{what}; {outcome.differing} are not equal"
    for difference in outcome.differences:
        yield f"frame {difference['index']}: {difference['pixels']} px differ"


def as_record(outcome: Replay) -> dict[str, Any]:
    """The outcome as JSON values."""
    return {
        "run": outcome.run,
        "frames": outcome.frames,
        "compared": outcome.compared,
        "differing": outcome.differing,
        "equal": outcome.equal,
        "differences": outcome.differences,
    }
