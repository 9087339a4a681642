"""Runs the step `train`: trains the stages of the recipe, and resumes an interrupted training."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from lrl_jax.data.feed import mixture, stream
from lrl_jax.data.pack import packing
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import samples
from lrl_jax.fit import search
from lrl_jax.fit.compile import CompileJob
from lrl_jax.pipeline import data, export, weights
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.run import Run, counted, manifests, resolved
from lrl_jax.train import adapt, loop
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers

if TYPE_CHECKING:
    from lrl_jax.data.seqio import online


def run(run: Run) -> None:
    """Trains the stages, starting from the newest verified checkpoint if there is one."""
    recipe = resolved(run)
    plain, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    cfg = adapt.adapted(plain, recipe.train)
    new = splice.read(run.at("vocab") / "splice.json").added
    if recipe.export.form == "adapter":  # the export comes last, and would refuse it then
        export.trained_whole(cfg, recipe, grown=bool(new))
    shape = weights.mesh_shape(run, plain)
    mesh = meshes.make(shape)
    settings = recipe.train.model_copy(update={"mesh": shape})
    batches = _stream(run, meshes.rows_here(mesh, settings.batch_size))
    shown = run.at("data") / data.PLAN
    if "data" not in run.elsewhere and shown.read_text() != batches.plan.to_json():
        data.show_plan(run, batches.plan, batches.manifests)  # stages were edited
    if settings.remat == "auto":  # the most that fits, found by compiling the step
        length, dtype = recipe.data.sequence_length, recipe.init.param_dtype
        remat = search.remat(CompileJob(cfg, settings, length, dtype, len(new)), mesh)
        say(f"train: remat auto is {remat}")
        cfg = dataclasses.replace(cfg, remat=remat)
    is_new = np.zeros(cfg.padded_vocab_size, bool)
    is_new[list(new)] = True
    loop.train(
        settings,
        cfg,
        lambda: weights.start(run, cfg, mesh),
        mesh,
        batches,
        run.at("train"),
        param_dtype=recipe.init.param_dtype,
        new_rows=is_new,
        bytes_per_token={name: m.bytes / m.loss_tokens for name, m in batches.manifests.items()},
        sample=samples.sampler(settings, cfg, tokenizer, mesh),
    )


def _stream(run: Run, rows: np.ndarray) -> "stream.Stream | online.Online":
    recipe, size = counted(run), run.recipe.train.batch_size
    if recipe.data.backend == "seqio":
        from lrl_jax.data.seqio import online  # batches made during training need TensorFlow

        counts, tokenizer = online.read_counts(run.at("data")), tokenizers.load(run.at("vocab"))
        order = mixture.plan(recipe, {name: count.manifest for name, count in counts.items()})
        return online.Online(recipe.data, order, counts, tokenizer, size, rows)
    order = mixture.plan(recipe, manifests(run))
    folders = packing.folders(run.at("data"))
    return stream.Stream(folders, order, size, rows, cache_gib=recipe.data.cache_gib)
