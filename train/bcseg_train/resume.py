"""Whether a run may continue: its last checkpoint is sound and comes from the same model, recipe, seed and images."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from bcseg_edge.errors import DataError
from bcseg_edge.files import atomic_path
from bcseg_train.dataset import LabelledImage
from bcseg_train.models import ModelSpec
from bcseg_train.recipes import Recipe
from bcseg_train.run_files import LAST

MAY_CHANGE = ("name", "description", "epochs")  # more epochs stretch the schedule; that is asked for by name


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints so that a kill while one is written leaves the one before it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write to a temporary file, then rename it to `path`; DataError where the folder cannot be written."""
        with atomic_path(Path(path)) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


class KeptCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint of a run, and knows it again in a folder that was moved or copied.

    Lightning forgets the best score when the folder's path has changed, and a worse epoch would overwrite `best.ckpt`.
    """

    @property
    def state_key(self) -> str:
        """Lightning's own, so that runs from before this class are known again too."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of an earlier start, with its paths in this folder."""
        super().load_state_dict(
            {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": self._here(state_dict["best_model_path"]),
                "kth_best_model_path": self._here(state_dict["kth_best_model_path"]),
                "last_model_path": self._here(state_dict["last_model_path"]),
                "best_k_models": {self._here(path): score for path, score in state_dict["best_k_models"].items()},
            }
        )

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath or ".") / Path(path).name) if path else path


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
    earlier = _read(last)
    if earlier.spec != dataclasses.asdict(spec):
        raise DataError(
            f"{last} is of model {earlier.spec.get('name')}, not {spec.name}",
            f"resume with --model {earlier.spec.get('name')}, or choose another --output",
        )
    before, now = earlier.recipe.model_dump(exclude=set(MAY_CHANGE)), recipe.model_dump(exclude=set(MAY_CHANGE))
    changed = [name for name in now if now[name] != before[name]]
    if changed:
        raise DataError(
            f"{last} was trained by recipe {earlier.recipe.name} with other values of {', '.join(changed)}",
            "resume with the recipe as it was, or choose another --output",
        )
    return last


def images_digest(samples: Sequence[LabelledImage]) -> str:
    """Hex SHA-256 of the images' names in their order, by which training draws them."""
    return hashlib.sha256("\n".join(sample.name for sample in samples).encode()).hexdigest()


def refuse_other_data(checkpoint: Path, seed: int, images: Mapping[str, str]) -> None:
    """Refuse to continue `checkpoint` by another seed or on other images, which may have changed sides.

    Args:
        checkpoint: of the run; one from before seed and images were kept passes.
        seed: of the run that would continue.
        images: what they are for, in words -> `images_digest` of them.

    Raises:
        DataError: seed or images are not the checkpoint's.
    """
    earlier = _read(checkpoint)
    differing = [what for what, digest in images.items() if earlier.images.get(what, digest) != digest]
    if earlier.seed not in (None, seed):
        differing.insert(0, f"seed ({earlier.seed}, not {seed})")
    if differing:
        raise DataError(
            f"{checkpoint} is of a run that differs in {', '.join(differing)}",
            f"resume with --seed {earlier.seed} and the data, split, other lesions and --max-images as they were, "
            "or choose another --output",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Origin:
    """What a checkpoint was trained by; no seed and no images in one from before they were kept."""

    spec: dict[str, Any]
    recipe: Recipe
    seed: int | None
    images: dict[str, str]


def _read(path: Path) -> _Origin:
    try:
        hyper = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["hyper_parameters"]
        spec = {**hyper["spec"], "decoder_channels": tuple(hyper["spec"]["decoder_channels"])}
        recipe = Recipe.model_validate(hyper["recipe"])
        return _Origin(spec, recipe, hyper.get("seed"), dict(hyper.get("images", {})))
    except Exception as error:  # torch.load raises many types; all mean the same here
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{path} is not a checkpoint of bcseg-edge train, or damaged: {reason}",
            "start again in another --output, or copy best.ckpt over it to continue from there",
        ) from error
