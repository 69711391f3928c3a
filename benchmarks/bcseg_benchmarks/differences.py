"""`bench --compare OLD.json`: what changed between two reports beyond the noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bcseg_benchmarks.peers.contender import OURS
from bcseg_benchmarks.report import ModelReport, Report
from bcseg_benchmarks.timing import Distribution

SMALLEST_CHANGE = 0.03  # medians of two runs on one quiet machine differ by that much


class Change(NamedTuple):
    """A figure that both reports hold.

    Attributes:
        what: of which model.
        unit: ms, frames/s, MiB or x (a ratio).
        old, new: values.
        noise: relative change that noise explains.
        lower_is_better: whether a smaller value is an improvement.
    """

    what: str
    unit: str
    old: float
    new: float
    noise: float
    lower_is_better: bool

    @property
    def relative(self) -> float:
        """New over old, minus one."""
        return self.new / self.old - 1 if self.old else 0.0

    @property
    def beyond_noise(self) -> bool:
        """Whether the change is larger than noise."""
        return abs(self.relative) > self.noise

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `within noise`."""
        if not self.beyond_noise:
            return "within noise"
        return "better" if (self.relative < 0) == self.lower_is_better else "worse"


def find_changes(old: Report, new: Report) -> list[Change]:
    """Every figure that both reports hold, in the order of the new one.

    The noise of a time is 3 % and twice the standard errors of both medians; of a ratio,
    3 % and half the spread of both.
    """
    before = {model.title: model for model in old.models}
    changes = [
        change for model in new.models if model.title in before for change in _of_model(before[model.title], model)
    ]
    return changes + list(_of_ratios(old, new))


def comparability(old: Report, new: Report) -> list[str]:
    """What makes two reports hard to compare; ratios can still be compared."""
    problems = []
    if old.machine.name != new.machine.name:
        problems.append(f"other machines: {old.machine.name} and {new.machine.name}: compare ratios only")
    for name in sorted({*old.machine.packages, *new.machine.packages}):
        versions = [report.machine.packages.get(name, "not installed") for report in (old, new)]
        if versions[0] != versions[1]:
            problems.append(f"{name}: {versions[0]}, now {versions[1]}")
    for field in ("frame_hw", "threads", "workload"):
        values = [getattr(report.settings, field) for report in (old, new)]
        if values[0] != values[1]:
            problems.append(f"{field}: {values[0]}, now {values[1]}")
    files = {model.title: model.sha256 for model in old.models}
    problems += [
        f"{model.title}: another file" for model in new.models if files.get(model.title, model.sha256) != model.sha256
    ]
    return problems


def _of_model(old: ModelReport, new: ModelReport) -> Iterator[Change]:
    yield _time(f"{new.title}: latency", old.latency.total, new.latency.total)
    yield _time(f"{new.title}: all but network", old.latency.overhead, new.latency.overhead)
    for stage, measured in new.latency.stages.items():
        if measured.p50_ms and stage in old.latency.stages:
            yield _time(f"{new.title}: {stage}", old.latency.stages[stage], measured)
    noise = _noise(old.latency.total, new.latency.total)
    yield Change(f"{new.title}: throughput", "frames/s", old.throughput.fps, new.throughput.fps, noise, False)
    if old.recording is not None and new.recording is not None:
        for part in ("capture", "draw", "write"):
            yield _time(f"{new.title}: {part}", getattr(old.recording, part), getattr(new.recording, part))
    if old.cold_start is not None and new.cold_start is not None:
        yield _time(f"{new.title}: cold start", old.cold_start.later, new.cold_start.later)
        before, after = old.cold_start.peak_memory_mib, new.cold_start.peak_memory_mib
        if before is not None and after is not None:
            yield Change(f"{new.title}: peak memory", "MiB", before, after, SMALLEST_CHANGE, True)


def _of_ratios(old: Report, new: Report) -> Iterator[Change]:
    """Each peer over our way with the same model, where all four were measured.

    Ours is of the peer's precision; where we have none of that (bf16, or auto, which OpenVINO chooses), in float32.
    """
    before = {peer.name: peer.round_medians_ms for peer in old.peers if peer.round_medians_ms}
    after = {peer.name: peer.round_medians_ms for peer in new.peers if peer.round_medians_ms}
    names = {(one.model, one.precision): one.name for one in new.peers if one.way == OURS}
    for peer in new.peers:
        ours = names.get((peer.model, peer.precision)) or names.get((peer.model, "fp32"), "")
        if peer.way == OURS or not all(name in rounds for name in (peer.name, ours) for rounds in (before, after)):
            continue
        values, spreads = [], []
        for rounds in (before, after):
            quotients = np.divide(rounds[peer.name], rounds[ours])
            values.append(float(np.median(quotients)))
            spreads.append(float(np.ptp(quotients) / np.median(quotients)))
        yield Change(f"{peer.name} / {ours}", "x", values[0], values[1], max(SMALLEST_CHANGE, sum(spreads) / 2), False)


def _time(what: str, old: Distribution, new: Distribution) -> Change:
    return Change(what, "ms", old.p50_ms, new.p50_ms, _noise(old, new), True)


def _noise(old: Distribution, new: Distribution) -> float:
    # A median's standard error is 1.25 that of the mean for a normal distribution.
    errors = [1.25 * one.variation / math.sqrt(one.count) for one in (old, new)]
    return max(SMALLEST_CHANGE, 2 * math.hypot(*errors))
