"""The CUDA frame path on a GPU that does everything as late as it may: results, order, failures, and what is left."""

from __future__ import annotations

import sys
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from bcseg_edge.cuda.device_array import read_device_array
from bcseg_edge.cuda.faults import CudaError, CudaFault, CudaOutOfMemory
from bcseg_edge.cuda.frame_path import FramePath
from bcseg_edge.errors import BcsegError, DataError, ModelError
from bcseg_edge.passport import Profile
from bcseg_edge.segmenter import Segmenter
from tests.fixtures.lazy_cuda import CALLER_STREAM, LazyCuda, TinyExecutor, lazy_segmenter
from tests.fixtures.tiny_model import expected_labels, expected_logits

WINDOW_HW = (24, 32)
GRAPH_FRAME = ["record", "copy", "record", "launch_graph", "synchronize"]
EAGER_FRAME = [
    *("record", "copy", "record", "split_frame", "record", "network", "record"),
    *("stitch_float32", "record", "copy", "copy", "record", "synchronize"),
]


@pytest.fixture
def cuda():
    return LazyCuda()


class OnDevice:
    """A frame on the device, as CuPy would show it."""

    def __init__(self, array, stream=None, **changes):
        self._array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
            "stream": stream,
            **changes,
        }


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def make_path(cuda, tiling="paper", **options):
    return FramePath(cuda, TinyExecutor(cuda, WINDOW_HW, **options), WINDOW_HW, tiling)


def assert_segments(segmentation, frame):
    grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(segmentation.labels, expected_labels(grey))
    logits = expected_logits(grey).astype(np.float64)
    np.testing.assert_allclose(segmentation.confidence, 1 / np.exp(logits - logits.max(0)).sum(0), rtol=1e-4)


def segments(path, frame):
    """Whether the path takes `frame`; what it says of it has to be right."""
    try:
        assert_segments(path(frame), frame)
    except CudaError:
        return False
    return True


def assert_nothing_left(cuda):
    assert not cuda.live
    assert not cuda.handles


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("tiling", ["paper", "overlap"])
@pytest.mark.parametrize("capturable", [False, True])
def test_a_stream_of_frames_of_changing_sizes(integrated, dtype, tiling, capturable):
    cuda = LazyCuda(integrated=integrated)
    path = make_path(cuda, tiling, dtype=dtype, capturable=capturable)
    shapes = [(50, 70)] * 5 + [(24, 32)] * 3 + [(50, 70, 3)] * 4 + [(1, 1), (50, 70)]
    frames = [noise(*shape, seed=number) & 0xF0 for number, shape in enumerate(shapes)]
    for frame, segmentation in zip(frames, path.stream(iter(frames)), strict=True):
        assert_segments(segmentation, frame)
    path.close()
    assert_nothing_left(cuda)


@pytest.mark.parametrize("tiling", ["paper", "overlap", "frame"])
def test_both_paths_agree(cuda, tiling):
    class HostModel:
        window_hw, max_batch = WINDOW_HW, 4

        def infer(self, patches):
            return expected_logits(patches[:, 0])

    HostModel.tiling = tiling
    frame = cv2.GaussianBlur(noise(100, 151), (0, 0), 4)
    frame = cv2.normalize(frame, None, 0, 255, cv2.NORM_MINMAX)
    expected = Segmenter(HostModel())(frame)
    received = make_path(cuda, tiling)(frame)
    if tiling != "frame":
        assert np.array_equal(received.labels, expected.labels)
    # One grey level of the window moves a contour by a fraction of a px.
    assert (received.labels == expected.labels).mean() > (0.99 if tiling == "frame" else 0.9999)


@pytest.mark.parametrize(
    ("minimum", "maximum", "prepared"), [(1, 4, [1, 4]), (3, 4, [3, 4]), (9, 9, [9]), (12, 16, [12])]
)
def test_patches_go_in_batches_that_the_profile_takes(cuda, minimum, maximum, prepared):
    executor = TinyExecutor(cuda, WINDOW_HW, Profile(min_batch=minimum, opt_batch=minimum, max_batch=maximum))
    path, frame = FramePath(cuda, executor, WINDOW_HW, "paper"), noise(70, 90)  # 9 patches
    assert_segments(path(frame), frame)
    assert executor.prepared == [prepared]


def test_the_order_of_a_frame_before_and_after_the_graph(cuda):
    path, frame = make_path(cuda), noise(50, 70)
    journals = []
    for _ in range(4):
        cuda.journal.clear()
        path(frame)
        journals.append(list(cuda.journal))
    assert journals[0][-len(EAGER_FRAME) :] == EAGER_FRAME
    assert "begin_capture" in journals[1]
    assert journals[2] == journals[3] == GRAPH_FRAME


def test_without_graphs_every_frame_is_queued_call_by_call_and_says_the_same(cuda):
    executor = TinyExecutor(cuda, WINDOW_HW)
    plain, captured = FramePath(cuda, executor, WINDOW_HW, "paper", graphs=False), make_path(cuda)
    frame = noise(50, 70)
    for _ in range(3):
        cuda.journal.clear()
        labels = plain(frame).labels
        assert cuda.journal[-len(EAGER_FRAME) :] == EAGER_FRAME
        assert np.array_equal(labels, captured(frame).labels)


def test_nothing_is_allocated_in_the_steady_state(cuda):
    path = make_path(cuda)
    list(path.stream([noise(50, 70)] * 4))
    before = dict(cuda.live)
    cuda.journal.clear()
    list(path.stream([noise(50, 70)] * 20))
    assert cuda.live == before
    assert not {"allocate", "allocate_host", "create_event", "create_stream", "begin_capture"} & set(cuda.journal)
    assert cuda.journal.count("launch_graph") == 20


def test_a_frame_is_uploaded_before_the_one_before_it_is_awaited(cuda):
    path = make_path(cuda)
    list(path.stream([noise(50, 70)] * 4))
    cuda.journal.clear()
    list(path.stream([noise(50, 70)] * 3))
    submit, collect = GRAPH_FRAME[:-1], GRAPH_FRAME[-1:]
    assert cuda.journal == [*submit, *submit, *collect, *submit, *collect, *collect]


def test_another_size_is_captured_anew_and_the_old_graph_released(cuda):
    path = make_path(cuda)
    for shape in [(50, 70)] * 3 + [(60, 70)] * 3 + [(50, 70)] * 3:
        frame = noise(*shape)
        assert_segments(path(frame), frame)
    assert cuda.journal.count("end_capture") == 3
    assert cuda.journal.count("destroy_graph") == 2
    # The first frame of a size is never captured: a network may allocate when it runs first.
    networks = [call for call in cuda.journal if call in ("network", "begin_capture")]
    assert networks == ["network", "begin_capture", "network"] * 3


def test_the_callers_frame_may_be_overwritten_at_once(cuda):
    path = make_path(cuda)
    buffer = noise(50, 70)
    expected = expected_labels(buffer)
    path.submit(buffer)
    buffer[:] = 0
    assert np.array_equal(path.collect().labels, expected)


def test_results_are_arrays_of_their_own(cuda):
    path = make_path(cuda)
    first = path(np.zeros((50, 70), np.uint8))
    second = path(np.full((50, 70), 255, np.uint8))
    assert not first.labels.any()
    assert (second.labels == 2).all()


@pytest.mark.parametrize(
    "view", [lambda f: f, lambda f: f[::2, ::-1], lambda f: f.swapaxes(0, 1), lambda f: f[5:6, 7:9]]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_strides(cuda, view, channels):
    frame = view(noise(64, 80, 3) if channels == 3 else noise(64, 80))
    assert_segments(make_path(cuda)(frame), frame)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_device_array_is_read_in_the_order_of_its_stream(integrated, channels):
    """The caller writes the frame on its stream before, and overwrites it after: both only when their turn comes."""
    cuda = LazyCuda(integrated=integrated)
    path = make_path(cuda)
    buffer = np.zeros((60, 80) if channels == 1 else (60, 80, 3), np.uint8)
    for number in range(4):
        content = noise(*buffer.shape, seed=number)
        cuda.queue(CALLER_STREAM, lambda content=content: np.copyto(buffer, content))
        path.submit(OnDevice(buffer[:50, :70], CALLER_STREAM))
        cuda.queue(CALLER_STREAM, lambda: buffer.fill(7))
        cuda.synchronize(CALLER_STREAM)
        assert_segments(path.collect(), content[:50, :70])


def test_a_device_array_is_not_read_before_it_is_written(cuda):
    path, buffer = make_path(cuda), np.zeros((50, 70), np.uint8)
    for number in range(3):
        content = noise(50, 70, seed=number)
        cuda.queue(CALLER_STREAM, lambda content=content: np.copyto(buffer, content))
        assert_segments(path(OnDevice(buffer, CALLER_STREAM)), content)


def test_a_device_array_without_a_stream(cuda):
    frame = noise(50, 70)
    path = make_path(cuda)
    cuda.journal.clear()
    assert_segments(path(OnDevice(frame)), frame)
    assert "wait" not in cuda.journal


def test_a_device_array_of_an_interface_without_streams_is_read_in_the_order_of_the_default_one(cuda):
    path, buffer = make_path(cuda), np.zeros((50, 70), np.uint8)
    for number in range(3):
        content = noise(50, 70, seed=number)
        cuda.queue(CALLER_STREAM, lambda content=content: np.copyto(buffer, content))
        path.submit(OnDevice(buffer, version=2))
        cuda.queue(CALLER_STREAM, lambda: buffer.fill(7))
        cuda.synchronize(CALLER_STREAM)
        assert_segments(path.collect(), content)


@pytest.mark.parametrize(("handle", "stream"), [(0, CALLER_STREAM), (77, 77)])
def test_a_torch_tensor_is_read_in_the_order_of_its_current_stream(monkeypatch, handle, stream):
    """Its interface is of version 2, which has no word for a stream."""

    class Tensor(OnDevice):
        device = "cuda:0"

    current = SimpleNamespace(current_stream=lambda device: SimpleNamespace(cuda_stream=handle))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(Tensor=Tensor, cuda=current))
    assert read_device_array(Tensor(noise(50, 70), version=2)).stream == stream


def test_a_pycuda_array_is_read_in_the_order_of_the_default_stream():
    """It names no stream although its kernels may still run."""
    kind = type("GPUArray", (OnDevice,), {"__module__": "pycuda.gpuarray"})
    assert read_device_array(kind(noise(50, 70))).stream == CALLER_STREAM


def test_a_device_array_is_kept_until_it_is_collected(cuda):
    """A caller's pool would give its memory to the next array while it is still read."""
    path, frame = make_path(cuda), noise(50, 70)
    array = OnDevice(frame)
    kept = weakref.ref(array)
    path.submit(array)
    del array
    assert kept() is not None
    assert_segments(path.collect(), frame)
    assert kept() is None


@pytest.mark.parametrize(
    ("array", "changes", "said"),
    [
        (np.zeros((4, 4), np.float32), {}, "type <f4"),
        (np.zeros((4, 4, 4), np.uint8), {}, r"\(4, 4, 4\)"),
        (np.zeros((0, 4), np.uint8), {}, r"\(0, 4\)"),
        (np.zeros((4, 8), np.uint8)[:, ::2], {}, r"strides \(8, 2\)"),
        (np.zeros((4, 8), np.uint8)[::-1], {}, r"strides \(-8, 1\)"),
        (np.zeros((4, 8), np.uint8), {"mask": "something"}, "masked"),
    ],
)
def test_other_device_arrays_are_refused(cuda, array, changes, said):
    with pytest.raises(DataError, match=f"a frame on the device is .*{said}"):
        make_path(cuda)(OnDevice(array, **changes))


@pytest.mark.parametrize("call", ["record", "copy", "split_frame", "stitch_float32", "launch_graph", "end_capture"])
@pytest.mark.parametrize("frames_before", [0, 1, 2])
def test_after_a_failed_frame_the_next_one_is_right(cuda, call, frames_before):
    path, frame = make_path(cuda), noise(50, 70)
    for _ in range(frames_before):
        path(frame)
    cuda.faults[call] = 1
    outcomes = [segments(path, frame) for _ in range(4)]
    assert outcomes.count(False) == 1 - len(cuda.faults)
    path.close()
    assert_nothing_left(cuda)


@pytest.mark.parametrize("calls_before", [0, 1, 2])
def test_a_network_that_fails_leaves_the_path_usable(cuda, calls_before):
    executor = TinyExecutor(cuda, WINDOW_HW)
    path, frame = FramePath(cuda, executor, WINDOW_HW, "paper"), noise(50, 70)
    executor.fail_after = calls_before
    outcomes = [segments(path, frame) for _ in range(4)]
    # The third call never comes: two frames and the graph hold it.
    assert outcomes == [number != calls_before for number in range(4)] or calls_before == 2


def test_the_frame_before_a_failed_one_is_still_delivered(cuda):
    path, frames = make_path(cuda), [noise(50, 70, seed=seed) for seed in range(2)]
    path.submit(frames[0])
    cuda.faults["split_frame"] = 1
    with pytest.raises(CudaError, match="invented by the test"):
        path.submit(frames[1])
    assert_segments(path.collect(), frames[0])
    assert_segments(path(frames[1]), frames[1])


def test_a_lost_context_says_that_the_process_must_restart(cuda):
    path, frame = make_path(cuda), noise(50, 70)
    path.submit(frame)
    cuda.faults["synchronize"] = 700
    with pytest.raises(CudaFault, match="this process cannot use the GPU any more") as caught:
        path.collect()
    assert "start it again" in caught.value.hint
    path.close()


def test_out_of_memory_names_what_was_needed_and_free():
    cuda = LazyCuda(memory=100_000)
    path = make_path(cuda)
    with pytest.raises(CudaOutOfMemory, match=r"no room for \d+\.\d MiB: \d+\.\d MiB of 0\.1 MiB are free") as caught:
        path(noise(480, 640))
    assert "nvidia-smi" in caught.value.hint
    small = noise(24, 32)
    assert_segments(path(small), small)


def test_out_of_pinned_memory_gives_the_device_memory_back(cuda):
    path = make_path(cuda)
    cuda.faults["allocate_host"] = 2
    with pytest.raises(CudaError):
        path(noise(50, 70))
    assert not cuda.live


def test_closing_twice_with_frames_under_way_and_using_after(cuda):
    executor = TinyExecutor(cuda, WINDOW_HW)
    path = FramePath(cuda, executor, WINDOW_HW, "paper")
    path.submit(noise(50, 70))
    path.submit(noise(50, 70))
    path.close()
    path.close()
    assert_nothing_left(cuda)
    assert executor.lanes == 0
    with pytest.raises(ModelError, match="closed"):
        path(noise(50, 70))


@pytest.mark.parametrize("first", ["model", "segmenter"])
def test_closing_the_model_or_the_segmenter_closes_the_other(cuda, tmp_path, first):
    segmenter = lazy_segmenter(tmp_path, cuda)
    frame = noise(50, 70)
    assert_segments(segmenter(frame), frame)
    {"model": segmenter.model, "segmenter": segmenter}[first].close()
    assert_nothing_left(cuda)
    for use in (segmenter, segmenter.model.infer):
        with pytest.raises(ModelError, match="closed") as caught:
            use(frame)
        assert "load_model" in caught.value.hint
    segmenter.close()
    segmenter.model.close()


def test_a_stream_left_early_leaves_nothing_under_way(cuda):
    path, frame = make_path(cuda), noise(50, 70)
    for _ in path.stream([noise(50, 70, seed=1)] * 5):
        break
    assert_segments(path(frame), frame)


def test_submitting_and_collecting_out_of_turn(cuda):
    path = make_path(cuda)
    with pytest.raises(BcsegError, match="no frame is under way"):
        path.collect()
    path.submit(noise(50, 70))
    with pytest.raises(BcsegError, match="not collected"):
        path(noise(50, 70))
    path.submit(noise(50, 70))
    with pytest.raises(BcsegError, match="under way already"):
        path.submit(noise(50, 70))


def test_timings_come_from_events(cuda):
    timings = make_path(cuda)(noise(50, 70)).timings
    assert (timings.upload_ms, timings.download_ms, timings.total_ms) == (1, 1, 5)
