"""Which lesion of a frame is that of the frame before, for reports of whole recordings.

Simpler than `bcseg_edge.live.tracking`, which bridges gaps and settles classes over time: here every lesion keeps the
class that its frame's labels have, so that a report and the labels never disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bcseg_edge.lesions import Lesion


@dataclass(slots=True)
class LinkedLesion:
    """A lesion that was seen in one frame or in several in a row.

    Attributes:
        number: from 1, in the order of appearance.
        index: the frame in which it is largest.
        lesion: as it is there.
        latest_index, latest: where it was seen last, and as what.
    """

    number: int
    index: int
    lesion: Lesion
    latest_index: int
    latest: Lesion


class LesionLinks:
    """Links lesions of one class whose bounding boxes overlap from a frame to the next, largest first.

    Attributes:
        lesions: all so far.
    """

    def __init__(self) -> None:
        self.lesions: list[LinkedLesion] = []

    def add(self, index: int, lesions: Sequence[Lesion]) -> None:
        """Take the lesions of a frame, largest first; `index` counts frames and grows."""
        open_links = [linked for linked in self.lesions if linked.latest_index == index - 1]
        for lesion in lesions:
            same = [linked for linked in open_links if _shared_px(linked.latest, lesion) > 0]
            if not same:
                self.lesions.append(LinkedLesion(len(self.lesions) + 1, index, lesion, index, lesion))
                continue
            linked = max(same, key=lambda link: _shared_px(link.latest, lesion))
            open_links.remove(linked)
            linked.latest_index, linked.latest = index, lesion
            if lesion.area_px > linked.lesion.area_px:
                linked.index, linked.lesion = index, lesion


def _shared_px(one: Lesion, other: Lesion) -> int:
    """Area that two bounding boxes share, px; 0 for lesions of different classes."""
    if one.label != other.label:
        return 0
    (x, y, width, height), (u, v, columns, rows) = one.bbox_xywh, other.bbox_xywh
    return max(0, min(x + width, u + columns) - max(x, u)) * max(0, min(y + height, v + rows) - max(y, v))
