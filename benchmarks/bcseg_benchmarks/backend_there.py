"""`python -m bcseg_benchmarks.backend_there cuda`: would a backend on a GPU work? Exits with 2 and says why not."""

from __future__ import annotations

from typing import Annotated

import typer

from bcseg_edge.nvidia import gpu_checks


def main(backend: Annotated[str, typer.Argument(help="cuda or tensorrt.")]) -> None:
    """Exit with 0 where `backend` would work."""
    check = next((check for check in gpu_checks() if check.name == f"backend {backend}"), None)
    if check is None:
        typer.echo(f"error: there is no backend {backend} on a GPU\nhint: use cuda or tensorrt", err=True)
        raise typer.Exit(2)
    if not check.ok:
        typer.echo(f"NOT MEASURED, {check.name}: {check.found}\nhint: {check.fix}", err=True)
        raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
