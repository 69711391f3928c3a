"""What may name a patient is black or gone before anything else sees the frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bcseg_edge.deidentify import (
    MaskedLiveSource,
    MaskedSource,
    blacken,
    blacken_outside,
    in_part,
    mask_frame,
    parse_rectangles,
)
from bcseg_edge.errors import DataError
from bcseg_edge.frames import Frame
from bcseg_edge.sources import open_source
from bcseg_edge.sources.paced import pace

WHITE = np.full((40, 60, 3), 255, np.uint8)


def test_rectangles_are_black_and_the_rest_stays():
    black = blacken(WHITE, [(0, 0, 60, 10), (50, 30, 100, 100)])
    assert not black[:10].any()
    assert not black[30:, 50:].any()
    assert black[10:30].min() == 255
    assert black[30:, :50].min() == 255
    assert WHITE.min() == 255


@pytest.mark.parametrize("image", [WHITE, WHITE[..., 0]])
def test_outside_of_the_image_all_is_black(image):
    black = blacken_outside(image, (5, 6, 20, 10))
    assert black[6:16, 5:25].min() == 255
    assert np.count_nonzero(black) == black[6:16, 5:25].size
    assert not blacken_outside(image, None).any()


def test_names_of_files_become_numbers():
    frame = Frame(WHITE, 7, 123, (0.1, 0.1), "DOE^JANE 1970")
    clean = mask_frame(frame, [(0, 0, 60, 5)], keep_name=False)
    assert clean.name == "000007"
    assert not clean.image[:5].any()
    assert (clean.index, clean.captured_ns, clean.spacing_mm) == (7, 123, (0.1, 0.1))


def test_sources_are_masked_and_stay_sources(tmp_path):
    cv2.imwrite(str(tmp_path / "DOE^JANE.png"), WHITE)
    for keep_names in (True, False):
        with MaskedSource(open_source(str(tmp_path)), [(0, 0, 60, 5)], keep_names) as source:
            assert (source.count, source.frame_hz, source.problems) == (1, None, [])
            for _ in range(2):
                (frame,) = source
                assert frame.name == ("DOE^JANE" if keep_names else "000000")
                assert not frame.image[:5].any()
                assert frame.image[5:].min() == 255


def test_live_sources_are_masked():
    live = pace(open_source("phantom:64x48@30?frames=3"))
    with MaskedLiveSource(live, [(0, 0, 64, 20)], keep_names=False) as source:
        source.open()
        assert source.frame_hz == live.frame_hz
        frames = list(source)
    assert len(frames) == 3
    assert not any(frame.image[:20].any() for frame in frames)
    assert all(frame.image[20:].any() for frame in frames)


def test_a_file_whose_name_would_stay_visible_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), WHITE)
    for rectangles, inside in (([(60, 0, 5, 5)], None), ([], (0, 40, 20, 20))):
        source = MaskedSource(open_source(str(tmp_path)), rectangles, True, inside)
        with source, pytest.raises(DataError, match="hide nothing"):
            next(iter(source))


def test_a_live_frame_that_a_mask_misses_is_black_and_told_once():
    live = pace(open_source("phantom:64x48@30?frames=3"))
    with MaskedLiveSource(live, [(64, 0, 10, 10)], keep_names=False) as source:
        source.open()
        frames = list(source)
        assert len(frames) == 3
        assert not any(frame.image.any() for frame in frames)
        assert source.problems == ["frames of 64x48 px are black: --mask 64,0,10,10 lies outside of them"]


def test_rectangles_of_a_whole_image_in_a_part_of_it():
    part = (10, 20, 30, 40)
    whole_hw = (100, 90)
    assert in_part([(0, 0, 90, 100)], part, whole_hw) == ((0, 0, 30, 40),)
    assert in_part([(15, 25, 5, 6), (0, 0, 10, 99)], part, whole_hw) == ((5, 5, 5, 6),)
    with pytest.raises(DataError, match="outside"):
        in_part([(90, 0, 5, 5)], part, whole_hw)


def test_rectangles_are_read():
    assert parse_rectangles(["0,0,640,40", " 1,2, 3 ,4"]) == ((0, 0, 640, 40), (1, 2, 3, 4))


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,0,5", "0,0,5,5,5", "1.5,0,3,3"])
def test_rectangles_that_make_no_sense_are_refused(text):
    with pytest.raises(DataError, match="--mask"):
        parse_rectangles([text])
