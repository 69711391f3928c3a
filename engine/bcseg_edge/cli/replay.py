"""`bcseg-edge replay`: a black box through its model again."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer


def replay(
    folder: Annotated[Path, typer.Argument(help="A black box (run --black-box DIR), or one run in it.")],
    model: Annotated[str | None, typer.Option(help="The model file, where it is not at its place any more.")] = None,
    backend: Annotated[str | None, typer.Option(help="Another backend than the run's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the network.")] = None,
    every_run: Annotated[bool, typer.Option("--all", help="Every run in the box, not only the last.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON a run.")] = False,
) -> None:
    """Compute the labels of recorded frames again; say whether they are bit for bit equal, or where not.

    Exits with 3 where they are not, and with 2 where the model file is not the one that was used.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from bcseg_edge import Segmenter, load_model
    from bcseg_edge.live import replay as work
    from bcseg_edge.live.blackbox import find_runs, read_run_facts
    from bcseg_edge.models import find_model
    from bcseg_edge.passport import Tiling

    messages = Console(stderr=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    runs = find_runs(folder)
    equal = True
    for run in runs if every_run else runs[-1:]:
        facts = read_run_facts(run)
        path = find_model(model if model is not None else Path(facts.model_path))
        work.check_model(facts, path)
        with load_model(path, backend or facts.backend, threads) as loaded:
            segmenter = Segmenter(loaded, cast(Tiling, facts.tiling), reuse=facts.reuse)
            bars = Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal)
            with segmenter, bars as bar:
                task = bar.add_task(run.name, total=None)
                outcome = work.replay(run, segmenter, partial(bar.advance, task))
        equal = equal and outcome.equal
        if as_json:
            typer.echo(json.dumps(work.as_record(outcome)))
        else:
            for line in work.describe(outcome, facts):
                typer.echo(line)
    raise typer.Exit(0 if equal else 3)
