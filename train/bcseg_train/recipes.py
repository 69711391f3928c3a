"""Recipes: how a model is trained, as validated data. The shipped ones lie in `recipes/NAME.toml`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bcseg_edge.errors import DataError
from bcseg_edge.passport import Tiling

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE_FOLDER = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(_Section):
    """Probabilities (0 to 1) and strengths of `augment.py`'s transforms."""

    horizontal_flip: float = Field(default=0.0, ge=0, le=1)
    zoom: float = Field(default=0.0, ge=0, le=1)  # probability of a crop or a margin before scaling to the window
    min_zoom_area: float = Field(default=0.4, gt=0, le=1)  # smallest share of the frame that a crop keeps
    affine: float = Field(default=0.0, ge=0, le=1)
    rotation_degrees: float = Field(default=15.0, ge=0, le=180)
    scale_range: tuple[float, float] = (0.8, 1.25)
    elastic: float = Field(default=0.0, ge=0, le=1)
    gain_contrast: float = Field(default=0.0, ge=0, le=1)
    depth_gain: float = Field(default=0.0, ge=0, le=1)
    speckle: float = Field(default=0.0, ge=0, le=1)
    shadow: float = Field(default=0.0, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0, le=1)
    jpeg: float = Field(default=0.0, ge=0, le=1)
    burn_in: float = Field(default=0.0, ge=0, le=1)  # calipers, text and sector borders drawn into the image


class Loss(_Section):
    """Weights of the terms of `losses.combined_loss`."""

    dice: float = Field(default=1.0, ge=0)
    cross_entropy: float = Field(default=0.0, ge=0)
    lesion_dice: float = Field(default=0.0, ge=0)
    lesion_class: float = Field(default=0.0, ge=0)
    class_smoothing: float = Field(default=0.0, ge=0, lt=1)  # of lesion_class's target, towards "not known"


class Recipe(_Section):
    """All that decides a training run besides data, network and seed."""

    name: str
    description: str
    tiling: Tiling
    window_hw: tuple[int, int]  # px, multiples of 32: five halvings in the encoder
    sampling: Literal["every_patch", "lesion_centred", "whole_frame"]
    padding: Literal["background", "ignored"] = "ignored"  # how the loss takes pixels outside the frame
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    optimizer: Literal["adam", "adamw"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0)
    gradient_clip: float = Field(default=0.0, ge=0)  # norm, 0: none
    average_decay: float = Field(default=0.0, ge=0, lt=1)  # of an exponential moving average of the weights, 0: none
    other_lesions: float = Field(default=0.0, ge=0)  # lesions of other organs, class unknown, per training image
    loss: Loss = Loss()
    augmentation: Augmentation | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if any(size <= 0 or size % 32 for size in self.window_hw):
            raise ValueError(f"window_hw {self.window_hw} must be positive multiples of 32")
        if (self.sampling == "whole_frame") != (self.tiling == "frame"):
            raise ValueError(f"sampling {self.sampling} does not go with tiling {self.tiling}")
        if not any(self.loss.model_dump(exclude={"class_smoothing"}).values()):
            raise ValueError("loss has no term above zero")
        return self


def load_recipe(name_or_path: str) -> Recipe:
    """Read and validate a recipe, by shipped name (`paper`, `strong`) or by path to a TOML file.

    Raises:
        DataError: it does not exist, is not TOML, or a value does not fit.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPE_FOLDER / f"{name_or_path}.toml"
    shipped = ", ".join(recipe.stem for recipe in sorted(RECIPE_FOLDER.glob("*.toml")))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe.model_validate({"name": path.stem, **content})
    except OSError as error:
        raise DataError(
            f"no recipe '{name_or_path}': {error.strerror}", f"shipped recipes: {shipped}; or FILE.toml"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"recipe {path} is not TOML: {error}", "see the shipped recipes for the form") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise DataError(f"recipe {path}: {problems}", "see bcseg_train/recipes.py for what each value means") from error
