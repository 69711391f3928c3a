"""The tissue that the phantom shows: layers of a breast, strands of connective tissue, one lesion.

Echogenicity is in dB relative to breast fat, as BI-RADS judges it; attenuation in dB/cm/MHz. Values:
fat attenuates 0.73 +- 0.23 dB/cm/MHz at 7 MHz (Nasief et al., "Acoustic properties of breast fat", J. Ultrasound
Med. 2015); a fibroadenoma less than its surroundings, a carcinoma more (Nam et al., "Quantitative assessment of
in vivo breast masses using ultrasound attenuation and backscatter", Ultrason. Imaging 2013), which makes the
enhancement or the shadow behind it. Shapes follow the BI-RADS lexicon: a benign mass is oval, smooth and wider than
tall with a thin capsule; a malignant one irregular, angular, taller than wide with an echogenic halo.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bcseg_edge.frames import BENIGN, MALIGNANT, Float32Array
from bcseg_edge.sources.phantom.motion import FloatArray

MAP_STEP_MM = 0.1  # grid of the echogenicity and attenuation maps; the finest structure is 0.3 mm

_ANGLES = 1024  # samples of a lesion's outline


@dataclass(frozen=True, slots=True)
class LesionShape:
    """A star-shaped lesion in tissue coordinates.

    Attributes:
        label: BENIGN or MALIGNANT.
        centre_xz_mm, semi_axes_xz_mm: position and half sizes of the underlying ellipse.
        outline: float32 `[1024]`, radius over angle in units of that ellipse, about 1.
    """

    label: int
    centre_xz_mm: tuple[float, float]
    semi_axes_xz_mm: tuple[float, float]
    outline: Float32Array

    def radius(self, x_mm: FloatArray, z_mm: FloatArray) -> Float32Array:
        """Distance from the centre as a fraction of the outline's, float32: inside below 1."""
        x = ((x_mm - self.centre_xz_mm[0]) / self.semi_axes_xz_mm[0]).astype(np.float32)
        z = ((z_mm - self.centre_xz_mm[1]) / self.semi_axes_xz_mm[1]).astype(np.float32)
        radius, angle = cv2.cartToPolar(x, z)
        index = (angle * (_ANGLES / (2 * np.pi))).astype(np.int32) % _ANGLES
        fraction: Float32Array = radius.reshape(x.shape) / self.outline[index].reshape(x.shape)
        return fraction


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Maps over tissue coordinates; row 0 is the skin, the middle column x = 0.

    Attributes:
        echo_db: float32 `[rows, columns]`, backscatter relative to fat.
        attenuation: float32 `[rows, columns]`, dB/cm/MHz, one way.
        half_width_mm: x of the last column.
        lesion: its shape, or None.
    """

    echo_db: Float32Array
    attenuation: Float32Array
    half_width_mm: float
    lesion: LesionShape | None

    def map_position(self, x_mm: FloatArray, z_mm: FloatArray) -> tuple[Float32Array, Float32Array]:
        """Tissue coordinates as (column, row) of the maps, for `cv2.remap`."""
        column = ((x_mm + self.half_width_mm) / MAP_STEP_MM).astype(np.float32)
        return column, (z_mm / MAP_STEP_MM).astype(np.float32)


def make_anatomy(half_width_mm: float, depth_mm: float, kind: int | None, rng: np.random.Generator) -> Anatomy:
    """Draw a breast of `2 half_width_mm` x `depth_mm` with a lesion of label `kind` (None: without)."""
    columns, rows = (int(np.ceil(size / MAP_STEP_MM)) + 1 for size in (2 * half_width_mm, depth_mm))
    x = np.linspace(-half_width_mm, half_width_mm, columns, dtype=np.float32)[None, :]
    z = (np.arange(rows, dtype=np.float32) * MAP_STEP_MM)[:, None]
    echo_db, attenuation = _layers(z, columns, depth_mm, rng)
    lesion = None if kind is None else _make_lesion(kind, depth_mm, rng)
    if lesion is not None:
        grid_x, grid_z = np.broadcast_arrays(x, z)
        _insert_lesion(echo_db, attenuation, lesion, lesion.radius(grid_x, grid_z), rng)
    return Anatomy(echo_db, attenuation, half_width_mm, lesion)


def _smooth_noise(shape: tuple[int, int], x_mm: float, z_mm: float, rng: np.random.Generator) -> Float32Array:
    """Gaussian noise of zero mean and unit variance, correlated over `x_mm` and `z_mm`."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), x_mm / MAP_STEP_MM, sigmaY=z_mm / MAP_STEP_MM))
    normal: Float32Array = ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)
    return normal


def _strands(shape: tuple[int, int], x_mm: float, z_mm: float, rng: np.random.Generator) -> Float32Array:
    """Thin curved sheets of connective tissue (Cooper's ligaments, septa), 0 to 1: the zero set of smooth noise."""
    sheets = np.exp(-np.square(_smooth_noise(shape, x_mm, z_mm, rng) / 0.16))
    presence = np.clip(_smooth_noise(shape, 2 * x_mm, 2 * z_mm, rng) + 0.3, 0, 1)  # they come and go
    strands: Float32Array = (sheets * presence).astype(np.float32)
    return strands


def _layers(
    z: Float32Array, columns: int, depth_mm: float, rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """Skin, fat, gland, muscle and chest wall from top to bottom: (echo_db, attenuation), each `[rows, columns]`."""
    shape = (len(z), columns)
    depths = np.array([0.045, 0.24, 0.66, 0.87], np.float32) * depth_mm  # lower ends of skin, fat, gland, muscle
    waviness_mm = np.array([0.1, 1.1, 1.3, 0.8], np.float32)
    ends = [
        depth + wave * _smooth_noise((1, columns), 6.0, 1.0, rng)
        for depth, wave in zip(depths, waviness_mm, strict=True)
    ]
    layer = sum((z > end).astype(np.int8) for end in ends)
    echo_db = np.array([7.0, 0.0, 3.5, -3.0, -5.0], np.float32)[layer]
    attenuation = np.array([0.9, 0.73, 0.78, 0.7, 0.7], np.float32)[layer]

    gland = cv2.GaussianBlur((layer == 2).astype(np.float32), (0, 0), 8)
    muscle = (layer == 3).astype(np.float32)
    echo_db = echo_db + 1.2 * _smooth_noise(shape, 2.5, 1.2, rng)
    echo_db += gland * (3.5 * _smooth_noise(shape, 4.0, 0.7, rng) + 2.5 * _smooth_noise(shape, 1.2, 0.3, rng))
    septa = np.maximum(_strands(shape, 5.0, 1.3, rng), gland * _strands(shape, 4.0, 0.45, rng))
    echo_db += 12.0 * septa * (1 - muscle) + 11.0 * muscle * _strands(shape, 10.0, 0.4, rng)
    fascia = sum(
        strength * np.exp(-np.square((z - end) / 0.22))
        for strength, end in zip((8.0, 7.0, 10.0, 13.0), ends, strict=True)
    )
    echo_db += fascia * (0.6 + 0.4 * np.clip(_smooth_noise(shape, 4.0, 1.0, rng), -1, 1))
    attenuation = attenuation + 0.5 * septa + 0.05 * _smooth_noise(shape, 1.5, 4.0, rng)
    return echo_db.astype(np.float32), attenuation.astype(np.float32)


def _make_lesion(kind: int, depth_mm: float, rng: np.random.Generator) -> LesionShape:
    """A lesion of BUSI's usual size and depth: its middle at 38 to 46 % of the depth."""
    centre = (float(rng.uniform(-6, 6)), float(rng.uniform(0.38, 0.46) * depth_mm))
    angle = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    if kind == BENIGN:
        height = rng.uniform(0.11, 0.14) * depth_mm
        width = height * rng.uniform(1.4, 1.9)
        harmonics, roughness = np.arange(2, 5), 0.035
    else:
        height = rng.uniform(0.15, 0.19) * depth_mm
        width = height * rng.uniform(0.75, 0.9)
        harmonics, roughness = np.arange(2, 13), 0.13
    waves = rng.normal(0, roughness, len(harmonics)) * 2 / harmonics
    phases = rng.uniform(0, 2 * np.pi, len(harmonics))
    outline = 1 + (waves[:, None] * np.cos(harmonics[:, None] * angle + phases[:, None])).sum(axis=0)
    return LesionShape(kind, centre, (float(width), float(height)), np.maximum(outline, 0.4).astype(np.float32))


def _insert_lesion(
    echo_db: Float32Array,
    attenuation: Float32Array,
    lesion: LesionShape,
    radius: Float32Array,
    rng: np.random.Generator,
) -> None:
    """Overwrite the maps inside the lesion and brighten its rim, in place."""
    malignant = lesion.label == MALIGNANT
    level_db, texture_db, rim_db, rim_width, margin, loss = (
        (-9.0, 2.5, 4.0, 0.15, 0.2, 1.1) if malignant else (-10.0, 1.5, 5.0, 0.05, 0.04, 0.35)
    )
    # A malignant margin is indistinct: over a fifth of the radius it turns from tissue to lesion.
    share = np.clip((1 - radius) / margin + 0.5, 0, 1)
    texture = _smooth_noise(radius.shape, 1.0, 0.8, rng)
    echo_db += rim_db * np.exp(-np.square((radius - 1) / rim_width))
    echo_db += share * (level_db + texture_db * texture - echo_db)
    attenuation += share * (loss - attenuation)
