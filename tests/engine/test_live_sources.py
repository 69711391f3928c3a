"""Live sources: the grammar, and each device behind a stand-in or on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import BackendUnavailable, SourceError, SourceLost
from bcseg_edge.frames import Frame
from bcseg_edge.live.results import Validity
from bcseg_edge.sources import LiveSource, open_source
from bcseg_edge.sources.devices import Wanted, is_live, make_live_source, parse_device
from bcseg_edge.sources.gstreamer import GStreamerSource, csi_source
from bcseg_edge.sources.igtl import as_frame, parse_igtl
from bcseg_edge.sources.live import Status
from bcseg_edge.sources.paced import PacedSource, to_and_fro
from bcseg_edge.sources.stream import without_password
from tests.fixtures.live import Clock, ReadOff, scan
from tests.fixtures.mjpeg_server import MjpegServer


def read_until(source, status, limit_s=20.0):
    """Read on until an answer has that status."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        read = source.read()
        if read.status is status:
            return read
    raise AssertionError(f"no {status} within {limit_s} s")


class TestGrammar:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0", ("0", Wanted())),
            ("/dev/video2?fps=25", ("/dev/video2", Wanted(frame_hz=25.0))),
            ("1?size=1280x720&fps=29.97&format=mjpg", ("1", Wanted((1280, 720), 29.97, "MJPG"))),
        ],
    )
    def test_devices(self, text, expected):
        assert parse_device(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "0?size=1280",
            "0?size=0x10",
            "0?fps=0",
            "0?fps=fast",
            "0?fps=nan",
            "0?format=JPEG2000",
            "0?colour=red",
            "0?size",
        ],
    )
    def test_bad_options_are_refused_with_the_form(self, text):
        with pytest.raises(SourceError) as caught:
            parse_device(text)
        assert "size" in caught.value.message + caught.value.hint

    @pytest.mark.parametrize(
        "spec", ["camera:", "camera:x", "csi:", "csi:a", "gopher://a", "igtl://", "igtl://a:99999"]
    )
    def test_what_names_nothing_is_refused(self, spec):
        with pytest.raises((SourceError, BackendUnavailable)) as caught:
            make_live_source(spec)
        assert caught.value.hint

    def test_what_is_live(self):
        for spec in (
            "camera:0",
            "CAMERA:1",
            "/dev/video0",
            "/dev/v4l/by-id/usb-grabber-index0",
            "csi:0",
            "rtsp://a/b",
            "watch:folder",
            "igtl://a",
        ):
            assert is_live(spec), spec
        for spec in ("phantom:64x48", "a.mp4", "folder", "*.png", "C:\\scan.png", "camera.png"):
            assert not is_live(spec), spec

    def test_passwords_are_not_shown(self):
        assert without_password("rtsp://doctor:secret@10.0.0.5:554/live?key=1") == "rtsp://10.0.0.5:554/live"
        assert "secret" not in without_password("rtsp://doctor:secret@host:port/live")


class FakeCapture:
    """A V4L2 device behind cv2.VideoCapture: takes the nearest it has, gives frames, can be pulled out."""

    there, frames, given, formats = True, 10**6, {}, "YUYV"

    def __init__(self, device, api):
        self.device, self.released, self.asked = device, False, []
        FakeCapture.last = self

    def isOpened(self):
        return self.there and not self.released

    def set(self, name, value):
        self.asked.append(name)
        return True

    def get(self, name):
        code = cv2.VideoWriter.fourcc(*self.formats)
        return self.given.get(name, {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FOURCC: code}.get(name, 0.0))

    def read(self):
        if not self.isOpened() or FakeCapture.frames == 0:
            return False, None
        FakeCapture.frames -= 1
        return True, np.zeros((480, 640, 3), np.uint8)

    def grab(self):
        return self.read()[0]

    def release(self):
        self.released = True


@pytest.fixture
def device(monkeypatch):
    FakeCapture.there, FakeCapture.frames, FakeCapture.given = True, 10**6, {}
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    return FakeCapture


class TestCamera:
    def test_frames_are_numbered_and_timed(self, device):
        with open_source("camera:0") as source:
            frames = [source.read().frame for _ in range(3)]
        assert [frame.index for frame in frames] == [0, 1, 2]
        assert frames[0].captured_ns <= frames[1].captured_ns
        assert source.frame_hz == 30
        assert device.last.released

    def test_the_format_is_asked_for_before_the_size(self, device):
        device.given = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG")}
        open_source("camera:0?size=640x480&fps=30&format=MJPG").close()
        assert device.last.asked == [
            cv2.CAP_PROP_FOURCC,
            cv2.CAP_PROP_FRAME_WIDTH,
            cv2.CAP_PROP_FRAME_HEIGHT,
            cv2.CAP_PROP_FPS,
        ]

    @pytest.mark.parametrize(
        ("options", "said"),
        [("size=1280x720", "640x480 px"), ("fps=60", "30 frames per second"), ("format=MJPG", "format YUYV")],
    )
    def test_a_device_that_gives_something_else_is_refused_and_released(self, device, options, said):
        with pytest.raises(SourceError, match=f"gives {said}"):
            open_source(f"camera:0?{options}")
        assert device.last.released

    def test_nobody_there(self, device):
        device.there = False
        with pytest.raises(SourceLost) as caught:
            open_source("/dev/video9")
        assert caught.value.exit_code == 4
        assert "/dev/video" in caught.value.hint

    def test_opens_but_gives_nothing(self, device):
        device.frames = 0
        with pytest.raises(SourceLost, match="gives no frame"):
            open_source("camera:0")

    def test_pulled_out_and_plugged_in(self, device):
        source = open_source("camera:0")
        source.read()
        device.frames = 0
        assert source.read().status is Status.ERROR
        device.frames = 5
        source.open()
        assert source.read().frame.index == 1  # numbers go on

    def test_old_frames_are_skipped(self, device):
        device.frames = 8
        source = open_source("camera:0")
        source.skip_old()
        assert device.frames == 8 - 1 - 4

    def test_iterating_raises_where_it_is_lost(self, device):
        device.frames = 2
        source = open_source("camera:0")
        frames = iter(source)
        assert [next(frames).index, next(frames).index] == [0, 1]
        with pytest.raises(SourceLost):
            next(frames)


@pytest.fixture
def server():
    opened = []

    def start(*arguments, **options):
        opened.append(MjpegServer(*arguments, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


class TestStream:
    def test_images_come_through_and_the_loss_is_told(self, server):
        camera = server(lambda number: scan(5, (240, 320)))
        source = open_source(camera.url)
        image = source.read().frame.image
        assert image.shape == (240, 320, 3)
        assert np.abs(image[..., 0].astype(int) - scan(5, (240, 320))).mean() < 8  # JPEG
        camera.close()
        assert "broke off" in read_until(source, Status.ERROR).reason
        with pytest.raises(SourceLost):
            source.open()
        source.close()

    def test_it_returns_with_another_size(self, server):
        first = server(lambda number: scan(number, (240, 320)))
        source = open_source(first.url)
        first.close()
        read_until(source, Status.ERROR)
        second = server(lambda number: scan(number, (120, 160)), port=first.port)
        source.open()
        assert source.read().frame.image.shape == (120, 160, 3)
        assert second.sent
        source.close()

    def test_silence_is_noticed(self, server):
        camera = server(lambda number: scan(number, (240, 320)))
        source = open_source(camera.url)
        camera.silent.set()
        began = time.monotonic()
        assert "no data" in read_until(source, Status.ERROR).reason
        assert time.monotonic() - began < 10
        source.close()

    def test_the_environment_is_left_as_it_was(self, server, monkeypatch):
        monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", raising=False)
        open_source(server(lambda number: scan(number, (240, 320))).url).close()
        assert "OPENCV_FFMPEG_CAPTURE_OPTIONS" not in os.environ

    def test_nobody_listens(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(SourceLost):
            open_source(f"http://127.0.0.1:{port}/")

    def test_a_server_that_accepts_and_says_nothing_costs_seconds(self, monkeypatch):
        monkeypatch.setattr("bcseg_edge.sources.stream.OPEN_MS", 1000)
        with socket.socket() as mute:
            mute.bind(("127.0.0.1", 0))
            mute.listen()
            began = time.monotonic()
            with pytest.raises(SourceLost):
                open_source(f"http://127.0.0.1:{mute.getsockname()[1]}/")
            assert time.monotonic() - began < 8

    def test_unplugged_in_the_loop_and_back(self, server):
        from bcseg_edge.live.capture import Reconnect
        from bcseg_edge.live.ledger import imbalance
        from bcseg_edge.live.loop import LiveLoop, LiveOptions
        from tests.fixtures.live import MemorySink

        first = server(lambda number: scan(number, (240, 320)))
        source, sink, servers = open_source(first.url), MemorySink(), [first]
        options = LiveOptions(deadline_ms=5000, reconnect=Reconnect(give_up_s=60), lost_after_s=0.5)
        loop = LiveLoop(source, [ReadOff()], [sink], options)

        def plan():
            validities = sink.validities
            if len(servers) == 1 and validities.count("ok") > 10:
                first.close()
                servers.append(None)
            if len(servers) == 2 and "lost" in validities:
                servers[1] = server(lambda number: scan(number, (120, 160)), port=first.port)
                servers.append(None)
            back = "lost" in validities and validities[-1] == "ok"
            return back or loop.health().uptime_s > 50

        summary = loop.run(plan)
        assert sink.results[-1].validity is Validity.OK
        assert sink.results[-1].frame.image.shape == (120, 160, 3)
        assert summary.health.source_restarts >= 1
        assert imbalance(summary.health.ledger) == ""


class TestGStreamer:
    pytestmark = pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed")

    @pytest.mark.parametrize("size_wh", [(320, 240), (322, 241)])  # the second one has padded rows
    def test_images_come_through_the_pipe(self, size_wh):
        width, height = size_wh
        test_picture = f"videotestsrc pattern=red ! video/x-raw,width={width},height={height},framerate=30/1"
        with GStreamerSource("a test picture", test_picture, size_wh, 30.0, through_opencv=False) as source:
            source.open()
            for index in range(3):
                frame = read_until(source, Status.OK).frame
                assert frame.image.shape == (height, width, 3)
                assert frame.index == index
                np.testing.assert_allclose(frame.image.reshape(-1, 3).mean(0), (0, 0, 255), atol=3)

    def test_a_pipeline_that_ends_is_a_loss(self):
        source = GStreamerSource(
            "ten", "videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48", (64, 48), 30.0, through_opencv=False
        )
        source.open()
        assert read_until(source, Status.ERROR).reason
        source.close()

    def test_without_the_camera_it_says_what_gstreamer_says(self):
        source = csi_source(0, Wanted())
        with pytest.raises(SourceLost, match="nvarguscamerasrc"):
            source.open()


GST_LAUNCH = """#!{python}
import os, sys
images = int(next(word for word in sys.argv if word.startswith("fd=")).partition("=")[2])
print("GST_ARGUS: Creating output stream", flush=True)
for number in range(3):
    os.write(2, b"WARNING: a buffer was late\\n" * 5000)
    os.write(images, bytes([number]) * 64 * 48 * 3)
"""


def test_what_the_cameras_plugin_says_is_no_part_of_the_image(monkeypatch, tmp_path):
    program = tmp_path / "gst-launch-1.0"
    program.write_text(GST_LAUNCH.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    source = GStreamerSource("a camera", "nvarguscamerasrc", (64, 48), 30.0, through_opencv=False)
    with source:
        source.open()
        for number in range(3):
            assert (read_until(source, Status.OK).frame.image == number).all()
        assert "a buffer was late" in read_until(source, Status.ERROR).reason


def test_csi_without_gstreamer_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("bcseg_edge.sources.gstreamer.opencv_has_gstreamer", lambda: False)
    with pytest.raises(BackendUnavailable) as caught:
        open_source("csi:0")
    assert "apt install" in caught.value.hint


class TestWatch:
    def test_new_images_come_in_order_and_old_ones_do_not(self, tmp_path):
        cv2.imwrite(str(tmp_path / "old.png"), scan(0))
        with open_source(f"watch:{tmp_path}") as source:
            assert source.lossless
            for number in (2, 10, 1):
                cv2.imwrite(str(tmp_path / f"{number}.png"), scan(number))
            names = [read_until(source, Status.OK).frame.name for _ in range(3)]
            assert names == ["1", "2", "10"]
            assert source.read().status is Status.TIMEOUT

    def test_a_half_written_file_is_waited_for(self, tmp_path):
        data = cv2.imencode(".png", scan(1))[1].tobytes()
        with open_source(f"watch:{tmp_path}") as source:
            (tmp_path / "a.png").write_bytes(data[:100])
            assert source.read().status is Status.TIMEOUT
            (tmp_path / "a.png").write_bytes(data)
            np.testing.assert_array_equal(read_until(source, Status.OK).frame.image, scan(1))
            assert source.problems == []

    def test_a_damaged_file_is_reported_and_left(self, tmp_path, monkeypatch):
        monkeypatch.setattr("bcseg_edge.sources.watch.GIVE_UP_S", 0.2)
        with open_source(f"watch:{tmp_path}") as source:
            (tmp_path / "a.png").write_bytes(b"no image")
            cv2.imwrite(str(tmp_path / "b.png"), scan(1))
            assert read_until(source, Status.OK).frame.name == "b"
            read_until(source, Status.TIMEOUT)
            assert len(source.problems) == 1
            assert "a.png" in source.problems[0]

    def test_a_replaced_file_is_new(self, tmp_path):
        with open_source(f"watch:{tmp_path}") as source:
            for number in (1, 2):
                cv2.imwrite(str(tmp_path / "live.png"), scan(number))
                os.utime(tmp_path / "live.png", (number, number))
                np.testing.assert_array_equal(read_until(source, Status.OK).frame.image, scan(number))

    def test_every_page_of_a_stack_is_a_frame(self, tmp_path):
        with open_source(f"watch:{tmp_path}") as source:
            for name, number in (("a.tif", 1), ("b.tif", 5)):
                assert cv2.imwritemulti(str(tmp_path / name), [scan(number), scan(number + 1)])
            frames = [read_until(source, Status.OK).frame for _ in range(4)]
            assert [frame.name for frame in frames] == ["a_000000", "a_000001", "b_000000", "b_000001"]
            assert [frame.index for frame in frames] == [0, 1, 2, 3]
            for frame, number in zip(frames, (1, 2, 5, 6), strict=True):
                np.testing.assert_array_equal(frame.image, scan(number))
            assert source.read().status is Status.TIMEOUT

    def test_the_folder_goes_away(self, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        with open_source(f"watch:{folder}") as source:
            folder.rmdir()
            assert source.read().status is Status.ERROR
            with pytest.raises(SourceLost):
                source.open()

    def test_no_folder(self, tmp_path):
        with pytest.raises(SourceLost):
            open_source(f"watch:{tmp_path / 'nowhere'}")


class TestIgtl:
    def test_images_with_their_spacing(self):
        pyigtl = pytest.importorskip("pyigtl")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = pyigtl.OpenIGTLinkServer(port=port, local_server=True)
        stop = threading.Event()

        def send():
            matrix = np.diag([0.2, 0.1, 1.0, 1.0])  # column, row
            while not stop.wait(0.02):
                for name, number in (("other", 3), ("probe", 1)):
                    message = pyigtl.ImageMessage(scan(number)[None], device_name=name, ijk_to_world_matrix=matrix)
                    server.send_message(message, wait=False)

        sender = threading.Thread(target=send, daemon=True)
        try:
            with open_source(f"igtl://127.0.0.1:{port}/probe") as source:
                sender.start()
                frame = read_until(source, Status.OK).frame
                np.testing.assert_array_equal(frame.image, scan(1))
                assert frame.spacing_mm == pytest.approx((0.1, 0.2))
                stop.set()
                assert "no message" in read_until(source, Status.ERROR).reason
        finally:
            stop.set()
            server.stop()

    def test_nobody_listens(self):
        pytest.importorskip("pyigtl")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(SourceLost, match="nobody listens"):
            open_source(f"igtl://127.0.0.1:{port}")

    def test_grammar(self):
        assert parse_igtl("igtl://host") == ("host", 18944, "")
        assert parse_igtl("igtl://10.0.0.1:1234/Image_Probe") == ("10.0.0.1", 1234, "Image_Probe")

    def test_what_is_no_image_is_refused(self):
        grey = np.zeros((1, 4, 5), np.uint8)
        assert as_frame(grey).shape == (4, 5)
        assert as_frame(grey[..., None]).shape == (4, 5)
        colour = as_frame(np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3))
        assert colour[0, 0].tolist() == [2, 1, 0]
        for wrong in (np.zeros((2, 4, 5), np.uint8), grey.astype(np.int16), np.zeros((1, 4, 5, 2), np.uint8), grey[0]):
            with pytest.raises(SourceError):
                as_frame(wrong)


class TestPaced:
    def test_frames_come_when_they_are_due_and_keep_that_time(self):
        clock = Clock()
        frames = [Frame(scan(number), number, 0) for number in range(4)]
        source = PacedSource("p", 50.0, lambda: iter(frames), clock_ns=clock, sleep=lambda s: clock.tick(s * 1e3))
        source.open()
        began = clock()
        reads = [source.read() for _ in range(3)]
        assert [read.frame.captured_ns - began for read in reads] == [0, 20_000_000, 40_000_000]
        clock.tick(100)  # a slow reader gets what was due, with its age
        late = source.read()
        assert clock() - late.frame.captured_ns == 80_000_000
        assert source.read().status is Status.END

    def test_after_a_pause_of_the_machine_it_does_not_catch_up(self):
        clock = Clock()
        frame = Frame(scan(0), 0, 0)
        source = PacedSource("p", 50.0, lambda: iter([frame] * 99), clock_ns=clock, sleep=lambda s: clock.tick(s * 1e3))
        source.open()
        source.read()
        clock.tick(3.6e6)
        assert clock() - source.read().frame.captured_ns < 1e9
        assert clock() - source.read().frame.captured_ns <= 0

    def test_to_and_fro_never_jumps_and_never_repeats(self):
        turns = to_and_fro(list(range(4)))
        assert [next(turns) for _ in range(14)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
        one = to_and_fro(["only"])
        assert [next(one), next(one)] == ["only", "only"]

    def test_live_sources_are_sources(self, tmp_path):
        assert isinstance(open_source(f"watch:{tmp_path}"), LiveSource)
