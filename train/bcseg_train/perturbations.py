"""What other scanners, settings and operators do to a frame: seeded changes of image and truth together."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from bcseg_edge.frames import UInt8Array

# Image uint8 [H, W] (or [H, W, 3], BGR), truth uint8 [H, W]; both may change size, alike.
Labelled = tuple[UInt8Array, UInt8Array]
Perturbation = Callable[[UInt8Array, UInt8Array, np.random.Generator], Labelled]


def gain(factor: float) -> Perturbation:
    """All grey levels times `factor`."""
    return lambda image, truth, _: (_grey(image * np.float32(factor)), truth)


def gamma(exponent: float) -> Perturbation:
    """Another dynamic range: levels 0..1 to the power of `exponent`."""
    return lambda image, truth, _: (_grey(255 * (image / np.float32(255)) ** exponent), truth)


def speckle(strength: float) -> Perturbation:
    """Multiplicative noise of grain 2 px with this standard deviation."""

    def change(image: UInt8Array, truth: UInt8Array, generator: np.random.Generator) -> Labelled:
        grains = generator.standard_normal([math.ceil(side / 2) for side in image.shape]).astype(np.float32)
        noise = cv2.resize(grains, image.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return _grey(image * (1 + strength * noise)), truth

    return change


def blur(sigma_px: float) -> Perturbation:
    """A Gaussian of this width."""
    return lambda image, truth, _: (_grey(cv2.GaussianBlur(image, (0, 0), sigma_px)), truth)


def jpeg(quality: int) -> Perturbation:
    """JPEG compression, 1 to 100."""

    def change(image: UInt8Array, truth: UInt8Array, _: np.random.Generator) -> Labelled:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8), truth

    return change


def scale(factor: float) -> Perturbation:
    """The frame in another resolution."""

    def change(image: UInt8Array, truth: UInt8Array, _: np.random.Generator) -> Labelled:
        size = [max(1, round(side * factor)) for side in image.shape[::-1]]
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image, size, interpolation=way)
        return np.asarray(resized, np.uint8), _nearest(truth, (size[0], size[1]))

    return change


def crop(side_share: float) -> Perturbation:
    """A part with this share of each side, anywhere."""

    def change(image: UInt8Array, truth: UInt8Array, generator: np.random.Generator) -> Labelled:
        height, width = (max(1, round(side * side_share)) for side in truth.shape)
        top = int(generator.integers(truth.shape[0] - height + 1))
        left = int(generator.integers(truth.shape[1] - width + 1))
        part = np.s_[top : top + height, left : left + width]
        return image[part], truth[part]

    return change


def letterbox(margin_share: float) -> Perturbation:
    """Black margins of this share of each side, as a monitor's menu area or a capture card gives."""

    def change(image: UInt8Array, truth: UInt8Array, generator: np.random.Generator) -> Labelled:
        vertical, horizontal = (round(side * margin_share) for side in image.shape)
        top, left = int(generator.integers(vertical + 1)), int(generator.integers(horizontal + 1))
        margins = ((top, vertical - top), (left, horizontal - left))
        return np.pad(image, margins), np.pad(truth, margins)

    return change


def sector(image: UInt8Array, truth: UInt8Array, generator: np.random.Generator) -> Labelled:
    """What a curved array sees: black outside two rays; the truth there is background."""
    height, width = image.shape
    apex_x, apex_y = width * generator.uniform(0.45, 0.55), -0.6 * height
    rows, columns = np.ogrid[:height, :width]
    angle = np.abs(np.arctan2(columns - apex_x, rows - apex_y))
    radius = np.hypot(columns - apex_x, rows - apex_y)
    outside = (angle > math.atan2(width / 2, 1.3 * height)) | (radius < 0.63 * height) | (radius > 1.6 * height)
    return np.where(outside, 0, image).astype(np.uint8), np.where(outside, 0, truth).astype(np.uint8)


def calipers_and_text(image: UInt8Array, truth: UInt8Array, generator: np.random.Generator) -> Labelled:
    """Calipers across the lesion (or anywhere), a depth scale and text, burnt in."""
    canvas = image.copy()
    height, width = canvas.shape
    points = np.argwhere(truth) if truth.any() else generator.integers((0, 0), (height, width), (2, 2))
    for y, x in (points[points[:, 1].argmin()], points[points[:, 1].argmax()]):
        cv2.drawMarker(canvas, (int(x), int(y)), 255, cv2.MARKER_CROSS, max(7, width // 60), 1)
    canvas[:: max(6, height // 14), -max(4, width // 80) :] = 220
    size = width / 900
    for row, text in enumerate(("DIST 1.24 CM", "L12-5  GN 68", "R BREAST 10:00")):
        place = (round(width * 0.03), round(height * 0.06 * (row + 1)))
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, 230, 1, cv2.LINE_AA)
    return canvas, truth


def tint(image: UInt8Array, truth: UInt8Array, _: np.random.Generator) -> Labelled:
    """A colour frame: the scanner's sepia map, with a colour bar at the left edge."""
    levels = image.astype(np.float32)
    coloured = np.stack((levels * 0.75, levels * 0.92, levels), -1).clip(0, 255).astype(np.uint8)  # BGR
    bar = np.linspace(255, 0, image.shape[0])[:, None].astype(np.uint8)
    coloured[:, : max(3, image.shape[1] // 60)] = cv2.applyColorMap(bar, cv2.COLORMAP_HOT)
    return coloured, truth


PERTURBATIONS: dict[str, Perturbation] = {
    "as it is": lambda image, truth, _: (image, truth),
    "gain x 0.5": gain(0.5),
    "gain x 0.75": gain(0.75),
    "gain x 1.5": gain(1.5),
    "gamma 0.6": gamma(0.6),
    "gamma 1.6": gamma(1.6),
    "speckle 0.2": speckle(0.2),
    "speckle 0.4": speckle(0.4),
    "blur 1.5 px": blur(1.5),
    "blur 3 px": blur(3.0),
    "JPEG quality 50": jpeg(50),
    "JPEG quality 15": jpeg(15),
    "scale 0.5": scale(0.5),
    "scale 2": scale(2.0),
    "crop to 80 %": crop(0.8),
    "letterbox 30 %": letterbox(0.3),
    "sector": sector,
    "calipers and text": calipers_and_text,
    "colour frame": tint,
}


def _grey(values: np.ndarray) -> UInt8Array:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _nearest(truth: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    return np.asarray(cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
