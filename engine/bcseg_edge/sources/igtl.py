"""OpenIGTLink: images from PLUS, 3D Slicer or a research scanner, through pyigtl."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bcseg_edge.errors import BackendUnavailable, SourceError, SourceLost
from bcseg_edge.frames import UInt8Array
from bcseg_edge.sources.live import TIMEOUT, LiveSource, Read, lost

PORT = 18944  # registered with IANA for OpenIGTLink
CONNECT_S = 3.0
WAIT_S = 0.5
POLL_S = 0.002
SILENCE_S = 3.0  # pyigtl does not notice a server that goes away: silence is all there is to see
_PATTERN = re.compile(r"igtl://(?P<host>[^:/?]+|\[[^]]+\])(?::(?P<port>\d+))?(?:/(?P<device>[^?]*))?")


def parse_igtl(spec: str) -> tuple[str, int, str]:
    """Read `igtl://HOST[:PORT][/DEVICE]`: host, port, device name (empty takes any image).

    Raises:
        SourceError: another form.
    """
    match = _PATTERN.fullmatch(spec)
    port = int(match["port"] or PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise SourceError(f"{spec!r} is no OpenIGTLink server", "write igtl://HOST:18944 or igtl://HOST:18944/DEVICE")
    return match["host"], port, match["device"] or ""


class IgtlSource(LiveSource):
    """The IMAGE messages of an OpenIGTLink server; their matrix gives the spacing.

    Args:
        host, port: of the server.
        device: name of the image stream; empty takes whatever image comes.

    Raises:
        BackendUnavailable: pyigtl is not installed.
    """

    def __init__(self, host: str, port: int = PORT, device: str = "") -> None:
        try:
            import pyigtl
        except ImportError as error:
            raise BackendUnavailable("igtl:// needs the package pyigtl", 'pip install "bcseg-edge[igtl]"') from error
        super().__init__(f"igtl://{host}:{port}{'/' if device else ''}{device}")
        self._make: Callable[[], Any] = lambda: pyigtl.OpenIGTLinkClient(host, port)
        self._device = device
        self._client: Any = None
        self._heard_s = 0.0

    def open(self) -> None:
        """Connect.

        Raises:
            SourceLost: nobody listens there.
        """
        self.close()
        client = self._client = self._make()
        until_s = time.monotonic() + CONNECT_S
        while not client.is_connected():
            if time.monotonic() > until_s:
                self.close()
                raise SourceLost(f"{self.description}: nobody listens", "is the server (PLUS, 3D Slicer) running?")
            time.sleep(0.01)
        self._heard_s = time.monotonic()

    def read(self) -> Read:
        """The newest image; TIMEOUT where none came, ERROR after seconds of silence."""
        if self._client is None:
            return lost("it is closed")
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            for message in self._client.get_latest_messages():
                self._heard_s = time.monotonic()
                wanted = not self._device or message.device_name == self._device
                if wanted and getattr(message, "image", None) is not None:
                    return self._take(message)
            time.sleep(POLL_S)
        if not self._client.is_connected() or time.monotonic() - self._heard_s > SILENCE_S:
            return lost(f"no message for {SILENCE_S:g} s")
        return TIMEOUT

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        if self._client is not None:
            self._client.stop()
            self._client = None

    def _take(self, message: Any) -> Read:
        try:
            image = as_frame(message.image)
        except SourceError as error:
            if error.message not in self.problems:
                self.problems.append(error.message)
            return TIMEOUT
        columns = np.linalg.norm(np.asarray(message.ijk_to_world_matrix)[:3, :2], axis=0)
        column_mm, row_mm = (float(size) for size in columns)
        known = 0 < row_mm < 10 and 0 < column_mm < 10 and (row_mm, column_mm) != (1.0, 1.0)
        return self._frame(image, spacing_mm=(row_mm, column_mm) if known else None)


def as_frame(voxels: np.ndarray[Any, Any]) -> UInt8Array:
    """`[1, H, W]` or `[1, H, W, 1 or 3]` uint8 of an IMAGE message as a frame (RGB becomes BGR).

    Raises:
        SourceError: a volume, or other numbers than uint8.
    """
    if voxels.ndim not in (3, 4) or voxels.shape[0] != 1 or voxels.dtype != np.uint8 or voxels.size == 0:
        raise SourceError(
            f"an OpenIGTLink image of {voxels.dtype} {list(voxels.shape)} is no 2D uint8 image", "send B-mode slices"
        )
    plane = voxels[0]
    if plane.ndim == 2:
        return np.ascontiguousarray(plane)
    if plane.shape[2] == 1:
        return np.ascontiguousarray(plane[..., 0])
    if plane.shape[2] == 3:
        return np.ascontiguousarray(plane[..., ::-1])
    raise SourceError(f"an OpenIGTLink image with {plane.shape[2]} components is neither grey nor RGB", "send B-mode")
