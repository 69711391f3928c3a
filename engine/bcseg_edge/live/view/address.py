"""Where the page is served, and who may see it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from bcseg_edge.errors import DataError

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True, slots=True)
class ViewAddress:
    """Where the page is served.

    Attributes:
        host: a name or an IP address, IPv6 without brackets.
        port: 0 takes a free one.
        loopback: only this machine can reach it.
        token: what a client must show; None where none is needed.
        cert: TLS certificate chain, PEM; None without TLS.
        key: its private key, PEM.
    """

    host: str
    port: int
    loopback: bool
    token: str | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "http" if self.cert is None else "https"


def parse_address(
    spec: str, token: str | None = None, cert: Path | None = None, key: Path | None = None
) -> ViewAddress:
    """Read `HOST:PORT`, and refuse to show images to a network without a token and TLS.

    Args:
        spec: `127.0.0.1:8080`, `localhost:0`, `[::1]:8080`; `:8080` and `8080` mean this machine only.
        token: what a client must show.
        cert: TLS certificate chain, PEM.
        key: its private key, PEM.

    Raises:
        DataError: not an address, a token that could be guessed, TLS files that do not fit, or an address other
            than loopback without all three.
    """
    host, _, port_text = spec.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port_text.isdecimal() or int(port_text) > 65535:
        raise DataError(f"--view {spec!r} is not HOST:PORT", "for example: --view 127.0.0.1:8080")
    if token is not None and len(token) < MIN_TOKEN_LENGTH:
        raise DataError(
            f"the view token has {len(token)} characters, {MIN_TOKEN_LENGTH} are the least",
            "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    loopback = _is_loopback(host)
    if (cert is None) != (key is None):
        raise DataError("--view-cert and --view-key belong together, one of them is missing", "give both PEM files")
    if not loopback and (token is None or cert is None):
        raise DataError(
            f"--view {spec} can be reached from the network; it would show images to anyone there",
            "give --view-token, --view-cert and --view-key, or use 127.0.0.1",
        )
    if cert is not None and key is not None:
        _check_tls(cert, key)
    return ViewAddress(host, int(port_text), loopback, token, cert, key)


def bind(address: ViewAddress) -> socket.socket:
    """A listening socket.

    Raises:
        DataError: the address is not this machine's, or it is in use.
    """
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=16)
    except OSError as error:
        raise DataError(
            f"cannot serve the page on {address.host}:{address.port}: {error.strerror or error}",
            "choose another port, or stop the program that holds it",
        ) from error


def _is_loopback(host: str) -> bool:
    """Whether every address of `host` is this machine's alone; False for a name that cannot be found."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(text).split("%")[0]).is_loopback for text in found)


def _check_tls(cert: Path, key: Path) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise DataError(
            f"the TLS files {cert} and {key} cannot be used: {error}", "give a PEM certificate and its key"
        ) from error
