"""`bcseg-edge doctor`: would `run` work here, and what is missing."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Show what this machine has and what each backend needs. Exits with 0 where `run` would work, else with 2."""
    from bcseg_edge.doctor import examine

    health = examine()
    if as_json:
        typer.echo(json.dumps(health.to_dict()))
        raise typer.Exit(0 if health.ready else 2)

    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, value in health.machine.items():
        table.add_row(name, value)
    table.add_section()
    for name, version in health.packages.items():
        table.add_row(name, version or "not installed")
    table.add_section()
    for check in health.checks:
        mark = (
            "[green]ok[/green]" if check.ok else "[red]missing[/red]" if check.required else "[yellow]missing[/yellow]"
        )
        table.add_row(check.name, f"{mark}  {check.found}")
    console = Console()
    console.print(table)
    for check in health.checks:
        if check.fix:
            console.print(f"{check.name}: {check.fix}", markup=False, highlight=False, soft_wrap=True)
    console.print("ready" if health.ready else "not ready: `bcseg-edge run` cannot work yet", markup=False)
    raise typer.Exit(0 if health.ready else 2)
