"""One frame under way on the GPU: its stream, its buffers, its launches and, where it can be, its graph."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

import numpy as np

from bcseg_edge.cuda.device_array import DeviceFrame
from bcseg_edge.cuda.driver import Cuda
from bcseg_edge.cuda.executor import Executor, split_batches
from bcseg_edge.cuda.launches import Launch, place_tables, split_launch, stitch_launch
from bcseg_edge.cuda.memory import Arena
from bcseg_edge.cuda.tables import FrameLayout, make_tables
from bcseg_edge.errors import BcsegError
from bcseg_edge.frames import CLASSES, Segmentation, Timings, UInt8Array
from bcseg_edge.tiling import TileGrid

MARKS = ("started", "uploaded", "preprocessed", "inferred", "postprocessed", "downloaded")


class _Warmth(Enum):
    """A network is captured only after it ran once at its batch sizes: it may allocate the first time."""

    COLD = auto()
    WARM = auto()


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that a frame size needs, made once.

    Attributes:
        grid: of the frame.
        channels: of the frame.
        device: device memory.
        pinned: host memory.
        frame: address that the split kernel reads from.
        split: the first launch.
        batches: patches address, logits address and size of each call of the network.
        stitch: the last launch.
        downloads: target, source and size of each copy back; none where the kernels write to host memory.
    """

    grid: TileGrid
    channels: int
    device: Arena
    pinned: Arena
    frame: int
    split: Launch
    batches: tuple[tuple[int, int, int], ...]
    stitch: Launch
    downloads: tuple[tuple[int, int, int], ...]


class Slot:
    """Takes one frame at a time: `submit`, then `collect`. Not thread-safe.

    Args:
        cuda: the GPU.
        executor: of the network; the slot opens a lane of its own.
        graphs: capture the steady state into a CUDA graph where the executor can be captured.
    """

    def __init__(self, cuda: Cuda, executor: Executor, *, graphs: bool = True) -> None:
        self._cuda = cuda
        self._executor = executor
        self._lane = executor.open_lane()
        self._stream = cuda.create_stream()
        self._events = {mark: cuda.create_event() for mark in MARKS}
        self._plan: _Plan | None = None
        self._warmth = _Warmth.COLD
        self._graph: int | None = None
        self._held: DeviceFrame | None = None  # its memory must not go to somebody else before it is read
        self._capturable = graphs and executor.capturable

    def submit(self, frame: UInt8Array | DeviceFrame, grid: TileGrid, channels: int) -> None:
        """Queue all work of a frame; the frame on the host may be overwritten afterwards.

        Args:
            frame: uint8 `[H, W]` or `[H, W, 3]`, any strides, or a frame on the device.
            grid: for its size.
            channels: 1 or 3.

        Raises:
            BcsegError: out of memory, or a fault of CUDA or the network; the slot is empty again.
        """
        try:
            plan = self._fit(grid, channels)
            self._held = frame if isinstance(frame, DeviceFrame) else None
            self._cuda.record(self._events["started"], self._stream)
            self._upload(plan, frame)
            self._cuda.record(self._events["uploaded"], self._stream)
            if isinstance(frame, DeviceFrame) and frame.stream is not None:
                self._cuda.wait(frame.stream, self._events["uploaded"])  # the caller may overwrite it then
            self._compute(plan)
        except BaseException:
            self._abandon()
            raise

    def collect(self) -> Segmentation:
        """Wait for the frame that was submitted.

        Raises:
            BcsegError: its work failed; the slot is empty again.
        """
        plan = self._plan
        if plan is None:
            raise BcsegError("no frame was submitted to this slot", "submit one first")
        try:
            self._cuda.synchronize(self._stream)
            timings = self._timings()
        except BaseException:
            self._abandon()
            raise
        self._held = None
        shape = plan.grid.frame_hw
        labels = plan.pinned.view("labels", shape, np.uint8).copy()
        confidence = plan.pinned.view("confidence", shape, np.float32).copy()
        return Segmentation(labels, confidence, timings, plan.grid.count)

    def close(self) -> None:
        """Release everything; what is under way is waited for. A second call does nothing."""
        if not self._stream:
            return
        with contextlib.suppress(BcsegError):  # after a fault nothing can be released, nor need be
            self._release()
            self._lane.close()
            for event in self._events.values():
                self._cuda.destroy_event(event)
            self._cuda.destroy_stream(self._stream)
        self._stream = 0

    def _fit(self, grid: TileGrid, channels: int) -> _Plan:
        """The plan for this frame size; a change of size drops the buffers and the graph of the one before."""
        if self._plan is None or (self._plan.grid, self._plan.channels) != (grid, channels):
            self._release()
            self._plan = _make_plan(self._cuda, self._executor, grid, channels, self._stream)
            self._lane.prepare({size for _, _, size in self._plan.batches})
        return self._plan

    def _upload(self, plan: _Plan, frame: UInt8Array | DeviceFrame) -> None:
        height, width = plan.grid.frame_hw
        row_size = width * plan.channels
        if isinstance(frame, DeviceFrame):
            if frame.stream is not None:
                # Borrowed as a mark on the caller's stream; it gets its own meaning right after the copy.
                self._cuda.record(self._events["uploaded"], frame.stream)
                self._cuda.wait(self._stream, self._events["uploaded"])
            self._cuda.copy_rows(plan.frame, frame.address, frame.row_pitch, row_size, height, self._stream)
            return
        np.copyto(plan.pinned.view("frame", frame.shape, np.uint8), frame)
        if not self._cuda.gpu.integrated:
            self._cuda.copy(plan.frame, plan.pinned.addresses["frame"], row_size * height, self._stream)

    def _compute(self, plan: _Plan) -> None:
        if self._graph is not None:
            self._cuda.launch_graph(self._graph, self._stream)
        elif self._warmth is _Warmth.WARM and self._capturable:
            self._graph = self._capture(plan)
            self._cuda.launch_graph(self._graph, self._stream)
        else:
            self._queue(plan, in_graph=False)
            self._warmth = _Warmth.WARM

    def _capture(self, plan: _Plan) -> int:
        self._cuda.begin_capture(self._stream)
        try:
            self._queue(plan, in_graph=True)
        except BaseException:
            self._cuda.abandon_capture(self._stream)
            raise
        return self._cuda.end_capture(self._stream)

    def _queue(self, plan: _Plan, *, in_graph: bool) -> None:
        cuda, stream, events = self._cuda, self._stream, self._events
        cuda.launch(plan.split, stream)
        cuda.record(events["preprocessed"], stream, in_graph=in_graph)
        for patches, logits, size in plan.batches:
            self._lane.enqueue(patches, logits, size, stream)
        cuda.record(events["inferred"], stream, in_graph=in_graph)
        cuda.launch(plan.stitch, stream)
        cuda.record(events["postprocessed"], stream, in_graph=in_graph)
        for target, source, size in plan.downloads:
            cuda.copy(target, source, size, stream)
        cuda.record(events["downloaded"], stream, in_graph=in_graph)

    def _timings(self) -> Timings:
        upload, split, network, stitch, download = (
            self._cuda.elapsed_ms(self._events[start], self._events[end]) for start, end in pairwise(MARKS)
        )
        return Timings(split, network, stitch, upload_ms=upload, download_ms=download)

    def _abandon(self) -> None:
        """After a failure: nothing of the frame stays queued, and the next frame starts afresh."""
        with contextlib.suppress(BcsegError):
            self._release()

    def _release(self) -> None:
        """Wait, then drop graph and buffers."""
        graph, self._graph = self._graph, None
        plan, self._plan = self._plan, None
        self._warmth = _Warmth.COLD
        self._cuda.synchronize(self._stream)
        self._held = None
        if graph is not None:
            self._cuda.destroy_graph(graph)
        if plan is not None:
            plan.device.close()
            plan.pinned.close()


def _make_plan(cuda: Cuda, executor: Executor, grid: TileGrid, channels: int, stream: int) -> _Plan:
    """Allocate for a frame size, bring the tables to the device and prepare the launches."""
    tables = make_tables(grid)
    arrays = tables.arrays()
    batches = split_batches(grid.count, executor.profile)
    (height, width), (window_h, window_w) = grid.frame_hw, grid.window_hw
    window_px, frame_px = window_h * window_w, height * width
    rooms = sum(batches[-1])  # patches, the surplus of the last batch included
    logits_size = len(CLASSES) * window_px * executor.logits_dtype.itemsize  # of one patch
    host = {"frame": frame_px * channels, "labels": frame_px, "confidence": 4 * frame_px}
    table_sizes = {f"table {number}": array.nbytes for number, array in enumerate(arrays)}
    work = {"patches": rooms * window_px, "logits": rooms * logits_size}
    integrated = cuda.gpu.integrated
    with contextlib.ExitStack() as undo:
        device = Arena(cuda, {**work, **table_sizes, **({} if integrated else host)})
        undo.callback(device.close)
        pinned = Arena(cuda, {**host, **table_sizes}, pinned=True)
        undo.callback(pinned.close)
        for name, array in zip(table_sizes, arrays, strict=True):
            np.copyto(pinned.view(name, array.shape, array.dtype), array)
            cuda.copy(device.addresses[name], pinned.addresses[name], array.nbytes, stream)
        undo.pop_all()
    # An integrated GPU reads and writes the host's memory itself: a copy would only cost.
    near = {name: pinned.mapped(name) if integrated else device.addresses[name] for name in host}
    patches, logits = device.addresses["patches"], device.addresses["logits"]
    axes = place_tables(grid, tables, [device.addresses[name] for name in table_sizes])
    return _Plan(
        grid=grid,
        channels=channels,
        device=device,
        pinned=pinned,
        frame=near["frame"],
        split=split_launch(axes, FrameLayout(near["frame"], width * channels, channels, channels), patches),
        batches=tuple((patches + first * window_px, logits + first * logits_size, size) for first, size in batches),
        stitch=stitch_launch(axes, logits, executor.logits_dtype, near["labels"], near["confidence"]),
        downloads=()
        if integrated
        else tuple((pinned.addresses[name], near[name], host[name]) for name in ("labels", "confidence")),
    )
