"""The parity gate of a float32 export: PyTorch against every installed backend, on the same patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcseg_edge.backends import available_backends, create_backend
from bcseg_edge.errors import BackendUnavailable, ParityError
from bcseg_edge.frames import Float32Array, UInt8Array
from bcseg_edge.passport import Parity, Passport

MIN_LABELS_EQUAL = 0.9999
MAX_LOGIT_DIFFERENCE = 1e-3
BATCH = 4  # patches; more gain no speed on a CPU and cost memory

Infer = Callable[[UInt8Array], Float32Array]  # uint8 [N, 1, h, w] -> float32 [N, 3, h, w]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a candidate is from its reference.

    Attributes:
        name: of the candidate.
        labels_equal: share of the pixels whose class is the same, 0 to 1.
        max_abs_logit_difference: over all logits; infinite where one is not a number.
    """

    name: str
    labels_equal: float
    max_abs_logit_difference: float

    @property
    def passed(self) -> bool:
        return self.labels_equal >= MIN_LABELS_EQUAL and self.max_abs_logit_difference <= MAX_LOGIT_DIFFERENCE

    def __str__(self) -> str:
        return (
            f"{self.name}: labels equal on {100 * self.labels_equal:.4f} % of the pixels, "
            f"logits differ by up to {self.max_abs_logit_difference:.2g}"
        )


def compare(name: str, candidate: Infer, references: Iterable[tuple[UInt8Array, Float32Array]]) -> Agreement:
    """Compare a candidate with reference logits.

    Args:
        candidate: of patches `[N, 1, h, w]`.
        references: at least one pair of patches and the reference's logits of them.
    """
    equal = pixels = 0
    worst = 0.0
    for patches, expected in references:
        received = candidate(patches)
        equal += int((received.argmax(axis=1) == expected.argmax(axis=1)).sum())
        pixels += expected[:, 0].size
        difference = float(np.abs(received - expected).max())
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return Agreement(name, equal / pixels, worst)


def verify(reference: Infer, onnx_path: Path, passport: Passport, patches: UInt8Array, data: str) -> Parity:
    """Compare a file with its reference on every backend that is installed.

    Args:
        reference: PyTorch in float32 with the weights as the file stores them.
        onnx_path: the file, which may have a temporary name.
        passport: its passport.
        patches: uint8 `[N, 1, h, w]`, N >= 1.
        data: what the patches are, in words.

    Returns:
        The worst figures over the backends, for the passport.

    Raises:
        ParityError: a backend's labels or logits are too far from the reference's.
        BackendUnavailable: ONNX Runtime, with which every file is compared, is not installed.
    """
    names = available_backends()
    if "onnxruntime" not in names:
        raise BackendUnavailable("comparing with PyTorch needs ONNX Runtime", 'pip install "bcseg-edge[export]"')
    references = [(batch, reference(batch)) for batch in _batches(patches)]
    agreements = [_run(name, onnx_path, passport, references) for name in names]
    failed = [agreement for agreement in agreements if not agreement.passed]
    if failed:
        raise ParityError(
            f"the ONNX file and PyTorch differ on {len(patches)} patches of {data}: " + "; ".join(map(str, failed)),
            f"nothing was written; expected at least {100 * MIN_LABELS_EQUAL:.2f} % and at most "
            f"{MAX_LOGIT_DIFFERENCE:g}: look for an operator that the exporter translates wrongly",
        )
    return Parity(
        reference="PyTorch float32",
        backends=names,
        data=data,
        patches=len(patches),
        labels_equal=min(agreement.labels_equal for agreement in agreements),
        max_abs_logit_difference=max(agreement.max_abs_logit_difference for agreement in agreements),
        passed=True,
    )


def _run(name: str, path: Path, passport: Passport, references: Iterable[tuple[UInt8Array, Float32Array]]) -> Agreement:
    backend = create_backend(name, path, passport)
    try:
        return compare(name, backend.infer, references)
    finally:
        backend.close()


def _batches(patches: UInt8Array) -> list[UInt8Array]:
    """A batch of one first, since N is free and a graph may only work at the size that it was traced with."""
    return [patches[:1], *(patches[first : first + BATCH] for first in range(1, len(patches), BATCH))]
