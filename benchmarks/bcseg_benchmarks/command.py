"""`bcseg-edge bench`: measures, and makes one report of it."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import cast

import bcseg_edge
from bcseg_benchmarks.checks import Thresholds, check, read_thresholds
from bcseg_benchmarks.cold_start import ColdStart, measure_cold_start
from bcseg_benchmarks.machine import Machine, examine_machine
from bcseg_benchmarks.options import ALL_PEERS, NO_PEERS, BenchOptions, check_options
from bcseg_benchmarks.peers.benchmark_app import BenchmarkApp, run_benchmark_app
from bcseg_benchmarks.peers.comparison import CHECKED_FRAMES, Peer, compare
from bcseg_benchmarks.peers.contender import OURS, Contender
from bcseg_benchmarks.peers.monai import monai_contenders
from bcseg_benchmarks.peers.ours import our_contender
from bcseg_benchmarks.peers.pytorch import pytorch_contenders, reference_labels
from bcseg_benchmarks.peers.runtimes import runtime_contenders
from bcseg_benchmarks.report import ModelReport, Report, Settings
from bcseg_benchmarks.roofline import Peak, Roofline, measure_peak, place
from bcseg_benchmarks.scaling import Scaling, measure_scaling
from bcseg_benchmarks.stages import measure_latency, measure_recording, measure_throughput
from bcseg_benchmarks.subjects import Subject, open_subjects
from bcseg_benchmarks.work import work_of
from bcseg_benchmarks.workload import Workload, phantom_workload
from bcseg_edge.backends import CUDA_BACKENDS
from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import UInt8Array
from bcseg_edge.models import load_model
from bcseg_edge.passport import Tiling
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TileGrid

BENCHMARK_APP_S = 4
BUSY_LOAD = 0.5


def bench(options: BenchOptions) -> Report:
    """Measure what `options` asks for.

    Raises:
        BcsegError: of the options, the models or the backend; a peer that cannot run is noted in the report instead.
    """
    started_s = perf_counter()
    check_options(options)
    thresholds = None if options.check is None else read_thresholds(options.check)
    machine = examine_machine()
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(options, thresholds, Path(folder))
        # A GPU's network does not stand under the processor's roof; bcseg_benchmarks.gpu measures its own.
        on_processor = options.backend not in CUDA_BACKENDS
        peak = measure_peak(options.thread_count) if options.roofline and on_processor else None
        models = tuple(run.model(subject) for subject in run.subjects)
        peers = tuple(run.peers())
        apps = tuple(run.benchmark_app())
        scaling = (run.scaling(),) if options.scaling else ()
    checks = () if thresholds is None else check(thresholds, peers)
    return Report(
        created=datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds"),
        command=options.command,
        version=bcseg_edge.__version__,
        seconds=perf_counter() - started_s,
        machine=machine,
        settings=run.settings(),
        models=models,
        peers=peers,
        benchmark_app=apps,
        scaling=scaling,
        roofline=None if peak is None else _roofline(models, peak),
        checks=checks,
        warnings=(*_warnings(options, machine, models), *run.notes),
    )


class _Run:
    """The models of one run, their frames, and how long each thing is measured."""

    def __init__(self, options: BenchOptions, thresholds: Thresholds | None, folder: Path) -> None:
        self.options = options
        self.thresholds = thresholds
        self.notes: list[str] = []
        self.workload: Workload = phantom_workload(options.frame_hw)
        options.say("preparing the models")
        self.subjects = open_subjects(
            options.models, options.random_weights, options.precisions, folder, options.backend
        )

    def tiling(self, subject: Subject) -> Tiling:
        return subject.tiling or cast("Tiling | None", self.options.tiling) or subject.passport.tiling

    def grid(self, subject: Subject) -> TileGrid:
        return TileGrid(self.workload.frame_hw, subject.passport.window_hw, self.tiling(subject))

    def settings(self) -> Settings:
        options = self.options
        return Settings(
            workload=self.workload.description,
            frame_hw=self.workload.frame_hw,
            threads=options.thread_count,
            min_frames=options.min_frames,
            min_seconds=options.min_seconds,
            warm_up_limit_s=options.warm_up_s,
            peer_rounds=options.peer_rounds,
            peer_slice_s=options.peer_slice_s,
        )

    def model(self, subject: Subject) -> ModelReport:
        """Latency, throughput, recording and cold start of one file."""
        options, workload = self.options, self.workload
        options.say(f"measuring {subject.title}")
        loaded = load_model(subject.path, options.backend, options.thread_count)
        backend = loaded.backend_name
        with Segmenter(loaded, self.tiling(subject)) as segmenter:
            latency = measure_latency(segmenter, workload, options.min_frames, options.min_seconds, options.warm_up_s)
            options.say(f"throughput of {subject.title}")
            throughput = measure_throughput(segmenter, workload, options.min_frames, options.min_seconds)
            frames = options.recording_frames
            recording = measure_recording(segmenter, workload, frames) if frames else None
        return ModelReport(
            name=subject.name,
            precision=subject.precision,
            weights=subject.weights,
            file=subject.path.name,
            sha256=subject.passport.sha256,
            backend=backend,
            tiling=self.tiling(subject),
            window_hw=subject.passport.window_hw,
            patches=self.grid(subject).count,
            work=work_of(subject),
            latency=latency,
            throughput=throughput,
            recording=recording,
            cold_start=self._cold_start(subject, backend),
        )

    def _cold_start(self, subject: Subject, backend: str) -> ColdStart | None:
        options = self.options
        if not options.cold_starts:
            return None
        options.say(f"cold start of {subject.title}")
        tiling = self.tiling(subject)
        return measure_cold_start(subject, self.workload, backend, tiling, options.thread_count, options.cold_starts)

    def peers(self) -> list[Peer]:
        """Every contender of every model in one interleaved run."""
        contenders = [contender for subject in self.subjects for contender in self._contenders(subject)]
        contenders = [contender for contender in contenders if self._wanted(contender)]
        if not contenders:
            return []
        images = self.workload.images
        options = self.options
        return compare(
            contenders, images, self._references(), options.peer_rounds, options.peer_slice_s, say=options.say
        )

    def _references(self) -> dict[str, list[UInt8Array]]:
        """By model, what PyTorch says of the first frames; where it cannot, labels are not compared."""
        references = {}
        for subject in self.subjects:
            if subject.precision != "fp32" or subject.random:
                continue
            try:
                images = list(self.workload.images[:CHECKED_FRAMES])
                references[subject.name] = reference_labels(subject, self.grid(subject), images)
            except (BcsegError, ImportError) as error:
                self.notes.append(f"{subject.name}: labels are not compared, since PyTorch cannot run it: {error}")
        return references

    def _contenders(self, subject: Subject) -> Iterator[Contender]:
        grid, threads = self.grid(subject), self.options.thread_count
        yield our_contender(subject, self.options.backend, grid.mode, threads)
        if subject.precision == "fp32":  # the same weights in another precision are the same network to PyTorch
            yield from pytorch_contenders(subject, grid, threads)
            yield from monai_contenders(subject, grid, threads)
        yield from runtime_contenders(subject, grid, threads)

    def _wanted(self, contender: Contender) -> bool:
        if self.options.peers == ALL_PEERS:
            return True
        if self.options.peers != NO_PEERS:
            return contender.way in (OURS, *self.options.peers.split(","))
        named = () if self.thresholds is None else self.thresholds.ratio
        return any(contender.name in (threshold.slower, threshold.faster) for threshold in named)

    def benchmark_app(self) -> Iterator[BenchmarkApp]:
        """OpenVINO's own number of every ONNX file, where all peers are measured."""
        if self.options.peers != ALL_PEERS:
            return
        for subject in self.subjects:
            if subject.path.suffix == ".onnx":
                self.options.say(f"benchmark_app on {subject.title}")
                yield run_benchmark_app(subject, self.grid(subject), self.options.thread_count, BENCHMARK_APP_S)

    def scaling(self) -> Scaling:
        """The last file of the main model: INT8 where it is measured."""
        options = self.options
        main = [subject for subject in self.subjects if subject.name == self.subjects[0].name][-1]
        return measure_scaling(
            main,
            self.workload,
            options.backend,
            self.tiling(main),
            options.thread_count,
            options.scaling_frames,
            options.scaling_s,
            options.say,
        )


def _roofline(models: Sequence[ModelReport], peak: Peak) -> Roofline:
    return Roofline(
        peak=peak,
        achieved=tuple(
            place(
                model.title,
                model.work.operations * model.patches,
                float(model.work.traffic_bytes * model.patches),
                model.latency.stages["network"].p50_ms / 1e3,
                peak,
            )
            for model in models
            if model.work is not None
        ),
    )


def _warnings(options: BenchOptions, machine: Machine, models: Sequence[ModelReport]) -> Iterator[str]:
    if machine.load_before is not None and machine.load_before > BUSY_LOAD:
        yield f"the machine was busy before the run (load {machine.load_before:.1f}): figures may be too high"
    if options.min_frames < 100 or options.min_seconds < 10:
        yield f"a short run: {options.min_frames} frames and {options.min_seconds:g} s instead of 100 and 10 s"
    for model in models:
        latency = model.latency
        if not latency.warm_up.steady:
            yield f"{model.title}: not steady after {latency.warm_up.seconds:.1f} s of warm-up"
        if latency.total.noisy:
            yield f"{model.title}: latency varies by {latency.total.variation:.0%}: something else was running"
