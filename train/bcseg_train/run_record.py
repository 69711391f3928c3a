"""What made a run, kept in its folder: options, recipe, start weights, versions, and which images it saw."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bcseg_edge.files import write_text_atomic
from bcseg_edge.passport import file_sha256
from bcseg_train.dataset import LabelledImage
from bcseg_train.recipes import Recipe
from bcseg_train.run_files import OPTIONS, SPLIT

PACKAGES = ("bcseg-edge", "torch", "torchvision", "lightning", "segmentation-models-pytorch", "numpy")


def write_record(
    folder: Path, options: Mapping[str, object], recipe: Recipe, images: Mapping[str, Sequence[LabelledImage]]
) -> None:
    """Write `options.json` and `split.csv` into a run folder.

    Args:
        folder: of the run; exists.
        options: fields of `train.TrainOptions`; of values that name a file its SHA-256 is kept too.
        recipe: as it is used.
        images: split name -> the images of it; `evaluate --split RUN/split.csv:val` reads them back.
    """
    paths = {name: Path(str(value)) for name, value in options.items() if value is not None}
    record = {
        "options": dict(options),
        "sha256": {name: file_sha256(path) for name, path in paths.items() if path.is_file()},
        "recipe": recipe.model_dump(mode="json"),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }
    write_text_atomic(folder / OPTIONS, json.dumps(record, indent=2, default=str) + "\n")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "split"])
    writer.writerows([sample.name, name] for name, samples in images.items() for sample in samples)
    write_text_atomic(folder / SPLIT, stream.getvalue())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
