"""The passport: the JSON beside a model file that says what the file is and how good it was measured to be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bcseg_edge.errors import ModelError
from bcseg_edge.files import write_text_atomic

FORMAT_VERSION = 1
NOT_MEASURED: Literal["not measured"] = "not measured"

Tiling = Literal["paper", "overlap", "frame"]
Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["any", "cpu", "tensorrt"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Record):
    """What `bcseg_train` needs to rebuild the network that the weights belong to."""

    name: str  # unet, resnext50, resnext101, edge
    encoder: str
    decoder_channels: tuple[int, ...]
    parameters: int = Field(gt=0)  # trainable


class Profile(_Record):
    """Batch sizes (patches per call) the file accepts."""

    min_batch: int = Field(default=1, ge=1)
    opt_batch: int = Field(default=1, ge=1)
    max_batch: int = Field(default=16, ge=1)


class Compiled(_Record):
    """Where a TensorRT plan was built, and what for; `bcseg_edge.plans` decides where it runs."""

    runtime: Literal["tensorrt", "tensorrt-rtx"]
    runtime_version: str
    cuda_version: str
    gpu: str  # its name; empty where the plan was built for compute capabilities without a GPU
    capabilities: tuple[str, ...] = ()  # compute capabilities, such as 8.7
    platform: str = ""  # operating system and processor, such as Linux aarch64; empty where it is not known
    version_compatible: bool = False
    hardware_compatible: bool = False
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of the .onnx file
    key: str  # of everything that went into the build: an equal key is an equal build
    command: tuple[str, ...] = ()  # arguments of `bcseg-edge` that build it again


class Accuracy(_Record):
    """Figures measured on labelled images, through the whole frame path."""

    data: str  # e.g. "BUSI busi_split.csv:val"
    images: int = Field(gt=0)
    tiling: Tiling
    backend: str
    figures: dict[str, float]  # mean_iou, mean_dice, lesion_iou, ... as fractions


class Parity(_Record):
    """How far the file was measured to be from its reference: on patches, by logits, or on frames, by lesions."""

    reference: str
    backends: tuple[str, ...]  # the figures are the worst of them
    data: str
    patches: int | None = Field(default=None, gt=0)
    frames: int | None = Field(default=None, gt=0)
    labels_equal: float = Field(ge=0, le=1)
    max_abs_logit_difference: float | None = Field(default=None, ge=0)
    figures: dict[str, float] = {}  # of the comparison by frames: dice_benign, lesions_lost, ...
    failures: tuple[str, ...] = ()  # limits that were not kept: such a file exists only by --accept-parity-loss
    passed: bool


class Passport(_Record):
    """All that is known of a model file. Sizes in px; see `_Record` subclasses for the parts."""

    format_version: Literal[1] = 1
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of the model file
    classes: tuple[str, ...]
    window_hw: tuple[int, int]
    tiling: Tiling  # the one it was trained for: its default
    architecture: Architecture
    precision: Precision  # of the arithmetic the file asks for
    target: Target = "any"  # what the file's precision is laid out for
    weights: Literal["float32", "float16", "int8"]  # how the file stores them
    layers: dict[str, Precision] = {}  # the layers whose precision differs
    layer_damage: dict[str, float] = {}  # why: what each of them did to lesions, quantized alone (0 nothing)
    outputs: dict[str, str]
    temperature: float = Field(gt=0)  # already applied to `logits` inside the graph
    profile: Profile = Profile()
    compiled: Compiled | None = None
    source_sha256: str | None  # of the training checkpoint
    calibration_sha256: str | None = None
    accuracy: Accuracy | Literal["not measured"] = NOT_MEASURED
    parity: Parity | Literal["not measured"] = NOT_MEASURED
    created: str  # ISO date


def passport_path(model_path: Path) -> Path:
    """`NAME.onnx` -> `NAME.onnx.json`."""
    return model_path.with_name(model_path.name + ".json")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_passport(passport: Passport, model_path: Path) -> None:
    """Write `passport` beside `model_path`, atomically."""
    write_text_atomic(passport_path(model_path), passport.model_dump_json(indent=2) + "\n")


def read_passport(model_path: Path) -> Passport:
    """Read the passport beside `model_path` and verify that it belongs to that file.

    Raises:
        ModelError: the file or its passport is missing, empty, not JSON, of another format or version,
            or the file's SHA-256 is not the passport's.
    """
    path = passport_path(model_path)
    if not model_path.is_file():
        raise ModelError(f"no model file at {model_path}", "name a shipped model (edge) or an existing .onnx file")
    if not path.is_file():
        raise ModelError(
            f"{model_path.name} has no passport ({path.name}) beside it, so it is not a bcseg-edge model",
            "make one with: bcseg-edge export CHECKPOINT --output FILE.onnx",
        )
    try:
        passport = Passport.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelError(
            f"{path.name} is not a passport of format {FORMAT_VERSION}: {where}: {first['msg']}",
            "export the model again with this version: bcseg-edge export CHECKPOINT --output FILE.onnx",
        ) from error
    digest = file_sha256(model_path)
    if digest != passport.sha256:
        raise ModelError(
            f"{model_path.name} is damaged or was changed: sha256 {digest[:12]}..., "
            f"its passport says {passport.sha256[:12]}...",
            "restore the file, or export it again with: bcseg-edge export CHECKPOINT --output FILE.onnx",
        )
    return passport
