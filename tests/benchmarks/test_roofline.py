"""The measured roof: whose product it is, what is copied, and what is said of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bcseg_benchmarks import roofline
from bcseg_benchmarks.markdown import markdown
from bcseg_benchmarks.page import html
from bcseg_benchmarks.readme import REPORT
from bcseg_benchmarks.report import Report, read_report
from bcseg_benchmarks.roofline import NUMPY, ONNXRUNTIME, OPENVINO, Peak, measure_peak, place, products

PACKAGES = {NUMPY: "numpy", ONNXRUNTIME: "onnxruntime", OPENVINO: "openvino"}


@pytest.mark.parametrize("library", PACKAGES)
def test_every_library_makes_the_same_product(library):
    pytest.importorskip(PACKAGES[library])
    left, right = np.random.default_rng(0).random((2, 48, 48), np.float32)
    np.testing.assert_allclose(products(left, right, threads=1)[library](), left @ right, rtol=1e-4)


@pytest.mark.parametrize("missing", [("onnxruntime",), ("openvino",), ("onnx",), ("onnxruntime", "openvino")])
def test_a_library_that_is_not_there_is_left_out(missing, monkeypatch):
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    left, right = np.random.default_rng(0).random((2, 8, 8), np.float32)
    found = products(left, right, threads=1)
    assert NUMPY in found
    assert not set(found) & {library for library, package in PACKAGES.items() if package in missing}


def test_the_roof_is_the_fastest_product(monkeypatch):
    """Each library is as fast as the test says: seconds by library, for a product of any size."""
    costs_s = {NUMPY: 0.02, ONNXRUNTIME: 0.005, OPENVINO: 0.01}
    monkeypatch.setattr(roofline, "products", lambda left, right, threads: costs_s)
    monkeypatch.setattr(roofline, "collect", lambda cost_s, calls, seconds: [cost_s * 1e9, cost_s * 2e9])
    monkeypatch.setattr(roofline, "_copy_bytes_per_second", lambda threads, seconds: 5e9)
    peak = measure_peak(threads=2)
    assert (peak.library, peak.gbytes, peak.threads) == (ONNXRUNTIME, 5, 2)
    assert peak.gflops == pytest.approx(2 * 1024**3 / 0.005 / 1e9)


def test_what_is_copied_lies_in_memory(monkeypatch):
    """An array of zeros that nobody wrote is one page, over and over."""
    copies = []
    monkeypatch.setattr(roofline, "COPY_BYTES", 2**16)
    monkeypatch.setattr(np, "copyto", lambda into, source: copies.append(np.count_nonzero(source)))
    roofline._copy_bytes_per_second(threads=2, seconds=0)
    assert copies == [2**13, 2**13]


@pytest.mark.parametrize(("operations", "share"), [(1e9, 0.5), (3e9, 1.5)])
def test_a_network_may_lie_above_the_roof(operations, share):
    peak = Peak(gflops=20, gbytes=1000, threads=1)
    assert place("m", operations, 1e6, 0.1, peak).share == pytest.approx(share)


def test_a_report_from_before_the_library_was_named_is_read_and_shown():
    content = read_report(REPORT).model_dump(mode="json")
    content["roofline"]["peak"].pop("library", None)
    report = Report.model_validate(content)
    assert report.roofline.peak.library == NUMPY
    for text in (markdown(report), html(report)):
        assert f"float32 matrix product by {NUMPY}" in text
        assert "may lie above" in " ".join(text.split())
