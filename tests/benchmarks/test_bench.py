"""`bcseg-edge bench` from the command line: reports, comparison, checks; and the README's section."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from bcseg_benchmarks import command
from bcseg_benchmarks.differences import find_changes
from bcseg_benchmarks.options import BenchOptions
from bcseg_benchmarks.output import changes_text, write_report
from bcseg_benchmarks.peers.benchmark_app import run_benchmark_app
from bcseg_benchmarks.peers.comparison import Peer
from bcseg_benchmarks.peers.contender import OURS
from bcseg_benchmarks.readme import BEGIN, END, REPORT, replaced
from bcseg_benchmarks.report import Report, read_report
from bcseg_benchmarks.scaling import fit_slope, measure_scaling, thread_counts
from bcseg_benchmarks.subjects import open_subjects
from bcseg_edge.errors import DataError
from bcseg_edge.tiling import TileGrid
from tests.fixtures.tiny_model import write_model

ROOT = Path(__file__).parents[2]
SHORT = ("--frames", "3", "--seconds", "0", "--warm-up", "0.2", "--rounds", "2", "--cold-starts", "0")
SHORT += ("--recording", "0", "--no-roofline", "--threads", "1")


def bench(*arguments, timeout=600):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = [sys.executable, "-m", "bcseg_edge", "bench", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=timeout, check=False, env=environment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report on the tiny model, with everything that needs no training weights."""
    folder = tmp_path_factory.mktemp("bench")
    model = write_model(folder, (64, 64))
    done = bench(
        *("--model", str(model), "--frame-size", "160x96", "--peers", "onnxruntime-alone,openvino-alone"),
        *("--frames", "20", "--seconds", "0", "--cold-starts", "1", "--recording", "3", "--threads", "1"),
        *("--report", str(folder / "out")),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_everything_is_measured_and_adds_up(folder):
    report = read_report(folder / "out" / "report.json")
    (model,) = report.models
    assert (model.title, model.patches, model.tiling) == ("tiny fp32", 6, "paper")
    assert model.latency.total.count >= 20
    parts = sum(stage.mean_ms for stage in model.latency.stages.values())
    assert 0 < parts <= model.latency.total.mean_ms < 1.2 * parts + 0.5  # wall time: stages, and what is between them
    network_ms = model.latency.stages["network"].mean_ms
    assert model.latency.overhead.mean_ms == pytest.approx(model.latency.total.mean_ms - network_ms)
    assert len(model.latency.totals_ms) == model.latency.total.count
    assert model.throughput.fps > 0
    assert model.recording is not None
    assert model.recording.capture.p50_ms > 0
    assert model.cold_start is not None
    assert sum(model.cold_start.steps_ms.values()) == pytest.approx(model.cold_start.later.p50_ms)
    assert model.work is not None
    assert model.work.mac == 3 * 64 * 64  # a 1x1 convolution from one channel to three
    assert [peer.way for peer in report.peers] == ["bcseg-edge", "onnxruntime-alone", "openvino-alone"]
    assert all(len(peer.round_medians_ms) == 5 for peer in report.peers)
    assert any("short run" in warning for warning in report.warnings)


def test_the_page_needs_nothing_beside_itself(folder):
    page = (folder / "out" / "report.html").read_text()
    assert page.count("<svg") >= 4
    for outside in ("<script", "<link", "<img", 'src="http', "@import"):
        assert outside not in page
    for said in ("tiny fp32", "onnxruntime-alone", "Read with care", "Machine"):
        assert said in page


def test_markdown_says_what_the_page_says(folder):
    text = (folder / "out" / "report.md").read_text()
    for said in ("| tiny fp32 |", "| onnxruntime-alone |", "**Doubtful:** a short run", "## Machine"):
        assert said in text


def test_a_report_does_not_differ_from_itself_and_a_slower_one_does(folder):
    report = read_report(folder / "out" / "report.json")
    assert not any(change.beyond_noise for change in find_changes(report, report))
    content = json.loads((folder / "out" / "report.json").read_text())
    content["models"][0]["latency"]["total"]["variation"] = 0.05  # however busy this machine was
    report = Report.model_validate(content)
    content["models"][0]["latency"]["total"]["p50_ms"] *= 3
    slower = Report.model_validate(content)
    (change,) = [change for change in find_changes(report, slower) if change.beyond_noise]
    assert (change.what, change.verdict) == ("tiny fp32: latency", "worse")
    assert find_changes(slower, report)[0].verdict == "better"
    assert "1 of" in changes_text(report, slower)


def peer(precision, way, median_ms):
    """A peer of three equal rounds."""
    facts = {"model": "m", "how": "", "source": "", "scope": "frame to labels"}
    return Peer(precision=precision, way=way, round_medians_ms=(median_ms,) * 3, **facts)


def test_a_peers_ratio_is_to_our_way_of_its_precision(folder):
    """Our INT8 got slower, our float32 did not."""
    report = read_report(folder / "out" / "report.json").model_copy(update={"models": ()})
    others = [peer("fp32", "eager", 60.0), peer("bf16", "compiled", 30.0), peer("auto", "default", 30.0)]
    others += [peer("int8", "alone", 10.0)]
    before, after = (
        report.model_copy(update={"peers": (peer("fp32", OURS, 20.0), peer("int8", OURS, our_ms), *others)})
        for our_ms in (10.0, 20.0)
    )
    changes = {change.what: (change.old, change.new, change.verdict) for change in find_changes(before, after)}
    assert changes == {
        "m fp32 eager / m fp32 bcseg-edge": (3, 3, "within noise"),
        "m bf16 compiled / m fp32 bcseg-edge": (1.5, 1.5, "within noise"),
        "m auto default / m fp32 bcseg-edge": (1.5, 1.5, "within noise"),
        "m int8 alone / m int8 bcseg-edge": (1, 0.5, "worse"),
    }


def test_what_is_no_report_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"format_version": 1}')
    with pytest.raises(DataError, match="not a report"):
        read_report(tmp_path / "x.json")
    with pytest.raises(DataError, match="no report at"):
        read_report(tmp_path / "missing.json")


def test_a_report_is_written_as_it_was_read(folder, tmp_path):
    write_report(read_report(folder / "out" / "report.json"), tmp_path)
    for name in ("report.json", "report.md", "report.html"):
        assert (tmp_path / name).read_text() == (folder / "out" / name).read_text()


def test_one_report_holds_a_model_in_two_tilings(tmp_path):
    model = write_model(tmp_path, (64, 64))
    text = '[[ratio]]\nwhy = "one window"\nslower = "tiny@paper fp32 pytorch-eager-loop"\n'
    text += 'faster = "tiny@frame fp32 bcseg-edge"\nat_least = 0\n'
    (tmp_path / "x.toml").write_text(text)
    done = bench(
        *("--model", f"{model}@frame", "--model", f"{model}@paper", "--frame-size", "160x96", "--json"),
        *("--check", str(tmp_path / "x.toml"), "--peers", "onnxruntime-alone", *SHORT),
    )
    report = Report.model_validate_json(done.stdout)
    assert [(model.title, model.tiling, model.patches) for model in report.models] == [
        ("tiny@frame fp32", "frame", 1),
        ("tiny@paper fp32", "paper", 6),
    ]
    assert {peer.model for peer in report.peers} == {"tiny@frame", "tiny@paper"}
    assert done.returncode == 3  # PyTorch cannot read the tiny model: what was not measured does not pass
    assert "'tiny@paper fp32 pytorch-eager-loop' was not measured" in done.stderr


def test_two_tilings_share_the_files_of_a_model(tmp_path):
    one, other = open_subjects(("edge@frame", "edge@paper"), (), ("fp32",), tmp_path)
    assert (one.name, other.name) == ("edge@frame", "edge@paper")
    assert (one.tiling, other.tiling) == ("frame", "paper")
    assert one.path == other.path
    (own,) = open_subjects(("edge", "edge"), (), ("fp32",), tmp_path)  # twice the same is once
    assert (own.name, own.tiling) == ("edge", None)


def test_benchmark_app_takes_our_settings(tmp_path):
    pytest.importorskip("openvino")
    (subject,) = open_subjects((str(write_model(tmp_path, (64, 64))),), (), (), tmp_path)
    measured = run_benchmark_app(subject, TileGrid((64, 64), (64, 64), "paper"), threads=1, seconds=1)
    assert measured.problem == ""
    assert measured.median_ms is not None
    assert measured.iterations > 0


def test_threads_double_up_to_all():
    assert [thread_counts(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(("named", "tiling"), [("", "overlap"), ("@frame", "frame")])
def test_threads_are_measured_in_the_measured_tiling(named, tiling, tmp_path, monkeypatch):
    """That of the option, where the model names none."""
    monkeypatch.setattr(command, "measure_scaling", partial(measure_scaling, frame_sizes_hw=((64, 64),)))
    model = f"{write_model(tmp_path, (64, 64))}{named}"
    short = {"min_frames": 1, "min_seconds": 0, "warm_up_s": 0, "cold_starts": 0, "recording_frames": 0}
    short |= {"roofline": False, "scaling": True, "scaling_frames": 1, "scaling_s": 0}
    report = command.bench(BenchOptions(models=(model,), tiling="overlap", frame_hw=(96, 160), threads=2, **short))
    assert report.models[0].tiling == tiling
    assert [point.tiling for point in report.scaling[0].threads] == [tiling] * 2


def test_ci_ratios_hold():
    limits = str(ROOT / "benchmarks" / "ci.toml")
    done = bench("--precision", "fp32", "--check", limits, *SHORT, "--rounds", "5")  # two may be disturbed
    assert done.returncode == 0, done.stderr
    assert "| met |" in done.stdout


def test_a_missed_ratio_exits_3(tmp_path):
    write_model(tmp_path, (64, 64))
    text = '[[ratio]]\nwhy = "w"\nslower = "tiny fp32 openvino-alone"\nfaster = "tiny fp32 bcseg-edge"\nat_least = 99\n'
    (tmp_path / "x.toml").write_text(text)
    done = bench("--model", str(tmp_path / "tiny.onnx"), "--check", str(tmp_path / "x.toml"), *SHORT)
    assert done.returncode == 3
    assert "error: 1 of 1 ratios missed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "missing.onnx"), "no model file"),
        (("--frame-size", "big"), "not WIDTHxHEIGHT"),
        (("--tiling", "none"), "unknown tiling"),
        (("--precision", "int4"), "int4"),
        (("--check", "missing.toml"), "no thresholds"),
        (("--compare", "missing.json"), "no report"),
    ],
)
def test_wrong_use_exits_2(arguments, message):
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3])
def test_the_slope_of_a_power_law_is_its_exponent(exponent):
    x = [1, 4, 9, 100]
    slope = fit_slope("x", x, [2.5 * value**exponent for value in x])
    assert (slope.exponent, slope.residual) == (pytest.approx(exponent), pytest.approx(1))


def test_the_readme_says_what_the_report_says():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert replaced(text, read_report(REPORT)) == text, "run: python -m bcseg_benchmarks.readme"


def test_a_text_without_marks_is_refused():
    with pytest.raises(DataError, match="no marks"):
        replaced(f"{END} {BEGIN}", read_report(REPORT))
