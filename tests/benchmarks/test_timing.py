"""Statistics, warm-up and collection, on clocks that do what the test says."""

from __future__ import annotations

import numpy as np
import pytest

from bcseg_benchmarks.timing import collect, summarise, warm_up


class Work:
    """Calls that advance a clock by given durations, the last one for ever."""

    def __init__(self, durations_ms):
        self.durations_ms = list(durations_ms)
        self.calls = self.now_ns = 0

    def __call__(self):
        self.now_ns += int(self.durations_ms[min(self.calls, len(self.durations_ms) - 1)] * 1e6)
        self.calls += 1

    def clock(self):
        return self.now_ns


def test_the_statistics_of_known_durations():
    measured = summarise([1_000_000 * value for value in range(1, 102)])
    assert (measured.count, measured.mean_ms, measured.p50_ms, measured.p95_ms, measured.max_ms) == (
        101,
        51,
        51,
        96,
        101,
    )
    assert measured.variation == pytest.approx(np.std(np.arange(1, 102)) / 51)
    assert measured.noisy
    assert not summarise([5, 5, 5]).noisy


def test_warm_up_ends_when_it_is_steady():
    work = Work([500, *[20 - step for step in range(10)], 10])
    warm = warm_up(work, 100, window=3, clock=work.clock)
    assert warm.steady
    assert warm.calls == 1 + 15  # 11, 10, 10 and then 10, 10, 10: the first neighbours with equal medians
    assert warm.seconds == pytest.approx(work.now_ns / 1e9)


def test_warm_up_gives_up_at_its_limit():
    work = Work([step**1.5 + 1 for step in range(1000)])
    warm = warm_up(work, 1.0, window=5, clock=work.clock)
    assert not warm.steady
    assert 1.0 <= warm.seconds < 1.2


def test_a_call_longer_than_the_limit_is_made_once():
    work = Work([5000])
    assert warm_up(work, 1.0, clock=work.clock).calls == 1


@pytest.mark.parametrize(("calls", "seconds", "expected"), [(7, 0.0, 7), (1, 0.5, 50), (100, 0.5, 100)])
def test_both_minima_are_kept(calls, seconds, expected):
    work = Work([10])
    assert collect(work, calls, seconds, clock=work.clock) == [10_000_000] * expected
