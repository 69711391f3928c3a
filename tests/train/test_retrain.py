"""`train/retrain.sh` calls the program as its command line wants it, in an order that can work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import typer

from bcseg_edge.cli import app

SCRIPT = Path(__file__).parents[2] / "train" / "retrain.sh"
STEPS = ["pretrain", "train", "export", "evaluate", "robustness"]
RECORDER = """#!/bin/sh
echo "$@" >> "$RECORD"
"""


def retrain(folder: Path, model: str) -> tuple[int, list[list[str]]]:
    """Exit code, and the commands that it gave to a stand-in for `bcseg-edge`."""
    stand_in = folder / "bin" / "bcseg-edge"
    stand_in.parent.mkdir()
    stand_in.write_text(RECORDER)
    stand_in.chmod(0o755)
    record = folder / "commands"
    record.touch()
    environment = {"PATH": f"{stand_in.parent}:/usr/bin:/bin", "RECORD": str(record)}
    code = subprocess.run(
        ["sh", str(SCRIPT), model, "DATA", str(folder / "runs"), "none"], env=environment, check=False
    ).returncode
    return code, [line.split() for line in record.read_text().splitlines()]


@pytest.mark.parametrize("model", ["edge", "resnext50"])
def test_every_command_is_one_that_the_program_takes(tmp_path: Path, model: str) -> None:
    code, commands = retrain(tmp_path, model)
    assert code == 0
    assert [command[0] for command in commands] == STEPS
    group = typer.main.get_command(app)
    for name, *arguments in commands:
        context = group.commands[name].make_context(name, arguments)
        assert model in " ".join(map(str, context.params.values()))


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "runs" / "edge").mkdir(parents=True)
    (tmp_path / "runs" / "edge" / "last.ckpt").touch()
    _, commands = retrain(tmp_path, "edge")
    assert ["--resume" in command for command in commands] == [False, True, False, False, False]


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    assert retrain(tmp_path, "unet") == (2, [])
