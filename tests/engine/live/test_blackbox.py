"""The black box: bounded, readable whatever happened, and replayed bit for bit by the same model file."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bcseg_edge.errors import DataError
from bcseg_edge.live.blackbox import (
    RUNS_KEPT,
    BlackBoxSink,
    RunFacts,
    find_runs,
    read_records,
    read_run_facts,
)
from bcseg_edge.live.replay import replay
from bcseg_edge.live.results import Validity
from tests.fixtures.live_results import square
from tests.fixtures.tiny_model import expected_labels, write_model

ROOT = Path(__file__).parents[3]
FACTS = RunFacts("model.onnx", "0" * 64, "onnxruntime", "frame", "0.1.0")


def noisy(index, validity=Validity.OK, hz=30):
    """A result with an image of its own, and the labels that the tiny model gives it."""
    result = square(index, validity)
    image = np.random.default_rng(index).integers(0, 256, (48, 64), dtype=np.uint8)
    frame = dataclasses.replace(result.frame, image=image, captured_ns=int(index * 1e9 / hz))
    segmentation = result.segmentation and dataclasses.replace(result.segmentation, labels=expected_labels(image))
    return dataclasses.replace(result, frame=frame, segmentation=segmentation)


def test_what_was_written_comes_back_exactly(tmp_path):
    box = BlackBoxSink(tmp_path, FACTS, 60)
    results = [noisy(index, validity) for index, validity in enumerate(Validity)]
    for result in results:
        box.write_result(result)
    box.close()
    box.close()
    (run,) = find_runs(tmp_path)
    assert read_run_facts(run) == FACTS
    records = list(read_records(run))
    assert [record.facts["validity"] for record in records] == [validity.value for validity in Validity]
    for record, result in zip(records, results, strict=True):
        np.testing.assert_array_equal(record.image, result.frame.image)
        assert (record.labels is None) == (result.segmentation is None)
        if record.labels is not None:
            np.testing.assert_array_equal(record.labels, result.segmentation.labels)


def test_labels_of_a_hidden_image_are_not_recorded(tmp_path):
    box = BlackBoxSink(tmp_path, FACTS, 60)
    box.write_result(dataclasses.replace(noisy(0), hidden=True))
    box.write_result(noisy(1))
    box.close()
    assert [record.labels is None for record in read_records(find_runs(tmp_path)[0])] == [True, False]


def test_what_the_backend_said_is_kept_where_something_else_was_shown(tmp_path):
    computed = np.full((48, 64), 2, np.uint8)
    box = BlackBoxSink(tmp_path, FACTS, 60)
    box.write_result(dataclasses.replace(noisy(0), computed_labels=computed))
    box.close()
    (record,) = read_records(box.folder)
    np.testing.assert_array_equal(record.labels, computed)


def test_only_the_last_seconds_stay(tmp_path):
    box = BlackBoxSink(tmp_path, FACTS, 3)
    for index in range(300):
        box.write_result(noisy(index))
    box.close()
    indices = [record.facts["index"] for record in read_records(box.folder)]
    assert indices == list(range(indices[0], 300))
    assert 3 * 30 <= len(indices) <= 5 * 30


def test_the_bytes_are_bounded_whatever_the_seconds(tmp_path):
    bound = 200_000
    box = BlackBoxSink(tmp_path, FACTS, 3600, max_bytes=bound)
    for index in range(300):
        box.write_result(noisy(index))
        assert sum(path.stat().st_size for path in box.folder.iterdir()) < bound + 10_000
    box.close()
    assert [record.facts["index"] for record in read_records(box.folder)][-1] == 299


def test_a_frozen_image_is_stored_once(tmp_path):
    box = BlackBoxSink(tmp_path, FACTS, 60)
    first = noisy(0)
    for index in range(20):
        frame = dataclasses.replace(first.frame, index=index, image=first.frame.image.copy())
        box.write_result(dataclasses.replace(first, frame=frame, validity=Validity.FROZEN))
    box.close()
    assert sum(path.stat().st_size for path in box.folder.glob("*.segment")) < 20 * 3072 * 0.7  # labels apart
    records = list(read_records(box.folder))
    assert len(records) == 20
    np.testing.assert_array_equal(records[-1].image, first.frame.image)


def test_a_restart_keeps_the_runs_before_it_but_not_for_ever(tmp_path):
    for index in range(RUNS_KEPT + 3):
        box = BlackBoxSink(tmp_path, FACTS, 60)
        box.write_result(noisy(index))
        box.close()
    runs = find_runs(tmp_path)
    assert len(runs) == RUNS_KEPT + 1
    assert [next(read_records(run)).facts["index"] for run in runs] == [2, 3, 4, 5]


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage"])
def test_damage_costs_the_rest_of_a_segment_and_no_more(tmp_path, damage):
    box = BlackBoxSink(tmp_path, FACTS, 60)
    for index in range(90):
        box.write_result(noisy(index))
    box.close()
    first, second, *_ = sorted(box.folder.glob("*.segment"))
    in_first = sum(1 for record in read_records(box.folder) if record.facts["captured_ns"] <= 1e9)
    data = bytearray(second.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 0x10
    else:
        data[:] = os.urandom(len(data))
    second.write_bytes(data)
    indices = [record.facts["index"] for record in read_records(box.folder)]
    assert indices == sorted(indices)
    assert len(indices) < 90
    assert indices[:in_first] == list(range(in_first))
    assert indices[-1] == 89
    assert first.exists()


def test_no_box_and_no_time_are_refused(tmp_path):
    with pytest.raises(DataError, match="no black box"):
        find_runs(tmp_path)
    for seconds in (0, -1, float("nan"), 1e9):
        with pytest.raises(DataError, match="black box of"):
            BlackBoxSink(tmp_path, FACTS, seconds)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        read_run_facts(tmp_path)


KILLED = """
import sys
from pathlib import Path
from bcseg_edge.live.blackbox import BlackBoxSink
from tests.engine.live.test_blackbox import FACTS, noisy
box = BlackBoxSink(Path(sys.argv[1]), FACTS, 60)
index = 0
while True:
    box.write_result(noisy(index))
    index += 1
    print(index, flush=True)
"""


def environment():
    paths = [str(ROOT), *(str(ROOT / part) for part in ("engine", "train", "export", "calibration", "benchmarks"))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_it_can_be_read_after_kill_9(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    written = 0
    for line in process.stdout:
        written = int(line)
        if written >= 100:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (run,) = find_runs(tmp_path)
    indices = [record.facts["index"] for record in read_records(run)]
    assert len(indices) >= written
    assert indices == list(range(len(indices)))


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """A box made with the tiny model, one of its labels changed afterwards in a second run."""
    pytest.importorskip("onnxruntime")
    from bcseg_edge import Segmenter, load_model
    from bcseg_edge.passport import file_sha256

    folder = tmp_path_factory.mktemp("box")
    path = write_model(folder, tiling="frame")
    facts = RunFacts(str(path), file_sha256(path), "onnxruntime", "frame", "0.1.0")
    with load_model(path, "onnxruntime") as loaded:
        segment = Segmenter(loaded)
        box = BlackBoxSink(folder / "box", facts, 60)
        for index in range(5):
            result = noisy(index)
            box.write_result(dataclasses.replace(result, segmentation=segment(result.frame.image)))
        box.close()
    return folder, box.folder, path


def bcseg(*arguments, expect):
    done = subprocess.run(
        [sys.executable, "-m", "bcseg_edge", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_replay_says_bit_for_bit_equal(boxed):
    folder, *_ = boxed
    assert "5 frames, 5 with labels; all computed again with onnxruntime: bit for bit equal" in bcseg(
        "replay", folder / "box", expect=0
    )


def test_replay_says_where_it_is_not(boxed):
    from bcseg_edge import Segmenter, load_model

    _, run, path = boxed
    with load_model(path, "onnxruntime") as loaded:
        segment = Segmenter(loaded)

        def other(image):
            segmentation = segment(image)
            if image[0, 0] == next(iter(read_records(run))).image[0, 0]:
                segmentation.labels[5, 5] ^= 1
            return segmentation

        outcome = replay(run, other)
    assert not outcome.equal
    assert outcome.differing >= 1
    assert outcome.differences[0] == {"index": 0, "captured_ns": 0, "pixels": 1}


def test_replay_refuses_another_model_file(boxed, tmp_path):
    folder, *_ = boxed
    other = write_model(tmp_path, (128, 128), name="other")
    said = bcseg("replay", folder / "box", "--model", other, expect=2)
    assert "the black box was made with" in said
    assert json.loads(bcseg("replay", folder / "box", "--json", expect=0))["equal"] is True


def test_encoding_keeps_up_with_a_camera(tmp_path):
    """Far from a benchmark: on a loaded machine it still has to be quicker than 30 Hz by a wide margin at 64x48."""
    box = BlackBoxSink(tmp_path, FACTS, 60)
    started_s = time.process_time()
    for index in range(60):
        box.write_result(noisy(index))
    assert time.process_time() - started_s < 2
    box.close()
