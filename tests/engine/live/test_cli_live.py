"""`bcseg-edge run` on live sources, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnxruntime", reason="run needs a backend")

from bcseg_edge.cli import _with_camera
from bcseg_edge.cli.live import MOST_PHANTOM_FRAMES, PHANTOM_FRAMES, open_live_source
from bcseg_edge.live.ledger import imbalance
from bcseg_edge.live.results import LedgerCounts
from tests.engine.test_cli import ENVIRONMENT, bcseg, command
from tests.fixtures.live import scan
from tests.fixtures.mjpeg_server import MjpegServer
from tests.fixtures.tiny_model import write_model

SMALL = "phantom:64x48@30?frames=8"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("model"), (64, 64), "frame"))


def run(model, *arguments, expect=0):
    out, err = bcseg("run", *arguments, "--model", model, "--backend", "onnxruntime", expect=expect)
    return out, err


def start(model, *arguments, **environment):
    full = command("run", *arguments, "--model", model, "--backend", "onnxruntime", "--json")
    return subprocess.Popen(
        full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**ENVIRONMENT, **environment}
    )


def wait_for(condition, limit_s=60.0):
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)


def health_of(path):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def test_the_phantom_live(model, tmp_path):
    arguments = (SMALL, "--live", "--max-frames", "30", "--deadline", "5000")
    out, err = run(model, *arguments, "--output", tmp_path, "--health", tmp_path / "health.json", "--json")
    summary = json.loads(out)
    ledger = LedgerCounts(**summary["health"]["ledger"])
    assert imbalance(ledger) == ""
    assert (ledger.captured, ledger.waiting) == (30, 0)
    assert ledger.shown > 0
    assert 0.9 < summary["health"]["uptime_s"] < 60  # in real time, not as fast as it can be read
    assert summary["age_ms"]["max"] <= 5000
    assert "parity with its reference is not measured" in err
    assert health_of(tmp_path / "health.json")["state"] == "stopped"
    assert (tmp_path / "results.jsonl").read_text().count("\n") == ledger.shown
    assert (tmp_path / "overlay.mp4").is_file()


@pytest.mark.parametrize(
    ("options", "max_frames", "stop_at", "rendered"),
    [
        ("?frames=100000", None, None, MOST_PHANTOM_FRAMES),
        ("?frames=0", None, None, PHANTOM_FRAMES),
        ("?frames=8", 30, None, 8),
        ("?frames=100000", 5, None, 5),
        ("?frames=100000", None, 3, 4),
        ("?frames=100000", None, 0, 1),
    ],
)
def test_the_phantom_is_rendered_within_bounds_and_can_be_stopped(options, max_frames, stop_at, rendered):
    asked, told = [], []

    def should_stop():
        asked.append(True)
        return stop_at is not None and len(asked) > stop_at

    source = open_live_source(f"phantom:32x24@1000{options}", max_frames, should_stop, told.append)
    turn = [source.read().frame.index for _ in range(2 * rendered)]
    assert turn[:rendered] == list(range(rendered))
    assert max(turn) == rendered - 1
    assert source.read().frame.truth is None
    assert "rendering" in told[0]


def test_ctrl_c_while_the_phantom_is_rendered(model):
    process = start(model, "phantom:1280x960@30?frames=100000", "--live")
    wait_for(lambda: "rendering 300 frames" in process.stderr.readline())
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out)["interrupted"] is True


def test_the_table_says_where_frames_went(model):
    out, _ = run(model, SMALL, "--live", "--max-frames", "10", "--in-process", "--crop", "auto")
    for word in ("captured", "dropped", "per second", "restarts"):
        assert word in out


def test_ctrl_c_and_kill_9_of_the_worker(model, tmp_path):
    """The worker is killed, the session goes on; Ctrl-C ends it with the summary, the watchdog was told all along."""
    path, health, messages = tmp_path / "notify", tmp_path / "health.json", []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        # As systemd does, all the time: the kernel keeps ten messages for a reader that sleeps.
        reader = threading.Thread(target=lambda: [messages.append(one) for one in iter(lambda: notify.recv(999), b"")])
        reader.start()
        process = start(model, SMALL, "--live", "--health", health, "--lanes", "1", NOTIFY_SOCKET=str(path))
        try:
            wait_for(lambda: messages)
            wait_for(lambda: health_of(health).get("ledger", {}).get("shown", 0) > 5)
            for worker in workers_of(process.pid):
                os.kill(worker, signal.SIGKILL)
            wait_for(lambda: health_of(health).get("backend_restarts") == 1)
            before = health_of(health)["ledger"]["shown"]
            wait_for(lambda: health_of(health)["ledger"]["shown"] > before + 5)
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(path))
            reader.join(10)
    assert process.returncode == 130, err
    assert (messages[0], messages[-1]) == (b"READY=1", b"STOPPING=1")
    assert any(message.startswith(b"WATCHDOG=1\nSTATUS=") for message in messages)
    summary = json.loads(out)
    assert summary["interrupted"] is True
    assert summary["health"]["backend_restarts"] == 1
    assert imbalance(LedgerCounts(**summary["health"]["ledger"])) == ""


def workers_of(process_id):
    """Children that hold a backend: all but multiprocessing's resource tracker."""
    threads = Path(f"/proc/{process_id}/task").iterdir()
    children = {int(child) for thread in threads for child in (thread / "children").read_text().split()}
    found = [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
    assert len(found) == 1
    return found


def test_a_stream_until_the_camera_is_switched_off(model, tmp_path):
    health = tmp_path / "health.json"
    camera = MjpegServer(lambda number: scan(number, (240, 320)))
    process = start(model, camera.url, "--reconnect", "1", "--deadline", "5000", "--health", health)
    try:
        wait_for(lambda: health_of(health).get("ledger", {}).get("shown", 0) > 5)
        camera.close()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 4, err
    summary = json.loads(out)
    assert summary["gave_up"]
    assert summary["health"]["ledger"]["shown"] > 0
    assert summary["validities"]["lost"] == 1


def test_a_watched_folder(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    health = tmp_path / "health.json"
    process = start(model, f"watch:{folder}", "--output", tmp_path / "out", "--health", health, "--max-frames", "3")
    wait_for(lambda: health_of(health).get("uptime_s"))
    for number in range(3):
        cv2.imwrite(str(folder / f"scan{number}.png"), scan(number))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["health"]["ledger"]["dropped"] == 0
    assert sorted(path.name for path in (tmp_path / "out" / "labels").iterdir()) == [f"scan{n}.png" for n in range(3)]


def test_no_camera_is_exit_4(model):
    _out, err = run(model, "--camera", "97", expect=4)
    assert "camera 97 cannot be opened" in err
    assert "hint:" in err
    _out, err = run(model, "--camera", "/dev/v4l/by-id/usb-nobody-index0", expect=4)  # a grabber's own name
    assert "/dev/v4l/by-id/usb-nobody-index0 cannot be opened" in err


def test_one_source_and_a_camera_are_two(model, tmp_path):
    _out, err = run(model, tmp_path / "a.png", "--camera", expect=2)
    assert "two sources" in err


@pytest.mark.parametrize(
    ("arguments", "state", "reason"),
    [
        (("--camera", "97"), "lost", "camera 97 cannot be opened"),
        ((SMALL, "--live", "--model", "missing.onnx"), "stopped", "missing.onnx"),
    ],
)
def test_what_cannot_start_does_not_stay_ok(tmp_path, model, arguments, state, reason):
    health = tmp_path / "health.json"
    health.write_text('{"state": "ok"}')  # of a run that was killed
    bcseg("run", "--model", model, *arguments, "--health", health, expect=4 if state == "lost" else 2)
    record = health_of(health)
    assert record["state"] == state
    assert reason in record["reason"]


def test_camera_alone_is_camera_0():
    assert _with_camera(["run", "--camera"]) == ["run", "--camera", "0"]
    assert _with_camera(["run", "--camera", "--json"]) == ["run", "--camera", "0", "--json"]
    assert _with_camera(["run", "--camera", "/dev/video2"]) == ["run", "--camera", "/dev/video2"]
    assert _with_camera(["run", "a.mp4"]) == ["run", "a.mp4"]


def test_still_images_have_no_pace(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), scan(1))
    _, err = run(model, tmp_path, "--live", expect=2)
    assert "still images" in err
