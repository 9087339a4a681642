"""Yields, for `lrl check`, settings of a recipe that do not fit the model that it makes.

    problems += unfit(recipe, cfg)      # (key of the recipe, problem)

Each is found by the function with which a later step would refuse it.
"""

from collections.abc import Callable, Iterator
import dataclasses

import jax

from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import distil
from lrl_jax.model import llama
from lrl_jax.model.config import VOCAB_MULTIPLE
from lrl_jax.pipeline import export
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.vocab import Extend
from lrl_jax.train import loss


def unfit(recipe: Recipe, cfg: llama.LlamaConfig) -> Iterator[tuple[str, str]]:
    """Yields (key of the recipe, problem) of settings that this model cannot have.

    Args:
      cfg: of the model with its adapters, and with the most pieces that it can get.
    """
    grown, init = isinstance(recipe.vocab, Extend), recipe.init
    if recipe.export.form == "adapter":
        yield from trouble("export.form", export.trained_whole, cfg, recipe, grown)
    if init.input_rows == "token_distillation":
        yield from trouble("init.distillation.layer", distil.layer_of, init.distillation, cfg)
    blocks, vocab = recipe.train.loss_blocks, recipe.vocab
    fewest = cfg.vocab_size - getattr(vocab, "pieces", 0) - getattr(vocab, "size", 0)
    least = dataclasses.replace(cfg, vocab_size=max(1, fewest)).padded_vocab_size
    if all(V % blocks for V in range(least, cfg.padded_vocab_size + 1, VOCAB_MULTIPLE)):
        yield from trouble("train.loss_blocks", loss.refuse_uneven, cfg.padded_vocab_size, blocks)


def of_devices(recipe: Recipe) -> Iterator[str]:
    """Yields a line if the mesh does not fit the devices here, and the recipe names no machine."""
    mesh = recipe.train.mesh
    if mesh != "auto" and not recipe.train.pod:
        for where, problem in trouble("train.mesh", meshes.sizes, mesh, jax.device_count()):
            yield f"{where}: {problem}; those here are counted: train.pod names another machine"


def trouble(where: str, look: Callable[..., object], *args: object) -> Iterator[tuple[str, str]]:
    """Yields the problem with a key of the recipe, if looking raises one."""
    try:
        look(*args)
    except (ValueError, OSError) as e:
        yield where, str(e).removeprefix(f"{where}: ")
