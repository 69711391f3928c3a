"""The command line `bcseg-edge`. One module a command; each loads what it needs when it runs, so that help is quick."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from bcseg_edge.cli import (
    bench,
    build,
    calibrate,
    doctor,
    evaluate,
    export,
    inspect,
    parity,
    pretrain,
    replay,
    robustness,
    run,
    split,
    train,
)
from bcseg_edge.decoder_logs import silence_decoders
from bcseg_edge.errors import BcsegError
from bcseg_edge.told import tell

_DEBUG = "--debug"

app = typer.Typer(
    name="bcseg-edge",
    help="Real-time segmentation of breast tumours in ultrasound. A research tool, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {  # panel of the help -> name -> function
    "Segment": {"run": run.run, "replay": replay.replay},
    "Train and judge": {
        "train": train.train,
        "pretrain": pretrain.pretrain,
        "split": split.split,
        "evaluate": evaluate.evaluate,
        "robustness": robustness.robustness,
    },
    "Make a model ready to run": {
        "export": export.export,
        "calibrate": calibrate.calibrate,
        "parity": parity.parity,
        "build": build.build,
    },
    "Measure and look": {"doctor": doctor.doctor, "inspect": inspect.inspect, "bench": bench.bench},
}
for _panel, _commands in _COMMANDS.items():
    for _name, _function in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_function)


def _print_version(asked: bool) -> None:
    if asked:
        import bcseg_edge

        typer.echo(f"bcseg-edge {bcseg_edge.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show a traceback with errors; may stand anywhere.")] = False,
) -> None:
    # `main` reads --debug itself: it has to know it also where parsing failed.
    del version, debug


def main() -> None:
    """Run the command line and exit: 0 done, 1 a fault, 2 wrong use or input, 3 a failed gate, 4 no live source.

    130 and 143 are Ctrl-C and SIGTERM.
    """
    silence_decoders()
    # A camera that stops answering is noticed after this many seconds instead of ten.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(args=_with_camera(arguments), prog_name="bcseg-edge")
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.exit(_report(error, debug))


def _with_camera(arguments: list[str]) -> list[str]:
    """`--camera` alone means camera 0; typer has no option whose value may be left out."""
    filled = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        filled.append(argument)
        if argument == "--camera" and following.startswith("-"):
            filled.append("0")
    return filled


def _report(error: Exception, debug: bool) -> int:
    """Print `error` in one or two lines; returns the exit code."""
    if isinstance(error, BcsegError):
        return tell(error)
    if isinstance(error, OSError) and error.filename is not None:
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        typer.echo("hint: check the path, its permissions and the space on the disk", err=True)
        return 2
    typer.echo(f"error: {type(error).__name__}: {error}", err=True)
    if not debug:
        typer.echo(f"hint: this is a fault of the program; add {_DEBUG} for the traceback", err=True)
    return 1
