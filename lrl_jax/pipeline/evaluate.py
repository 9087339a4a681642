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
from lrl_jax.pipeline import weights
from lrl_jax.pipeline.console import Tell, progress, say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer


def run(run: Run) -> None:
    """Measures both models; writes before.json, if there is a base, and after.json.

    With `init.weights`, the model before is the one that training began with.
    """
    with progress("evaluate") as tell:
        _compare(run, tell)
    say(f"evaluate: {run.at('evaluate')}/before.json, after.json")


def _compare(run: Run, tell: Tell) -> None:
    recipe = run.recipe
    mesh = weights.make_mesh(run, weights.config(run))
    tell("character n-gram models", 0, 0)
    baselines = {"baselines": bits_per_byte.baselines(recipe.evaluate)}
    if recipe.init.weights:
        cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
        tell("before: reading weights", 0, 0)
        params = weights.initial(run, cfg, mesh)
        _measure(run, "before", cfg, params, tokenizer, mesh, baselines, tell=tell)
        del params
    elif isinstance(recipe.base, Pretrained):
        folder = run.base_folder()
        tokenizer = tokenizers.load(run.base_tokenizer())
        cfg = weights.configured(run, load.read_config(folder))
        cfg = dataclasses.replace(cfg, vocab_size=tokenizer.size)
        tell("before: reading the base", 0, 0)
        places, dtype = meshes.param_shardings(cfg, mesh), recipe.init.param_dtype
        params = load.load(folder, cfg, places, dtype, adapter=run.base_adapter())
        _measure(run, "before", cfg, params, tokenizer, mesh, baselines, tell=tell)
        del params
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    tell("after: reading the checkpoint", 0, 0)
    params = weights.trained(run, cfg, mesh)
    facts = {"checkpoint": weights.called(weights.checkpoint(run))}
    _measure(run, "after", cfg, params, tokenizer, mesh, baselines, facts, tell)


def compare_start_and_end(run: Run) -> None:
    """Measures the model before its first and after its last step, for `lrl vocab probe`."""
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    mesh = weights.make_mesh(run, cfg)
    for when, restore in (("before", weights.initial), ("after", weights.trained)):
        _measure(run, when, cfg, restore(run, cfg, mesh), tokenizer, mesh, {})


def scores(run: Run, when: str) -> dict[str, float]:
    """Returns the bits per byte of every text in before.json or after.json, if it exists."""
    results, path = _results(run, when), _path(run, when)
    try:
        by_text = results["bits_per_byte"] if results else {}
        return {name: float(score["bits_per_byte"]) for name, score in by_text.items()}
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"{path}: holds no scores ({e!r}); run `lrl evaluate --redo`") from None


def measured(run: Run) -> str:
    """Returns which checkpoint after.json was measured on, as `weights.called` calls it.

    Files of versions that did not say it give an empty text.
    """
    facts = _results(run, "after").get("facts")
    return str(facts.get("checkpoint", "")) if isinstance(facts, dict) else ""


def _results(run: Run, when: str) -> dict[str, Any]:
    path = _path(run, when)
    results = storage.read_json(path) if path.exists() else {}
    if not isinstance(results, dict):
        raise ValueError(f"{path}: holds no JSON object; run `lrl evaluate --redo`")
    return results


def _path(run: Run, when: str) -> epath.Path:
    return run.at("evaluate") / f"{when}.json"


def _measure(
    run: Run,
    when: str,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
    baselines: dict[str, Any],
    facts: dict[str, str] | None = None,
    tell: Tell = lambda what, done, whole: None,
) -> None:
    length, blocks = run.recipe.data.sequence_length, run.recipe.train.loss_blocks
    model = kinds.MeasuredModel(cfg, params, tokenizer, mesh, length, blocks)

    def told(what: str, done: int, whole: int) -> None:
        tell(f"{when}: {what}", done, whole)

    results = kinds.measure(run.recipe.evaluate, model, told) | baselines
    results["facts"] |= facts or {}
    if meshes.lead():
        storage.write_json(_path(run, when), results)
