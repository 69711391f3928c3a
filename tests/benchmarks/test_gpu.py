"""The GPU benchmark's arithmetic, on the lazy GPU, and its refusal where there is none."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bcseg_benchmarks.gpu import STAGES, figures, measure, without_graph
from bcseg_edge.cuda.driver import find_gpu
from bcseg_edge.errors import DataError
from tests.fixtures.lazy_cuda import lazy_segmenter


@pytest.fixture
def segmenter(tmp_path):
    with lazy_segmenter(tmp_path) as opened:
        yield opened


def test_the_figures_of_known_timings(segmenter):
    """Each stage of the lazy GPU takes one millisecond."""
    result = figures(
        segmenter, ("tiny", "tensorrt"), [np.zeros((64, 96), np.uint8)], 5, gmac_per_patch=1.0, megabytes_per_patch=2.0
    )
    assert result.stages_ms == dict.fromkeys(STAGES, 1.0)
    assert set(result.latency_ms.values()) == {5.0}
    assert (result.patches, result.frames, result.variation) == (6, 5, 0)
    assert result.kernel_share == pytest.approx(0.4)
    assert result.tera_operations == pytest.approx(12)  # 6 patches of 2e9 operations in a millisecond
    assert result.fps > 0
    frame_px, window_px = 64 * 96, 32 * 32
    assert result.bus_bytes == 6 * frame_px
    moved = 6 * frame_px + 6 * window_px * (1 + 12)
    assert result.kernel_gbytes == pytest.approx(moved / 2e-3 / 1e9)
    assert result.network_gbytes == pytest.approx(6 * 2e6 / 1e-3 / 1e9)


def test_graph_against_no_graph(segmenter):
    """Without graphs no frame is captured, and the figures stand beside those with."""
    images = [np.zeros((64, 96), np.uint8)]
    result = figures(segmenter, ("tiny", "tensorrt"), images, 3)
    assert result.fps_without_graph is None
    completed = without_graph(segmenter.model, result, images, 3)
    assert completed.fps_without_graph > 0
    assert completed.network_ms_without_graph == pytest.approx(1)
    assert without_graph(segmenter.model, replace(result, backend="cuda"), images, 3).fps_without_graph is None


def test_nothing_to_measure_is_refused(segmenter):
    with pytest.raises(DataError, match="0 frames of 0 images"):
        measure(segmenter, [], 0)


def test_without_a_gpu_it_says_so():
    if find_gpu() is not None:
        pytest.skip("this machine has a GPU")
    process = subprocess.run(
        [sys.executable, "-m", "bcseg_benchmarks.gpu"], capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: ")
    assert "hint: " in process.stderr
