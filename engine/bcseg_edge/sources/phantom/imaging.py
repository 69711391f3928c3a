"""The scanner: from scatterers to a B-mode image.

The model is the linear convolution model of a B-mode image (Bamber and Dickinson 1980; Field II computes the
same sum of point responses in fine detail, Jensen 1996). Scatterers of random strength lie in the tissue; each
returns the pulse, Gaussian along the line, times the beam, narrow at the focus and wider before and behind it.
Work is done on the demodulated (IQ) signal: a scatterer at depth z contributes a exp(4 pi i f z / c), so that
speckle moves, deforms and decorrelates with the tissue as the phases do. With more than ten scatterers per
resolution cell the envelope is Rayleigh distributed: fully developed speckle (Burckhardt 1978; Wagner et al.
1983). The receiver splits its band in three and averages the envelopes (frequency compounding, Trahey et al.
1986), as scanners do to calm speckle, and smooths the detected signal before the logarithm. Attenuation
accumulates along each line, down and back; the time-gain compensation assumes 0.5 dB/cm/MHz and so leaves depth
darker, and lifts the receiver's noise with it. Log compression shows 60 dB.

Not modelled: refraction, reverberation, multiple scattering, elevation of the beam (the motion is in plane).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from bcseg_edge.frames import Float32Array, UInt8Array
from bcseg_edge.sources.phantom.anatomy import Anatomy
from bcseg_edge.sources.phantom.motion import Deformation, FloatArray

SPEED_MM_PER_US = 1.54
CARRIERS_MHZ = (6.5, 9.0, 11.5)  # a linear breast array of 5 to 13 MHz, in three sub-bands
CENTRE_MHZ = 9.0
AXIAL_FWHM_MM = 0.27  # c / (2 B) of a sub-band of B = 2.5 MHz, times 0.88 for a Gaussian pulse
FOCUS_FWHM_MM = 0.48  # beam width at the focus: wavelength times f-number 2.8
FOCUS_FRACTION = 0.45  # focus as a fraction of the image depth
RAYLEIGH_LENGTH_MM = 14.0
SCATTERERS_PER_MM2 = 80.0  # above ten in a resolution cell of 0.27 x 0.48 mm
TGC_DB_PER_CM_MHZ = 0.5
DYNAMIC_RANGE_DB = 60.0
DETECTOR_SIGMA_MM = (0.13, 0.07)  # low-pass filter after detection: across, along the line
FAT_GREY = 122.0  # where the display shows fat at the skin
NOISE_DB = -60.0  # receiver noise before the time-gain compensation, relative to fat
_FWHM_TO_SIGMA = 1 / 2.3548
_BEAM_ZONES = 6  # depths at which the beam is evaluated; linear in between
_IDENTITY = np.ones(1, np.float32)
_COARSE = 4  # attenuation is smooth: summed on a grid this many pixels wide


@dataclass(frozen=True, slots=True)
class Scatterers:
    """Point scatterers in tissue coordinates, sorted by depth: float32 `[n]` each."""

    x_mm: Float32Array
    z_mm: Float32Array
    strength: Float32Array


class _Cells(NamedTuple):
    """Scatterers on the pixel grid, `[n]` each: flat position of the upper pixel, weights of both, depth."""

    cell: npt.NDArray[np.int64]
    upper: Float32Array
    lower: Float32Array
    z_mm: FloatArray


def place_scatterers(anatomy: Anatomy, depth_mm: float, rng: np.random.Generator) -> Scatterers:
    """Scatter points evenly over the tissue, with strengths that give 0 dB as unit density of unit variance."""
    count = int(2 * anatomy.half_width_mm * depth_mm * SCATTERERS_PER_MM2)
    z = np.sort(rng.uniform(0, depth_mm, count)).astype(np.float32)
    x = rng.uniform(-anatomy.half_width_mm, anatomy.half_width_mm, count).astype(np.float32)
    column, row = anatomy.map_position(x, z)
    echo_db = anatomy.echo_db[row.astype(np.int32), column.astype(np.int32)]
    strength = rng.standard_normal(count, dtype=np.float32) * np.power(10, echo_db / 20, dtype=np.float32)
    return Scatterers(x, z, strength.astype(np.float32))


class Scanner:
    """Images one anatomy; holds the arrays that do not change from frame to frame.

    Args:
        frame_hw: image size in px.
        pixel_mm: size of the square pixels.
        anatomy, scatterers: the tissue.
        rng: draws the probe's uneven gain and the noise record.
    """

    def __init__(
        self,
        frame_hw: tuple[int, int],
        pixel_mm: float,
        anatomy: Anatomy,
        scatterers: Scatterers,
        rng: np.random.Generator,
    ) -> None:
        self._hw = frame_hw
        self._pixel_mm = pixel_mm
        self._anatomy = anatomy
        self._scatterers = scatterers
        self._axial_kernel = _gaussian_kernel(AXIAL_FWHM_MM / pixel_mm)
        self._beams = self._beam_kernels()
        self._margin = (len(self._axial_kernel) // 2, max(len(kernel) for kernel in self._beams) // 2)
        # Unit expected power for scatterers of 0 dB (kernels have unit energy).
        self._scale = 1 / np.sqrt(SCATTERERS_PER_MM2 * pixel_mm**2)
        self._gain_db = self._gain(rng)
        self._noise = self._noise_record(rng)
        # Kept between frames: fresh pages for arrays of megabytes cost more than the arithmetic (33 of 60 ms).
        height, width = self._padded_hw
        self._parts = np.empty((2, height * width), np.float32)
        self._field = np.empty((height, width, 2), np.float32)
        self._pulsed = np.empty_like(self._field)
        self._iq = np.empty((*frame_hw, 2), np.float32)
        height, width = frame_hw
        self._coarse_rows = (np.arange(0, height + _COARSE, _COARSE, dtype=np.float32) * pixel_mm)[:, None]
        columns = np.arange(0, width + _COARSE, _COARSE, dtype=np.float32)
        self._coarse_columns = ((columns - (width - 1) / 2) * pixel_mm)[None, :]

    def image(self, deformation: Deformation, rng: np.random.Generator) -> UInt8Array:
        """The B-mode image uint8 `[H, W]` of the tissue under `deformation`; `rng` draws the noise."""
        loss_db = self._loss_db(deformation)
        # The receiver adds its noise after the tissue's loss: seen from before the loss it is that much larger.
        noise_gain = np.power(10, (NOISE_DB + loss_db) / 20, dtype=np.float32)
        noise_gain = cv2.merge([noise_gain, noise_gain])
        envelope = np.zeros(self._hw, np.float32)
        for iq in self.echoes(deformation):
            iq += cv2.multiply(noise_gain, self._noise_cut(rng))
            envelope += cv2.magnitude(iq[..., 0], iq[..., 1])
        return self._display(envelope * np.float32(1 / len(CARRIERS_MHZ)), self._gain_db - loss_db)

    def echoes(self, deformation: Deformation) -> Iterator[Float32Array]:
        """The IQ signal of each sub-band before loss and noise, float32 `[H, W, 2]`; the next one overwrites it.

        Its mean power is 1 where the tissue has 0 dB.
        """
        cells = self._cells(*deformation.to_probe(self._scatterers.x_mm, self._scatterers.z_mm))
        for carrier_mhz in CARRIERS_MHZ:
            yield self._beamform(self._deposit(cells, carrier_mhz))

    def _display(self, envelope: Float32Array, gain_db: Float32Array) -> UInt8Array:
        """Smooth, amplify, compress and quantise."""
        across, along = (max(sigma / self._pixel_mm, 0.05) for sigma in DETECTOR_SIGMA_MM)
        smooth = cv2.GaussianBlur(envelope, (0, 0), across, sigmaY=along)
        level_db = cv2.log(smooth + np.float32(1e-6)) * np.float32(20 / np.log(10)) + gain_db
        grey = level_db * np.float32(255 / DYNAMIC_RANGE_DB) + np.float32(FAT_GREY + 0.5)
        image: UInt8Array = np.clip(grey, 0, 255, out=grey).astype(np.uint8)
        return image

    def _cells(self, x_mm: FloatArray, z_mm: FloatArray) -> _Cells:
        """Where the scatterers in view fall on the padded grid: the nearest line, shared between two rows.

        Rows are shared because a pulse is only three pixels long; a beam is six wide, and rounding to the
        nearest line does not show. The phase, which makes the speckle, uses the exact depth either way.
        """
        height, width = self._padded_hw
        column = x_mm * (1 / self._pixel_mm) + ((self._hw[1] - 1) / 2 + self._margin[1] + 0.5)
        row = z_mm * (1 / self._pixel_mm) + self._margin[0]
        seen = np.flatnonzero((column >= 0) & (column < width) & (row < height - 1))
        row = row[seen].astype(np.float32)
        top = row.astype(np.int64)
        weight = self._scatterers.strength[seen] * np.float32(self._scale)
        lower = weight * (row - top.astype(np.float32))
        return _Cells(top * width + column[seen].astype(np.int64), weight - lower, lower, z_mm[seen])

    @property
    def _padded_hw(self) -> tuple[int, int]:
        return self._hw[0] + 2 * self._margin[0], self._hw[1] + 2 * self._margin[1]

    def _deposit(self, cells: _Cells, carrier_mhz: float) -> Float32Array:
        """Sum the scatterers' phasors on the padded grid: float32 `[h, w, 2]`, in phase and in quadrature."""
        height, width = self._padded_hw
        phase = cells.z_mm * np.float32(4 * np.pi * carrier_mhz / SPEED_MM_PER_US)
        self._parts.fill(0)
        for part, carrier in zip(self._parts, (np.cos(phase), np.sin(phase)), strict=True):
            np.add.at(part, cells.cell, cells.upper * carrier)
            np.add.at(part[width:], cells.cell, cells.lower * carrier)
        cv2.merge([part.reshape(height, width) for part in self._parts], self._field)
        return self._field

    def _beamform(self, field: Float32Array) -> Float32Array:
        """Convolve with the pulse and the depth-dependent beam, and crop the margin: `[H, W, 2]`."""
        height, width = self._hw
        rows, columns = self._margin
        pulsed = cv2.sepFilter2D(field, -1, _IDENTITY, self._axial_kernel, self._pulsed)[rows : rows + height]
        position = np.linspace(0, len(self._beams) - 1, height, dtype=np.float32)
        iq = self._iq
        iq.fill(0)
        for zone, kernel in enumerate(self._beams):
            share = np.clip(1 - np.abs(position - zone), 0, None)
            lit = np.flatnonzero(share)
            if lit.size:
                part = slice(lit[0], lit[-1] + 1)
                beamed = cv2.sepFilter2D(pulsed[part], -1, kernel, _IDENTITY)[:, columns : columns + width]
                beamed *= share[part, None, None]
                iq[part] += beamed
        return iq

    def _beam_kernels(self) -> list[Float32Array]:
        depth_mm = self._hw[0] * self._pixel_mm
        depths = np.linspace(0, depth_mm, _BEAM_ZONES)
        spread = np.sqrt(1 + np.square((depths - FOCUS_FRACTION * depth_mm) / RAYLEIGH_LENGTH_MM))
        return [_gaussian_kernel(FOCUS_FWHM_MM * factor / self._pixel_mm) for factor in spread]

    def _loss_db(self, deformation: Deformation) -> Float32Array:
        """Two-way attenuation from the probe to each pixel, dB, float32 `[H, W]`."""
        x, z = deformation.to_tissue(*np.broadcast_arrays(self._coarse_columns, self._coarse_rows))
        column, row = self._anatomy.map_position(x, z)
        local = cv2.remap(self._anatomy.attenuation, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        step_cm = _COARSE * self._pixel_mm / 10
        summed = np.cumsum(local, axis=0) * np.float32(2 * CENTRE_MHZ * step_cm)
        # The beam averages over its width, so a shadow's edge is no sharper than the beam.
        sigma = max(2.0 * FOCUS_FWHM_MM / (_COARSE * self._pixel_mm), 0.5)
        blurred = cv2.GaussianBlur(summed, (0, 0), sigma, sigmaY=0.1)
        height, width = self._hw
        full = cv2.resize(blurred, None, fx=_COARSE, fy=_COARSE, interpolation=cv2.INTER_LINEAR)
        return np.asarray(full, np.float32)[:height, :width]

    def _gain(self, rng: np.random.Generator) -> Float32Array:
        """Time-gain compensation with eight unevenly set sliders, and the probe's uneven contact: dB `[H, W]`."""
        height, width = self._hw
        depth_cm = np.arange(height, dtype=np.float32) * self._pixel_mm / 10
        sliders = rng.normal(0, 0.8, 8)
        along = 2 * TGC_DB_PER_CM_MHZ * CENTRE_MHZ * depth_cm
        along += np.interp(np.linspace(0, 7, height), np.arange(8), sliders)
        contact = cv2.GaussianBlur(rng.normal(0, 1, (1, width)).astype(np.float32), (0, 0), width / 30)
        across = contact[0] / max(float(contact.std()), 1e-6)
        edge = np.abs(np.linspace(-1, 1, width))
        across = np.clip(across, -2, 2) * 0.7 - 6 * np.clip((edge - 0.9) / 0.1, 0, 1) ** 2
        gain: Float32Array = (along[:, None] + across[None, :]).astype(np.float32)
        return gain

    def _noise_record(self, rng: np.random.Generator) -> Float32Array:
        """Receiver noise in the pulse's band, unit power; frames take cuts of it at random offsets."""
        height, width = self._hw
        noise = rng.standard_normal((height + 128, width + 128, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
        return np.asarray(cv2.sepFilter2D(noise, -1, _IDENTITY, self._axial_kernel), np.float32)

    def _noise_cut(self, rng: np.random.Generator) -> Float32Array:
        top, left = rng.integers(0, 129, 2)
        return self._noise[top : top + self._hw[0], left : left + self._hw[1]]


def _gaussian_kernel(fwhm_px: float) -> Float32Array:
    """A Gaussian of unit energy, float32 `[2 r + 1]`; at least one pixel's width, which a pixel integrates over."""
    sigma = max(fwhm_px * _FWHM_TO_SIGMA, 0.3)
    radius = max(1, int(np.ceil(2.6 * sigma)))
    kernel = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))
    unit: Float32Array = (kernel / np.sqrt(np.square(kernel).sum())).astype(np.float32)
    return unit
