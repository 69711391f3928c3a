"""Damaged files of every kind: a clear error or the frames that are left, never a hang, never a crash.

`BCSEG_FUZZ=4000 pytest tests/engine/test_source_fuzz.py -rP` tries as many as you have time for, and prints what came
of them. A file that does harm stays in pytest's folder, which the failure names.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from tests.engine.test_sources import write_video
from tests.fixtures.damage import damaged
from tests.fixtures.dicom_files import moving_square, region, write_dicom
from tests.fixtures.page_files import write_animation
from tests.fixtures.source_reader import read_all

FILES = int(os.environ.get("BCSEG_FUZZ", "280"))
SECONDS_A_FILE = 10.0
SCAN = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def video(folder, name):
    return write_video(folder / name, frames=12, fourcc={".mp4": "mp4v", ".avi": "MJPG"}[name[-4:]])


def h264(folder, name):
    pytest.importorskip("av", reason="writes H.264")
    from bcseg_edge.sinks.encoder import open_encoder

    encoder = open_encoder(folder / name, (64, 48), 25)
    for number in range(12):
        encoder.write(np.roll(SCAN, number, axis=1), number)
    encoder.close()
    return folder / name


def dicom(folder, name):
    pytest.importorskip("pydicom", reason="reads DICOM")
    encoding, _, layout = name.removesuffix(".dcm").partition("-")
    frames = moving_square(3)
    if layout == "colour":
        frames = np.stack([frames, frames // 2, 255 - frames], axis=-1)
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59)], "PixelSpacing": [0.1, 0.1]}
    return write_dicom(folder / name, frames, encoding=encoding, **tags)


def image(folder, name):
    assert cv2.imwrite(str(folder / name), SCAN)
    return folder / name


def stack(folder, name):
    pages = [np.roll(SCAN, number, axis=1) for number in range(4)]
    if name.endswith(".tif"):
        assert cv2.imwritemulti(str(folder / name), pages)
        return folder / name
    return write_animation(folder / name, [page[..., 0] for page in pages])


SEEDS = {
    "mpeg4.mp4": video,
    "motion-jpeg.avi": video,
    "h264.mp4": h264,
    "native.dcm": dicom,
    "rle.dcm": dicom,
    "jpeg-colour.dcm": dicom,
    "jpeg2000.dcm": dicom,
    "jpeg2000-colour.dcm": dicom,
    "a.png": image,
    "a.jpg": image,
    "a.bmp": image,
    "a.tif": image,
    "a.webp": image,
    "a.ppm": image,
    "stack.tif": stack,
    "stack.png": stack,
    "stack.webp": stack,
}


def expect_no_fault(whole, folder, files):
    """Damage a file in many ways, read them all; prints what came of them."""
    rng = np.random.default_rng(int.from_bytes(whole.name.encode()[:8], "little"))
    data = whole.read_bytes()
    paths = [folder / f"{number}{whole.suffix}" for number in range(files)]
    for path in paths:
        path.write_bytes(damaged(data, rng))
    outcomes = read_all(paths, SECONDS_A_FILE)
    faults = [outcome for outcome in outcomes if outcome.fault]
    for path in set(paths) - {outcome.path for outcome in faults}:
        path.unlink()
    refused = sum(bool(outcome.refused) for outcome in outcomes)
    told = sum(outcome.problems > 0 for outcome in outcomes)
    slowest_s = max(outcome.took_s for outcome in outcomes)
    print(f"{whole.name}: {files} files, {refused} refused, {told} read in part, slowest {slowest_s:.2f} s")
    assert not faults
    assert len(outcomes) == files


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files(tmp_path, name):
    expect_no_fault(SEEDS[name](tmp_path, name), tmp_path, max(1, FILES // len(SEEDS)))


@pytest.mark.data
@pytest.mark.parametrize("name", ["us_echo_30f_jpeg.dcm"])
def test_a_real_file_damaged(data_dir, tmp_path, name):
    expect_no_fault(data_dir / "clips" / name, tmp_path, max(1, FILES // len(SEEDS) // 4))


def test_the_harness_sees_a_fault(tmp_path):
    (outcome,) = read_all([image(tmp_path, "a.png")], seconds_a_file=0.0, processes=1)
    assert "no end after" in outcome.fault
