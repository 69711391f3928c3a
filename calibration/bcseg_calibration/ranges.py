"""How far activations reach on calibration patches: the ranges that 8 bits are spread over."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from bcseg_edge.backends.graph import INPUT
from bcseg_edge.frames import UInt8Array

RangeMethod = Literal["minmax", "entropy", "percentile"]
RANGE_METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
PERCENTILE = 99.99
# Histograms hold every activation of a chunk in memory: 80 MB a patch for `edge`, 200 MB for `resnext50`.
CHUNK = 4

_OPTIONS: dict[RangeMethod, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 2048, "num_quantized_bins": 128}),
    "percentile": (CalibrationMethod.Percentile, {"num_bins": 2048, "percentile": PERCENTILE}),
}


def measure_ranges(model: onnx.ModelProto, patches: UInt8Array, method: RangeMethod, *, symmetric: bool) -> Any:
    """Run calibration patches through a float32 model and measure each activation's range.

    Args:
        model: folded, see `bcseg_calibration.prepare.fold`.
        patches: uint8 `[N, 1, h, w]`, N >= 1.
        method: `minmax` takes the extremes, `entropy` the range that loses the least information (Migacz 2017),
            `percentile` leaves the outermost 0.01 % out.
        symmetric: ranges around 0, for a zero point of 0.

    Returns:
        ONNX Runtime's `TensorsData`, by name of the activation, as `quantize` takes it.
    """
    kind, options = _OPTIONS[method]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        with _silence():
            calibrator = create_calibrator(
                path,
                None,  # every activation: what is quantized is decided later
                str(Path(folder) / "augmented.onnx"),
                kind,
                extra_options={"symmetric": symmetric, **options},
            )
            for first in range(0, len(patches), CHUNK):
                calibrator.collect_data(_Patches(patches[first : first + CHUNK]))
            return calibrator.compute_data()


class _Patches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Patches one by one, as ONNX Runtime's calibrators ask for them."""

    def __init__(self, patches: UInt8Array) -> None:
        self._patches: Iterator[UInt8Array] = iter(patches[:, None])  # [1, 1, h, w] each

    def get_next(self) -> dict[str, UInt8Array] | None:
        patch = next(self._patches, None)
        return None if patch is None else {INPUT: np.ascontiguousarray(patch)}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The calibrators print their progress with `print`."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
