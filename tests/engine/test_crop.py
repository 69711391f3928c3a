"""Black margins: found whatever they are, never a part of the image, and gone from what is segmented."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bcseg_edge import Segmentation, Segmenter, load_model, open_source, without_margins
from bcseg_edge.cli import app
from bcseg_edge.crop import Crop, cropped, find_image
from bcseg_edge.errors import DataError

margins = st.integers(0, 60)


def speckle(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(30, 200, (height, width), np.uint8)


def threshold(frame: np.ndarray) -> Segmentation:
    """Says benign above grey level 100; confidence tells the size of what it was given."""
    grey = frame if frame.ndim == 2 else frame[..., 0]
    return Segmentation((grey > 100).astype(np.uint8), np.full(grey.shape, 1 / grey.size, np.float32))


@given(margins, margins, margins, margins, st.booleans())
def test_margins_are_found_and_left_out(top: int, bottom: int, left: int, right: int, in_colour: bool) -> None:
    image = speckle(70, 90)
    frame = np.pad(image, ((top, bottom), (left, right)))
    if in_colour:
        frame = np.repeat(frame[..., None], 3, axis=2)
    assert find_image(frame) == Crop(left, top, 90, 70)
    result = without_margins(threshold)(frame)
    assert np.array_equal(result.labels, np.pad((image > 100).astype(np.uint8), ((top, bottom), (left, right))))
    assert result.confidence[top, left] == np.float32(1 / image.size)


def test_noise_and_thin_text_in_the_margins_are_no_image() -> None:
    frame = np.pad(speckle(200, 300), 80)
    frame += np.random.default_rng(0).integers(0, 6, frame.shape, np.uint8)
    cv2.putText(frame, "L12-5 GN 68", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 230, 1)
    assert find_image(frame) == Crop(80, 80, 300, 200)


def test_a_dark_part_of_the_image_stays() -> None:
    frame = speckle(200, 300)
    frame[150:, 40:] = 0  # a shadow down to the lower edge
    assert find_image(frame) == Crop(0, 0, 300, 200)


@pytest.mark.parametrize("hw", [(1, 1), (480, 640), (3, 200)])
def test_a_black_frame_is_all_there_is(hw: tuple[int, int]) -> None:
    assert find_image(np.zeros(hw, np.uint8)) == Crop(0, 0, hw[1], hw[0])


def test_a_crop_outside_the_frame_is_refused() -> None:
    with pytest.raises(DataError, match="crop 10,10,90,20 lies outside"):
        cropped(threshold, Crop(10, 10, 90, 20).of)(speckle(60, 60))


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    frame = letterboxed()
    with Segmenter(load_model("edge")) as segmenter:
        return {"all": segmenter(frame).labels, "image": without_margins(segmenter)(frame).labels}


def letterboxed() -> np.ndarray:
    with open_source("phantom:300x200@30?lesion=malignant") as source:
        return np.pad(next(iter(source)).image, 80)


@pytest.mark.parametrize(
    ("crop", "part"), [("", "image"), ("auto", "image"), ("80,80,300,200", "image"), ("none", "all")]
)
def test_run_leaves_margins_out_of_images(
    tmp_path: Path, crop: str, part: str, expected: dict[str, np.ndarray]
) -> None:
    cv2.imwrite(str(tmp_path / "frame.png"), letterboxed())
    given_crop = ["--crop", crop] if crop else []
    result = CliRunner().invoke(app, ["run", str(tmp_path / "frame.png"), "--output", str(tmp_path), *given_crop])
    assert result.exit_code == 0, result.output
    labels = cv2.imread(str(tmp_path / "labels" / "frame.png"), cv2.IMREAD_UNCHANGED)
    assert labels.any()
    assert np.array_equal(labels, expected[part])
    assert not np.array_equal(expected["all"], expected["image"])
