"""The page's server: who gets in, what is told, and that nobody can slow it down."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket as socket_module
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from bcseg_edge.errors import DataError
from bcseg_edge.frames import BENIGN
from bcseg_edge.live.results import Controls, Validity
from bcseg_edge.live.view import ViewFacts, ViewSink, parse_address
from bcseg_edge.live.view.messages import MAX_SIDE_PX, outlines, read_result_message, result_message
from tests.fixtures.live_results import health, square

client = pytest.importorskip("websockets.sync.client")
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

FACTS = ViewFacts("phantom", "edge", "openvino", 100.0, True, ("parity is not measured",))
TOKEN = "a-token-of-32-characters-exactly"


@pytest.fixture
def controls():
    return Controls()


@pytest.fixture
def view(controls):
    sink = ViewSink(parse_address("127.0.0.1:0"), FACTS, controls)
    yield sink
    sink.close()
    sink.close()


def connect(view, **options):
    return client.connect(view.url.replace("http", "ws") + "live", open_timeout=30, **options)


def get(url, **headers):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)


def wait_until(condition, timeout_s=30):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def next_result(socket):
    while isinstance(message := socket.recv(timeout=30), str):
        pass
    return read_result_message(message)


def send(socket, action):
    socket.send(json.dumps({"do": action}))


def test_a_result_reaches_the_page_as_one_message_with_its_own_picture(view):
    with connect(view) as socket:
        hello = json.loads(socket.recv(timeout=30))
        assert (hello["kind"], hello["deadline_ms"], hello["warnings"]) == ("hello", 100.0, list(FACTS.warnings))
        view.write(square(7, track_ids=(3,)))
        facts, picture = next_result(socket)
    assert picture.shape == (48, 64)
    assert np.abs(picture.astype(int) - 80).max() <= 3
    assert (facts["index"], facts["validity"], facts["held"], facts["size_wh"]) == (7, "ok", False, [64, 48])
    (lesion,) = facts["lesions"]
    assert (lesion["track_id"], lesion["name"], lesion["unit"]) == (3, "benign", "mm")
    assert facts["outlines"]["benign"] == [[20, 10, 20, 29, 39, 29, 39, 10]]
    assert facts["outlines"]["malignant"] == []


@pytest.mark.parametrize("validity", [Validity.BLANK, Validity.STALE, Validity.LOST])
def test_without_a_segmentation_nothing_is_outlined(validity):
    facts, picture = read_result_message(result_message(square(validity=validity), held=False))
    assert (facts["lesions"], facts["outlines"], facts["validity"]) == ([], {}, validity.value)
    assert picture.shape == (48, 64)


def test_the_page_is_told_what_is_segmented():
    result = dataclasses.replace(square(), crop_xywh=(8, 4, 40, 32))
    facts, _ = read_result_message(result_message(result, held=False))
    assert facts["crop_xywh"] == [8, 4, 40, 32]


def test_outlines_keep_holes_and_large_pictures_get_smaller():
    labels = np.zeros((20, 20), np.uint8)
    labels[2:18, 2:18] = BENIGN
    labels[8:12, 8:12] = 0
    assert len(outlines(labels, BENIGN)) == 2
    facts, picture = read_result_message(result_message(square(size_wh=(1920, 1080)), held=False))
    assert facts["size_wh"] == [1920, 1080]
    assert max(picture.shape) == MAX_SIDE_PX


def test_sizes_without_spacing_say_px():
    import dataclasses

    from bcseg_edge import find_lesions

    result = square()
    result = dataclasses.replace(result, lesions=tuple(find_lesions(result.segmentation)))
    facts, _ = read_result_message(result_message(result, held=False))
    assert facts["lesions"][0]["unit"] == "px"


def test_buttons_reach_the_controls(view, controls):
    with connect(view) as socket:
        send(socket, "freeze")
        wait_until(controls.freeze.is_set)
        view.write(square())
        assert next_result(socket)[0]["held"]
        send(socket, "resume")
        wait_until(lambda: not controls.freeze.is_set())
        send(socket, "snapshot")
        wait_until(controls.snapshot.is_set)
    assert not controls.quit.is_set()


def test_health_reaches_the_page_and_a_page_that_opens_later(view):
    with connect(view) as socket:
        socket.recv(timeout=30)
        view.update(health(shown=5))
        told = json.loads(socket.recv(timeout=30))
        assert (told["kind"], told["ledger"]["shown"], told["state"]) == ("health", 5, "ok")
    with connect(view) as socket:
        assert [json.loads(socket.recv(timeout=30))["kind"] for _ in range(2)] == ["hello", "health"]


def test_the_newest_result_wins_where_a_page_is_slow(view):
    with connect(view) as slow:
        send(slow, "seen")  # from now on nothing more is sent than it acknowledges
        slow.recv(timeout=30)
        wait_until(lambda: view.clients == 1)
        for index in range(200):
            view.write(square(index))
            time.sleep(0.002)
        indices = []
        while not indices or indices[-1] < 199:
            indices.append(next_result(slow)[0]["index"])
            send(slow, "seen")
    assert indices == sorted(indices)
    assert len(indices) <= 4, "a queue of old results was sent"


def test_nothing_is_encoded_without_a_page(view, monkeypatch):
    calls = []
    monkeypatch.setattr("bcseg_edge.live.view.sink.result_message", lambda *given: calls.append(given))
    view.write(square())
    time.sleep(0.1)
    assert calls == []


def test_an_old_result_is_shown_without_its_mask_to_a_page_that_opens_later(view, monkeypatch):
    monkeypatch.setattr("bcseg_edge.live.view.sink._OUTDATED_S", 0.05)
    view.write(square(1))
    time.sleep(0.2)
    with connect(view) as socket:
        facts, picture = next_result(socket)
        assert (facts["index"], facts["validity"], facts["lesions"], facts["outlines"]) == (1, "stale", [], {})
        assert facts["waited_ms"] >= 200
        assert picture.shape == (48, 64)
        view.write(square(2))
        facts, _ = next_result(socket)
        assert (facts["index"], facts["validity"]) == (2, "ok")
        assert facts["waited_ms"] < 200


@pytest.mark.parametrize(("lossless", "validity"), [(True, Validity.OK), (False, Validity.LOST)])
def test_what_does_not_grow_old_is_shown_to_a_page_that_opens_later(controls, monkeypatch, lossless, validity):
    monkeypatch.setattr("bcseg_edge.live.view.sink._OUTDATED_S", 0.05)
    view = ViewSink(parse_address("127.0.0.1:0"), dataclasses.replace(FACTS, lossless=lossless), controls)
    view.write(square(1, validity=validity))
    time.sleep(0.2)
    for _ in range(2):
        with connect(view) as socket:
            assert json.loads(socket.recv(timeout=30))["lossless"] is lossless
            facts, _ = next_result(socket)
            assert (facts["index"], facts["validity"], facts["waited_ms"]) == (1, validity.value, 0)
    view.close()


def test_a_freeze_is_answered_although_no_result_comes(view, controls):
    with connect(view) as socket:
        view.write(square(1))
        assert not next_result(socket)[0]["held"]
        send(socket, "freeze")
        facts, _ = next_result(socket)
        assert (facts["index"], facts["held"]) == (1, True)
        assert facts["lesions"]
        send(socket, "resume")
        wait_until(lambda: not controls.freeze.is_set())
        view.update(health())
        facts, _ = next_result(socket)
        assert (facts["index"], facts["held"]) == (1, False)


def test_too_many_pages_are_turned_away(view, monkeypatch):
    monkeypatch.setattr("bcseg_edge.live.view.server.MAX_CLIENTS", 1)
    with connect(view) as first:
        first.recv(timeout=30)
        with connect(view) as second, pytest.raises(ConnectionClosed, match="too many pages"):
            second.recv(timeout=30)
    wait_until(lambda: view.clients == 0)
    with connect(view) as third:
        assert third.recv(timeout=30)


@pytest.mark.parametrize(
    "message", ["", "{}", "[]", "null", '{"do": "rm"}', '{"do": ["freeze"]}', "x" * 1000, b"\x00\x01", "[" * 900]
)
def test_messages_that_are_not_ours_end_the_connection(view, controls, message):
    with connect(view) as socket:
        socket.recv(timeout=30)
        socket.send(message)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
    assert not controls.freeze.is_set()


def test_messages_that_are_too_large_or_too_many_end_the_connection(view):
    with connect(view) as socket:
        socket.recv(timeout=30)
        socket.send("x" * 5000)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
    with connect(view) as socket:
        socket.recv(timeout=30)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(5000):
                send(socket, "resume")
        with pytest.raises(ConnectionClosed, match="too many messages"):
            socket.recv(timeout=30)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_another_page_cannot_open_the_socket(view, origin):
    with pytest.raises(InvalidStatus, match="403"):
        connect(view, origin=origin)


def test_our_own_page_can(view):
    with connect(view, origin=view.url.rstrip("/")) as socket:
        assert socket.recv(timeout=30)


def test_a_name_that_is_not_ours_is_not_served(view):
    with pytest.raises(urllib.error.HTTPError, match="421"):
        get(view.url, Host="evil.example")
    port = int(view.url.rstrip("/").rpartition(":")[2])
    with socket_module.create_connection(("127.0.0.1", port)) as raw, pytest.raises(InvalidStatus, match="403"):
        client.connect(f"ws://evil.example:{port}/live", sock=raw)


def test_the_page_is_self_contained_and_says_so_in_its_headers(view):
    with get(view.url) as answer:
        html, headers = answer.read().decode(), answer.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert "http://" not in html
    assert "https://" not in html
    assert "--benign:#0072b2" in html
    for path in ("other", "live", "../sink.py"):
        with pytest.raises(urllib.error.HTTPError):
            get(view.url + path)


def test_a_token_opens_the_page_and_leaves_the_address_bar(controls):
    view = ViewSink(parse_address("127.0.0.1:0", TOKEN), FACTS, controls)
    try:
        for path in ("", "?token=wrong", "?token=", "?token=%ff"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                get(view.url + path)
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "bcseg-view=wrong"}):
            with pytest.raises(InvalidStatus, match="403"):
                connect(view, additional_headers=given)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(view.url + "?token=" + TOKEN, timeout=30) as answer:
            assert answer.url == view.url
            assert answer.status == 200
        with connect(view, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            assert socket.recv(timeout=30)
        with connect(view, additional_headers={"Cookie": f"bcseg-view={TOKEN}"}) as socket:
            assert socket.recv(timeout=30)
    finally:
        view.close()


@pytest.mark.parametrize("spec", ["127.0.0.1:8080", "localhost:80", "[::1]:443", ":8080", "127.8.0.1:1"])
def test_this_machine_needs_no_token(spec):
    assert parse_address(spec).loopback


@pytest.mark.parametrize(
    ("spec", "options", "reason"),
    [
        ("0.0.0.0:80", {}, "reached from the network"),
        ("0.0.0.0:80", {"token": TOKEN}, "reached from the network"),
        ("[::]:80", {"token": TOKEN}, "reached from the network"),
        ("10.0.0.7:80", {}, "reached from the network"),
        ("nowhere.invalid:80", {}, "reached from the network"),
        ("127.0.0.1", {}, "not HOST:PORT"),
        ("127.0.0.1:99999", {}, "not HOST:PORT"),
        ("127.0.0.1:x", {}, "not HOST:PORT"),
        ("127.0.0.1:1", {"token": "short"}, "5 characters"),
    ],
)
def test_addresses_that_are_refused(spec, options, reason):
    with pytest.raises(DataError, match=reason):
        parse_address(spec, **options)


def test_a_port_in_use_is_an_error_of_ours(view, controls):
    with pytest.raises(DataError, match="cannot serve the page"):
        ViewSink(parse_address(view.url.removeprefix("http://").rstrip("/")), FACTS, controls)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    try:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl makes the certificate")
    return cert, key


def test_the_network_is_served_with_token_and_tls(tls, controls):
    import ssl

    address = parse_address("0.0.0.0:0", TOKEN, *tls)
    assert not address.loopback
    view = ViewSink(address, FACTS, controls)
    try:
        context = ssl.create_default_context(cafile=tls[0])
        context.check_hostname = False
        url = view.url.replace("0.0.0.0", "127.0.0.1").replace("https", "wss") + "live"
        with client.connect(url, ssl=context, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            assert socket.recv(timeout=30)
        with pytest.raises(InvalidStatus, match="403"):
            client.connect(url, ssl=context)
    finally:
        view.close()


def test_tls_files_are_looked_at(tls, tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for cert, key in ((bad, tls[1]), (tls[0], bad), (tmp_path / "missing.pem", tls[1])):
        with pytest.raises(DataError, match="cannot be used"):
            parse_address("0.0.0.0:0", TOKEN, cert, key)
    with pytest.raises(DataError, match="belong together"):
        parse_address("127.0.0.1:0", TOKEN, tls[0])
