"""The writing thread: it records all it can, says what it could not, and never holds up who hands it results."""

from __future__ import annotations

import json
import threading
import time

import pytest

from bcseg_edge.errors import DataError
from bcseg_edge.live.results import Validity
from bcseg_edge.live.writer import WriterThread
from bcseg_edge.sinks import open_sinks
from tests.fixtures.live_results import square


class Recorder:
    """A sink that remembers; it waits where told to, and fails from a frame on."""

    def __init__(self, gate=None, fail_from=None, error=None):
        self.indices, self.closed = [], 0
        self._gate, self._fail_from = gate, fail_from
        self._error = error or DataError("cannot write x.png: No space left on device")

    def write(self, frame, segmentation, lesions):
        if self._gate is not None:
            self._gate.wait(30)
        if self._fail_from is not None and frame.index >= self._fail_from:
            raise self._error
        self.indices.append(frame.index)

    def close(self):
        self.closed += 1


def test_everything_is_written_in_order_and_closed_once():
    sink = Recorder()
    writer = WriterThread([sink], capacity=1000)
    for index in range(100):
        writer.write(square(index))
    writer.close()
    writer.close()
    assert sink.indices == list(range(100))
    assert sink.closed == 1
    assert (writer.counts.written, writer.counts.dropped, writer.counts.waiting) == (100, 0, 0)
    assert writer.problems == []
    assert not writer.recording


def test_a_slow_disk_drops_results_and_counts_them_without_waiting():
    gate = threading.Event()
    sink = Recorder(gate)
    writer = WriterThread([sink], capacity=4)
    started_s = time.monotonic()
    for index in range(500):
        writer.write(square(index))
    assert time.monotonic() - started_s < 10  # the sink would have taken for ever
    assert writer.counts.dropped >= 500 - 4 - 1
    gate.set()
    writer.close()
    counts = writer.counts
    assert counts.written == len(sink.indices)
    assert counts.written + counts.dropped == 500
    assert writer.problems == [f"recording: {counts.dropped} results were left out"]


@pytest.mark.parametrize("error", [None, OSError(28, "No space left on device"), RuntimeError("fault")])
def test_a_failing_sink_is_left_out_and_the_others_go_on(error):
    good, bad = Recorder(), Recorder(fail_from=3, error=error)
    writer = WriterThread([bad, good], capacity=100)
    for index in range(10):
        writer.write(square(index))
    writer.close()
    assert good.indices == list(range(10))
    assert bad.indices == [0, 1, 2]
    assert (good.closed, bad.closed) == (1, 1)
    assert len(writer.problems) == 1
    assert writer.problems[0].startswith("recording stopped: ")


def test_when_all_sinks_failed_results_count_as_dropped():
    writer = WriterThread([Recorder(fail_from=0)], capacity=100)
    for index in range(10):
        writer.write(square(index))
    writer.close()
    counts = writer.counts
    assert (counts.written, counts.dropped, counts.waiting) == (0, 10, 0)


def test_recording_stops_while_there_is_room_to_finish_the_files(tmp_path):
    free = [10**9]
    sink = Recorder()
    writer = WriterThread([sink], tmp_path, reserve_bytes=10**8, free_bytes=lambda folder: free[0], capacity=100)
    writer.write(square(0))
    wait_until(lambda: sink.indices == [0])
    free[0] = 10**7
    writer.write(square(1))
    wait_until(lambda: sink.closed)
    writer.write(square(2))
    writer.close()
    assert sink.indices == [0]
    assert "recording stopped: 9 MB are free" in writer.problems[0]
    assert writer.problems[1] == "recording: 2 results were left out"


def test_a_hanging_disk_does_not_hold_up_the_end():
    gate = threading.Event()
    writer = WriterThread([Recorder(gate)])
    writer.write(square())
    writer.close(timeout_s=0.1)
    assert "did not take the last results" in writer.problems[0]
    gate.set()


def test_frames_without_a_mask_are_not_recorded_as_if_they_had_one(tmp_path):
    writer = WriterThread(open_sinks(tmp_path, 30), tmp_path, reserve_bytes=0)
    for index, validity in enumerate(Validity):
        writer.write(square(index, validity, track_ids=(7,)))
    writer.close()
    assert writer.problems == []
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["000000.png", "000001.png"]
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [record["validity"] for record in records] == ["ok", "frozen", "blank", "stale", "lost"]
    assert [len(record["lesions"]) for record in records] == [1, 1, 0, 0, 0]
    assert records[0]["lesions"][0]["track_id"] == 7
    assert records[0]["age_ms"] == 12.5


def wait_until(condition, timeout_s=30):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)
