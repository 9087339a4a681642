"""Makes the mesh of a run, over which its model is split."""

import jax

from lrl_jax.devices import mesh as meshes
from lrl_jax.fit import auto
from lrl_jax.fit.compile import CompileJob
from lrl_jax.model import llama
from lrl_jax.pipeline import vocab
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import adapt


def shape(run: Run, cfg: llama.LlamaConfig) -> recipe_train.Mesh:
    """Returns the mesh of the recipe, or what `auto` means for this model and these devices."""
    recipe = run.recipe
    if recipe.train.mesh != "auto":
        return recipe.train.axes
    if cfg.lora is None and cfg.frozen is None:
        cfg = adapt.adapted(cfg, recipe.train)
    length, dtype = recipe.data.sequence_length, recipe.init.param_dtype
    job = CompileJob(cfg, recipe.train, length, dtype, vocab.new_pieces(run))
    return auto.mesh(job, jax.devices())


def make(run: Run, cfg: llama.LlamaConfig) -> jax.sharding.Mesh:
    """Returns the mesh `shape`, built over the devices of this run."""
    return meshes.make(shape(run, cfg))
