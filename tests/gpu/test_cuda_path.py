"""The CUDA path on a real GPU: equal to the host path, steady over many frames, honest about its memory.

The network is a threshold a px: once as a kernel of its own, so that the path itself is seen on any GPU, then through
ONNX Runtime and TensorRT where they are installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from time import perf_counter

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
from tests.fixtures.look_up import LookUpCuda, look_up_model
from tests.fixtures.tiny_model import expected_labels, expected_logits, write_model

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
WINDOW_HW = (256, 256)
SIZES = [(480, 640), (1, 1), (255, 257), (1080, 1920), (1, 4096), (77, 1023)]


@pytest.fixture(params=["kernel float32", "kernel float16", "cuda", "tensorrt"])
def load_tiny(request, tmp_path):
    """Loads the tiny model."""
    kind, _, dtype = request.param.partition(" ")
    if kind == "kernel":
        return lambda: look_up_model(tmp_path, LookUpCuda(), WINDOW_HW, dtype)
    try:
        require_provider() if kind == "cuda" else import_tensorrt("tensorrt")
    except BackendUnavailable as error:
        pytest.skip(error.message)
    path = write_model(tmp_path, WINDOW_HW, max_batch=64)
    if kind == "tensorrt":
        from bcseg_export.build import BuildOptions, build

        path = build(BuildOptions(path, tmp_path / "tiny.engine")).path
    return lambda: load_model(path, kind)


@pytest.fixture
def load(load_tiny):
    """Opens a segmenter of it for a tiling."""
    return lambda tiling: Segmenter(load_tiny(), tiling)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


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


def test_sizes_and_colours_may_change_from_frame_to_frame(load):
    shapes = [(480, 640)] * 4 + [(480, 640, 3)] * 3 + [(300, 200)] * 3 + [(480, 640)] * 3
    frames = [noise(*shape, seed=number) for number, shape in enumerate(shapes)]
    with load("paper") as segmenter:
        for frame, segmentation in zip(frames, segmenter.stream(frames), strict=True):
            grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            assert np.array_equal(segmentation.labels, expected_labels(grey))


@pytest.mark.parametrize("tiling", TILINGS)
def test_with_and_without_a_graph_the_results_are_the_same(load_tiny, tiling):
    frames = [noise(480, 640, seed=seed) for seed in range(4)]
    with load_tiny() as model:
        results = []
        for graphs in (True, False):
            path = model.open_frame_path(tiling, graphs=graphs)
            results.append(list(path.stream(frames)))
            path.close()
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.confidence, other.confidence)


def test_the_stages_are_timed_inside_a_graph_too(load):
    """Events recorded by a graph's nodes: each launch records them anew, and their sum is no more than the wall's."""
    with load("paper") as segmenter:
        for _ in range(5):
            started_s = perf_counter()
            timings = segmenter(noise(480, 640)).timings
            wall_ms = (perf_counter() - started_s) * 1e3
        stages = [timings.upload_ms, timings.split_ms, timings.network_ms, timings.stitch_ms, timings.download_ms]
    assert all(stage >= 0 for stage in stages)
    assert timings.split_ms > 0
    assert timings.stitch_ms > 0
    assert sum(stages) <= wall_ms


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
    frames = [noise(480, 640, seed=seed) for seed in range(8)]
    with load("paper") as segmenter:
        list(segmenter.stream(frames * 4))
        free, resident = Cuda().free_memory(), resident_bytes()
        for _ in segmenter.stream(frames[number % 8] for number in range(10_000)):
            pass
        assert free - Cuda().free_memory() < 2**20
        assert resident_bytes() - resident < 16 * 2**20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_torch_tensors_on_a_stream_of_their_own(load):
    """Written late on the caller's stream, and overwritten on it at once: the frame is read between the two."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    frames = [noise(480, 640, seed=seed) for seed in range(6)]
    received = []

    def tensors():
        for frame in frames:
            busy = torch.zeros(4096, 4096, device="cuda")
            for _ in range(20):
                busy = busy @ busy
            tensor = torch.from_numpy(frame).cuda(non_blocking=True) + busy[:480, :640].to(torch.uint8)
            yield tensor
            tensor.zero_()

    with load("paper") as segmenter, torch.cuda.stream(torch.cuda.Stream()):
        received = [segmentation.labels for segmentation in segmenter.stream(tensors())]
    for frame, labels in zip(frames, received, strict=True):
        assert np.array_equal(labels, expected_labels(frame))


def test_cupy_arrays_on_a_stream_of_their_own(load):
    cupy = pytest.importorskip("cupy")
    frames = [noise(480, 640, 3, seed=seed) for seed in range(3)]
    with load("paper") as segmenter, cupy.cuda.Stream(non_blocking=True):
        received = [segmentation.labels for segmentation in segmenter.stream(map(cupy.asarray, frames))]
    for frame, labels in zip(frames, received, strict=True):
        assert np.array_equal(labels, expected_labels(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)))


def test_too_much_memory_names_what_is_free():
    cuda = Cuda()
    with pytest.raises(CudaOutOfMemory, match=r"no room for .* are free"):
        cuda.allocate(2 * cuda.gpu.memory)
    address = cuda.allocate(2**20)  # and it still works
    cuda.free(address)


FAULT = """
from bcseg_edge.cuda.faults import CudaFault
from tests.fixtures.look_up import LookUpCuda, LookUpExecutor
cuda = LookUpCuda()
lane, stream = LookUpExecutor(cuda, (16, 16)).open_lane(), cuda.create_stream()
lane.enqueue(16, 16, 1, stream)
for _ in range(2):
    try:
        cuda.synchronize(stream)
    except CudaFault as fault:
        print(fault.message)
"""


def test_an_illegal_address_ends_the_process_with_one_clear_error():
    done = subprocess.run([sys.executable, "-c", FAULT], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert all("illegal memory access" in line and "this process cannot use the GPU any more" in line for line in lines)
    assert all(one == other for one, other in pairwise(lines))


SANITIZED = """
from tests.gpu.test_cuda_path import run_kernels
run_kernels()
"""


def run_kernels() -> None:
    """Both kernels in both precisions, all tilings, odd sizes."""
    from bcseg_edge.cuda.frame_path import FramePath
    from tests.fixtures.look_up import LookUpExecutor

    cuda = LookUpCuda()
    for dtype in (np.float32, np.float16):
        executor = LookUpExecutor(cuda, (24, 40), dtype)
        for tiling in TILINGS:
            path = FramePath(cuda, executor, (24, 40), tiling)
            for shape in [(50, 70)] * 3 + [(1, 1), (33, 41, 3)]:
                path(noise(*shape))
            path.close()
        executor.close()


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_the_kernels_are_clean_under_compute_sanitizer(tool):
    sanitizer = find_sanitizer()
    if sanitizer is None:
        pytest.skip("compute-sanitizer is neither on PATH nor in CUDA_HOME or /usr/local/cuda: kernels NOT checked")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SANITIZED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def find_sanitizer() -> str | None:
    """Where CUDA's toolkit has it."""
    homes = [Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    folders = [*map(Path, os.get_exec_path()), *homes]
    found = (folder / "compute-sanitizer" for folder in folders)
    return next((str(path) for path in found if os.access(path, os.X_OK)), None)
