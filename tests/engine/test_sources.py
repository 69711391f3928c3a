"""Every kind of source, and every bad input: a clear error, or a problem that the run reports."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from bcseg_edge.errors import SourceError
from bcseg_edge.sources import ImageSource, PhantomSource, VideoSource, open_source
from bcseg_edge.sources.image_file import open_image, read_image
from tests.fixtures.page_files import write_animation, write_tiff

GREY = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)


def write_png(path, image=GREY):
    assert cv2.imwrite(str(path), image)
    return path


def write_video(path, frames=30, fourcc="mp4v", size_wh=(64, 48)):
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), 25, size_wh)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (*size_wh[::-1], 3), dtype=np.uint8))
    writer.release()
    return path


def names(source):
    return [frame.name for frame in source]


def test_image(tmp_path):
    with open_source(str(write_png(tmp_path / "a b (1).png"))) as source:
        (frame,) = source
    np.testing.assert_array_equal(frame.image, GREY)
    assert (frame.index, frame.name, frame.spacing_mm, frame.truth) == (0, "a b (1)", None, None)
    assert (source.frame_hz, source.count, source.problems) == (None, 1, [])


def test_a_path_is_a_source(tmp_path):
    write_png(tmp_path / "a.png")
    assert names(open_source(tmp_path / "a.png")) == names(open_source(tmp_path)) == ["a"]


@pytest.mark.parametrize("spec", [None, 0, ["a.png"]])
def test_what_is_neither_text_nor_path_is_refused(spec):
    with pytest.raises(SourceError, match=f"got {type(spec).__name__}"):
        open_source(spec)


def test_folder_is_in_natural_order(tmp_path):
    for name in ("10.png", "9.PNG", "x2.jpg", "x10.jpg", "notes.txt"):
        write_png(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("no image")
    assert names(open_source(str(tmp_path))) == ["9", "10", "x2", "x10"]


def test_busi_masks_are_left_out_of_folders_and_globs(tmp_path):
    for stem in ("benign (1)", "benign (1)_mask", "benign (1)_mask_1", "face_mask"):
        write_png(tmp_path / f"{stem}.png")
    expected = ["benign (1)", "face_mask"]  # the last one is no mask of anything
    assert names(open_source(str(tmp_path))) == expected
    assert names(open_source(str(tmp_path / "*.png"))) == expected
    assert names(open_source(str(tmp_path / "benign (1)_mask.png"))) == ["benign (1)_mask"]


def test_an_existing_path_is_no_glob(tmp_path):
    write_png(tmp_path / "scan[1].png")
    assert names(open_source(str(tmp_path / "scan[1].png"))) == ["scan[1]"]


def test_recursive_glob_gives_unique_names(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / "scan.png")
    assert names(open_source(str(tmp_path / "**" / "*.png"))) == ["one_scan_png", "two_scan_png"]


def test_equal_stems_get_unique_names(tmp_path):
    write_png(tmp_path / "scan.png")
    write_png(tmp_path / "Scan.bmp")
    assert sorted(names(open_source(str(tmp_path)))) == ["Scan_bmp", "scan_png"]


def test_colour_palette_and_transparency(tmp_path):
    np.testing.assert_array_equal(read_image(write_png(tmp_path / "colour.png", COLOUR)), COLOUR)
    alpha = np.full(GREY.shape, 255, np.uint8)
    opaque = write_png(tmp_path / "opaque.png", np.dstack([COLOUR, alpha]))
    np.testing.assert_array_equal(read_image(opaque), COLOUR)
    alpha[:, :8] = 0
    part = read_image(write_png(tmp_path / "part.png", np.dstack([COLOUR, alpha])))
    assert not part[:, :8].any()
    np.testing.assert_array_equal(part[:, 8:], COLOUR[:, 8:])


def test_palette_image(tmp_path):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow writes the palette image")
    path = tmp_path / "palette.png"
    image_module.fromarray(COLOUR[..., ::-1].copy()).quantize(16).save(path)
    read = read_image(path)
    assert read.shape == COLOUR.shape
    assert read.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty \\(0 bytes\\)"),
        (b"this is text, not a PNG", "not an image"),
        (cv2.imencode(".png", GREY)[1].tobytes()[:40], "not an image"),
        (cv2.imencode(".png", GREY.astype(np.uint16))[1].tobytes(), "uint16"),
    ],
)
def test_a_single_bad_image_is_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"scan\.png.*{reason}"):
        open_source(str(path))


def test_a_bad_image_among_others_is_skipped_and_reported(tmp_path):
    for name in ("1.png", "3.png"):
        write_png(tmp_path / name)
    (tmp_path / "2.png").touch()
    source = open_source(str(tmp_path))
    for _ in range(2):  # a second pass reports it once again, not twice
        assert [(frame.index, frame.name) for frame in source] == [(0, "1"), (1, "3")]
        assert len(source.problems) == 1
        assert "2.png" in source.problems[0]


PAGES = [np.random.default_rng(seed).integers(0, 256, (12, 16), np.uint8) for seed in range(3)]
READS_ANIMATIONS = hasattr(cv2, "imreadanimation")  # OpenCV 4.11


def assert_pages(images, expected=PAGES):
    """Grey pages, which an animation gives in colour."""
    grey = [image if image.ndim == 2 else image[..., 0] for image in images]
    assert len(grey) == len(expected)
    for image, page in zip(grey, expected, strict=True):
        np.testing.assert_array_equal(image, page)


@pytest.mark.parametrize("name", ["stack.tiff", "cine.png", "cine.webp"])
def test_every_page_is_a_frame(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".tiff":
        assert cv2.imwritemulti(str(path), PAGES)
    elif not READS_ANIMATIONS:
        pytest.skip("OpenCV reads animations from 4.11 on")
    else:
        write_animation(path, PAGES)
    source = open_source(path)
    assert source.count == 3
    for _ in range(2):
        frames = list(source)
        assert_pages([frame.image for frame in frames])
        assert [frame.index for frame in frames] == [0, 1, 2]
        assert [frame.name for frame in frames] == [f"{path.stem}_{number:06d}" for number in range(3)]
    assert source.problems == []


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_pages_of_every_tiff_each_of_its_own_size(tmp_path, order, big):
    pages = [PAGES[0], PAGES[1][:5, :7], PAGES[2][::2]]
    file = open_image(write_tiff(tmp_path / "a.tif", pages, order, big=big))
    assert file.count == 3
    assert_pages(file, pages)
    assert_pages([read_image(file.path)], pages[:1])


@pytest.mark.parametrize("big", [False, True])
def test_smaller_copies_of_a_page_are_no_frames(tmp_path, big):
    path = write_tiff(tmp_path / "a.tif", [PAGES[0], PAGES[0][::2, ::2], PAGES[1]], ">", big=big, reduced={1})
    assert_pages(open_image(path), PAGES[:2])


def test_pages_among_other_images_have_names_of_their_own(tmp_path):
    for name in ("a.tif", "A_000001.png"):
        write_tiff(tmp_path / name, PAGES[:2]) if name == "a.tif" else write_png(tmp_path / name)
    write_tiff(tmp_path / "b.tif", PAGES[:2])
    assert names(open_source(tmp_path)) == ["a_000000_", "a_000001_", "A_000001", "b_000000", "b_000001"]


def test_a_stack_that_is_cut_gives_what_is_left_and_says_so(tmp_path):
    path = write_tiff(tmp_path / "a.tif", PAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    source = open_source(path)
    assert_pages([frame.image for frame in source], PAGES[:2])
    assert len(source.problems) == 1
    assert "a.tif breaks off after page 2" in source.problems[0]


def test_a_stack_without_end_is_told(tmp_path):
    content = bytearray(write_tiff(tmp_path / "a.tif", PAGES).read_bytes())
    content[-4:] = content[4:8]  # the last page's successor is the first
    (tmp_path / "a.tif").write_bytes(content)
    source = open_source(tmp_path / "a.tif")
    assert len(list(source)) == 3
    assert "breaks off after page 3" in source.problems[0]


def test_a_page_of_16_bits_is_told_with_its_number(tmp_path):
    path = write_tiff(tmp_path / "a.tif", [PAGES[0], PAGES[1].astype(np.uint16), PAGES[2]])
    source = open_source(path)
    assert_pages([frame.image for frame in source], PAGES[:1])
    assert "a.tif, page 2, has uint16 pixels" in source.problems[0]


def test_an_older_opencv_tells_what_it_leaves_out_of_an_animation(tmp_path, monkeypatch):
    path = write_animation(tmp_path / "a.png", PAGES)
    monkeypatch.setattr(cv2, "imdecodemulti", lambda data, flags: (True, (cv2.imdecode(data, flags),)))
    source = open_source(path)
    assert [frame.name for frame in source] == ["a"]
    assert f"of 3 frames, of which OpenCV {cv2.__version__} reads 1" in source.problems[0]


@pytest.mark.skipif(not READS_ANIMATIONS, reason="OpenCV reads animations from 4.11 on")
def test_an_animation_that_is_cut_is_told(tmp_path):
    path = write_animation(tmp_path / "a.png", PAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    source = open_source(path)
    assert 1 <= len(list(source)) < 3
    assert "is an animation of 3 frames" in source.problems[0]


def test_videos_are_named_one_by_one(tmp_path):
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / name, 2, "MJPG")
    with pytest.raises(SourceError, match=r"2 matches of '.*\*\.avi', none an image") as caught:
        open_source(str(tmp_path / "*.avi"))
    assert "videos" in caught.value.hint
    with pytest.raises(SourceError, match=r"no image in .*, but 2 other files") as caught:
        open_source(tmp_path)
    assert "videos" in caught.value.hint


def test_a_glob_that_matches_nothing_says_so(tmp_path):
    with pytest.raises(SourceError, match=r"nothing matches '.*\*\.png'"):
        open_source(str(tmp_path / "*.png"))


def test_folder_without_images(tmp_path):
    (tmp_path / "benign").mkdir()
    with pytest.raises(SourceError, match="no image in") as caught:
        open_source(str(tmp_path))
    assert "benign" in caught.value.hint


@pytest.mark.parametrize("spec", ["", "nowhere.png", "nowhere/*.png"])
def test_nothing_there(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert caught.value.hint


def test_kinds(tmp_path):
    write_png(tmp_path / "a.png")
    assert isinstance(open_source(str(tmp_path)), ImageSource)
    assert isinstance(open_source("phantom:32x32"), PhantomSource)
    assert isinstance(open_source(str(write_video(tmp_path / "a.mp4"))), VideoSource)


def test_video(tmp_path):
    with open_source(str(write_video(tmp_path / "clip.mp4"))) as source:
        assert (source.frame_hz, source.count) == (25, 30)
        for _ in range(2):
            frames = list(source)
            assert len(frames) == 30
        source.close()
    assert frames[3].image.shape == (48, 64, 3)
    assert [frame.name for frame in frames[:2]] == ["000000", "000001"]
    times = [frame.captured_ns for frame in frames]
    assert times == sorted(times)
    assert source.problems == []


def test_a_video_cut_in_the_middle_is_refused_or_reported(tmp_path):
    """An MP4 keeps its index at the end and is lost; a Matroska or AVI file can be read up to the cut."""
    for suffix, fourcc in ((".mp4", "mp4v"), (".mkv", "mp4v"), (".avi", "MJPG")):
        path = write_video(tmp_path / f"whole{suffix}", 60, fourcc)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if suffix == ".mp4":
            with pytest.raises(SourceError, match=r"cut\.mp4"):
                open_source(str(cut))
            continue
        source = open_source(str(cut))
        read = len(list(source))
        assert 0 < read < 55
        assert len(source.problems) == 1
        assert f"{read} frames could be read, its header says 60" in source.problems[0]


def test_a_video_whose_name_is_not_utf_8_is_refused(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/clip\xff.mp4")
    try:
        write_video(tmp_path / "clip.mp4").rename(path)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    with pytest.raises(SourceError, match="not named in UTF-8"):
        open_source(path)


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_a_bad_video_is_refused_by_name(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        open_source(str(path))


OPEN_BROKEN = """
import sys
if sys.argv[1] == "opencv first":
    import cv2
import bcseg_edge
for path in sys.argv[2:]:
    try:
        bcseg_edge.open_source(path)
    except bcseg_edge.BcsegError:
        print("refused")
"""


def open_broken(tmp_path, order, **variables):
    """Open a damaged video and a damaged image in a process of their own; what stands on stdout and stderr."""
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "scan.tiff").write_bytes(cv2.imencode(".tiff", GREY)[1].tobytes()[:150])
    others = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    command = [sys.executable, "-c", OPEN_BROKEN, order, str(tmp_path / "clip.mp4"), str(tmp_path / "scan.tiff")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={**others, **variables})
    return done.stdout, done.stderr


@pytest.mark.parametrize("order", ["opencv first", "opencv last"])
def test_opening_prints_nothing(tmp_path, order):
    assert open_broken(tmp_path, order) == ("refused\nrefused\n", "")


def test_decoders_speak_where_the_user_wants_it(tmp_path):
    told = "".join(open_broken(tmp_path, "opencv first", OPENCV_LOG_LEVEL="WARN", OPENCV_FFMPEG_LOGLEVEL="16"))
    assert "moov atom not found" in told


@pytest.mark.data
def test_real_clip_and_folder(data_dir):
    with open_source(str(data_dir / "clips" / "imfusion_liver_sweep.mp4")) as source:
        frames = list(source)
    assert len(frames) == source.count == 140
    assert source.problems == []
    with open_source(str(data_dir / "busi" / "malignant")) as images:
        first = next(iter(images))
        assert first.name == "malignant (1)"
        assert images.count == sum("_mask" not in path.name for path in (data_dir / "busi" / "malignant").iterdir())
