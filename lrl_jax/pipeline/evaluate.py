"""Runs the step `evaluate`: measures the base and the trained model on the same text."""

import dataclasses
from typing import Any

from etils import epath
import jax

from lrl_jax import storage
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import bits_per_byte, kinds
from lrl_jax.hf import load
from lrl_jax.model import llama
from lrl_jax.pipeline import mesh as run_mesh
from lrl_jax.pipeline import weights
from lrl_jax.pipeline.console import say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer


def run(run: Run) -> None:
    """Measures both models; writes before.json, if there is a base, and after.json."""
    recipe, out = run.recipe, run.at("evaluate")
    mesh = run_mesh.make(run, weights.config(run))
    baselines = {"baselines": bits_per_byte.baselines(recipe.evaluate)}
    if isinstance(recipe.base, Pretrained):
        folder = run.base_folder()
        tokenizer = tokenizers.load(run.base_tokenizer())
        cfg = weights.configured(run, load.read_config(folder))
        cfg = dataclasses.replace(cfg, vocab_size=tokenizer.size)
        places, dtype = meshes.param_shardings(cfg, mesh), recipe.init.param_dtype
        params = load.load(folder, cfg, places, dtype, adapter=run.base_adapter())
        before = _measured(run, cfg, params, tokenizer, mesh)
        _write(out / "before.json", before | baselines)
        del params
    cfg = weights.config(run)
    params = weights.trained(run, cfg, mesh)
    after = _measured(run, cfg, params, tokenizers.load(run.at("vocab")), mesh)
    _write(out / "after.json", after | baselines)
    say(f"evaluate: {out}/before.json, after.json")


def compare_start_and_end(run: Run) -> None:
    """Measures the model before its first and after its last step, for `lrl vocab probe`."""
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    mesh = run_mesh.make(run, cfg)
    for when, restore in (("before", weights.initial), ("after", weights.trained)):
        scores = _measured(run, cfg, restore(run, cfg, mesh), tokenizer, mesh)
        _write(run.at("evaluate") / f"{when}.json", scores)


def _measured(
    run: Run,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
) -> dict[str, Any]:
    length, blocks = run.recipe.data.sequence_length, run.recipe.train.loss_blocks
    model = kinds.MeasuredModel(cfg, params, tokenizer, mesh, length, blocks)
    return kinds.measure(run.recipe.evaluate, model)


def _write(path: epath.Path, value: Any) -> None:
    if meshes.lead():
        storage.write_json(path, value)
