"""DICOM sources: what the tags mean, and that no damaged file does more than say so."""

from __future__ import annotations

import json
import random
import tracemalloc

import cv2
import numpy as np
import pytest

from bcseg_edge import pipeline
from bcseg_edge.deidentify import MaskedSource
from bcseg_edge.errors import BcsegError, SourceError
from bcseg_edge.frames import Segmentation
from bcseg_edge.sinks import open_sinks
from bcseg_edge.sources import DicomSource, open_source
from tests.fixtures.dicom_files import moving_square, region, write_dicom

pytest.importorskip("pydicom", reason="reads DICOM")
FRAMES = moving_square(6)
COLOUR = np.stack([FRAMES, FRAMES // 2, 255 - FRAMES], axis=-1)  # RGB


def read(path):
    with open_source(str(path)) as source:
        assert isinstance(source, DicomSource)
        return source, list(source)


@pytest.mark.parametrize("encoding", ["native", "rle", "jpeg", "jpeg2000"])
@pytest.mark.parametrize("frames", [FRAMES, COLOUR, FRAMES[:1]], ids=["grey", "colour", "single"])
def test_frames_come_back_in_bgr_whatever_the_encoding(tmp_path, encoding, frames):
    source, got = read(write_dicom(tmp_path / "cine.dcm", frames, encoding=encoding))
    expected = frames[..., ::-1] if frames.ndim == 4 else frames
    assert source.problems == []
    assert len(got) == source.count == len(frames)
    worst = 100 if encoding == "jpeg" else 0  # chroma is halved: edges of colour are soft
    for frame, image in zip(got, expected, strict=True):
        assert frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - image).max() <= worst
        assert np.abs(frame.image.astype(int) - image).mean() <= 3


def test_a_cine_has_a_rate_and_a_single_image_has_none(tmp_path):
    cine, frames = read(write_dicom(tmp_path / "cine.dcm", FRAMES))
    assert cine.frame_hz == 25
    assert [frame.name for frame in frames[:2]] == ["000000", "000001"]
    single, frames = read(write_dicom(tmp_path / "scan 3.dcm", FRAMES[:1]))
    assert single.frame_hz is None
    assert [frame.name for frame in frames] == ["scan 3"]


@pytest.mark.parametrize(
    ("tags", "rate"),
    [
        ({"FrameTime": None, "FrameTimeVector": [0, 20, 20, 20, 20, 20]}, 50),
        ({"FrameTime": None, "CineRate": 15}, 15),
        ({"FrameTime": "0", "RecommendedDisplayFrameRate": 12}, 12),
        ({"FrameTime": None}, 25),
    ],
)
def test_rates(tmp_path, tags, rate):
    assert read(write_dicom(tmp_path / "a.dcm", FRAMES, **tags))[0].frame_hz == pytest.approx(rate)


def test_the_ultrasound_region_is_cut_out_and_gives_the_spacing(tmp_path):
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 87, 59, 0.02), region(0, 0, 20, 20)]}
    source, frames = read(write_dicom(tmp_path / "a.dcm", FRAMES, **tags))
    assert source.crop_xywh == (8, 4, 80, 56)
    assert source.frame_hw == (64, 96)
    assert frames[0].spacing_mm == pytest.approx((0.2, 0.2))
    np.testing.assert_array_equal(frames[2].image, FRAMES[2, 4:60, 8:88])


def write_study(folder):
    """A cine, an image of another size, spacing and region, one without suffix, and what else lies in such a folder."""
    folder.mkdir()
    write_dicom(folder / "2.dcm", FRAMES[:2], PixelSpacing=[0.1, 0.1])
    tags = {"SequenceOfUltrasoundRegions": [region(8, 4, 67, 39, 0.03)]}
    write_dicom(folder / "10.dcm", FRAMES[:1, :48, :80], **tags)
    write_dicom(folder / "IM0001", FRAMES[3:4])
    write_dicom(folder / "DICOMDIR", FRAMES[:1])
    write_dicom(folder / "._2.dcm", FRAMES[:1])
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("pattern", ["", "*"], ids=["folder", "glob"])
def test_a_study_gives_every_frame_with_its_own_size_and_spacing(tmp_path, pattern):
    source = open_source(write_study(tmp_path / "study") / pattern)
    for _ in range(2):
        frames = list(source)
        assert [frame.name for frame in frames] == ["2_000000", "2_000001", "10", "IM0001"]
        assert [frame.index for frame in frames] == [0, 1, 2, 3]
        assert [frame.spacing_mm for frame in frames] == [(0.1, 0.1)] * 2 + [pytest.approx((0.3, 0.3)), None]
        assert [frame.region_xywh for frame in frames] == [None, None, (8, 4, 60, 36), None]
        np.testing.assert_array_equal(frames[1].image, FRAMES[1])
        np.testing.assert_array_equal(frames[2].image, FRAMES[0, 4:40, 8:68])
        assert source.description.endswith("; size of a pixel unknown (1 of 3 files)")
    assert source.problems == []
    assert source.frame_hz is None


def test_a_file_of_a_study_that_cannot_be_read_is_told(tmp_path):
    study = write_study(tmp_path / "study")
    write_dicom(study / "report.dcm", FRAMES[:1], Rows=0, Modality="SR")
    write_dicom(study / "cut.dcm", FRAMES, encoding="rle")
    (study / "cut.dcm").write_bytes((study / "cut.dcm").read_bytes()[:-400])
    (study / "empty.dcm").touch()
    source = open_source(study)
    whole = len(list(source))
    assert 4 < whole < 10
    told = sorted(source.problems)
    assert len(told) == 3
    assert f"{whole - 4} of 6 frames could be read" in told[0]
    assert "empty.dcm" in told[1]
    assert "report.dcm holds no image (SR)" in told[2]


def test_the_only_dicom_file_is_as_if_it_were_named(tmp_path):
    write_dicom(tmp_path / "a.dcm", FRAMES)
    for spec in (tmp_path, tmp_path / "*.dcm"):
        source = open_source(spec)
        assert isinstance(source, DicomSource)
        assert source.frame_hz == 25


def test_images_come_before_dicom_files(tmp_path):
    study = write_study(tmp_path / "study")
    cv2.imwrite(str(study / "a.png"), FRAMES[0])
    assert [frame.name for frame in open_source(study)] == ["a"]
    assert len(list(open_source(study / "*.dcm"))) == 3


def bright(image):
    """A segmentation whose benign lesion is what is bright."""
    labels = (image > 100).astype(np.uint8)
    return Segmentation(labels, np.ones(labels.shape, np.float32))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("items", "region_xywh"),
    [([region(8, 4, 87, 59)], [8, 4, 80, 56]), ([region(0, 0, 95, 63)], None), ([], None)],
    ids=["part", "all of it", "no region"],
)
def test_results_say_where_in_the_file_they_lie(tmp_path, items, region_xywh, masked):
    path = write_dicom(tmp_path / "a.dcm", FRAMES, SequenceOfUltrasoundRegions=items)
    source = MaskedSource(open_source(path), [(70, 50, 2, 2)], keep_names=False) if masked else open_source(path)
    pipeline.run(source, bright, open_sinks(tmp_path / "out", None))
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(records) == len(FRAMES)
    for index, record in enumerate(records):
        assert record["region_xywh"] == region_xywh
        left, top = (region_xywh or [0, 0])[:2]
        x, y, width, height = record["lesions"][0]["bbox_xywh"]
        assert (x + left, y + top, width, height) == (10 + 2 * index, 20, 25, 20)  # as `moving_square` draws it
        labels = cv2.imread(str(tmp_path / "out" / "labels" / f"{record['name']}.png"), cv2.IMREAD_UNCHANGED)
        assert list(labels.shape) == record["size_hw"]
        height, width = record["size_hw"]
        assert np.array_equal(labels, FRAMES[index, top : top + height, left : left + width] > 100)


@pytest.mark.parametrize(
    ("items", "note"),
    [
        ([region(84, 31, 595, 414)], "outside of the image"),
        ([region(0, 0, 95, 63, RegionDataType=3)], "unknown"),
        ([region(0, 0, 95, 63, PhysicalUnitsXDirection=4)], "unknown"),
        ([region(0, 0, 95, 63, delta_cm=0.0)], "unknown"),
        ([region(40, 40, 20, 20)], "outside of the image"),
    ],
)
def test_a_region_that_does_not_fit_is_not_used(tmp_path, items, note):
    source, frames = read(write_dicom(tmp_path / "a.dcm", FRAMES, SequenceOfUltrasoundRegions=items))
    assert source.crop_xywh == (0, 0, 96, 64)
    assert frames[0].spacing_mm is None
    assert note in source.description


def test_pixel_spacing_is_row_then_column(tmp_path):
    _, frames = read(write_dicom(tmp_path / "a.dcm", FRAMES, PixelSpacing=[0.1, 0.3]))
    assert frames[0].spacing_mm == (0.1, 0.3)


def test_monochrome1_is_inverted_and_palettes_are_applied(tmp_path):
    _, frames = read(write_dicom(tmp_path / "a.dcm", FRAMES, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(frames[0].image, 255 - FRAMES[0])
    table = (np.arange(256, dtype=np.uint16) << 8).tobytes()
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", table))
    }
    _, frames = read(write_dicom(tmp_path / "b.dcm", FRAMES, PhotometricInterpretation="PALETTE COLOR", **palette))
    np.testing.assert_array_equal(frames[0].image, np.stack([FRAMES[0]] * 3, -1))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Rows": 0}, "holds no image"),
        ({"Rows": 65535, "Columns": 65535}, "65535x65535"),
        ({"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}, "12 bits"),
        ({"NumberOfFrames": -3}, "-3 frames"),
        ({"PhotometricInterpretation": None}, "cannot be read"),
    ],
)
def test_what_is_no_8_bit_image_is_refused(tmp_path, tags, reason):
    with pytest.raises(SourceError, match=reason):
        open_source(str(write_dicom(tmp_path / "a.dcm", FRAMES, **tags)))


@pytest.mark.parametrize("content", [b"", b"text", bytes(128) + b"DICM", bytes(128) + b"DICM" + bytes(100)])
def test_what_is_no_dicom_is_refused(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.dcm"):
        open_source(str(tmp_path / "a.dcm"))


def test_dicom_without_a_suffix_is_found_by_its_content(tmp_path):
    assert len(read(write_dicom(tmp_path / "IM0001", FRAMES))[1]) == 6


def test_a_file_cut_in_the_middle_gives_what_is_left_and_says_so(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", FRAMES, encoding="rle")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 400])
    source, frames = read(path)
    assert 0 < len(frames) < 6
    assert f"{len(frames)} of 6 frames could be read" in source.problems[0]


@pytest.mark.parametrize("length", [0, 7])
def test_a_jp2_box_without_a_length_is_no_endless_loop(tmp_path, length):
    path = write_dicom(tmp_path / "a.dcm", FRAMES[:3], encoding="jpeg2000")
    data = bytearray(path.read_bytes())
    box = data.rindex(b"ftyp") - 4  # in the last frame
    data[box : box + 4] = length.to_bytes(4, "big")
    path.write_bytes(data)
    source, frames = read(path)
    assert len(frames) == 2
    assert f"JP2 box of {length} bytes; 2 of 3 frames could be read" in source.problems[0]


def test_a_long_cine_is_read_frame_by_frame(tmp_path):
    frames = np.zeros((60, 300, 400), np.uint8)
    path = write_dicom(tmp_path / "a.dcm", frames)
    source = open_source(str(path))
    tracemalloc.start()
    assert sum(1 for _ in source) == 60
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < frames.nbytes / 4


@pytest.mark.parametrize("encoding", ["native", "rle", "jpeg", "jpeg2000"])
def test_damaged_files_are_errors_of_ours(tmp_path, encoding):
    """Bytes changed, cut out and cut off, in the header more often than in the pixels; the seed is fixed."""
    rng = random.Random(f"dicom {encoding}")
    items = [region(8, 4, 87, 59)]
    tags = {"SequenceOfUltrasoundRegions": items, "PixelSpacing": [0.1, 0.1]}
    path = write_dicom(tmp_path / "a.dcm", FRAMES[:2], encoding=encoding, **tags)
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8, 30))):
            at = rng.randrange(128, min(len(data), rng.choice((900, 1800, len(data)))))
            data[at] = rng.choice((0, 0xFF, data[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
        if rng.random() < 0.2:
            at = rng.randrange(132, len(data))
            del data[at : at + rng.randrange(1, 40)]
        if rng.random() < 0.2:
            del data[rng.randrange(132, len(data)) :]
        path.write_bytes(data)
        try:
            with open_source(str(path)) as source:
                for frame in source:
                    assert frame.image.dtype == np.uint8
                    assert frame.image.size
        except BcsegError:
            refused += 1
    assert 10 < refused < 150


@pytest.mark.data
def test_real_cine(data_dir):
    source, frames = read(data_dir / "clips" / "us_echo_30f_jpeg.dcm")
    assert len(frames) == 30
    assert frames[0].image.shape == (240, 320, 3)
    assert source.frame_hz == pytest.approx(30, abs=0.01)
    assert source.spacing_mm is None  # its region is that of 640x480 px, the image has 320x240
    assert source.problems == []
