"""Loading the parts of the program that need more than the base install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bcseg_edge.errors import BcsegError


class ExtraMissing(BcsegError):
    """A command needs packages of an extra that is not installed."""

    exit_code = 2


def load_extra(module: str, extra: str) -> Any:
    """Import `module`.

    Raises:
        ExtraMissing: a package that it needs is not installed; the hint installs `extra`.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"this command needs the package {error.name!r}, which is not installed",
            f'pip install "bcseg-edge[{extra}]"',
        ) from error
