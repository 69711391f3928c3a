"""The ledger agrees with itself and with what happened, whatever the order of events and the number of threads."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge.frames import Frame
from bcseg_edge.live.ledger import Ledger, imbalance
from bcseg_edge.live.results import LedgerCounts
from bcseg_edge.live.slot import Slot

IMAGE = np.zeros((2, 2), np.uint8)
SETTLE = {
    "shown": lambda ledger: ledger.segmented(late=False),
    "late": lambda ledger: ledger.segmented(late=True),
    "again": lambda ledger: ledger.reused(late=False),
    "again late": lambda ledger: ledger.reused(late=True),
    "blank": Ledger.blank,
    "failed": Ledger.failed,
}


def frame(index):
    return Frame(IMAGE, index, 0)


@given(st.lists(st.sampled_from(["put", "put", "take", "discard", *SETTLE]), max_size=80))
def test_it_balances_after_every_event(events):
    ledger = Ledger()
    slot = Slot(ledger)
    put, in_slot, taken, dropped = 0, 0, 0, 0
    for event in events:
        if event == "put":
            dropped += in_slot
            slot.put(frame(put))
            put, in_slot = put + 1, 1
        elif event == "take":
            got = slot.take(0)
            assert (got is not None) == bool(in_slot)
            assert got is None or got.index == put - 1  # the newest
            taken, in_slot = taken + in_slot, 0
        elif event == "discard":
            dropped += in_slot
            slot.discard()
            in_slot = 0
        elif taken:
            SETTLE[event](ledger)
            taken -= 1
        counts = ledger.counts()
        assert imbalance(counts) == ""
        assert (counts.captured, counts.dropped, counts.waiting) == (put, dropped, in_slot + taken)


def test_it_balances_while_threads_race():
    ledger = Ledger()
    slot = Slot(ledger)
    seen, wrong, done = [], [], threading.Event()

    def produce():
        for index in range(3000):
            slot.put(frame(index))
        done.set()

    def consume():
        while not done.is_set() or not slot.wait_empty(0):
            got = slot.take(0.01)
            if got is not None:
                seen.append(got.index)
                ledger.segmented(late=got.index % 3 == 0)

    def audit():
        while not done.is_set():
            said = imbalance(ledger.counts())
            if said:
                wrong.append(said)

    threads = [threading.Thread(target=target) for target in (produce, consume, audit)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert seen == sorted(set(seen))  # none twice, none out of order
    counts = ledger.counts()
    assert (counts.captured, counts.segmented, counts.waiting) == (3000, len(seen), 0)
    assert counts.dropped == 3000 - len(seen)
    assert counts.late == sum(index % 3 == 0 for index in seen)
    assert seen[-1] == 2999  # the newest is never the one that is lost


def test_an_imbalance_is_told():
    assert "captured 3" in imbalance(LedgerCounts(captured=3, dropped=1, waiting=1))
    assert "2 results" in imbalance(LedgerCounts(captured=2, segmented=2, shown=1))
    assert "wait" in imbalance(LedgerCounts(captured=0, dropped=1, waiting=-1))
