"""What a command line tells a person: errors with what to do about them and an exit code, no traceback; remarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from bcseg_edge.errors import BcsegError

if TYPE_CHECKING:
    from rich.console import Console


def tell(error: BcsegError) -> int:
    """Print an error and its hint on stderr; returns the exit code."""
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


def remark(messages: Console, text: str) -> None:
    """Print a warning, a problem or a note beside the result; `text` may hold brackets of a user's."""
    messages.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


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
