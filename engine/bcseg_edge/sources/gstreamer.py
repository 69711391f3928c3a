"""CSI cameras of a Jetson, through GStreamer: inside OpenCV where that has it, else through a gst-launch-1.0 pipe."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from bcseg_edge.errors import BackendUnavailable, SourceLost
from bcseg_edge.sources.devices import Wanted
from bcseg_edge.sources.live import TIMEOUT, LiveSource, Read, lost

FIRST_FRAME_S = 15.0  # the camera daemon of a Jetson takes some seconds
WAIT_S = 1.0
LINES_KEPT = 200
DEFAULT_WH, DEFAULT_HZ = (1280, 720), 30.0


def csi_source(sensor: int, wanted: Wanted) -> LiveSource:
    """The CSI camera with that sensor number.

    Raises:
        BackendUnavailable: no GStreamer here.
    """
    width, height = wanted.size_wh or DEFAULT_WH
    frame_hz = wanted.frame_hz or DEFAULT_HZ
    rate = f"{round(frame_hz * 1000)}/1000"
    camera = (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate} ! nvvidconv ! video/x-raw,format=BGRx"
    )
    return GStreamerSource(f"csi {sensor}", camera, (width, height), frame_hz)


class GStreamerSource(LiveSource):
    """The images that a GStreamer pipeline gives, in BGR.

    Args:
        description: for people.
        elements: the pipeline's beginning, up to raw video.
        size_wh: width and height of its images, px.
        frame_hz: frames per second.
        through_opencv: let OpenCV run it; None asks whether OpenCV can.

    Raises:
        BackendUnavailable: neither OpenCV with GStreamer nor gst-launch-1.0 is here.
    """

    def __init__(
        self,
        description: str,
        elements: str,
        size_wh: tuple[int, int],
        frame_hz: float,
        *,
        through_opencv: bool | None = None,
    ) -> None:
        super().__init__(description, frame_hz)
        width, height = self.size_wh = size_wh
        self._through_opencv = opencv_has_gstreamer() if through_opencv is None else through_opencv
        self._program = shutil.which("gst-launch-1.0")
        if not self._through_opencv and self._program is None:
            raise BackendUnavailable(
                f"{description} needs GStreamer: OpenCV was built without it, and there is no gst-launch-1.0",
                "apt install gstreamer1.0-tools gstreamer1.0-plugins-base",
            )
        # A leaky queue of one: whoever is slow gets the newest image.
        self._pipeline = (
            f"{elements} ! videoconvert ! video/x-raw,format=BGR,width={width},height={height} ! "
            "queue leaky=downstream max-size-buffers=1"
        )
        self._capture: cv2.VideoCapture | None = None
        self._pipe: _Pipe | None = None

    def open(self) -> None:
        """Start the pipeline.

        Raises:
            SourceLost: it does not run; with what GStreamer says.
        """
        self.close()
        if self._through_opencv:
            sink = "appsink drop=true max-buffers=1 sync=false"
            self._capture = cv2.VideoCapture(f"{self._pipeline} ! {sink}", cv2.CAP_GSTREAMER)
            if not self._capture.isOpened():
                self.close()
                raise SourceLost(f"{self.description} cannot be opened", "try the pipeline with gst-launch-1.0")
        elif self._program is not None:
            arguments = [self._program, "-q", *self._pipeline.split(" ")]
            self._pipe = _Pipe(arguments, self.size_wh)
            if not self._pipe.wait(FIRST_FRAME_S):
                said = self._pipe.complaint()
                self.close()
                raise SourceLost(f"{self.description} gives no image: {said}", "try the pipeline with gst-launch-1.0")

    def read(self) -> Read:
        """The next image; ERROR where the pipeline ended."""
        if self._capture is not None:
            readable, image = self._capture.read()
            return self._frame(np.asarray(image, np.uint8)) if readable else lost("the pipeline gives no image")
        if self._pipe is None:
            return lost("it is closed")
        if not self._pipe.wait(WAIT_S):
            return lost(self._pipe.complaint()) if self._pipe.ended else TIMEOUT
        width, height = self.size_wh
        # A row of BGR is padded to a multiple of four bytes (GStreamer, video/x-raw).
        stride = -(-width * 3 // 4) * 4
        rows = np.frombuffer(self._pipe.take(), np.uint8).reshape(height, stride)
        return self._frame(rows[:, : width * 3].reshape(height, width, 3))

    def close(self) -> None:
        """Stop the pipeline; a second call does nothing."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


class _Pipe:
    """A gst-launch-1.0 whose images, of one size, come through a pipe of their own.

    Not through its standard output: nvarguscamerasrc writes there what it does ("GST_ARGUS: ..."). Its complaints are
    read all the time, since a full pipe would stop it; the last lines are kept.
    """

    def __init__(self, arguments: Sequence[str], size_wh: tuple[int, int]) -> None:
        self._size = -(-size_wh[0] * 3 // 4) * 4 * size_wh[1]
        self._got = bytearray()
        self.ended = False
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._images, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*arguments, "!", "fdsink", f"fd={theirs}", "sync=false"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._images)
            raise
        finally:
            os.close(theirs)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        if self._process.stderr is not None:
            with self._process.stderr as complaints:
                self._said.extend(complaints)

    def wait(self, limit_s: float) -> bool:
        """Collect until an image is whole; whether it is."""
        until_s = time.monotonic() + limit_s
        while len(self._got) < self._size and not self.ended:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not select.select([self._images], [], [], left_s)[0]:
                return False
            part = os.read(self._images, self._size - len(self._got))
            self.ended = not part
            self._got += part
        return len(self._got) >= self._size

    def take(self) -> bytes:
        """The image."""
        image, self._got = bytes(self._got), bytearray()
        return image

    def complaint(self) -> str:
        """The last thing it said on its way out, one line."""
        if self._process.poll() is None and not self.ended:
            return "no image in time"
        self._listener.join(WAIT_S)
        said = list(self._said)
        errors = [line for line in said if re.search("error|warning", line, re.IGNORECASE)]
        return (errors or said or ["the pipeline ended"])[0].strip()

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        os.close(self._images)
        self._process.wait()
        self._listener.join(WAIT_S)


def opencv_has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; PyPI's is not, JetPack's is."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
