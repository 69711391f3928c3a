"""What a report says, put together for people: one place for Markdown, HTML and the README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bcseg_benchmarks.peers.comparison import Peer, Ratio, ratio
from bcseg_benchmarks.peers.contender import OURS
from bcseg_benchmarks.peers.runtimes import OPENVINO
from bcseg_benchmarks.report import ModelReport, Report
from bcseg_benchmarks.subjects import RANDOM, SHIPPED
from bcseg_benchmarks.timing import Distribution

NOT_SHOWN = "not shown"


class Table(NamedTuple):
    """Rows of text under headings; the first column is text, the others are figures."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summary_table(report: Report) -> Table:
    """A line for each model file."""
    headings = (
        "model", "tiling", "patches", "latency p50, ms", "p99", "frames/s", "network, ms", "all else, ms",
        "cold start, s", "memory, MiB", "J/frame",
    )  # fmt: skip
    return Table(headings, tuple(_summary_row(model) for model in report.models))


def _summary_row(model: ModelReport) -> tuple[str, ...]:
    latency, cold = model.latency, model.cold_start
    return (
        marked(model),
        model.tiling,
        str(model.patches),
        f"{latency.total.p50_ms:.1f}",
        f"{latency.total.p99_ms:.1f}",
        f"{model.throughput.fps:.1f}",
        f"{latency.stages['network'].p50_ms:.1f}",
        f"{latency.overhead.p50_ms:.2f}",
        "-" if cold is None else f"{cold.later.p50_ms / 1e3:.2f}",
        "-" if cold is None or cold.peak_memory_mib is None else f"{cold.peak_memory_mib:.0f}",
        "-" if latency.energy_per_frame_j is None else f"{latency.energy_per_frame_j:.2f}",
    )


def marked(model: ModelReport) -> str:
    """The title, with a mark where only the speed means something."""
    if model.weights == SHIPPED:
        return model.title
    return f"{model.title} ({'random weights' if model.weights.startswith(RANDOM) else 'ungated INT8'})"


def footnotes(report: Report) -> list[str]:
    """What the marks mean."""
    return [f"{model.title}: {model.weights}" for model in report.models if model.weights != SHIPPED]


def conditions(model: ModelReport) -> str:
    """How long a model was measured, and what the machine showed of itself meanwhile."""
    latency, throughput, power = model.latency, model.throughput, model.latency.power
    warm, steady = latency.warm_up, "steady" if latency.warm_up.steady else "not steady"
    degrees = [NOT_SHOWN if value is None else f"{value:.0f} °C" for value in power.temperatures_c]
    clock = NOT_SHOWN if power.clock_mhz is None else f"{power.clock_mhz:.0f} MHz"
    return (
        f"{model.title}: warm-up {warm.calls} frames, {warm.seconds:.1f} s, {steady}; "
        f"then {latency.total.count} frames in {latency.seconds:.1f} s. Throughput: {throughput.frames} frames in "
        f"{throughput.seconds:.1f} s. Energy: {power.energy_source}. Hottest sensor before and after: "
        f"{', '.join(degrees)}. Clock after: {clock}."
    )


def checks_table(report: Report) -> Table:
    """Every limit with what was measured."""
    rows = tuple(
        (
            item.threshold.why,
            f"{item.threshold.at_least:g}",
            item.problem if item.measured is None else spread(item.measured),
            "met" if item.met else "**missed**",
        )
        for item in report.checks
    )
    return Table(("what", "at least", "measured", ""), rows)


def distribution_table(model: ModelReport) -> Table:
    """Every stage of one model, all percentiles."""
    headings = ("stage", "count", "mean ms", "p50", "p90", "p95", "p99", "max", "variation")
    parts: dict[str, Distribution] = {}
    if model.recording is not None:
        parts["capture (decoding)"] = model.recording.capture
    parts |= {stage: measured for stage, measured in model.latency.stages.items() if measured.max_ms}
    if model.recording is not None:
        parts |= {"draw": model.recording.draw, "write": model.recording.write}
    parts |= {"frame to lesions": model.latency.total, "all but network": model.latency.overhead}
    if model.cold_start is not None:
        parts["cold start"] = model.cold_start.later
    return Table(headings, tuple((name, *_cells(measured)) for name, measured in parts.items()))


def _cells(measured: Distribution) -> tuple[str, ...]:
    times = (measured.mean_ms, measured.p50_ms, measured.p90_ms, measured.p95_ms, measured.p99_ms, measured.max_ms)
    mark = " noisy" if measured.noisy else ""
    return (str(measured.count), *(f"{value:.2f}" for value in times), f"{measured.variation:.2f}{mark}")


def ours_of(report: Report, model: str) -> list[Peer]:
    """Our own ways with a model, slowest precision first."""
    return [peer for peer in report.peers if peer.model == model and peer.way == OURS and peer.round_medians_ms]


def peer_models(report: Report) -> list[str]:
    """Models that were compared, in order."""
    return list(dict.fromkeys(peer.model for peer in report.peers))


def peer_table(report: Report, model: str) -> Table:
    """The contenders of one model, with their ratios to our ways."""
    ours = ours_of(report, model)
    headings: tuple[str, ...] = (
        "way",
        "precision",
        "scope",
        "p50, ms",
        "p95",
        "variation",
        "calls",
        "ready after, s",
        "same labels",
    )
    headings += tuple(f"x {peer.precision} {OURS}" for peer in ours)
    rows = []
    for peer in (peer for peer in report.peers if peer.model == model):
        if peer.latency is None or peer.setup_s is None:
            rows.append(
                (peer.way, peer.precision, peer.scope, f"not measured: {peer.problem}", *[""] * (len(headings) - 4))
            )
            continue
        latency = peer.latency
        rows.append(
            (
                peer.way, peer.precision, peer.scope, f"{latency.p50_ms:.1f}", f"{latency.p95_ms:.1f}",
                f"{latency.variation:.2f}", str(latency.count), f"{peer.setup_s:.1f}", same_labels(peer),
                *(spread(ratio(report.peers, peer.name, one.name)) for one in ours),
            )
        )  # fmt: skip
    return Table(headings, tuple(rows))


def same_labels(peer: Peer) -> str:
    """The share of equal labels; a dash where the weights are random."""
    if peer.labels_equal is None:
        return "-"
    return "all" if peer.labels_equal == 1 else f"{peer.labels_equal:.4%}"


def spread(value: Ratio) -> str:
    """`15.2 (14.9 to 15.6)`."""
    digits = 1 if value.median >= 10 else 2
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def cross_table(report: Report) -> Table:
    """Our ways with different models and precisions against each other, each with its own tiling."""
    ours = [peer for peer in report.peers if peer.way == OURS and peer.round_medians_ms]
    rows = [
        (f"{slow.model} {slow.precision}", *(spread(ratio(report.peers, slow.name, fast.name)) for fast in ours))
        for slow in ours
    ]
    return Table(("takes so many times as long as", *(f"{one.model} {one.precision}" for one in ours)), tuple(rows))


def above_backend(report: Report) -> Iterator[tuple[str, float, float, float]]:
    """For each model file on OpenVINO: ms that our frame path takes above the backend alone; median, low, high."""
    rounds = {peer.name: peer.round_medians_ms for peer in report.peers if peer.round_medians_ms}
    for model in report.models:
        ours, alone = f"{model.title} {OURS}", f"{model.title} {OPENVINO}"
        if model.backend == "openvino" and ours in rounds and alone in rounds:
            differences = np.subtract(rounds[ours], rounds[alone])
            yield model.title, float(np.median(differences)), float(differences.min()), float(differences.max())


def slowest_stage(model: ModelReport) -> tuple[str, float]:
    """The stage with the largest median beside the network, ms."""
    others = {stage: measured.p50_ms for stage, measured in model.latency.stages.items() if stage != "network"}
    name = max(others, key=lambda stage: others[stage])
    return name, others[name]


def scaling_tables(report: Report) -> list[tuple[str, Table]]:
    """The points of every direction."""
    tables = []
    headings = ("tiling", "frame", "patches", "threads", "frames", "p50, ms", "network", "all else", "variation")
    for scaling in report.scaling:
        for name, points in (("frame size", scaling.frame_sizes), ("threads", scaling.threads)):
            rows = tuple(
                (
                    point.tiling, size(point.frame_hw), str(point.patches), str(point.threads), str(point.frames),
                    f"{point.total_ms:.1f}", f"{point.network_ms:.1f}", f"{point.overhead_ms:.2f}",
                    f"{point.variation:.2f}",
                )
                for point in points
            )  # fmt: skip
            tables.append((f"{points[0].model}: {name}", Table(headings, rows)))
        batch_rows = tuple(
            (
                str(one.patches), str(one.frames), f"{one.total_ms:.1f}", f"{one.total_ms / one.patches:.2f}",
                f"{one.variation:.2f}",
            )
            for one in scaling.batches
        )  # fmt: skip
        batches = Table(("patches a call", "calls", "p50, ms", "ms a patch", "variation"), batch_rows)
        tables.append((f"{scaling.batches[0].model}: batch (network alone)", batches))
    return tables


def slope_table(report: Report) -> Table:
    """Fitted exponents."""
    rows = tuple(
        (slope.what, f"{slope.exponent:.2f}", f"{slope.residual:.2f}")
        for scaling in report.scaling
        for slope in scaling.slopes
    )
    return Table(("growth", "exponent (1 is linear)", "largest factor off the line"), rows)


def size(frame_hw: Sequence[int]) -> str:
    """`640x480`."""
    return f"{frame_hw[1]}x{frame_hw[0]}"
