"""The CUDA path on a real GPU: equal to the host path, steady over many frames, honest about its memory."""

from __future__ import annotations

import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from bcseg_edge import load_model
from bcseg_edge.backends.cuda import require_provider
from bcseg_edge.backends.tensorrt import import_tensorrt
from bcseg_edge.cuda.driver import Cuda
from bcseg_edge.cuda.faults import CudaOutOfMemory
from bcseg_edge.errors import BackendUnavailable
from bcseg_edge.segmenter import Segmenter
from bcseg_edge.tiling import TILINGS
from tests.fixtures.tiny_model import expected_labels, expected_logits, write_model

pytestmark = pytest.mark.gpu

WINDOW_HW = (256, 256)
SIZES = [(480, 640), (1, 1), (255, 257), (1080, 1920), (1, 4096), (77, 1023)]


@pytest.fixture(params=["cuda", "tensorrt"])
def load(request, tmp_path):
    """Opens a segmenter of the tiny model for a tiling."""
    source = write_model(tmp_path, WINDOW_HW, max_batch=64)
    try:
        require_provider() if request.param == "cuda" else import_tensorrt("tensorrt")
    except BackendUnavailable as error:
        pytest.skip(error.message)
    path = source
    if request.param == "tensorrt":
        from bcseg_export.build import BuildOptions, build

        path = build(BuildOptions(source, tmp_path / "tiny.engine")).path
    return lambda tiling: Segmenter(load_model(path, request.param), tiling)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class HostModel:
    """The tiny model in numpy."""

    window_hw, tiling, max_batch = WINDOW_HW, "paper", 16

    def infer(self, patches):
        return expected_logits(patches[:, 0])

    def close(self):
        pass


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("frame_hw", SIZES)
def test_labels_are_those_of_the_thresholds(load, tiling, frame_hw):
    """The tiny model is a threshold a px, so native tilings have to give it exactly, before and after the graph."""
    frame = cv2.GaussianBlur(noise(*frame_hw), (0, 0), 2)
    scaled = Segmenter(HostModel(), tiling)(frame).labels
    with load(tiling) as segmenter:
        for _ in range(4):
            labels = segmenter(frame).labels
            if tiling == "frame":
                assert (labels == scaled).mean() > 0.99
            else:
                assert np.array_equal(labels, expected_labels(frame))


@pytest.mark.data
@pytest.mark.parametrize("tiling", TILINGS)
def test_host_and_cuda_path_agree_on_busi(load, busi_dir, tiling):
    host = Segmenter(HostModel(), tiling)
    equal = pixels = 0
    with load(tiling) as segmenter:
        for path in sorted(busi_dir.glob("*/*).png"))[::20]:
            frame = cv2.imread(str(path))
            equal += int((segmenter(frame).labels == host(frame).labels).sum())
            pixels += frame.shape[0] * frame.shape[1]
    assert equal / pixels >= (0.999 if tiling == "frame" else 1)


@pytest.mark.slow
def test_ten_thousand_frames_take_no_memory(load):
    frames = [noise(480, 640) for _ in range(8)]
    with load("paper") as segmenter:
        list(segmenter.stream(frames))
        before = Cuda().free_memory()
        for _ in segmenter.stream(frames[number % 8] for number in range(10_000)):
            pass
        assert before - Cuda().free_memory() < 2**20


def test_a_torch_tensor_on_its_own_stream(load):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    frame = noise(480, 640)
    with load("paper") as segmenter, torch.cuda.stream(torch.cuda.Stream()):
        tensor = torch.from_numpy(frame).cuda(non_blocking=True)
        assert np.array_equal(segmenter(tensor).labels, expected_labels(frame))


def test_too_much_memory_names_what_is_free():
    cuda = Cuda()
    with pytest.raises(CudaOutOfMemory, match=r"no room for .* are free"):
        cuda.allocate(2 * cuda.gpu.memory)
    address = cuda.allocate(2**20)  # and it still works
    cuda.free(address)


SANITIZED = """

from tests.gpu.test_cuda_path import run_kernels
run_kernels()
"""


def run_kernels() -> None:
    """Both kernels, all tilings, odd sizes, with a network that only moves bytes."""
    from bcseg_edge.cuda.frame_path import FramePath
    from bcseg_edge.passport import Profile

    cuda = Cuda()

    class Nothing:
        name, profile, logits_dtype, capturable = "cuda", Profile(max_batch=4), np.dtype(np.float32), True

        def open_lane(self):
            return self

        def prepare(self, batches):
            pass

        def enqueue(self, patches, logits, batch, stream):
            cuda.copy(logits, patches, batch * 24 * 40, stream)

        def close(self):
            pass

    for tiling in TILINGS:
        path = FramePath(cuda, Nothing(), (24, 40), tiling)
        for shape in [(50, 70), (50, 70), (1, 1), (33, 41, 3)]:
            path(noise(*shape))
        path.close()


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_kernels_are_clean_under_compute_sanitizer(tool):
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SANITIZED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
