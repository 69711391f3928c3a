"""Recipes: the shipped ones say what they must, and a wrong one is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcseg_edge.errors import DataError
from bcseg_train.recipes import RECIPE_FOLDER, load_recipe

VALID = (RECIPE_FOLDER / "paper.toml").read_text()


def test_the_papers_recipe_is_the_papers() -> None:
    recipe = load_recipe("paper")
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs) == ("adam", 1e-4, 16, 100)
    assert (recipe.tiling, recipe.window_hw, recipe.sampling) == ("paper", (256, 256), "every_patch")
    assert (recipe.loss.dice, recipe.loss.cross_entropy, recipe.augmentation) == (1.0, 0.0, None)
    assert (recipe.schedule, recipe.average_decay, recipe.weight_decay) == ("constant", 0.0, 0.0)


@pytest.mark.parametrize("path", sorted(RECIPE_FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path.stem).name == path.stem


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("epochs = 100", "epochs = 0", "epochs"),
        ("epochs = 100", "epoch = 100", "epoch"),
        ('optimizer = "adam"', 'optimizer = "sgd"', "optimizer"),
        ("window_hw = [256, 256]", "window_hw = [250, 256]", "multiples of 32"),
        ('tiling = "paper"', 'tiling = "frame"', "does not go with"),
        ("dice = 1.0", "dice = 0.0", "no term"),
        ("epochs = 100", "epochs =", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in VALID
    path = tmp_path / "mine.toml"
    path.write_text(VALID.replace(old, new, 1))
    with pytest.raises(DataError, match=reason):
        load_recipe(str(path))


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(DataError) as caught:
        load_recipe("nothing")
    assert "paper, pretrain, strong-patches, strong-scratch, strong" in caught.value.hint
