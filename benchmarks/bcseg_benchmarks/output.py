"""Where a report goes: the terminal, and a folder."""

from __future__ import annotations

import json
from pathlib import Path

from bcseg_benchmarks.checks import require_met
from bcseg_benchmarks.differences import comparability, find_changes
from bcseg_benchmarks.markdown import changes_table, markdown, table
from bcseg_benchmarks.report import Report, read_report, to_json
from bcseg_edge.errors import BcsegError
from bcseg_edge.files import write_text_atomic


def read_old(path: Path | None) -> Report | None:
    """The former report, where there is one to compare with; DataError where it is none."""
    return None if path is None else read_report(path)


def printed(report: Report, old: Report | None, *, as_json: bool) -> str:
    """The report as text for a terminal, with what changed since `old`; or both as JSON."""
    if as_json:
        content = report.model_dump(mode="json")
        if old is not None:
            content["changes"] = [
                {**change._asdict(), "verdict": change.verdict} for change in find_changes(old, report)
            ]
            content["comparability"] = comparability(old, report)
        return json.dumps(content)
    text = markdown(report)
    return text if old is None else f"{text}\n{changes_text(old, report)}"


def changes_text(old: Report, new: Report) -> str:
    """What changed, as Markdown."""
    notes = [f"- {note}" for note in comparability(old, new)]
    changes = find_changes(old, new)
    beyond = sum(change.beyond_noise for change in changes)
    summary = f"{beyond} of {len(changes)} figures changed beyond the noise."
    return "\n\n".join([f"## Since {old.created}", summary, *notes, table(changes_table(changes))])


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json`, `report.md` and `report.html` into `folder`.

    Raises:
        BcsegError: matplotlib is not installed; JSON and Markdown are written all the same.
        DataError: the folder cannot be written.
    """
    write_text_atomic(folder / "report.json", to_json(report))
    write_text_atomic(folder / "report.md", markdown(report))
    try:
        from bcseg_benchmarks.page import html

        page = html(report)
    except ModuleNotFoundError as error:
        raise BcsegError(
            f"report.html needs {error.name}, which is not installed", 'pip install "bcseg-edge[bench]"'
        ) from error
    write_text_atomic(folder / "report.html", page)


def require_ratios(report: Report) -> None:
    """RatiosMissed (exit 3) where a checked ratio is below its threshold."""
    require_met(report.checks)
