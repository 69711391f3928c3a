"""Ages and rates, the health file, and what systemd is told."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge.errors import DataError, ModelError, SourceLost
from bcseg_edge.live.health import BIN_MS, Ages, HealthFile, health_file, health_record, memory_mb
from bcseg_edge.live.results import Health, LedgerCounts
from bcseg_edge.live.systemd import Notifier

HEALTH = Health("ok", "", 29.98765, {"p50": 50.12345}, LedgerCounts(captured=3, segmented=3, shown=3), uptime_s=1.5)


@given(st.lists(st.floats(0, 1900), min_size=1, max_size=200))
def test_percentiles_of_the_run_are_right_to_a_bin(values):
    ages = Ages()
    for number, value in enumerate(values):
        ages.add(number * 10_000_000, value)
    found = ages.whole()
    for percent in (50, 90, 99):
        expected = np.percentile(values, percent, method="inverted_cdf")
        assert expected - 1e-9 <= found[f"p{percent}"] + BIN_MS
        assert found[f"p{percent}"] <= expected + BIN_MS + 1e-9
    assert found["max"] == max(values)


def test_the_rate_is_of_the_last_seconds_and_of_the_run():
    ages = Ages()
    for number in range(600):  # twenty seconds at 30 Hz
        ages.add(round(number * 1e9 / 30), 50.0)
    now_ns = round(600 * 1e9 / 30)
    hz, recent = ages.recent(now_ns)
    assert hz == pytest.approx(30, rel=0.02)
    assert recent == {"p50": 50, "p99": 50, "max": 50}
    assert ages.mean_hz() == pytest.approx(30, rel=0.01)
    assert ages.recent(now_ns + 60_000_000_000) == (0.0, {})


def test_memory_does_not_grow_with_the_run():
    ages = Ages()
    for number in range(20_000):
        ages.add(number * 33_000_000, number % 100)
    assert len(ages._recent) < 200


def test_nothing_yet():
    ages = Ages()
    assert (ages.whole(), ages.mean_hz(), ages.recent(0)) == ({}, 0.0, (0.0, {}))


def test_the_record_is_json_with_the_names_of_the_class():
    record = json.loads(json.dumps(health_record(HEALTH)))
    assert record["results_hz"] == 29.988
    assert record["age_ms"] == {"p50": 50.123}
    assert record["ledger"]["captured"] == 3


def test_the_file_holds_the_newest_health_and_is_whole_at_any_moment(tmp_path):
    path = tmp_path / "health.json"
    sink = HealthFile(path)
    json.loads(path.read_text())
    for _ in range(20):
        sink.update(HEALTH)
        json.loads(path.read_text())
    sink.close()
    sink.close()
    assert json.loads(path.read_text())["state"] == "ok"
    assert [child.name for child in tmp_path.iterdir()] == ["health.json"]


def test_a_record_says_when_and_by_whom_it_was_written(tmp_path):
    path = tmp_path / "health.json"
    before = datetime.datetime.now(datetime.timezone.utc)
    HealthFile(path).close()
    record = json.loads(path.read_text())
    assert set(record) == {*health_record(HEALTH), "written_at", "pid"}
    assert (record["state"], record["pid"]) == ("starting", os.getpid())
    written_at = datetime.datetime.fromisoformat(record["written_at"])
    assert written_at.utcoffset() == datetime.timedelta(0)
    assert abs(written_at - before) < datetime.timedelta(seconds=60)


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (SourceLost("camera 7 cannot be opened"), "lost", "camera 7 cannot be opened"),
        (ModelError("no model"), "stopped", "no model"),
        (ZeroDivisionError("inside"), "stopped", "ZeroDivisionError: inside"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_fails_says_why_over_what_an_earlier_one_left(tmp_path, error, state, reason, begun):
    path = tmp_path / "health.json"
    path.write_text('{"state": "ok"}')

    def run():
        with health_file(path) as file:
            assert json.loads(path.read_text())["state"] == "starting"
            if begun:  # the loop's end closes its sinks
                file.update(HEALTH)
                file.close()
            raise error

    with pytest.raises(type(error)):
        run()
    record = json.loads(path.read_text())
    assert (record["state"], record["reason"]) == (state, reason)
    assert record["ledger"]["captured"] == (3 if begun else 0)


def test_without_a_path_there_is_no_file():
    with health_file(None) as file:
        assert file is None


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((DataError, OSError)):
        HealthFile(tmp_path / "file" / "health.json")


def test_a_disk_that_fails_later_is_a_problem_and_no_exception(tmp_path):
    folder = tmp_path / "gone"
    sink = HealthFile(folder / "health.json")
    (folder / "health.json").unlink()
    folder.rmdir()
    folder.touch()  # a file where the folder was: nothing can be written there
    sink.update(HEALTH)
    until = time.monotonic() + 20
    while not sink.problems and time.monotonic() < until:
        time.sleep(0.01)
    sink.close()
    assert len(sink.problems) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux tells a process's memory")
def test_memory_of_processes():
    assert 5 < memory_mb([os.getpid()]) < 1e5
    assert memory_mb([]) == 0
    assert memory_mb([2**30]) == 0


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path, abstract):
    name = f"bcseg-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        systemd.settimeout(10)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + name if abstract else name})
        notifier.ready()
        notifier.watchdog("ok")
        notifier.stopping()
        assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1\nSTATUS=ok", b"STOPPING=1"]
    notifier.watchdog("nobody listens any more")


def test_without_systemd_nothing_happens():
    Notifier({}).ready()
