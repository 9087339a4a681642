"""Reads recipes for Python code."""

from collections.abc import Sequence
import os
from typing import Any

from lrl_jax.data.seqio import imports as recipe_imports
from lrl_jax.pipeline.api.session import script_run_once
from lrl_jax.recipe.schema import Recipe


def load_recipe(
    path: str | os.PathLike, /, *overrides: str, imports: Sequence[str] = (), **sections: Any
) -> Recipe:
    """Reads a recipe, or the one that ships under this name; as `Recipe.from_yaml`, which says how.

        recipe = lrl.load_recipe("quickstart", "train.batch_size=8")

    Raises:
      ValueError: what is wrong, with the file and the key, one problem a line.
    """
    with script_run_once():  # files that a recipe imports are run in a process of their own
        return recipe_imports.load_recipe(os.fspath(path), overrides, imports, sections)
