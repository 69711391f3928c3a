"""The page's server: one document, one WebSocket, few clients, nothing that a stranger's page could use."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bcseg_edge.live.view.address import ViewAddress
from bcseg_edge.live.view.page import COMMON_HEADERS, load_page

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

MAX_CLIENTS = 8
MAX_MESSAGE_BYTES = 1024  # from a client: it only says what was pressed
MAX_MESSAGES_PER_S = 100
# With acknowledgements: one on its way and one being drawn. More would be lag on a slow network.
MAX_UNSEEN = 2
COOKIE = "bcseg-view"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_TRY_AGAIN_LATER, _POLICY = 1013, 1008


@dataclass(eq=False)
class Client:
    """One open page: the newest result that it has not got, and what it has yet to acknowledge."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    result: bytes | None = None
    text: str | None = None
    acknowledges: bool = False
    unseen: int = 0
    budget: float = MAX_MESSAGES_PER_S
    counted_s: float = field(default_factory=time.monotonic)

    def may_send(self) -> bool:
        """Whether the newest result can go out."""
        return self.result is not None and not (self.acknowledges and self.unseen >= MAX_UNSEEN)

    def overspent(self) -> bool:
        """Count one message; True where they come too fast (a leaky bucket of one second)."""
        now_s = time.monotonic()
        self.budget = min(MAX_MESSAGES_PER_S, self.budget + (now_s - self.counted_s) * MAX_MESSAGES_PER_S) - 1
        self.counted_s = now_s
        return self.budget < 0


class ViewServer:
    """The clients and what they get. All of it runs in the server's own event loop.

    Args:
        address: where it is served; decides who may come.
        hello: what a client is told first, JSON.
        on_press: called with what a person pressed: `freeze`, `resume` or `snapshot`.
        on_clients: called with the number of clients when it changes.
    """

    def __init__(
        self,
        address: ViewAddress,
        hello: str,
        on_press: Callable[[str], None],
        on_clients: Callable[[int], None],
    ) -> None:
        self._address = address
        self._hello = hello
        self._on_press = on_press
        self._on_clients = on_clients
        self._clients: set[Client] = set()
        self._page = load_page()
        self._health: str | None = None

    def app(self) -> Starlette:
        """The application to serve."""
        from starlette.applications import Starlette
        from starlette.routing import Route, WebSocketRoute

        return Starlette(routes=[Route("/", self._document), WebSocketRoute("/live", self._live)])

    def publish(self, result: bytes | None = None, health: str | None = None) -> None:
        """Give every client the newest result or health; what it did not get before is gone."""
        self._health = health or self._health
        for client in self._clients:
            client.result = result or client.result
            client.text = health or client.text
            client.changed.set()

    async def _document(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse

        if not self._host_is_ours(request):
            return PlainTextResponse("unknown host", 421, headers=COMMON_HEADERS)
        given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            # The token leaves the address bar, so that it is in no history and no screenshot.
            answer = RedirectResponse("/", 303, headers=COMMON_HEADERS)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", secure=self._address.cert is not None)
            return answer
        if not self._may_enter(request):
            return PlainTextResponse("open this page as /?token=THE-VIEW-TOKEN", 401, headers=COMMON_HEADERS)
        return HTMLResponse(self._page.html, headers=self._page.headers)

    async def _live(self, socket: WebSocket) -> None:
        if not (self._host_is_ours(socket) and self._origin_is_ours(socket) and self._may_enter(socket)):
            await socket.close(_POLICY)  # before `accept`: HTTP 403
            return
        await socket.accept()
        if len(self._clients) >= MAX_CLIENTS:
            await socket.close(_TRY_AGAIN_LATER, "too many pages are open")
            return
        client = Client(text=self._health)
        self._clients.add(client)
        self._on_clients(len(self._clients))
        try:
            await socket.send_text(self._hello)
            await self._talk(socket, client)
        finally:
            self._clients.discard(client)
            self._on_clients(len(self._clients))

    async def _talk(self, socket: WebSocket, client: Client) -> None:
        """Send and listen until either ends."""
        tasks = {asyncio.create_task(self._send(socket, client)), asyncio.create_task(self._listen(socket, client))}
        _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # a page that went away is no fault

    async def _send(self, socket: WebSocket, client: Client) -> None:
        client.changed.set()
        while True:
            await client.changed.wait()
            client.changed.clear()
            text, client.text = client.text, None
            if text is not None:
                await socket.send_text(text)
            if client.may_send():
                result, client.result = client.result, None
                client.unseen += 1
                await socket.send_bytes(result or b"")

    async def _listen(self, socket: WebSocket, client: Client) -> None:
        while True:
            message = await socket.receive()
            if message["type"] != "websocket.receive":
                return
            action = _action(message.get("text"))
            if action is None or client.overspent():
                await socket.close(_POLICY, "not understood" if action is None else "too many messages")
                return
            if action == "seen":
                client.acknowledges = True
                client.unseen = max(0, client.unseen - 1)
                client.changed.set()
            else:
                self._on_press(action)

    def _host_is_ours(self, connection: HTTPConnection) -> bool:
        """Against DNS rebinding: a name that a stranger points at this machine is not served."""
        if not self._address.loopback:
            return True  # any name may be the cart's there; the token decides
        host = urlsplit(f"//{connection.headers.get('host', '')}").hostname
        return host in (*_LOOPBACK_NAMES, self._address.host.lower())

    def _origin_is_ours(self, connection: HTTPConnection) -> bool:
        """A browser names the page that opens a socket, and it must be ours; other programs send no origin."""
        origin = connection.headers.get("origin")
        return origin is None or origin == f"{self._address.scheme}://{connection.headers.get('host', '')}"

    def _may_enter(self, connection: HTTPConnection) -> bool:
        if self._address.token is None:
            return True
        bearer = connection.headers.get("authorization", "").removeprefix("Bearer ")
        return self._is_token(connection.cookies.get(COOKIE, "")) or self._is_token(bearer)

    def _is_token(self, given: str) -> bool:
        expected = self._address.token
        return expected is not None and hmac.compare_digest(given.encode(), expected.encode())


def _action(text: Any) -> str | None:
    """What a client's message asks for; None where it is not one of ours."""
    try:
        action = json.loads(text or "")["do"]
    except (ValueError, TypeError, KeyError):
        return None
    return action if action in ("seen", "freeze", "resume", "snapshot") else None
