"""`retrain.sh` and `reproduce.sh` call the program as its command line wants it, in an order that can work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import typer

from bcseg_edge.cli import app

SCRIPTS = Path(__file__).parents[2] / "train"
STEPS = ["pretrain", "train", "export", "evaluate", "robustness"]
RECORDER = """#!/bin/sh
echo "$@" >> "$RECORD"
"""


def commands_of(folder: Path, script: str, arguments: list[str]) -> tuple[int, list[list[str]]]:
    """Exit code, and the commands that a script gave to a stand-in for `bcseg-edge` and `python`."""
    record = folder / "commands"
    record.touch()
    for name in ("bcseg-edge", "python"):
        stand_in = folder / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(RECORDER)
        stand_in.chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "RECORD": str(record)}
    code = subprocess.run(["sh", str(SCRIPTS / script), *arguments], env=environment, check=False).returncode
    return code, [line.split() for line in record.read_text().splitlines()]


def retrain(folder: Path, model: str) -> tuple[int, list[list[str]]]:
    return commands_of(folder, "retrain.sh", [model, "DATA", str(folder / "runs"), "none"])


def assert_accepted(commands: list[list[str]], model: str) -> None:
    """The command line parses each command, and each is of that model."""
    group = typer.main.get_command(app)
    for name, *arguments in commands:
        context = group.commands[name].make_context(name, arguments)
        assert model in " ".join(map(str, context.params.values()))


@pytest.mark.parametrize("model", ["edge", "resnext50"])
def test_every_command_is_one_that_the_program_takes(tmp_path: Path, model: str) -> None:
    code, commands = retrain(tmp_path, model)
    assert code == 0
    assert [command[0] for command in commands] == STEPS
    assert_accepted(commands, model)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "runs" / "edge").mkdir(parents=True)
    (tmp_path / "runs" / "edge" / "last.ckpt").touch()
    _, commands = retrain(tmp_path, "edge")
    assert ["--resume" in command for command in commands] == [False, True, False, False, False]


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    assert retrain(tmp_path, "unet") == (2, [])


def test_the_papers_models_are_trained_one_after_another_and_compared(tmp_path: Path) -> None:
    (tmp_path / "runs" / "paper-unet").mkdir(parents=True)
    (tmp_path / "runs" / "paper-unet" / "last.ckpt").touch()
    runs = str(tmp_path / "runs")
    code, commands = commands_of(tmp_path, "reproduce.sh", ["DATA", runs, "none", "3", "unet", "resnext101"])
    assert code == 0
    assert [command[0] for command in commands] == ["train", "evaluate", "train", "evaluate", "-m"]
    assert ["--resume" in command for command in commands] == [True, False, False, False, False]
    assert_accepted(commands[:2], "unet")
    assert_accepted(commands[2:4], "resnext101")
    assert commands[4] == ["-m", "bcseg_train.paper_table", runs]
