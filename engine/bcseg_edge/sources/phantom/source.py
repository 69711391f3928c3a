"""`phantom:640x480@30`: a simulated B-mode cine with a moving lesion and known truth."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import numpy as np

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import BENIGN, MALIGNANT, Frame, UInt8Array
from bcseg_edge.sources.phantom.anatomy import make_anatomy
from bcseg_edge.sources.phantom.imaging import Scanner, place_scatterers
from bcseg_edge.sources.phantom.motion import (
    MAX_DRAG,
    MAX_SLIDE_MM,
    MAX_STRAIN,
    MAX_STRAIN_PER_MM,
    Deformation,
    deformation_at,
)

if TYPE_CHECKING:
    from typing_extensions import Self

GRAMMAR = "phantom:WIDTHxHEIGHT@HZ?seed=0&lesion=benign|malignant|none&frames=150&depth=40"
_PATTERN = re.compile(r"phantom:(?:(?P<width>\d+)x(?P<height>\d+))?(?:@(?P<hz>\d+(?:\.\d+)?))?(?:\?(?P<options>.*))?")
_LESIONS = {"benign": BENIGN, "malignant": MALIGNANT, "none": None}
_SIDE_PX = (16, 4096)
_DEPTH_MM = (10.0, 100.0)
_MAX_HZ = 1000.0  # more than a probe gives, and than a video file can say
_WIDEST_MM = 200.0  # four linear probes; the work grows with the tissue in view


@dataclass(frozen=True, slots=True)
class PhantomSpec:
    """What to simulate. The same spec gives the same frames.

    Attributes:
        width_px, height_px: frame size, 16 to 4096 px.
        frame_hz: frames per second of simulated time.
        seed: draws tissue, lesion, hand and noise.
        lesion: "benign" (the default, as most masses in BUSI and in practice are), "malignant" or "none".
        frames: how many; 0 never ends.
        depth_mm: imaged depth, over `height_px` rows of square pixels.
    """

    width_px: int = 640
    height_px: int = 480
    frame_hz: float = 30.0
    seed: int = 0
    lesion: str = "benign"
    frames: int = 150
    depth_mm: float = 40.0

    def __post_init__(self) -> None:
        low, high = _SIDE_PX
        if not (low <= self.width_px <= high and low <= self.height_px <= high):
            raise SourceError(
                f"a phantom of {self.width_px}x{self.height_px} px; sides of {low} to {high} px are possible", _HINT
            )
        if not 0 < self.frame_hz <= _MAX_HZ:
            raise SourceError(
                f"a phantom at {self.frame_hz:g} frames per second; above 0 and up to {_MAX_HZ:g} is possible", _HINT
            )
        if self.lesion not in _LESIONS:
            raise SourceError(f"phantom lesion {self.lesion!r}; it is one of {', '.join(_LESIONS)}", _HINT)
        if self.seed < 0 or self.frames < 0:
            raise SourceError(f"phantom seed={self.seed}, frames={self.frames}; neither can be negative", _HINT)
        if not _DEPTH_MM[0] <= self.depth_mm <= _DEPTH_MM[1]:
            raise SourceError(
                f"phantom depth={self.depth_mm:g} mm; {_DEPTH_MM[0]:g} to {_DEPTH_MM[1]:g} mm is possible", _HINT
            )

        width_mm = self.width_px * self.pixel_mm
        if width_mm > _WIDEST_MM:
            raise SourceError(
                f"a phantom of {width_mm:.0f} mm across, in pixels of {self.pixel_mm:.2g} mm; up to {_WIDEST_MM:g} mm",
                "make the frame less wide or the depth smaller",
            )

    @property
    def pixel_mm(self) -> float:
        """Size of the square pixels, mm."""
        return self.depth_mm / self.height_px


_HINT = f"write it as {GRAMMAR}; everything after 'phantom:' may be left out"
_OPTIONS: dict[str, tuple[str, Callable[[str], int | float | str]]] = {
    "seed": ("seed", int),
    "lesion": ("lesion", str),
    "frames": ("frames", int),
    "depth": ("depth_mm", float),
}


def parse_phantom(text: str) -> PhantomSpec:
    """Read `phantom:WIDTHxHEIGHT@HZ?option=value&...`.

    Raises:
        SourceError: another form, an unknown option, a value out of range.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise SourceError(f"{text!r} is not a phantom", _HINT)
    values: dict[str, int | float | str] = {}
    if match["width"]:
        values |= {"width_px": int(match["width"]), "height_px": int(match["height"])}
    if match["hz"]:
        values["frame_hz"] = float(match["hz"])
    for key, value in parse_qsl(match["options"] or "", keep_blank_values=True):
        if key not in _OPTIONS:
            raise SourceError(f"phantom option {key!r}; the options are {', '.join(_OPTIONS)}", _HINT)
        field, convert = _OPTIONS[key]
        try:
            values[field] = convert(value)
        except ValueError as error:
            raise SourceError(f"phantom {key}={value!r} is not a number", _HINT) from error
    return replace(PhantomSpec(), **values)  # type: ignore[arg-type]  # checked by __post_init__


class PhantomSource:
    """Simulated frames with truth, made one by one when asked for; every iteration starts at the first.

    Only for trying the program out and for measuring it, never for training: what it knows of tissue is in
    `anatomy.py` and `imaging.py`, and no figure on it says anything about patients.
    """

    def __init__(self, spec: PhantomSpec) -> None:
        self.spec = spec
        self.description = (
            f"phantom {spec.width_px}x{spec.height_px} px, {spec.depth_mm:g} mm deep, "
            f"lesion {spec.lesion}, seed {spec.seed}"
        )
        self.frame_hz: float | None = spec.frame_hz
        self.count: int | None = spec.frames or None
        self.problems: list[str] = []
        half_width_mm = spec.width_px * spec.pixel_mm / 2 + MAX_SLIDE_MM + MAX_DRAG * spec.depth_mm + 1
        tissue_mm = spec.depth_mm / (1 - MAX_STRAIN - MAX_STRAIN_PER_MM * half_width_mm) + 1
        # Separate streams, so that noise does not depend on how much tissue was drawn.
        tissue_seed, scanner_seed, hand_seed, self._noise_seed = np.random.SeedSequence(spec.seed).spawn(4)
        tissue_rng = np.random.default_rng(tissue_seed)
        self._anatomy = make_anatomy(half_width_mm, tissue_mm, _LESIONS[spec.lesion], tissue_rng)
        scatterers = place_scatterers(self._anatomy, tissue_mm, tissue_rng)
        frame_hw = (spec.height_px, spec.width_px)
        self._scanner = Scanner(frame_hw, spec.pixel_mm, self._anatomy, scatterers, np.random.default_rng(scanner_seed))
        self._phases = np.random.default_rng(hand_seed).uniform(0, 2 * np.pi, 4)

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self.count is None or index < self.count:
            yield self.frame(index)
            index += 1

    def frame(self, index: int) -> Frame:
        """Frame `index` (from 0), whatever was asked for before; `truth` marks the lesion to the pixel."""
        deformation = deformation_at(index / self.spec.frame_hz, self._phases)
        noise = np.random.default_rng((self.spec.seed, index))
        return Frame(
            image=self._scanner.image(deformation, noise),
            index=index,
            captured_ns=time.monotonic_ns(),
            spacing_mm=(self.spec.pixel_mm, self.spec.pixel_mm),
            name=f"{index:06d}",
            truth=self._truth(deformation),
        )

    def render(self, count: int) -> list[Frame]:
        """The first `count` frames at once, for benchmarks that must not measure the simulation."""
        return [self.frame(index) for index in range(count)]

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _truth(self, deformation: Deformation) -> UInt8Array:
        """Labels uint8 `[H, W]`: the pixels whose middle lies in the lesion."""
        height, width = self.spec.height_px, self.spec.width_px
        truth = np.zeros((height, width), np.uint8)
        lesion = self._anatomy.lesion
        if lesion is None:
            return truth
        reach = float(lesion.outline.max())
        corners = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)]) * np.multiply(lesion.semi_axes_xz_mm, reach)
        seen_x, seen_z = deformation.to_probe(*(corners + lesion.centre_xz_mm).T)
        middle = (width - 1) / 2
        left, right = _span(seen_x / self.spec.pixel_mm + middle, width)
        top, bottom = _span(seen_z / self.spec.pixel_mm, height)
        x = ((np.arange(left, right) - middle) * self.spec.pixel_mm)[None, :]
        z = (np.arange(top, bottom) * self.spec.pixel_mm)[:, None]
        tissue_x, tissue_z = np.broadcast_arrays(*deformation.to_tissue(*np.broadcast_arrays(x, z)))
        if tissue_x.size:
            truth[top:bottom, left:right] = (lesion.radius(tissue_x, tissue_z) < 1) * np.uint8(lesion.label)
        return truth


def _span(positions_px: np.ndarray[tuple[int, ...], np.dtype[np.floating]], size: int) -> tuple[int, int]:
    """First and one-past-last pixel that cover `positions_px` with two pixels to spare, within the image."""
    return max(0, int(positions_px.min()) - 2), max(0, min(size, int(positions_px.max()) + 3))
