"""The simulated cine: repeatable, true to its truth, and physically a B-mode image."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcseg_edge.errors import SourceError
from bcseg_edge.frames import BENIGN, MALIGNANT
from bcseg_edge.sources.phantom import PhantomSource, PhantomSpec, parse_phantom
from bcseg_edge.sources.phantom.anatomy import MAP_STEP_MM, Anatomy
from bcseg_edge.sources.phantom.imaging import CARRIERS_MHZ, Scanner, place_scatterers
from bcseg_edge.sources.phantom.motion import Deformation, deformation_at

REST = Deformation(0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module", params=["benign", "malignant"])
def clip(request):
    """Twelve frames, a fifth of a second apart, at full size."""
    source = PhantomSource(PhantomSpec(lesion=request.param, seed=3, frame_hz=5))
    return source.render(12)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("phantom:", PhantomSpec()),
        ("phantom:640x480@30", PhantomSpec()),
        ("phantom:320x200", PhantomSpec(320, 200)),
        ("phantom:@12.5", PhantomSpec(frame_hz=12.5)),
        ("phantom:64x48@25?seed=7&lesion=none&frames=0&depth=30", PhantomSpec(64, 48, 25, 7, "none", 0, 30)),
    ],
)
def test_spec_is_read(text, spec):
    assert parse_phantom(text) == spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("phantom:640", "is not a phantom"),
        ("phantom:640x480@", "is not a phantom"),
        ("phantom:8x480", "sides of 16 to 4096"),
        ("phantom:640x5000", "sides of 16 to 4096"),
        ("phantom:@0", "above 0 and up to 1000"),
        ("phantom:@70000", "above 0 and up to 1000"),
        ("phantom:?seed=x", "is not a number"),
        ("phantom:?seed=-1", "negative"),
        ("phantom:?lesion=cyst", "benign, malignant, none"),
        ("phantom:?depth=1", "10 to 100 mm"),
        ("phantom:?depth=nan", "10 to 100 mm"),
        ("phantom:?speed=2", "the options are"),
    ],
)
def test_wrong_spec_is_refused_with_the_grammar(text, reason):
    with pytest.raises(SourceError, match=reason) as caught:
        parse_phantom(text)
    assert "phantom:WIDTHxHEIGHT@HZ" in caught.value.hint


def test_too_wide_a_view_is_refused():
    with pytest.raises(SourceError, match="8192 mm across"):
        PhantomSpec(4096, 20)


def test_frames_repeat_in_any_order():
    spec = PhantomSpec(96, 64, seed=5)
    first, second = PhantomSource(spec), PhantomSource(spec)
    forward = [first.frame(index) for index in (0, 1, 2)]
    for frame in reversed(forward):
        again = second.frame(frame.index)
        np.testing.assert_array_equal(again.image, frame.image)
        np.testing.assert_array_equal(again.truth, frame.truth)


def test_seeds_differ():
    images = [PhantomSource(PhantomSpec(96, 64, seed=seed)).frame(0).image for seed in (0, 1)]
    assert np.abs(np.subtract(*images, dtype=float)).mean() > 5


def test_iterates_over_its_count_and_starts_again():
    source = PhantomSource(PhantomSpec(32, 32, frames=3))
    assert source.count == 3
    for _ in range(2):
        frames = list(source)
        assert [frame.index for frame in frames] == [0, 1, 2]
        assert [frame.name for frame in frames] == ["000000", "000001", "000002"]
    endless = PhantomSource(PhantomSpec(32, 32, frames=0))
    assert endless.count is None
    assert len(list(itertools.islice(endless, 4))) == 4


@pytest.mark.parametrize("size_wh", [(16, 16), (33, 47), (47, 33), (90, 20), (20, 400)])
def test_any_size(size_wh):
    frame = PhantomSource(PhantomSpec(*size_wh)).frame(0)
    assert frame.image.shape == frame.truth.shape == size_wh[::-1]
    assert frame.image.dtype == frame.truth.dtype == np.uint8
    assert frame.spacing_mm == pytest.approx((40 / size_wh[1],) * 2)


def test_truth_is_one_lesion_of_its_class(clip, request):
    label = {"benign": BENIGN, "malignant": MALIGNANT}[request.node.callspec.params["clip"]]
    for frame in clip:
        assert set(np.unique(frame.truth)) == {0, label}
        parts, _ = cv2.connectedComponents((frame.truth > 0).astype(np.uint8))
        assert parts == 2  # background and one lesion


def test_lesion_moves(clip):
    centres = np.array([np.argwhere(frame.truth).mean(axis=0) for frame in clip])
    travel_px = np.ptp(centres, axis=0)
    assert travel_px[1] > 15  # across; 12 px are a millimetre
    steps = np.abs(np.diff(centres, axis=0)).max()
    assert steps < 30


def test_no_lesion_on_request():
    assert not PhantomSource(PhantomSpec(64, 48, lesion="none")).frame(0).truth.any()


def test_lesion_is_darker_than_what_surrounds_it(clip):
    for frame in clip[::6]:
        inside = (frame.truth > 0).astype(np.uint8)
        ring = cv2.dilate(inside, np.ones((41, 41))) - cv2.dilate(inside, np.ones((9, 9)))
        contrast = frame.image[inside > 0].mean() - frame.image[ring > 0].mean()
        # BUSI, lesions against a ring of 4 to 20 px: 10th to 90th percentile of both classes.
        assert -113 < contrast < -20


def test_enhancement_behind_benign_and_shadow_behind_malignant():
    behind = {}
    for lesion in ("benign", "malignant", "none"):
        source = PhantomSource(PhantomSpec(seed=2, lesion=lesion))
        behind[lesion] = [source.frame(index) for index in (0, 30)]
    for lesion, brighter in (("benign", True), ("malignant", False)):
        differences = []
        for frame, normal in zip(behind[lesion], behind["none"], strict=True):
            rows, columns = np.nonzero(frame.truth)
            middle = int(columns.mean())
            region = np.s_[rows.max() + 10 : rows.max() + 60, middle - 20 : middle + 20]
            differences.append(frame.image[region].mean() - normal.image[region].mean())
        assert (np.mean(differences) > 5) == brighter
        assert (np.mean(differences) < -5) != brighter


def test_speckle_moves_with_the_tissue():
    """Neighbouring frames at 30 Hz correlate; frames of another patient do not."""
    source = PhantomSource(PhantomSpec(320, 240, lesion="none"))
    other = PhantomSource(PhantomSpec(320, 240, lesion="none", seed=1))

    def speckle(frame):
        grey = frame.image[40:150].astype(np.float32)
        return (grey - cv2.GaussianBlur(grey, (0, 0), 4)).ravel()

    first, second, stranger = (speckle(frame) for frame in (source.frame(0), source.frame(1), other.frame(1)))
    assert np.corrcoef(first, second)[0, 1] > 0.5
    assert abs(np.corrcoef(first, stranger)[0, 1]) < 0.15


@pytest.fixture(scope="module")
def uniform_echoes():
    """IQ signals `[carriers, H, W, 2]` of tissue of 0 dB everywhere."""
    rng = np.random.default_rng(0)
    half_width_mm, depth_mm, pixel_mm = 15.0, 25.0, 0.1
    shape = (int(depth_mm / MAP_STEP_MM) + 1, int(2 * half_width_mm / MAP_STEP_MM) + 1)
    anatomy = Anatomy(np.zeros(shape, np.float32), np.full(shape, 0.7, np.float32), half_width_mm, None)
    scanner = Scanner((200, 240), pixel_mm, anatomy, place_scatterers(anatomy, depth_mm, rng), rng)
    return np.stack([iq[20:-20, 20:-20].copy() for iq in scanner.echoes(REST)])


def test_speckle_is_fully_developed(uniform_echoes):
    """A Rayleigh envelope has a mean of 1.91 standard deviations (Burckhardt 1978)."""
    for iq in uniform_echoes:
        envelope = np.hypot(iq[..., 0], iq[..., 1])
        assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.12)


def test_echoes_are_calibrated(uniform_echoes):
    power = np.square(uniform_echoes).sum(axis=-1).mean(axis=(1, 2))
    assert len(power) == len(CARRIERS_MHZ)
    np.testing.assert_allclose(power, 1, atol=0.12)


def test_sub_bands_are_independent_looks(uniform_echoes):
    envelopes = np.hypot(uniform_echoes[..., 0], uniform_echoes[..., 1]).reshape(len(CARRIERS_MHZ), -1)
    off_diagonal = np.corrcoef(envelopes)[np.triu_indices(len(CARRIERS_MHZ), 1)]
    assert np.abs(off_diagonal).max() < 0.3


def test_grey_levels_are_those_of_breast_ultrasound(clip):
    """BUSI's mean grey is 50 to 119 (5th to 95th percentile); nothing may saturate, depth is darker."""
    image = clip[0].image
    assert 50 < image.mean() < 119
    assert (image == 255).mean() < 0.01
    assert image[100:200].mean() > image[-80:].mean() + 15


@given(
    time_s=st.floats(0, 1e4),
    x=st.floats(-40, 40),
    z=st.floats(0, 60),
    phases=st.lists(st.floats(0, 6.3), min_size=4, max_size=4),
)
def test_motion_is_invertible(time_s, x, z, phases):
    deformation = deformation_at(time_s, np.array(phases))
    back = deformation.to_tissue(*deformation.to_probe(np.array([x]), np.array([z])))
    np.testing.assert_allclose(np.concatenate(back), [x, z], atol=1e-9)


def test_training_never_sees_it():
    train = Path(__file__).parents[2] / "train"
    assert [path.name for path in train.rglob("*.py") if "phantom" in path.read_text(encoding="utf-8")] == []
