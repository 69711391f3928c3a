"""Telling systemd how the service does: the protocol of `sd_notify(3)`, one datagram a message."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends to the socket that systemd names in NOTIFY_SOCKET; without one it does nothing.

    Args:
        environment: where NOTIFY_SOCKET is looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # '@' stands for the zero byte that abstract socket names begin with.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self) -> None:
        """Source and backend are open."""
        self._send("READY=1")

    def watchdog(self, status: str) -> None:
        """The loop is alive; `status` is what `systemctl status` shows."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The run is about to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:  # nobody listens any more, or not quickly enough: never a reason to stop
            return
