"""The report as Markdown."""

from __future__ import annotations

from bcseg_benchmarks.differences import Change
from bcseg_benchmarks.figures import (
    Table,
    above_backend,
    checks_table,
    conditions,
    cross_table,
    distribution_table,
    footnotes,
    peer_models,
    peer_table,
    scaling_tables,
    size,
    slope_table,
    slowest_stage,
    summary_table,
)
from bcseg_benchmarks.report import Report


def markdown(report: Report) -> str:
    """All tables, with where and how they were measured."""
    settings = report.settings
    parts = [
        "# bcseg-edge bench",
        f"{report.machine.name}, {settings.threads} threads; frames of {size(settings.frame_hw)}; "
        f"{report.created}, bcseg-edge {report.version}, {report.seconds:.0f} s.",
        f"Made by: `{report.command}`",
        *(f"**Doubtful:** {warning}." for warning in report.warnings),
        "## Models",
        table(summary_table(report)),
        *(f"- {note}" for note in footnotes(report)),
        "## Stages",
        *(f"### {model.title}\n\n{table(distribution_table(model))}" for model in report.models),
        *(
            f"- {model.title}: slowest stage beside the network: {stage}, {stage_ms:.2f} ms"
            for model in report.models
            for stage, stage_ms in (slowest_stage(model),)
        ),
        *_peers(report),
        *_checks(report),
        *_scaling(report),
        *_roofline(report),
        "## How it was measured",
        *(f"- {conditions(model)}" for model in report.models),
        "## Machine",
        table(Table(("fact", "value"), (*report.machine.facts.items(), *report.machine.packages.items()))),
    ]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def table(content: Table) -> str:
    """A Markdown table; figures to the right."""
    rule = ["---"] + ["---:"] * (len(content.headings) - 1)
    lines = (content.headings, rule, *content.rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def changes_table(changes: list[Change]) -> Table:
    """What two reports differ in."""
    rows = tuple(
        (
            change.what,
            f"{change.old:.2f} {change.unit}",
            f"{change.new:.2f} {change.unit}",
            f"{change.relative:+.1%}",
            f"{change.noise:.1%}",
            change.verdict,
        )
        for change in changes
    )
    return Table(("figure", "old", "new", "change", "noise", "verdict"), rows)


def _peers(report: Report) -> list[str]:
    if not report.peers:
        return []
    settings = report.settings
    parts = [
        "## Peers",
        f"One run, interleaved: {settings.peer_rounds} rounds in changing order, {settings.peer_slice_s:g} s a slice. "
        "Ratios are medians of the rounds' ratios, with the extremes of the rounds.",
        *(f"### {model}\n\n{table(peer_table(report, model))}" for model in peer_models(report)),
    ]
    if len(cross_table(report).rows) > 1:
        parts += ["### Our models against each other, each with its tiling", table(cross_table(report))]
    parts += [
        f"- {title}: {median:+.2f} ms ({low:+.2f} to {high:+.2f}) above the backend alone"
        for title, median, low, high in above_backend(report)
    ]
    parts += [
        f"- `{app.command}`: {app.problem or f'{app.median_ms} ms ({app.iterations} iterations)'}"
        for app in report.benchmark_app
    ]
    return parts


def _checks(report: Report) -> list[str]:
    return ["## Targets", table(checks_table(report))] if report.checks else []


def _scaling(report: Report) -> list[str]:
    if not report.scaling:
        return []
    scaling = report.scaling[0]
    intro = (
        f"Each point: at least {scaling.min_frames} frames and {scaling.seconds_per_point:g} s after a short warm-up; "
        "fewer than in the main measurement."
    )
    tables = [f"### {name}\n\n{table(content)}" for name, content in scaling_tables(report)]
    return ["## Scaling", intro, table(slope_table(report)), *tables]


def _roofline(report: Report) -> list[str]:
    if report.roofline is None:
        return []
    peak = report.roofline.peak
    rows = tuple(
        (one.model, f"{one.gflops:.0f}", f"{one.intensity:.1f}", f"{one.share:.0%}") for one in report.roofline.achieved
    )
    intro = (
        f"Measured peak: {peak.gflops:.0f} Gflop/s (float32 matrix product by {peak.library}), {peak.gbytes:.1f} GB/s "
        f"(copies on {peak.threads} threads). That is what was reached, not a limit: a network may lie above it, "
        "in INT8 above all."
    )
    headings = ("model", "G operations/s", "operations/byte", "of the float32 roof")
    return ["## Roofline", intro, table(Table(headings, rows))]
