"""Whether a run may continue: its last checkpoint is sound and comes from the same model and recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from bcseg_edge.errors import DataError
from bcseg_train.models import ModelSpec
from bcseg_train.recipes import Recipe

LAST = "last.ckpt"
MAY_CHANGE = ("name", "description", "epochs")  # more epochs stretch the schedule; that is asked for by name


def checkpoint_to_resume(output: Path, resume: bool, spec: ModelSpec, recipe: Recipe) -> Path | None:
    """The checkpoint that a run in `output` continues from; None for a new run.

    Raises:
        DataError: nothing to resume, a run that would be overwritten, a damaged checkpoint, or one of another model
            or recipe.
    """
    last = output / LAST
    if not resume:
        if last.is_file():
            raise DataError(f"{output} holds a run already", "add --resume to continue it, or choose another --output")
        return None
    if not last.is_file():
        raise DataError(f"nothing to resume: no {last}", "leave --resume out to start a new run")
    earlier_spec, earlier_recipe = _read(last)
    if earlier_spec != dataclasses.asdict(spec):
        raise DataError(
            f"{last} is of model {earlier_spec.get('name')}, not {spec.name}",
            f"resume with --model {earlier_spec.get('name')}, or choose another --output",
        )
    before, now = earlier_recipe.model_dump(exclude=set(MAY_CHANGE)), recipe.model_dump(exclude=set(MAY_CHANGE))
    changed = [name for name in now if now[name] != before[name]]
    if changed:
        raise DataError(
            f"{last} was trained by recipe {earlier_recipe.name} with other values of {', '.join(changed)}",
            "resume with the recipe as it was, or choose another --output",
        )
    return last


def _read(path: Path) -> tuple[dict[str, Any], Recipe]:
    """Spec and recipe that a checkpoint was trained by."""
    try:
        hyper = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["hyper_parameters"]
        spec = {**hyper["spec"], "decoder_channels": tuple(hyper["spec"]["decoder_channels"])}
        return spec, Recipe.model_validate(hyper["recipe"])
    except Exception as error:  # torch.load raises many types; all mean the same here
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{path} is not a checkpoint of bcseg-edge train, or damaged: {reason}",
            "start again in another --output, or copy best.ckpt over it to continue from there",
        ) from error
