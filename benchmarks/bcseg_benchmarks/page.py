"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from html import escape
from importlib import resources

from bcseg_benchmarks.figures import (
    Table,
    above_backend,
    conditions,
    cross_table,
    distribution_table,
    footnotes,
    marked,
    peer_models,
    peer_table,
    scaling_tables,
    size,
    slope_table,
    slowest_stage,
    summary_table,
)
from bcseg_benchmarks.peers.contender import OURS
from bcseg_benchmarks.plots import (
    batch_svg,
    course_svg,
    overhead_svg,
    peers_svg,
    roofline_svg,
    scaling_svg,
    stages_svg,
    threads_svg,
)
from bcseg_benchmarks.report import ModelReport, Report


def html(report: Report) -> str:
    """The whole page."""
    style = resources.files("bcseg_benchmarks").joinpath("page.css").read_text(encoding="utf-8")
    body = "".join(
        (
            _head(report),
            _cards(report),
            _section("Models", _table(summary_table(report)) + _notes(footnotes(report))),
            _section("Where the time goes", _stages(report)),
            _peers(report),
            _checks(report),
            _scaling(report),
            _roofline(report),
            _section("How it was measured", _method(report)),
            _section("Machine", _machine(report)),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>bcseg-edge bench</title>'
        '<meta name="viewport" content="width=device-width"><style>'
        f"{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def _head(report: Report) -> str:
    settings = report.settings
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    return (
        "<h1>bcseg-edge bench</h1>"
        f'<p class="soft">{escape(report.machine.name)}, {settings.threads} threads. Frames of '
        f"{size(settings.frame_hw)}. "
        f"{escape(report.created)}, version {escape(report.version)}, commit "
        f"{escape(report.machine.commit or 'unknown')}; "
        f"the run took {report.seconds / 60:.1f} minutes.</p><p><code>{escape(report.command)}</code></p>"
        + (f'<section class="warn"><b>Read with care</b><ul>{warnings}</ul></section>' if warnings else "")
    )


def _cards(report: Report) -> str:
    return '<div class="cards">' + "".join(_card(model) for model in report.models) + "</div>"


def _card(model: ModelReport) -> str:
    latency, cold = model.latency, model.cold_start
    started = "" if cold is None else f"; first mask {cold.later.p50_ms / 1e3:.2f} s after process start"
    return (
        f'<div class="card"><span class="name">{escape(marked(model))}</span><b>{latency.total.p50_ms:.1f} ms</b>'
        f"<small>p95 {latency.total.p95_ms:.1f}, p99 {latency.total.p99_ms:.1f}, max "
        f"{latency.total.max_ms:.1f} ms</small>"
        f"<small>{model.throughput.fps:.1f} frames/s; tiling {model.tiling}, {model.patches} "
        f"patches{started}</small></div>"
    )


def _stages(report: Report) -> str:
    limits = "".join(
        f"<li>{escape(model.title)}: the slowest stage beside the network is <b>{stage}</b> with {stage_ms:.2f} ms; "
        f"all but the network take {model.latency.overhead.p50_ms:.2f} ms of {model.latency.total.p50_ms:.1f} ms.</li>"
        for model in report.models
        for stage, stage_ms in (slowest_stage(model),)
    )
    details = "".join(
        f"<details><summary>{escape(model.title)}: all percentiles</summary>{_table(distribution_table(model))}"
        f"{_cold_steps(model)}</details>"
        for model in report.models
    )
    return f"{stages_svg(report)}<ul>{limits}</ul><h3>Every frame of the latency run</h3>{course_svg(report)}{details}"


def _cold_steps(model: ModelReport) -> str:
    cold = model.cold_start
    if cold is None:
        return ""
    steps = ", ".join(f"{name} {value:.0f}" for name, value in cold.steps_ms.items())
    return f'<p class="soft">Cold start, ms: {steps}; the very first, with an empty cache: {cold.first_ms:.0f}.</p>'


def _peers(report: Report) -> str:
    if not report.peers:
        return ""
    settings = report.settings
    parts = [
        f"<p>One run, interleaved: {settings.peer_rounds} rounds in changing order, "
        f"{settings.peer_slice_s:g} s a slice, the "
        "same frames and threads for all. A ratio is the median of the rounds' ratios, in brackets their extremes: how "
        "many times as long it takes as our way of the column. <i>Same labels</i>: pixels on which it "
        "agrees with PyTorch "
        "in float32.</p>"
    ]
    for model in peer_models(report):
        parts += [f"<h3>{escape(model)}</h3>", peers_svg(report, model), _table(peer_table(report, model), mark=OURS)]
    if len(cross_table(report).rows) > 1:
        parts += ["<h3>Our models against each other, each with its tiling</h3>", _table(cross_table(report))]
    above = [
        f"<li>{escape(title)}: {median:+.2f} ms ({low:+.2f} to {high:+.2f})</li>"
        for title, median, low, high in above_backend(report)
    ]
    if above:
        parts.append(f"<h3>A frame, above the backend alone on ready patches</h3><ul>{''.join(above)}</ul>")
    apps = [
        f"<li><code>{escape(app.command)}</code>: "
        f"{escape(app.problem or f'{app.median_ms} ms, {app.iterations} iterations')}</li>"
        for app in report.benchmark_app
    ]
    if apps:
        parts.append(f"<h3>OpenVINO's own numbers (not interleaved)</h3><ul>{''.join(apps)}</ul>")
    ways = {(peer.way, peer.precision): peer for peer in report.peers}
    rows = tuple((f"{way} {precision}", peer.how, peer.source) for (way, precision), peer in ways.items())
    parts.append(
        f"<details><summary>Settings of each "
        f"way</summary>{_table(Table(('way', 'how', 'as in'), rows), 'left')}</details>"
    )
    return _section("Peers", "".join(parts))


def _checks(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(item.threshold.why)}</td><td>{item.threshold.at_least:g}</td><td>"
        + (
            escape(item.problem)
            if item.measured is None
            else f"{item.measured.median:.2f} ({item.measured.low:.2f} to {item.measured.high:.2f})"
        )
        + f'</td><td class="{"met" if item.met else "missed"}">{"met" if item.met else "missed"}</td></tr>'
        for item in report.checks
    )
    heading = "<tr><th>ratio</th><th>at least</th><th>measured</th><th></th></tr>"
    return _section("Targets", f"<table>{heading}{rows}</table>") if rows else ""


def _scaling(report: Report) -> str:
    parts = []
    for scaling in report.scaling:
        parts += [
            f'<p class="soft">{escape(scaling.frame_sizes[0].model)}. Each point: at least '
            f"{scaling.min_frames} frames and "
            f"{scaling.seconds_per_point:g} s after a short warm-up, fewer than in the main measurement.</p>",
            "<h3>Network over patches, for frames from 128x128 to 3840x2160</h3>",
            scaling_svg(scaling),
            "<h3>All else over pixels</h3>",
            overhead_svg(scaling),
            "<h3>Batch</h3>",
            batch_svg(scaling),
            "<h3>Threads</h3>",
            threads_svg(scaling),
        ]
    if not parts:
        return ""
    tables = "".join(
        f"<details><summary>{escape(name)}</summary>{_table(content)}</details>"
        for name, content in scaling_tables(report)
    )
    return _section("Scaling", "".join(parts) + _table(slope_table(report)) + tables)


def _roofline(report: Report) -> str:
    if report.roofline is None:
        return ""
    text = (
        "<p>The roof is what this machine did in the same run: a float32 matrix product by "
        f"{escape(report.roofline.peak.library)} and copies on all threads. Traffic is counted per convolution without "
        "fusion, so a point lies too far left rather than too far right. The roof was reached and is no limit: a "
        "network may lie above it, in INT8 above all, which has instructions of its own.</p>"
    )
    return _section("Roofline", text + roofline_svg(report))


def _method(report: Report) -> str:
    settings = report.settings
    rounds = "".join(f"<li>{escape(line)}</li>" for line in map(conditions, report.models))
    return (
        f"<p>{escape(settings.workload)}. Warm-up until two neighbouring windows of 10 frames have medians "
        f"within 5 %, at "
        f"most {settings.warm_up_limit_s:g} s; then at least {settings.min_frames} frames and "
        f"{settings.min_seconds:g} s. "
        "Latency (one frame at a time, from having it to knowing its lesions) and throughput are separate "
        "runs. Nothing is "
        "trimmed. A variation (standard deviation over mean) above 0.1 is marked noisy.</p>"
        f"<ul>{rounds}</ul>"
    )


def _machine(report: Report) -> str:
    facts = Table(("fact", "value"), tuple(report.machine.facts.items()))
    packages = Table(("package", "version"), tuple(report.machine.packages.items()))
    load = report.machine.load_before
    return (
        _table(facts, "left")
        + f"<p>Load before the run: {'not shown' if load is None else f'{load:.2f}'}.</p>"
        + f"<details><summary>Packages</summary>{_table(packages, 'left')}</details>"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2><section>{content}</section>"


def _notes(notes: list[str]) -> str:
    return "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)


def _table(content: Table, style: str = "", mark: str = "") -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in content.headings)
    opening = {True: '<tr class="ours">', False: "<tr>"}
    rows = "".join(
        opening[bool(mark) and row[0] == mark] + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in content.rows
    )
    return f'<div class="scroll"><table class="{style}"><tr>{head}</tr>{rows}</table></div>'
