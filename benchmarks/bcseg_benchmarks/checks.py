"""`bench --check`: ratios between contenders of one run held against thresholds, so that any machine can judge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bcseg_benchmarks.peers.comparison import Peer, Ratio, ratio
from bcseg_benchmarks.timing import Record
from bcseg_edge.errors import BcsegError, DataError

_HINT = "see benchmarks/targets.toml for the form"


class Threshold(Record):
    """A limit on a ratio.

    Attributes:
        why: what it stands for, one line.
        slower, faster: names of contenders: model, precision, way.
        at_least: the ratio's median must not be below; 1 or less still says something: at most so much slower.
    """

    why: str
    slower: str
    faster: str
    at_least: float


class Thresholds(Record):
    """A file of limits."""

    ratio: tuple[Threshold, ...]


class Checked(Record):
    """A threshold with what was measured.

    Attributes:
        threshold: the limit.
        measured: None where one of the two could not run.
        problem: why; empty where both ran.
    """

    threshold: Threshold
    measured: Ratio | None
    problem: str = ""

    @property
    def met(self) -> bool:
        """Whether the limit holds."""
        return self.measured is not None and self.measured.median >= self.threshold.at_least


class RatiosMissed(BcsegError):
    """A measured ratio is below its threshold: a failed gate."""

    exit_code = 3


def read_thresholds(path: Path) -> Thresholds:
    """Read a TOML file of `[[ratio]]` tables.

    Raises:
        DataError: no such file, not TOML, or other fields.
    """
    try:
        content = _parse(path.read_text(encoding="utf-8"))
        return Thresholds.model_validate(content)
    except OSError as error:
        raise DataError(f"no thresholds at {path}: {error.strerror}", _HINT) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path.name}: {where}: {first['msg']}", _HINT) from error
    except ValueError as error:
        raise DataError(f"{path.name} is not TOML: {error}", _HINT) from error


def check(thresholds: Thresholds, peers: Sequence[Peer]) -> tuple[Checked, ...]:
    """Hold what was measured against the limits. What was not measured does not pass."""
    return tuple(_checked(threshold, peers) for threshold in thresholds.ratio)


def require_met(checks: Sequence[Checked]) -> None:
    """Raises:
    RatiosMissed: a limit does not hold.
    """
    missed = [item for item in checks if not item.met]
    if missed:
        details = "; ".join(_sentence(item) for item in missed)
        raise RatiosMissed(f"{len(missed)} of {len(checks)} ratios missed: {details}", "repeat it on a quiet machine")


def _checked(threshold: Threshold, peers: Sequence[Peer]) -> Checked:
    try:
        return Checked(threshold=threshold, measured=ratio(peers, threshold.slower, threshold.faster))
    except DataError as error:
        return Checked(threshold=threshold, measured=None, problem=error.message)


def _sentence(item: Checked) -> str:
    if item.measured is None:
        return item.problem
    measured = item.measured
    return (
        f"{measured.slower} / {measured.faster} is {measured.median:.2f} ({measured.low:.2f} to {measured.high:.2f}), "
        f"wanted at least {item.threshold.at_least:g}"
    )


def _parse(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)
