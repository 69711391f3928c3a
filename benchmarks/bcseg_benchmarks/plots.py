"""The report's pictures, as SVG for a page."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bcseg_benchmarks.peers.contender import OURS
from bcseg_benchmarks.report import ModelReport, Report
from bcseg_benchmarks.scaling import Scaling
from bcseg_edge.tiling import TILINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito 2008: told apart with any colour vision.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a8f98",
)  # fmt: skip
STAGE_COLOURS = {
    "capture": GREY, "upload": PURPLE, "split": SKY, "network": BLUE, "stitch": GREEN, "download": PURPLE,
    "lesions": ORANGE, "draw": RED, "write": "#b8bcc4",
}  # fmt: skip
TILING_COLOURS = dict(zip(TILINGS, (BLUE, ORANGE, GREEN), strict=True))
WIDTH_IN = 8.4


def draw_svg(height_in: float, draw: Callable[[Axes], None]) -> str:
    """An SVG of one pair of axes, without the parts that only a file needs."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {
        "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "svg.fonttype": "none", "svg.hashsalt": "bcseg-edge", "axes.edgecolor": GREY,
        "axes.titlelocation": "left", "axes.titlesize": 10,
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def stages_svg(report: Report) -> str:
    """What a frame's milliseconds are spent on, stacked, beside the network: a bar a model."""

    def draw(axes: Axes) -> None:
        seen = set()
        widest = max(sum(_stage_medians(model).values()) for model in report.models)
        for row, model in enumerate(report.models):
            left = 0.0
            for stage, value_ms in _stage_medians(model).items():
                label = None if stage in seen else stage
                seen.add(stage)
                axes.barh(row, value_ms, left=left, color=STAGE_COLOURS[stage], label=label, height=0.6)
                if value_ms > 0.05 * widest:
                    axes.text(left + value_ms / 2, row, f"{value_ms:.2f}", ha="center", va="center", fontsize=8)
                left += value_ms
            network = model.latency.stages["network"].p50_ms
            axes.text(left, row, f"  + network {network:.1f} ms", va="center", color=BLUE)
        axes.set_yticks(range(len(report.models)), [model.title for model in report.models])
        axes.invert_yaxis()
        axes.margins(x=0.22)
        axes.set_xlim(left=0)
        axes.set_xlabel("ms, medians; the network is not drawn to scale")
        axes.legend(ncols=7, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)

    return draw_svg(0.9 + 0.45 * len(report.models), draw)


def _stage_medians(model: ModelReport) -> dict[str, float]:
    recording = model.recording
    parts = {} if recording is None else {"capture": recording.capture.p50_ms}
    parts |= {stage: one.p50_ms for stage, one in model.latency.stages.items() if stage != "network" and one.p50_ms}
    return parts if recording is None else parts | {"draw": recording.draw.p50_ms, "write": recording.write.p50_ms}


def course_svg(report: Report) -> str:
    """Every measured frame's latency over the run, relative to its median: drifts and interruptions show."""

    def draw(axes: Axes) -> None:
        colours = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
        for number, model in enumerate(report.models):
            totals_ms = np.array(model.latency.totals_ms)
            times_s = np.cumsum(totals_ms) / 1e3
            relative = totals_ms / np.median(totals_ms)
            axes.plot(times_s, relative, ".", ms=2.5, color=colours[number % len(colours)], label=model.title)
        axes.axhline(1, color=GREY, lw=0.7)
        axes.set_xlabel("seconds into the measurement")
        axes.set_ylabel("latency / its median")
        axes.set_ylim(bottom=0.6)
        axes.legend(ncols=4, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), markerscale=3, fontsize=8)

    return draw_svg(2.4, draw)


def peers_svg(report: Report, model: str) -> str:
    """Median latency of each way, with the extremes of the rounds; ours in blue."""
    peers = [peer for peer in report.peers if peer.model == model and peer.latency is not None]
    peers.sort(key=lambda peer: -float(np.median(peer.round_medians_ms)))

    def draw(axes: Axes) -> None:
        for row, peer in enumerate(peers):
            rounds = np.array(peer.round_medians_ms)
            median = float(np.median(rounds))
            ours, alone = peer.way == OURS, peer.scope == "network alone"
            colour = BLUE if ours else SKY if alone else GREY
            error = [[median - rounds.min()], [rounds.max() - median]]
            axes.barh(row, median, color=colour, height=0.66, xerr=error, error_kw={"lw": 1, "capsize": 2})
            axes.text(rounds.max() * 1.06, row, f"{median:.1f} ms", va="center", fontsize=8)
        names = [f"{peer.way} {peer.precision}" for peer in peers]
        axes.set_yticks(range(len(peers)), names)
        for label, peer in zip(axes.get_yticklabels(), peers, strict=True):
            label.set_fontweight("bold" if peer.way == OURS else "normal")
        axes.set_xscale("log")
        axes.set_xlim(right=axes.get_xlim()[1] * 2)
        axes.set_xlabel("ms a frame, median of the rounds; logarithmic. Light: the network alone, on ready patches")

    return draw_svg(0.8 + 0.27 * len(peers), draw)


def scaling_svg(scaling: Scaling) -> str:
    """Network time over patches, logarithmic, with the fitted lines."""

    def draw(axes: Axes) -> None:
        for tiling in TILINGS:
            points = [point for point in scaling.frame_sizes if point.tiling == tiling]
            counts = np.array([point.patches for point in points], np.float64)
            times = np.array([point.network_ms for point in points])
            slope = next((s for s in scaling.slopes if s.what == f"{tiling}: network over patches"), None)
            fitted = "" if slope is None else f", slope {slope.exponent:.2f}"
            axes.plot(counts, times, "o", color=TILING_COLOURS[tiling], label=f"{tiling}{fitted}")
            if slope is not None:
                offset = float(np.mean(np.log(times) - slope.exponent * np.log(counts)))
                line = np.geomspace(counts.min(), counts.max(), 20)
                axes.plot(line, np.exp(offset) * line**slope.exponent, color=TILING_COLOURS[tiling], lw=1)
        _log_axes(axes, "patches a frame", "network, ms")

    return draw_svg(2.9, draw)


def overhead_svg(scaling: Scaling) -> str:
    """All but the network over the frame's pixels, logarithmic."""

    def draw(axes: Axes) -> None:
        for tiling in TILINGS:
            points = [point for point in scaling.frame_sizes if point.tiling == tiling]
            pixels = [point.frame_hw[0] * point.frame_hw[1] for point in points]
            slope = next((s for s in scaling.slopes if s.what == f"{tiling}: all else over pixels"), None)
            fitted = "" if slope is None else f", slope {slope.exponent:.2f}"
            values = [point.overhead_ms for point in points]
            axes.plot(pixels, values, "o-", lw=1, color=TILING_COLOURS[tiling], label=f"{tiling}{fitted}")
        _log_axes(axes, "pixels a frame", "all but the network, ms")

    return draw_svg(2.9, draw)


def batch_svg(scaling: Scaling) -> str:
    """Milliseconds a patch over the batch."""

    def draw(axes: Axes) -> None:
        points = scaling.batches
        _counted_line(axes, [(point.patches, point.total_ms / point.patches) for point in points])
        axes.set_xlabel("patches a call")
        axes.set_ylabel("network, ms a patch")

    return draw_svg(2.2, draw)


def threads_svg(scaling: Scaling) -> str:
    """A frame's milliseconds over the threads, and what they would be if every thread counted in full."""

    def draw(axes: Axes) -> None:
        points = scaling.threads
        _counted_line(axes, [(point.threads, point.total_ms) for point in points])
        ideal = [points[0].total_ms / point.threads for point in points]
        axes.plot([point.threads for point in points], ideal, "--", color=GREY, lw=1, label="in proportion")
        axes.set_xlabel("threads")
        axes.set_ylabel("frame, ms")
        axes.legend(frameon=False, fontsize=8)

    return draw_svg(2.2, draw)


def _counted_line(axes: Axes, points: list[tuple[int, float]]) -> None:
    counts, values = zip(*points, strict=True)
    axes.plot(counts, values, "o-", color=BLUE, lw=1)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(bottom=0)


def roofline_svg(report: Report) -> str:
    """Achieved operations per second under the measured roof."""
    roofline = report.roofline
    if roofline is None:
        return ""
    peak = roofline.peak

    def draw(axes: Axes) -> None:
        ridge = peak.gflops / peak.gbytes
        most = max([one.intensity for one in roofline.achieved] + [ridge]) * 4
        x = np.geomspace(min(1.0, ridge / 8), most, 60)
        axes.plot(x, np.minimum(peak.gflops, x * peak.gbytes), color="#444", lw=1.4)
        product = f"float32 matrix product ({peak.library}) {peak.gflops:.0f} Gflop/s"
        axes.text(most, peak.gflops * 1.05, product, ha="right", va="bottom")
        axes.text(x[2], x[2] * peak.gbytes * 1.35, f"copy {peak.gbytes:.0f} GB/s", va="bottom")
        colours = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
        for number, one in enumerate(roofline.achieved):
            label = f"{one.model}: {one.gflops:.0f} G/s, {one.share:.0%}"
            axes.plot(one.intensity, one.gflops, "o", ms=7, color=colours[number % len(colours)], label=label)
        _log_axes(axes, "operations per byte of unfused traffic", "10⁹ operations per second")
        axes.legend(frameon=False, loc="lower right", fontsize=8)

    return draw_svg(3.0, draw)


def _log_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(True, which="major", color="#e4e6ea", lw=0.7)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False, fontsize=8)
