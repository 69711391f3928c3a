"""What may name a patient is black or gone before anything else sees the frame."""

from __future__ import annotations

import numpy as np
import pytest

from bcseg_edge.deidentify import blacken, blacken_outside, parse_rectangles, without_names
from bcseg_edge.errors import DataError
from bcseg_edge.frames import Frame

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
    clean = without_names(frame, [(0, 0, 60, 5)])
    assert clean.name == "000007"
    assert not clean.image[:5].any()
    assert (clean.index, clean.captured_ns, clean.spacing_mm) == (7, 123, (0.1, 0.1))


def test_rectangles_are_read():
    assert parse_rectangles(["0,0,640,40", " 1,2, 3 ,4"]) == ((0, 0, 640, 40), (1, 2, 3, 4))


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,0,5", "0,0,5,5,5", "1.5,0,3,3"])
def test_rectangles_that_make_no_sense_are_refused(text):
    with pytest.raises(DataError, match="--mask"):
        parse_rectangles([text])
