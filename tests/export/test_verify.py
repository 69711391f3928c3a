"""The parity gate: what is equal passes, what is not is refused, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bcseg_edge.backends import available_backends
from bcseg_edge.errors import ParityError
from bcseg_edge.passport import read_passport
from bcseg_export.verify import MAX_LOGIT_DIFFERENCE, compare, verify
from tests.fixtures.tiny_model import expected_logits, write_model

Logits = npt.NDArray[np.float32]
Patches = npt.NDArray[np.uint8]


@pytest.fixture
def patches() -> Patches:
    return np.random.default_rng(0).integers(0, 256, (9, 1, 64, 64), dtype=np.uint8)


def reference(patches: Patches) -> Logits:
    return expected_logits(patches[:, 0]).astype(np.float32)


def swapped(patches: Patches) -> Logits:
    return reference(patches)[:, [0, 2, 1]]


def shifted(patches: Patches) -> Logits:
    return reference(patches) + np.float32(2 * MAX_LOGIT_DIFFERENCE)


def one_pixel_in_a_thousand(patches: Patches) -> Logits:
    """Two classes so close that a difference within the limit decides."""
    logits = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
    logits[:, 1, ::32, ::31] = 1e-4
    return logits


def not_a_number(patches: Patches) -> Logits:
    logits = reference(patches)
    logits[-1, 2, 5, 5] = np.nan
    return logits


def test_the_same_is_equal(patches: Patches) -> None:
    agreement = compare("same", reference, [(patches, reference(patches))])
    assert (agreement.labels_equal, agreement.max_abs_logit_difference) == (1, 0)
    assert agreement.passed


@pytest.mark.parametrize("candidate", [swapped, shifted, not_a_number])
def test_the_different_does_not_pass(patches: Patches, candidate: Callable[[Patches], Logits]) -> None:
    assert not compare("other", candidate, [(patches, reference(patches))]).passed


def test_labels_count_even_where_logits_are_within_the_limit(patches: Patches) -> None:
    zero = np.zeros((len(patches), 3, *patches.shape[2:]), np.float32)
    agreement = compare("close", one_pixel_in_a_thousand, [(patches, zero)])
    assert agreement.max_abs_logit_difference < MAX_LOGIT_DIFFERENCE
    assert agreement.labels_equal == pytest.approx(1 - 6 / 4096)
    assert not agreement.passed


def test_the_worst_batch_counts(patches: Patches) -> None:
    batches = [(patches[:3], reference(patches[:3])), (patches[3:], shifted(patches[3:]))]
    agreement = compare("mixed", reference, batches)
    assert agreement.max_abs_logit_difference == pytest.approx(2 * MAX_LOGIT_DIFFERENCE, rel=1e-2)


def test_a_file_that_is_right_passes_on_every_backend(tmp_path: Path, patches: Patches) -> None:
    path = write_model(tmp_path, (64, 64))
    parity = verify(reference, path, read_passport(path), patches, "random patches")
    assert parity.passed
    assert (parity.patches, parity.data) == (9, "random patches")
    assert parity.labels_equal == 1
    assert parity.max_abs_logit_difference < 1e-5
    assert parity.backends == available_backends()


def test_a_file_that_is_wrong_is_refused_with_its_figures(tmp_path: Path, patches: Patches) -> None:
    path = write_model(tmp_path, (64, 64))
    with pytest.raises(ParityError) as caught:
        verify(swapped, path, read_passport(path), patches, "random patches")
    assert caught.value.exit_code == 3
    assert all(name in caught.value.message for name in available_backends())
    assert "9 patches of random patches" in caught.value.message
    assert "99.99 %" in caught.value.hint
