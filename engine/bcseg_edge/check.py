"""One finding of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `run` may need.

    Attributes:
        name: what was looked at.
        ok: whether it works.
        required: whether `run` cannot work without it.
        found: what was found, one line.
        fix: the command or step that mends it; empty where nothing is wrong.
    """

    name: str
    ok: bool
    required: bool
    found: str
    fix: str = ""
