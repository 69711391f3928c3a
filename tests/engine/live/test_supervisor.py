"""The backend's process is killed, hangs, raises, loses its GPU: the session goes on."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bcseg_edge.errors import BcsegError
from bcseg_edge.live.backend import BackendDown
from bcseg_edge.live.ledger import imbalance
from bcseg_edge.live.loop import LiveLoop, LiveOptions
from bcseg_edge.live.supervisor import Patience, SupervisedBackend
from bcseg_edge.live.worker import SegmenterFactory
from tests.fixtures import faulty_backend
from tests.fixtures.faulty_backend import DIE, FINE, HANG, RAISE, SLOW, SLOWER, STICKY
from tests.fixtures.live import MemorySink, Script, scan

# Generous where a loaded machine is waited for, short where nothing will come.
PATIENCE = Patience(answer_s=2.0, first_answer_s=2.0, beat_s=5.0, first_wait_s=0.01, longest_wait_s=0.05)


def order(number, hw=(48, 64)):
    image = scan(1, hw)
    image.flat[0] = number
    return image


@pytest.fixture
def backend():
    supervised = SupervisedBackend(faulty_backend.good, PATIENCE)
    yield supervised
    supervised.close()


def wait_until_up(backend, image=None, limit_s=60.0):
    """Ask until there is a result; returns it and the seconds it took."""
    image = order(FINE) if image is None else image
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        with suppress(BackendDown):
            return backend.segment(image), time.monotonic() - began
        time.sleep(0.02)
    raise AssertionError(f"not back after {limit_s} s: {backend.trouble}")


def check_works(backend):
    found, _ = wait_until_up(backend)
    np.testing.assert_array_equal(found.labels, order(FINE) >= 200)


@pytest.mark.parametrize("shape", [(48, 64), (480, 640), (1, 1), (33, 7), (20, 30, 3), (600, 800, 3)])
def test_images_of_any_size_come_back_as_they_would_in_process(backend, shape):
    for number in range(2):
        image = np.random.default_rng(number).integers(10, 256, shape, np.uint8)
        found, expected = backend.segment(image), faulty_backend.read_off(image)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.confidence, expected.confidence)
        assert found.timings == expected.timings


def test_results_are_the_callers_own(backend):
    first = backend.segment(order(FINE))
    before = first.labels.copy()
    backend.segment(np.full((48, 64), 250, np.uint8))
    np.testing.assert_array_equal(first.labels, before)
    assert first.labels.flags.owndata


def test_views_of_a_frame_are_taken(backend):
    frame = np.random.default_rng(0).integers(10, 256, (100, 120, 3), np.uint8)
    part = frame[20:68, 30:94]
    np.testing.assert_array_equal(backend.segment(part).labels, part[..., 0] >= 200)


@pytest.mark.parametrize("fault", [DIE, HANG, STICKY])
def test_it_is_started_again(backend, fault):
    check_works(backend)
    before = backend.process_ids
    with pytest.raises(BcsegError):
        backend.segment(order(fault))
    assert backend.trouble
    check_works(backend)
    assert backend.restarts == 1
    assert backend.process_ids != before
    assert backend.trouble == ""


def test_killed_from_outside_while_idle(backend):
    check_works(backend)
    os.kill(backend.process_ids[0], signal.SIGKILL)
    check_works(backend)
    assert backend.restarts == 1


def test_stopped_from_outside_while_idle():
    backend = SupervisedBackend(faulty_backend.good, Patience(beat_s=0.8))
    try:
        check_works(backend)
        os.kill(backend.process_ids[0], signal.SIGSTOP)
        time.sleep(1.2)
        backend.check()
        assert backend.restarts == 1
        assert "sign of life" in backend.trouble
        check_works(backend)
    finally:
        backend.close()


def test_a_slow_model_is_given_time():
    backend = SupervisedBackend(faulty_backend.good, Patience(answer_s=0.3, first_answer_s=10))
    try:
        for order_number in (SLOW, SLOW, SLOWER):  # 0.2 s, 0.2 s, then 0.6 s
            backend.segment(order(order_number))
        assert backend.restarts == 0
    finally:
        backend.close()


def test_one_failed_image_costs_no_restart_and_three_do(backend):
    for _ in range(2):
        with pytest.raises(BcsegError, match="inside a library"):
            backend.segment(order(RAISE))
    check_works(backend)
    assert backend.restarts == 0
    for _ in range(3):
        with pytest.raises(BcsegError, match="inside a library"):
            backend.segment(order(RAISE))
    assert backend.restarts == 1
    check_works(backend)


def test_a_model_that_cannot_be_loaded_is_the_models_own_error():
    with pytest.raises(BcsegError, match="this model is damaged") as caught:
        SupervisedBackend(faulty_backend.refuses)
    assert caught.value.exit_code == 2
    assert caught.value.hint == "download it again"


def test_a_start_that_takes_the_process_with_it_is_told():
    with pytest.raises(BcsegError, match=f"signal {int(signal.SIGSEGV)}"):
        SupervisedBackend(faulty_backend.dies_at_start)


def test_a_restart_that_fails_is_tried_ever_more_rarely(tmp_path):
    log = tmp_path / "starts"
    backend = SupervisedBackend(
        faulty_backend.StartsTimes(log, 1), Patience(answer_s=2, first_wait_s=0.2, longest_wait_s=30)
    )
    try:
        check_works(backend)
        with pytest.raises(BackendDown) as down:
            backend.segment(order(DIE))
        assert down.value.had_image
        deadline = time.monotonic() + 20
        while backend.restarts < 3 and time.monotonic() < deadline:
            with pytest.raises(BackendDown, match="started again") as down:
                backend.segment(order(FINE))
            assert not down.value.had_image
            time.sleep(0.02)
        assert backend.restarts == 3
        assert "fell off the bus" in backend.trouble
        assert backend._wait_s == pytest.approx(0.8)
    finally:
        backend.close()


def test_closing_ends_the_process_and_frees_the_memory(backend):
    check_works(backend)
    (process_id,) = backend.process_ids
    name = backend._images.name
    backend.close()
    backend.close()
    assert not Path("/dev/shm", name).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
    with pytest.raises(BackendDown):
        backend.segment(order(FINE))


def test_the_session_survives_kill_9_and_the_video_goes_on(backend):
    """Frames are shown without masks until the new process is there, and then with them again."""
    sink, stop = MemorySink(), []

    class Endless(Script):
        def read(self):
            time.sleep(0.01)
            if self._next_index == 20:
                os.kill(backend.process_ids[0], signal.SIGKILL)
            image = scan(self._next_index)
            image.flat[0] = FINE
            self.steps = [image]
            return super().read()

    script = Endless(time.monotonic_ns, [])
    loop = LiveLoop(script, [backend], [sink], LiveOptions(deadline_ms=5000))

    def enough():
        validities = sink.validities
        if "stale" in validities and validities[-5:] == ["ok"] * 5 and backend.restarts:
            stop.append(1)
        return bool(stop) or loop.health().uptime_s > 60

    summary = loop.run(enough)
    assert stop, sink.validities
    assert summary.health.backend_restarts == 1
    ledger = summary.health.ledger
    assert imbalance(ledger) == ""
    assert ledger.failed >= 1
    assert {"ok", "stale"} <= set(sink.validities)


def test_the_shipped_model_says_the_same_in_its_process(tmp_path):
    pytest.importorskip("onnxruntime")
    from bcseg_edge import Segmenter, load_model
    from tests.fixtures.tiny_model import expected_labels, write_model

    path = write_model(tmp_path, (32, 32), "paper")
    backend = SupervisedBackend(SegmenterFactory(str(path), "onnxruntime", 1, "paper", reuse=True))
    try:
        image = np.random.default_rng(0).integers(0, 256, (50, 70), np.uint8)
        with Segmenter(load_model(path, "onnxruntime", 1), "paper") as segmenter:
            expected = segmenter(image)
        found = backend.segment(image)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.labels, expected_labels(image))
        np.testing.assert_array_equal(found.confidence, expected.confidence)
        image[40, 60] ^= 1
        again = backend.segment(image)
        np.testing.assert_array_equal(again.labels, expected_labels(image))
        assert (again.patches, again.patches_reused) == (6, 5)
        assert backend.facts == {"model": "tiny", "backend": "onnxruntime", "tiling": "paper"}
    finally:
        backend.close()
