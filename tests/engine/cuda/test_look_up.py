"""The network of `tests/gpu`, run here on the CPU: what fails there is then the GPU's doing."""

from __future__ import annotations

import numpy as np
import pytest

from bcseg_edge.cuda import nvrtc
from bcseg_edge.errors import BackendUnavailable
from bcseg_edge.segmenter import Segmenter
from tests.fixtures.lazy_cuda import LazyCuda
from tests.fixtures.look_up import SOURCE, look_up_model
from tests.fixtures.tiny_model import expected_labels

WINDOW_HW = (24, 40)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_labels_are_those_of_the_thresholds(tmp_path, dtype):
    cuda = LazyCuda()
    with Segmenter(look_up_model(tmp_path, cuda, WINDOW_HW, dtype), "paper") as segmenter:
        for shape in [(50, 70)] * 3 + [(1, 1), (33, 41)]:
            frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            assert np.array_equal(segmenter(frame).labels, expected_labels(frame))
    assert cuda.journal.count("end_capture") == 1
    assert not cuda.live


@pytest.mark.parametrize("target", ["sm_87", "sm_90"])
def test_nvrtc_compiles_it(target):
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    try:
        nvrtc._nvrtc_facts()
    except BackendUnavailable as error:
        pytest.skip(error.message)
    code = nvrtc.compile_kernels(SOURCE.read_bytes(), target)
    assert b"look_up_float32" in code
    assert b"look_up_float16" in code
