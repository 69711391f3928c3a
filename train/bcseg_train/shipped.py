"""Reads the weights of a shipped model file back, so that one set of weights serves training and runtime."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bcseg_edge.errors import BcsegError, ModelError

# bcseg_export names what the graph needs besides weights so that it can be told from them.
CONSTANT_PREFIX = "constant."


def read_onnx_state_dict(path: Path) -> dict[str, Tensor]:
    """Weights of an exported model: its initialisers carry the network's state-dict names.

    Returns:
        State-dict name -> float32 tensor (stored as float16 where the file is). Counters that inference does
        not need (`num_batches_tracked`) are not in the file.

    Raises:
        ModelError: not an ONNX file, or it holds no weights under such names.
        BcsegError: the `onnx` package is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise BcsegError(
            f"reading {path.name} as weights needs the onnx package", 'pip install "bcseg-edge[train]"'
        ) from error
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's DecodeError has no public home that all its versions share
        raise ModelError(
            f"{path} is not a readable ONNX file: {next(iter(str(error).splitlines()), type(error).__name__)}",
            "restore the file, or export it again with: bcseg-edge export CHECKPOINT --output FILE.onnx",
        ) from error
    weights = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
        for tensor in model.graph.initializer
        if not tensor.name.startswith(CONSTANT_PREFIX)
    }
    if not any(name.endswith(".weight") for name in weights):
        raise ModelError(
            f"{path} holds no weights under state-dict names, so no network can be rebuilt from it",
            "export it again with: bcseg-edge export CHECKPOINT --output FILE.onnx",
        )
    return weights
