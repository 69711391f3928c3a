"""The part of the frame that is the image: given, or found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge.crop import Crop
from bcseg_edge.errors import DataError
from bcseg_edge.frames import Segmentation
from bcseg_edge.live.blank import is_blank
from bcseg_edge.live.crop import AutoCrop, parse_crop


def screen(number, box=(60, 40, 220, 160), hw=(240, 320), moving=True):
    """A scanner's screen: a title, a menu, a clock that runs, and speckle in `box` (x, y, width, height)."""
    image = np.zeros(hw, np.uint8)
    image[6:12, 10:200] = 230
    image[hw[0] - 20 : hw[0] - 6, 10 : 20 + number % 30] = 200
    x, y, width, height = box
    rng = np.random.default_rng(number if moving else 0)
    image[y : y + height, x : x + width] = rng.integers(30, 190, (height, width), np.uint8)
    return image


def close_to(crop, box, tolerance=4):
    ends = (crop.x, crop.y, crop.x + crop.width, crop.y + crop.height)
    expected = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    return max(abs(one - other) for one, other in zip(ends, expected, strict=True)) <= tolerance


@pytest.mark.parametrize("moving", [True, False])
@pytest.mark.parametrize("box", [(60, 40, 220, 160), (100, 30, 120, 180), (0, 30, 320, 180)])
def test_the_image_is_found_and_the_menus_are_not(box, moving):
    finder = AutoCrop()
    for number in range(60):
        finder.look(screen(number, box, moving=moving))
    assert finder.settled is moving
    assert close_to(finder.crop, box), finder.crop


def scanner(number, moving=True, hw=(180, 320)):
    """A scanner's screen that is never black: a grey banner with a name, a side panel, and speckle at `SCANNED`."""
    image = np.full(hw, 70, np.uint8)
    image[:16] = 120
    image[4:10, 10:120:3] = 230  # the name
    x, y, width, height = SCANNED
    image[y : y + height, x : x + width] = np.random.default_rng(number if moving else 0).integers(
        30, 190, (height, width), np.uint8
    )
    return image


SCANNED = (50, 25, 160, 120)
DARK, PAGE = np.zeros((180, 320), np.uint8), np.full((180, 320), 200, np.uint8)
BEGINNINGS = {
    "black": [DARK] * 3,
    "frozen": [scanner(0)] * 60,
    "off and on": [DARK, scanner(0), DARK, scanner(0), DARK, scanner(0)] * 5,
    "pages of a menu": ([PAGE] * 30 + [scanner(0)] * 30) * 6,
    "a page that fades in": [np.full((180, 320), grey, np.uint8) for grey in range(30, 230, 13)],
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_only_what_goes_on_moving_is_the_image(name):
    finder = AutoCrop()
    for image in BEGINNINGS[name]:
        finder.look(image)
        assert not finder.settled
    for number in range(56):
        finder.look(scanner(number))
    assert finder.settled
    assert close_to(finder.crop, SCANNED), finder.crop


def test_a_page_in_the_middle_does_not_count():
    finder = AutoCrop()
    for number in range(20):
        finder.look(scanner(number))
    finder.look(PAGE)
    assert not finder.settled
    for number in range(20, 150):
        finder.look(scanner(number))
    assert close_to(finder.crop, SCANNED), finder.crop


def test_what_is_settled_holds_for_frames_of_its_size():
    finder = AutoCrop()
    for number in range(60):
        assert finder.settled_for((180, 320)) == (finder.crop if finder.settled else None)
        finder.look(scanner(number))
    assert finder.settled_for((180, 320)) == finder.crop
    assert finder.settled_for((480, 640)) is None
    finder.look(np.zeros((480, 640), np.uint8))  # blank, and of another size all the same
    assert finder.settled_for((180, 320)) is None


def test_colour_screens_too():
    finder = AutoCrop()
    for number in range(60):
        finder.look(np.repeat(screen(number)[..., None], 3, axis=2))
    assert close_to(finder.crop, (60, 40, 220, 160))


def test_once_settled_it_stays():
    finder = AutoCrop()
    for number in range(60):
        finder.look(screen(number))
    settled = finder.crop
    for number in range(60):
        finder.look(screen(number, (0, 0, 320, 240)))
    assert finder.crop == settled


def test_another_size_starts_over():
    finder = AutoCrop()
    for number in range(60):
        finder.look(screen(number))
    finder.look(screen(0, (90, 80, 300, 260), (400, 500)))
    assert not finder.settled
    for number in range(60):
        finder.look(screen(number, (90, 80, 300, 260), (400, 500)))
    assert close_to(finder.crop, (90, 80, 300, 260))


def test_a_black_screen_is_no_image():
    finder = AutoCrop()
    for _ in range(70):
        assert finder.look(np.zeros((240, 320), np.uint8)) is None
    assert not finder.settled


@given(st.integers(0, 40), st.integers(0, 40), st.integers(16, 60), st.integers(16, 60))
def test_what_is_cut_and_pasted_lies_where_it_was(x, y, width, height):
    crop = Crop(x, y, width, height)
    hw = (110, 120)
    assert crop.fits(hw)
    labels = np.random.default_rng(0).integers(1, 3, (height, width), np.uint8)
    pasted = crop.paste(Segmentation(labels, np.full(labels.shape, 0.5, np.float32)), hw)
    np.testing.assert_array_equal(crop.cut(pasted.labels), labels)
    assert np.count_nonzero(pasted.labels) == labels.size
    assert pasted.confidence.min() == 0.5
    assert np.count_nonzero(pasted.confidence == 1) == hw[0] * hw[1] - labels.size


def test_a_crop_is_read_as_it_is_written():
    assert parse_crop("1,2,30,40") == Crop(1, 2, 30, 40)
    assert str(Crop(1, 2, 30, 40)) == "1,2,30,40"


@pytest.mark.parametrize("text", ["", "1,2,3", "a,b,c,d", "-1,0,30,30", "0,0,8,30", "0,0,1e3,30"])
def test_bad_crops_are_refused_with_the_form(text):
    with pytest.raises(DataError) as caught:
        parse_crop(text)
    assert "--crop" in caught.value.hint


class TestBlank:
    @pytest.mark.parametrize("shape", [(480, 640), (480, 640, 3)])
    def test_dark_with_noise(self, shape):
        assert is_blank(np.random.default_rng(0).integers(0, 20, shape, np.uint8))

    def test_one_colour(self):
        assert is_blank(np.zeros((100, 100, 3), np.uint8) + np.array([200, 40, 0], np.uint8))

    def test_a_dim_scan_is_an_image(self):
        image = np.random.default_rng(0).integers(0, 20, (480, 640), np.uint8)
        image[200:240, 300:340] = 60  # half a percent
        assert not is_blank(image)

    def test_speckle_is_an_image(self):
        assert not is_blank(np.random.default_rng(0).integers(30, 120, (10, 10), np.uint8))
