"""The damage that a quantized graph does to lesions, on calibration patches: what layers are ranked by."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

from bcseg_calibration.calibration_set import CalibrationSet
from bcseg_calibration.quantize import Target
from bcseg_edge.backends.graph import INPUT, OUTPUT
from bcseg_edge.backends.onnxruntime import LOG_FATAL
from bcseg_edge.decision import decide
from bcseg_edge.frames import Segmentation, UInt8Array
from bcseg_export.parity.comparison import compare
from bcseg_export.parity.frames import GateFrame, GateFrames
from bcseg_export.parity.thresholds import Thresholds

MAX_PATCHES = 32  # of 64 layers each runs them once: about two minutes for `edge`


class DamageMeter:
    """Measures models against one reference on the same patches.

    Args:
        reference: the model in float32.
        chosen: patches; those with a lesion in their truth first, benign and malignant in turn, since only
            lesions count.
        target: what the models to measure are for; see `bcseg_edge.backends.available_backends`.

    Raises:
        DataError: the reference finds no lesion in the patches.
    """

    def __init__(self, reference: onnx.ModelProto, chosen: CalibrationSet, target: Target) -> None:
        self._target = target
        place_in_class = (np.cumsum(chosen.labels[:, None] == np.arange(3), axis=0) - 1)[
            np.arange(len(chosen.labels)), chosen.labels
        ]
        order = np.lexsort((place_in_class, chosen.labels == 0))[:MAX_PATCHES]
        self._patches = chosen.patches[order]
        frames = tuple(GateFrame(f"patch {index}", self._patches[index, 0]) for index in range(len(order)))
        self._frames = GateFrames(frames, "calibration patches")
        self._expected = _segment(reference, self._patches, target)
        self._lesion_px = Thresholds().lesion_px
        compare(self._expected, self._expected, self._frames)

    def __call__(self, model: onnx.ModelProto) -> float:
        """Pixels of another label as a share of the reference's lesion pixels, plus the share of the lesions lost.

        Not Dice: where a class is rare, a few pixels of it more take it from 1 to 0.
        """
        comparison = compare(self._expected, _segment(model, self._patches, self._target), self._frames)
        confusion = comparison.confusion
        changed = (confusion.sum() - np.trace(confusion)) / confusion[1:].sum()
        lost = comparison.count_lost(self._lesion_px) / max(1, comparison.count_lesions(self._lesion_px))
        return float(changed + lost)


def _segment(model: onnx.ModelProto, patches: UInt8Array, target: Target) -> list[Segmentation]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL
    if target == "tensorrt":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits = (session.run([OUTPUT], {INPUT: patch[None]})[0][0] for patch in patches)  # [3, h, w] each
    return [Segmentation(*decide(values)) for values in logits]
