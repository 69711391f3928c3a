"""A `LiveSink` that serves the page."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

from bcseg_edge.errors import BackendUnavailable, DataError
from bcseg_edge.live.results import Controls, Health, LiveResult, Validity
from bcseg_edge.live.view.address import ViewAddress, bind
from bcseg_edge.live.view.messages import health_message, result_message

_START_TIMEOUT_S = 10.0
_OUTDATED_S = 1.0
_HELD_INTERVAL_S = 0.4  # a held picture need not be repeated at the rate of the source


@dataclass(frozen=True, slots=True)
class ViewFacts:
    """What the page says of the run.

    Attributes:
        source: the source's description.
        model: name of the model.
        backend: what executes it.
        deadline_ms: age at which a result is no longer shown; None where unlimited.
        can_snapshot: whether snapshots are saved.
        warnings: about the model, shown as long as the page is open.
        lossless: the source's images come one by one and do not grow old: a result stays until the next.
    """

    source: str
    model: str
    backend: str
    deadline_ms: float | None = None
    can_snapshot: bool = False
    warnings: tuple[str, ...] = ()
    lossless: bool = False


class ViewSink:
    """Serves the page in a thread, and encodes results for it in another; `write` only leaves the result there.

    Without an open page nothing is encoded. Of results that come faster than they can be encoded or sent, the newest
    wins. A page that opens, and a freeze, are answered with the newest one at once, since a source may pause; without
    its mask where it has grown old.

    Args:
        address: from `parse_address`.
        facts: about the run.
        controls: get what is pressed on the page.
        notices: asked once a second for what a person should know, such as that recording stopped.
        snapshots: asked once a second for the number of snapshots saved.

    Raises:
        BackendUnavailable: the packages of the extra `web` are missing.
        DataError: the address cannot be served.
    """

    def __init__(
        self,
        address: ViewAddress,
        facts: ViewFacts,
        controls: Controls,
        *,
        notices: Callable[[], list[str]] = list,
        snapshots: Callable[[], int] = int,
    ) -> None:
        try:
            import uvicorn

            from bcseg_edge.live.view.server import MAX_MESSAGE_BYTES, ViewServer
        except ImportError as error:
            raise BackendUnavailable(
                f"--view needs the package {error.name!r}, which is not installed", 'pip install "bcseg-edge[web]"'
            ) from error
        self._controls = controls
        self._notices = notices
        self._snapshots = snapshots
        self._changed = threading.Condition()
        self._lossless = facts.lossless
        self._newest: tuple[LiveResult, float] | None = None  # and when it was first shown, s
        self._written = self._asked = False  # what has yet to be answered: a result, a page or a press
        self._was_held = False  # what the pages were told last
        self._clients = 0
        self._closing = False
        self._socket = bind(address)
        self._loop: asyncio.AbstractEventLoop | None = None
        hello = json.dumps({"kind": "hello", **asdict(facts)})
        self._server = ViewServer(address, hello, self._press, self._count_clients)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._server.app(),
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # JPEG does not get smaller, and compressing takes the network's time
                limit_concurrency=64,
                timeout_graceful_shutdown=2,
                ssl_certfile=address.cert,
                ssl_keyfile=address.key,
            )
        )
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.url = f"{address.scheme}://{host}:{self._socket.getsockname()[1]}/"
        self._started = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name="bcseg-view", daemon=True),
            threading.Thread(target=self._encode, name="bcseg-view-jpeg", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise DataError(f"the page on {self.url} did not start", "add --debug")

    @property
    def clients(self) -> int:
        """How many pages are open."""
        return self._clients

    def write(self, result: LiveResult) -> None:
        """Leave a result for the page."""
        with self._changed:
            if self._newest is None or self._newest[0] is not result:
                self._newest = (result, time.monotonic())
            self._written = True
            self._changed.notify()

    def update(self, health: Health) -> None:
        """Leave the health for the page; and the result again where the page has yet to hear that it is not held."""
        with self._changed:
            if self._was_held and not self._controls.freeze.is_set():
                self._asked = True
                self._changed.notify()
        text = health_message(health, self._notices(), self._snapshots())
        self._publish(partial(self._server.publish, health=text))

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._uvicorn.should_exit = True
        for thread in self._threads:
            thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        asyncio.run(self._serve_here())

    async def _serve_here(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._started.set)
        await self._uvicorn.serve(sockets=[self._socket])

    def _encode(self) -> None:
        sent_s = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due)
                if self._closing or self._newest is None:
                    return
                result, shown_s = self._newest
                asked, self._written, self._asked = self._asked, False, False
            held = self._controls.freeze.is_set()
            now_s = time.monotonic()
            if held and self._was_held and not asked and now_s - sent_s < _HELD_INTERVAL_S:
                continue
            sent_s, self._was_held = now_s, held
            stays = self._lossless or held or result.validity is Validity.LOST
            waited_s = 0.0 if stays else now_s - shown_s
            if waited_s > _OUTDATED_S:  # it is no longer what the scanner shows
                result = replace(result, validity=Validity.STALE, segmentation=None, lesions=(), track_ids=())
            self._publish(partial(self._server.publish, result_message(result, held, waited_s * 1e3)))

    def _is_due(self) -> bool:
        has_work = self._newest is not None and (self._written or self._asked)
        return self._closing or (has_work and self._clients > 0)

    def _publish(self, work: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(work)
            except RuntimeError:  # it closed meanwhile
                return

    def _count_clients(self, count: int) -> None:
        with self._changed:
            self._asked |= count > self._clients
            self._clients = count
            self._changed.notify()

    def _press(self, action: str) -> None:
        if action == "freeze":
            self._controls.freeze.set()
            with self._changed:
                self._asked = True
                self._changed.notify()
        elif action == "resume":
            self._controls.freeze.clear()
        else:
            self._controls.snapshot.set()
