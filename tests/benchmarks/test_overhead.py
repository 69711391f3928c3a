"""The overhead benchmark measures every stage and says so in a table and in JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from bcseg_benchmarks.overhead import STAGES, measure_overhead
from bcseg_benchmarks.timing import summarise
from bcseg_edge.errors import DataError
from bcseg_edge.models import load_model
from tests.fixtures.tiny_model import write_model


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bcseg_benchmarks.overhead", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("tiling", "patches"), [("paper", 6), ("overlap", 8), ("frame", 1)])
def test_every_stage_is_measured(tmp_path, tiling, patches):
    images = [np.full((96, 160), grey, np.uint8) for grey in (100, 200)]
    with load_model(write_model(tmp_path, (64, 64))) as model:
        result = measure_overhead(model, images, tiling, frames=4, warm_up=1)
    assert tuple(result.stages) == STAGES
    assert (result.patches, result.tiling, result.frames) == (patches, tiling, 4)
    assert result.lesions_per_frame > 0
    assert all(0 < latency.median_ms <= latency.p95_ms for latency in result.stages.values())
    largest = max(latency.median_ms for stage, latency in result.stages.items() if stage != "network")
    assert result.overhead.median_ms >= largest


def test_nothing_to_measure_is_refused(tmp_path):
    with load_model(write_model(tmp_path, (64, 64))) as model, pytest.raises(DataError, match="0 images"):
        measure_overhead(model, [])


def test_json_from_the_command_line(tmp_path):
    model = write_model(tmp_path, (64, 64))
    process = run("--model", str(model), "--frame-size", "160x96", "--tiling", "paper", "--frames", "3", "--json")
    assert process.returncode == 0, process.stderr
    record = json.loads(process.stdout)
    assert list(record["stages"]) == list(STAGES)
    assert record["frame_hw"] == [96, 160]
    assert record["overhead"]["median_ms"] > 0


def test_a_table_from_the_command_line(tmp_path):
    process = run("--model", str(write_model(tmp_path, (64, 64))), "--frame-size", "160x96", "--frames", "3")
    assert process.returncode == 0, process.stderr
    for said in (*STAGES, "all but network", "target of 4 ms"):
        assert said in process.stdout


def test_a_missing_model_exits_2_with_the_hint():
    process = run("--model", "missing.onnx")
    assert process.returncode == 2
    assert process.stderr.startswith("error: no model file")
    assert "hint: " in process.stderr


def test_the_statistics_of_known_durations():
    latency = summarise([1_000_000 * value for value in range(1, 102)])
    assert (latency.median_ms, latency.p95_ms) == (51, 96)
    assert latency.variation == pytest.approx(np.std(np.arange(1, 102)) / 51)
