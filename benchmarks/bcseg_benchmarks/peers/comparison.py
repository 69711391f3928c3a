"""All contenders in one run, interleaved, on the same frames: times, labels, and the ratios between them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

from bcseg_benchmarks.peers.contender import OURS, Contender, Opened, Scope
from bcseg_benchmarks.timing import Clock, Distribution, Record, WarmUp, summarise, timed, warm_up
from bcseg_edge.errors import DataError
from bcseg_edge.frames import UInt8Array

CHECKED_FRAMES = 2
LEAST_CALLS = 3  # of a way in a round: the median of fewer is no median
WARM_UP_S = 1.5
WARM_UP_WINDOW = 3

Said = Callable[[str], None]


class Peer(Record):
    """What was measured of a contender.

    Attributes:
        model, precision, way, how, source, scope: see `Contender`.
        problem: why it could not run; empty where it did, and then the rest is there.
        setup_s: from opening it to the end of its first call, compilation included.
        warm_up: after that.
        latency: of all measured calls.
        round_medians_ms: median of each round; two contenders' quotients, round by round, are their ratio.
        labels_equal: share of the pixels whose label is that of PyTorch in float32, over `CHECKED_FRAMES` frames; None
            without such a reference.
    """

    model: str
    precision: str
    way: str
    how: str
    source: str
    scope: Scope
    problem: str = ""
    setup_s: float | None = None
    warm_up: WarmUp | None = None
    latency: Distribution | None = None
    round_medians_ms: tuple[float, ...] = ()
    labels_equal: float | None = None

    @property
    def name(self) -> str:
        """`resnext50 int8 bcseg-edge`."""
        return f"{self.model} {self.precision} {self.way}"


class Ratio(Record):
    """How many times as long one contender takes as another, round by round.

    Attributes:
        slower, faster: names.
        median: of the rounds.
        low, high: the extremes of the rounds: the spread.
    """

    slower: str
    faster: str
    median: float
    low: float
    high: float


@dataclass(slots=True, eq=False)
class _Running:
    contender: Contender
    opened: Opened
    prepared: Any  # an endless iterator
    setup_s: float
    labels_equal: float | None
    warm_up: WarmUp
    durations_ns: list[int] = field(default_factory=list)
    medians_ms: list[float] = field(default_factory=list)


def compare(
    contenders: Sequence[Contender],
    images: Sequence[UInt8Array],
    references: dict[str, list[UInt8Array]],
    rounds: int,
    slice_s: float,
    *,
    clock: Clock = perf_counter_ns,
    say: Said = lambda text: None,
) -> list[Peer]:
    """Run every contender in every round, in an order that changes from round to round.

    A slice is one call that is not measured (the caches are another's) and then calls until `slice_s` is over, at
    least one. A peer that fails, when it is opened or in any round, is noted and not called again; all are closed
    in the end.

    Args:
        contenders: with distinct names.
        images: uint8 `[H, W]`, all of one size.
        references: by model, the labels of the first images.
        rounds: at least 1.
        slice_s: seconds of a slice.

    Raises:
        DataError: nothing to compare.
        Exception: whatever our own way raises: without it there is nothing to compare with.
    """
    if not contenders or not images or rounds < 1:
        raise DataError("there is nothing to compare", "give contenders, images and at least one round")
    running: list[_Running] = []
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        for contender in contenders:
            say(f"opening {contender.name}")
            with _noted(contender, failed):
                one = _open(contender, images, references.get(contender.model, []), clock)
                stack.callback(one.opened.close)
                running.append(one)
        order = random.Random(0)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for one in order.sample(running, len(running)):
                with _noted(one.contender, failed):
                    _slice(one, slice_s, clock)
                if one.contender.name in failed:
                    running.remove(one)
                    one.opened.close()  # at once: it may be memory that it lacked
    measured = {one.contender.name: one for one in running}
    return [_peer(contender, measured.get(contender.name), failed) for contender in contenders]


def ratio(peers: Sequence[Peer], slower: str, faster: str) -> Ratio:
    """How many times as long `slower` takes as `faster`.

    Raises:
        DataError: one of them was not measured.
    """
    by_name = {peer.name: peer for peer in peers}
    for name in (slower, faster):
        if name not in by_name or not by_name[name].round_medians_ms:
            known = ", ".join(peer.name for peer in peers if peer.round_medians_ms)
            raise DataError(f"{name!r} was not measured", f"measured: {known or 'nothing'}")
    quotients = np.divide(by_name[slower].round_medians_ms, by_name[faster].round_medians_ms)
    median, low, high = float(np.median(quotients)), float(quotients.min()), float(quotients.max())
    return Ratio(slower=slower, faster=faster, median=median, low=low, high=high)


def _open(contender: Contender, images: Sequence[UInt8Array], references: list[UInt8Array], clock: Clock) -> _Running:
    started_s = perf_counter()
    with ExitStack() as stack:
        opened = stack.enter_context(closing(contender.open()))
        prepared = [opened.prepare(image) for image in images]
        opened.run(prepared[0])
        setup_s = perf_counter() - started_s
        equal = [
            float(np.mean(opened.labels(opened.run(ready)) == reference))
            for ready, reference in zip(prepared, references, strict=False)
        ]
        turns = cycle(prepared)
        warm = warm_up(lambda: opened.run(next(turns)), WARM_UP_S, window=WARM_UP_WINDOW, clock=clock)
        stack.pop_all()
    return _Running(contender, opened, turns, setup_s, float(np.mean(equal)) if equal else None, warm)


def _slice(one: _Running, slice_s: float, clock: Clock) -> None:
    def call() -> None:
        one.opened.run(next(one.prepared))

    call()
    durations_ns: list[int] = []
    started_ns = clock()
    while len(durations_ns) < LEAST_CALLS or clock() - started_ns < slice_s * 1e9:
        durations_ns.append(timed(call, clock))
    one.durations_ns += durations_ns
    one.medians_ms.append(float(np.median(durations_ns)) / 1e6)


def _peer(contender: Contender, one: _Running | None, failed: dict[str, str]) -> Peer:
    facts = {name: getattr(contender, name) for name in ("model", "precision", "way", "how", "source", "scope")}
    if one is None:
        return Peer(**facts, problem=failed[contender.name])
    return Peer(
        **facts,
        setup_s=one.setup_s,
        warm_up=one.warm_up,
        latency=summarise(one.durations_ns),
        round_medians_ms=tuple(one.medians_ms),
        labels_equal=one.labels_equal,
    )


@contextmanager
def _noted(contender: Contender, failed: dict[str, str]) -> Iterator[None]:
    """Note why a peer cannot run here, so that it does not end the measurement of the others; our own way does."""
    try:
        yield
    except Exception as error:
        if contender.way == OURS:
            raise
        failed[contender.name] = _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
