"""What `bcseg-edge bench` is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bcseg_edge.cores import usable_cores
from bcseg_edge.errors import DataError
from bcseg_edge.tiling import TILINGS

NO_PEERS, ALL_PEERS = "none", "all"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, and for how long. The defaults are those of a run whose figures can be believed.

    Attributes:
        models: names of shipped models, or model files; the first is the main one. `NAME@TILING` names a tiling.
        random_weights: architectures to add with random weights: their speed, without a trained model; `@TILING` too.
        precisions: fp32, fp16, int8 for every model; empty takes files as they are.
        backend: as in `bcseg_edge.load_model`.
        tiling: of models that name none; None takes each model's own.
        frame_hw: px.
        threads: of every contender; None takes all usable cores.
        min_frames: of latency and throughput, each.
        min_seconds: likewise.
        warm_up_s: most seconds of warm-up where nothing gets steady.
        peers: `all`, `none`, or ways by name, separated by commas.
        peer_rounds: of the interleaved run.
        peer_slice_s: of a contender in a round.
        cold_starts: fresh processes a model after the first; 0 leaves them out.
        recording_frames: of capture, draw and write; 0 leaves them out.
        scaling: measure frame sizes, batches and threads, on the last file of the main model.
        scaling_frames: at least so many a point.
        scaling_s: at least so long a point.
        roofline: measure the processor's peak; not with a backend on a GPU, see `bcseg_benchmarks.gpu`.
        check: thresholds; without `peers` only what they name is measured.
        compare: a former report.
        command: to be named in the report.
        say: progress.
    """

    models: tuple[str, ...] = ("edge",)
    random_weights: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    backend: str = "auto"
    tiling: str | None = None
    frame_hw: tuple[int, int] = (480, 640)
    threads: int | None = None
    min_frames: int = 100
    min_seconds: float = 10.0
    warm_up_s: float = 5.0
    peers: str = NO_PEERS
    peer_rounds: int = 5
    peer_slice_s: float = 0.4
    cold_starts: int = 5
    recording_frames: int = 100
    scaling: bool = False
    scaling_frames: int = 5
    scaling_s: float = 0.3
    roofline: bool = True
    check: Path | None = None
    compare: Path | None = None
    command: str = ""
    say: Callable[[str], None] = lambda text: None

    @property
    def thread_count(self) -> int:
        """Threads of every contender."""
        return self.threads or usable_cores()


def check_options(options: BenchOptions) -> None:
    """Refuse what cannot be measured.

    Raises:
        DataError: no model, no frame, no round, or an unknown tiling.
    """
    if not options.models and not options.random_weights:
        raise DataError("there is no model to measure", "give --model edge, or --random-weights resnext50")
    if options.min_frames < 1 or options.peer_rounds < 1:
        raise DataError(
            f"cannot measure {options.min_frames} frames in {options.peer_rounds} rounds", "give at least one of each"
        )
    if options.tiling is not None and options.tiling not in TILINGS:
        raise DataError(f"unknown tiling {options.tiling!r}", f"choose one of: {', '.join(TILINGS)}")
