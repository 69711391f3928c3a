"""The metrics file of a run, continued rather than begun anew on resume."""

from __future__ import annotations

import csv
import logging
import warnings
from pathlib import Path

import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from bcseg_train.run_files import METRICS


def quiet_lightning() -> None:
    """Keep Lightning's notes off the terminal: advertisements, devices it did not find, its own deprecations.

    For a program; a library leaves logging to its caller.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def metrics_logger(run: Path, resumed_from: Path | None) -> CSVLogger:
    """A logger that writes `run/metrics.csv`; with a checkpoint, after the epochs that are in that checkpoint.

    Lightning's own logger deletes the file of an earlier start.
    """
    earlier = _rows_until(run / METRICS, resumed_from) if resumed_from is not None else []
    logger = CSVLogger(run, name="", version="")
    if earlier:
        _write_back(logger, run / METRICS, earlier)
    return logger


def _rows_until(path: Path, checkpoint: Path) -> list[dict[str, str]]:
    """The rows of finished epochs; a killed run may have begun another one."""
    if not path.is_file():
        return []
    last_epoch = torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]
    with path.open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["epoch"] and int(row["epoch"]) <= last_epoch]


@rank_zero_only
def _write_back(logger: CSVLogger, path: Path, rows: list[dict[str, str]]) -> None:
    writer = logger.experiment  # its construction deletes the file
    writer.metrics_keys = list(rows[0])
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, writer.metrics_keys)
        table.writeheader()
        table.writerows(rows)
