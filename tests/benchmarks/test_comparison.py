"""The interleaved run: everybody in every round, ratios by round, labels compared, failures noted."""

from __future__ import annotations

import numpy as np
import pytest

from bcseg_benchmarks.checks import RatiosMissed, check, read_thresholds, require_met
from bcseg_benchmarks.peers.comparison import compare, ratio
from bcseg_benchmarks.peers.contender import OURS, Contender
from bcseg_benchmarks.peers.runtimes import OPENVINO, runtime_contenders
from bcseg_benchmarks.subjects import Subject
from bcseg_edge.errors import DataError
from bcseg_edge.passport import read_passport
from bcseg_edge.tiling import TileGrid
from tests.fixtures.tiny_model import write_model

IMAGES = [np.full((4, 6), grey, np.uint8) for grey in (0, 1, 2)]


class Fake:
    """Advances a clock by `cost_ms` a call and labels every pixel with the image's grey plus `off`.

    It fails where `world["breaks"]` says so: in the call of that number.
    """

    def __init__(self, world, name, cost_ms, off):
        self.world, self.name, self.cost_ms, self.off = world, name, cost_ms, off

    def prepare(self, image):
        return image

    def run(self, image):
        self.world["now"] += int(self.cost_ms * 1e6)
        self.world["calls"].append(self.name)
        if self.world["calls"].count(self.name) == self.world["breaks"].get(self.name):
            raise RuntimeError("out of memory\nand a long trace")
        return image + np.uint8(self.off)

    def labels(self, result):
        return result

    def close(self):
        self.world["closed"].add(self.name)


def fakes(costs_ms, offs=None, breaks=None):
    world = {"now": 0, "calls": [], "closed": set(), "breaks": breaks or {}}
    offs = offs or {}
    contenders = [
        Contender("m", "fp32", way, "", "", "frame to labels", lambda w=way, c=cost: Fake(world, w, c, offs.get(w, 0)))
        for way, cost in costs_ms.items()
    ]
    return world, contenders


def run(world, contenders, rounds=4):
    return compare(contenders, IMAGES, {"m": IMAGES[:2]}, rounds, 0.1, clock=lambda: world["now"])


def test_ratios_of_known_costs():
    world, contenders = fakes({"slow": 300, "fast": 20})
    peers = run(world, contenders)
    measured = ratio(peers, "m fp32 slow", "m fp32 fast")
    assert (measured.median, measured.low, measured.high) == (15, 15, 15)
    assert [len(peer.round_medians_ms) for peer in peers] == [4, 4]
    assert peers[0].latency.count == 4 * 3  # one call fills the slow one's slice, which is not enough for a median
    assert peers[1].latency.count == 4 * 5
    assert world["closed"] == {"slow", "fast"}


def test_everybody_runs_in_every_round_and_the_order_changes():
    world, contenders = fakes(dict.fromkeys("abcd", 200))
    run(world, contenders, rounds=6)
    rounds = [world["calls"][-16 * (6 - n) :][:16] for n in range(6)]  # a slice is one unmeasured and three measured
    assert all(sorted(set(one)) == list("abcd") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_other_labels_are_reported():
    world, contenders = fakes({"right": 10, "wrong": 10}, {"wrong": 1})
    assert [peer.labels_equal for peer in run(world, contenders)] == [1, 0]


def test_a_contender_that_cannot_run_is_noted_and_the_others_are_measured():
    def missing():
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    world, contenders = fakes({"here": 10})
    peers = run(world, [Contender("m", "bf16", "gone", "", "", "frame to labels", missing), *contenders])
    assert peers[0].problem == "monai is not installed"
    assert peers[1].latency is not None
    with pytest.raises(DataError, match="was not measured"):
        ratio(peers, "m bf16 gone", "m fp32 here")


def calls_before_round(number):
    """Of a contender of 200 ms: its first call, two whose labels are compared, the warm-up; two calls a slice."""
    world, contenders = fakes({"a": 200})
    run(world, contenders, rounds=1)
    return len(world["calls"]) - 2 + 2 * (number - 1)


@pytest.mark.parametrize("call", [1, calls_before_round(1), calls_before_round(2) + 1, calls_before_round(3) + 2])
def test_a_peer_that_fails_on_the_way_is_noted_and_the_others_go_on(call):
    costs_ms = dict.fromkeys(("a", "b", OURS), 200)
    world, contenders = fakes(costs_ms, breaks={"b": call})
    peers = {peer.way: peer for peer in run(world, contenders)}
    assert peers["b"].problem == "out of memory"
    assert (peers["b"].latency, peers["b"].round_medians_ms) == (None, ())
    assert [len(peers[way].round_medians_ms) for way in ("a", OURS)] == [4, 4]
    assert world["calls"].count("b") == call
    assert world["closed"] == set(costs_ms)


@pytest.mark.parametrize("call", [1, calls_before_round(2) + 1])
def test_our_own_way_must_not_fail(call):
    world, contenders = fakes({"a": 200, OURS: 200}, breaks={OURS: call})
    with pytest.raises(RuntimeError, match="out of memory"):
        run(world, contenders)
    assert world["closed"] == {"a", OURS}


def test_nothing_to_compare_is_refused():
    with pytest.raises(DataError, match="nothing to compare"):
        compare([], IMAGES, {}, 1, 0.1)


def thresholds(tmp_path, at_least, slower="m fp32 slow"):
    path = tmp_path / "targets.toml"
    path.write_text(f'[[ratio]]\nwhy = "w"\nslower = "{slower}"\nfaster = "m fp32 fast"\nat_least = {at_least}\n')
    return read_thresholds(path)


def test_ratios_are_held_against_thresholds(tmp_path):
    world, contenders = fakes({"slow": 300, "fast": 20})
    peers = run(world, contenders)
    require_met(check(thresholds(tmp_path, 15), peers))
    with pytest.raises(RatiosMissed, match=r"is 15\.00 .* wanted at least 15\.1") as missed:
        require_met(check(thresholds(tmp_path, 15.1), peers))
    assert missed.value.exit_code == 3
    with pytest.raises(RatiosMissed, match="was not measured"):
        require_met(check(thresholds(tmp_path, 1, "m fp32 absent"), peers))


@pytest.mark.parametrize("text", ["ratio = 3", "[[ratio]]\nwhy = 'x'", "not toml ["])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"x\.toml"):
        read_thresholds(path)


@pytest.mark.parametrize(("target", "is_there"), [("any", True), ("tensorrt", False)])
def test_a_file_laid_out_for_tensorrt_has_no_peer_on_the_cpu(tmp_path, target, is_there):
    path = write_model(tmp_path, (64, 64), passport={"target": target})
    subject = Subject("tiny", "fp32", path, read_passport(path), "its own", path)
    ways = {contender.way for contender in runtime_contenders(subject, TileGrid((64, 64), (64, 64), "frame"), None)}
    assert (OPENVINO in ways) == is_there
