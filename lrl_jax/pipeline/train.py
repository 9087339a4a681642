"""Runs the step `train`: trains the stages of the recipe, and resumes an interrupted training."""

import dataclasses
from typing import TYPE_CHECKING

import jax
import numpy as np

from lrl_jax.data.feed import mixture, stream
from lrl_jax.data.pack import packing
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import samples
from lrl_jax.fit import auto
from lrl_jax.fit.compile import CompileJob
from lrl_jax.model import llama
from lrl_jax.pipeline import data, weights
from lrl_jax.pipeline import mesh as run_mesh
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.run import Run, manifests, resolved
from lrl_jax.recipe.schema import Recipe
from lrl_jax.train import adapt, loop
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers

if TYPE_CHECKING:
    from lrl_jax.data.seqio import online


def run(run: Run) -> None:
    """Trains the stages, starting from the newest verified checkpoint if there is one."""
    recipe = resolved(run)
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    cfg = adapt.adapted(cfg, recipe.train)
    shape = run_mesh.shape(run, cfg)
    mesh = meshes.make(shape)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"mesh": shape})})
    batches = _stream(run, mesh)
    shown = run.at("data") / data.PLAN
    if "data" not in run.elsewhere and shown.read_text() != batches.plan.to_json():
        data.show_plan(run, batches.plan, batches.manifests)  # stages were edited
    relation = splice.read(run.at("vocab") / "splice.json")
    if recipe.train.remat == "auto":
        cfg = _with_most_kept(recipe, cfg, mesh, len(relation.added))
    is_new = np.zeros(cfg.padded_vocab_size, bool)
    is_new[list(relation.added)] = True
    loop.train(
        recipe.train,
        cfg,
        lambda: weights.start(run, cfg, mesh),
        mesh,
        batches,
        run.at("train"),
        param_dtype=recipe.init.param_dtype,
        new_rows=is_new,
        bytes_per_token={name: m.bytes / m.loss_tokens for name, m in batches.manifests.items()},
        sample=samples.sampler(recipe.train, cfg, tokenizer, mesh),
    )


def _with_most_kept(
    recipe: Recipe, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh, new_tokens: int
) -> llama.LlamaConfig:
    """Returns the config with `remat: auto` replaced by the highest rung that fits into memory.

    Whether a rung fits is decided by compiling the training step.
    """
    job = CompileJob(
        cfg, recipe.train, recipe.data.sequence_length, recipe.init.param_dtype, new_tokens
    )
    remat = auto.remat(job, mesh)
    say(f"train: remat auto is {remat}")
    return dataclasses.replace(cfg, remat=remat)


def _stream(run: Run, mesh: jax.sharding.Mesh) -> "stream.Stream | online.Online":
    recipe = run.recipe
    rows = meshes.rows_here(mesh, recipe.train.batch_size)
    if recipe.data.backend == "seqio":
        return _online(run, rows)
    folders = packing.folders(run.at("data"))
    order = mixture.plan(recipe, manifests(run))
    return stream.Stream(
        folders, order, recipe.train.batch_size, rows, cache_gib=recipe.data.cache_gib
    )


def _online(run: Run, rows: np.ndarray) -> "online.Online":
    """Returns batches that seqio makes during training, for debugging; this needs TensorFlow."""
    from lrl_jax.data.seqio import online

    recipe, tokenizer = run.recipe, tokenizers.load(run.at("vocab"))
    counts = online.read_counts(run.at("data"))
    order = mixture.plan(recipe, {name: count.manifest for name, count in counts.items()})
    size = recipe.train.batch_size
    return online.Online(recipe.data, order, counts, tokenizer, size, rows)
