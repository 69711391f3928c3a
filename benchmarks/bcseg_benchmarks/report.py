"""The report: everything that was measured, as one record that JSON holds without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from bcseg_benchmarks.checks import Checked
from bcseg_benchmarks.cold_start import ColdStart
from bcseg_benchmarks.machine import Machine
from bcseg_benchmarks.peers.benchmark_app import BenchmarkApp
from bcseg_benchmarks.peers.comparison import Peer
from bcseg_benchmarks.roofline import Roofline
from bcseg_benchmarks.scaling import Scaling
from bcseg_benchmarks.stages import LatencyRun, RecordingRun, ThroughputRun
from bcseg_benchmarks.timing import Record
from bcseg_benchmarks.work import Work
from bcseg_edge.errors import DataError
from bcseg_edge.passport import Tiling

FORMAT_VERSION = 1


class Settings(Record):
    """How it was measured; see `bcseg_benchmarks.options`."""

    workload: str
    frame_hw: tuple[int, int]
    threads: int
    min_frames: int
    min_seconds: float
    warm_up_limit_s: float
    peer_rounds: int
    peer_slice_s: float


class ModelReport(Record):
    """One model file.

    Attributes:
        name, precision: of the model.
        weights: whose they are; what only shows speed says so.
        file: its name.
        sha256: of the file.
        backend, tiling, window_hw, patches: how a frame went through it.
        work: of one patch; None for a compiled plan.
        latency, throughput: separate runs.
        recording: capture, draw and write.
        cold_start: None where it was not asked for.
    """

    name: str
    precision: str
    weights: str
    file: str
    sha256: str
    backend: str
    tiling: Tiling
    window_hw: tuple[int, int]
    patches: int
    work: Work | None
    latency: LatencyRun
    throughput: ThroughputRun
    recording: RecordingRun | None
    cold_start: ColdStart | None

    @property
    def title(self) -> str:
        """`edge int8`."""
        return f"{self.name} {self.precision}"


class Report(Record):
    """One run of `bcseg-edge bench`.

    Attributes:
        format_version: of this record.
        created: ISO date and time, UTC.
        command: that makes it again.
        version: of bcseg-edge.
        seconds: the run took.
        machine, settings: where and how.
        models: what was measured, in the order of the command.
        peers: in one interleaved run; empty where none were asked for.
        benchmark_app: OpenVINO's own numbers.
        scaling: by model.
        roofline: None where it was not asked for.
        checks: ratios that were held against thresholds.
        warnings: what makes figures doubtful.
    """

    format_version: Literal[1] = 1
    created: str
    command: str
    version: str
    seconds: float
    machine: Machine
    settings: Settings
    models: tuple[ModelReport, ...]
    peers: tuple[Peer, ...] = ()
    benchmark_app: tuple[BenchmarkApp, ...] = ()
    scaling: tuple[Scaling, ...] = ()
    roofline: Roofline | None = None
    checks: tuple[Checked, ...] = ()
    warnings: tuple[str, ...] = ()


def read_report(path: Path) -> Report:
    """Read what `bench --report` wrote.

    Raises:
        DataError: no such file, or not a report of this format.
    """
    hint = "write one with: bcseg-edge bench --report DIR"
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"no report at {path}: {error.strerror}", hint) from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the file"
        raise DataError(f"{path.name} is not a report of format {FORMAT_VERSION}: {where}", hint) from error


def to_json(report: Report) -> str:
    """The report as JSON, indented."""
    return report.model_dump_json(indent=1) + "\n"
