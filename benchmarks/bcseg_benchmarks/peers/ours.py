"""This project's own way, through the frame path that users get."""

from __future__ import annotations

from bcseg_benchmarks.peers.contender import OURS, Contender
from bcseg_benchmarks.subjects import Subject
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_edge.models import load_model
from bcseg_edge.passport import Tiling
from bcseg_edge.segmenter import Segmenter


def our_contender(subject: Subject, backend: str, tiling: Tiling, threads: int | None) -> Contender:
    """`Segmenter` on `subject`."""
    return Contender(
        model=subject.name,
        precision=subject.precision,
        way=OURS,
        how=f"Segmenter, backend {backend}, tiling {tiling}; confidence included",
        source="",
        scope="frame to labels",
        open=lambda: _Ours(Segmenter(load_model(subject.path, backend, threads), tiling)),
    )


class _Ours:
    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def prepare(self, image: UInt8Array) -> UInt8Array:
        return image

    def run(self, image: UInt8Array) -> Segmentation:
        return self._segmenter(image)

    def labels(self, segmentation: Segmentation) -> UInt8Array:
        return segmentation.labels

    def close(self) -> None:
        self._segmenter.close()
