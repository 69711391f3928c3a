"""Errors as a command line tells them: what is wrong, what to do about it, an exit code; no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from bcseg_edge.errors import BcsegError


def tell(error: BcsegError) -> int:
    """Print an error and its hint on stderr; returns the exit code."""
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


@contextmanager
def errors_told() -> Iterator[None]:
    """For programs beside `bcseg-edge` (`python -m ...`): tell an error of ours and exit with its code.

    Raises:
        typer.Exit: instead of a `BcsegError`.
    """
    try:
        yield
    except BcsegError as error:
        raise typer.Exit(tell(error)) from error
