"""An RTSP camera that shows the phantom: through the loop, with the plug pulled and put back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bcseg_edge.frames import Segmentation
from bcseg_edge.live.backend import InProcessBackend
from bcseg_edge.live.capture import Reconnect
from bcseg_edge.live.ledger import imbalance
from bcseg_edge.live.loop import LiveLoop, LiveOptions
from bcseg_edge.sources import open_source
from bcseg_edge.sources.phantom import PhantomSource, PhantomSpec
from tests.fixtures.live import MemorySink
from tests.fixtures.rtsp_server import RtspServer, system_python

pytestmark = pytest.mark.skipif(
    system_python() is None, reason="GStreamer's RTSP server is not installed: gir1.2-gst-rtsp-server-1.0, python3-gi"
)


@pytest.fixture(scope="module")
def images():
    frames = PhantomSource(PhantomSpec(160, 120)).render(30)
    return [cv2.cvtColor(frame.image, cv2.COLOR_GRAY2BGR) for frame in frames]


def by_threshold(image):
    return Segmentation((image[..., 0] > 128).astype(np.uint8), np.full(image.shape[:2], 0.9, np.float32))


def test_unplugged_and_back(tmp_path, images):
    servers = [RtspServer(tmp_path, images)]
    source, sink = open_source(servers[0].url), MemorySink()
    options = LiveOptions(deadline_ms=5000, lost_after_s=0.5, reconnect=Reconnect(give_up_s=90))
    loop = LiveLoop(source, [InProcessBackend(by_threshold)], [sink], options)

    def plan():
        validities = sink.validities
        if len(servers) == 1 and validities.count("ok") >= 20:
            servers[0].close()
            servers.append(None)
        if len(servers) == 2 and "lost" in validities:
            servers.append(RtspServer(tmp_path, images, port=servers[0].port))
        return ("lost" in validities and validities[-1] == "ok") or loop.health().uptime_s > 80

    try:
        summary = loop.run(plan)
    finally:
        for server in servers:
            if server is not None:
                server.close()
    assert sink.validities[-1] == "ok"
    assert summary.health.source_restarts >= 1
    assert imbalance(summary.health.ledger) == ""
    shown = [result for result in sink.results if result.validity.value == "ok"]
    assert shown[0].frame.image.shape == (120, 160, 3)
    # What is shown is the phantom: each image is close to one of those that were sent.
    sent = np.stack([image[..., 0] for image in images]).astype(int)
    for result in shown[:: max(1, len(shown) // 5)]:
        assert np.abs(sent - result.frame.image[..., 0]).mean((1, 2)).min() < 6
