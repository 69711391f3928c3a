"""Reports of parity as one table."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from bcseg_edge.errors import DataError
from bcseg_export.parity.command import ParityOptions, parity
from bcseg_export.parity.table import comparison_table, main
from tests.fixtures.grey_busi import write_grey_busi
from tests.fixtures.tiny_model import write_model


def test_a_row_a_report(tmp_path: Path) -> None:
    busi = write_grey_busi(tmp_path / "busi")
    reference = write_model(tmp_path, (64, 64))
    candidates = {
        "plain": write_model(tmp_path, (64, 64), name="plain", passport={"precision": "int8", "target": "cpu"}),
        "judged": write_model(tmp_path, (64, 64), name="judged", passport={"precision": "fp16", "target": "tensorrt"}),
    }
    reports = []
    for name, candidate in candidates.items():
        parity(ParityOptions(reference, candidate, backend="onnxruntime", data=busi, report=tmp_path / name))
        reports.append(tmp_path / name / "parity.json")
    head, _, plain, judged = comparison_table(reports).splitlines()
    assert head.startswith("| model | precision | backend | ms a frame |")
    cells = [cell.strip() for cell in plain.strip("|").split("|")]
    assert cells[:3] == ["plain.onnx", "int8", "onnxruntime"]
    assert float(cells[3]) > 0
    assert cells[5:] == ["1.0000, 1.0000", "100.00 to 100.00", "0 of 6", "0", "0", "passed"]
    assert "| fp16 | onnxruntime (judge) | - | - |" in judged


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 1}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "parity.json"
    path.write_text(text)
    with pytest.raises(DataError, match="report of"):
        comparison_table([path])


def test_a_missing_report_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        main([tmp_path / "parity.json"])
    assert caught.value.exit_code == 2
    assert "parity.json is no report of parity" in capsys.readouterr().err
