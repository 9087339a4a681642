"""Runs the step `evaluate`: measures the base and the trained model on the same text."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from etils import epath
import jax

from lrl_jax import storage
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import bits_per_byte, kinds
from lrl_jax.hf import load
from lrl_jax.model import llama
from lrl_jax.pipeline import inputs, weights
from lrl_jax.pipeline.console import Tell, progress, say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer


def run(run: Run) -> None:
    """Measures both models; writes before.json, if there is a base, and after.json.

    Finished items of tasks, and what is measured of each line of other entries, are kept in
    items/before and items/after.
    """
    with progress("evaluate") as tell:
        _compare(run, tell)
    say(f"evaluate: {run.at('evaluate')}/before.json, after.json")


def look(run: Run, tell: Tell) -> dict[str, dict[str, Any]]:
    """Measures both models by what the recipe says; returns the results, and writes none.

    Finished items of tasks are those of the step.
    """
    inputs.inputs(run, "evaluate")  # raises where earlier steps are not done
    inputs.refuse_bad(run, "evaluate")
    results: dict[str, dict[str, Any]] = {}
    for_each_model(run, tell, lambda when, model, facts: _look(run, when, model, tell, results))
    return results


def _look(
    run: Run, when: str, model: kinds.MeasuredModel, tell: Tell, results: dict[str, dict[str, Any]]
) -> None:
    model = dataclasses.replace(model, lines="")  # those of the step stay
    results[when] = kinds.measure(run.recipe.evaluate, model, _within(tell, when))


def _compare(run: Run, tell: Tell) -> None:
    recipe = run.recipe
    tell("character n-gram models", 0, 0)
    baselines = {"baselines": bits_per_byte.baselines(recipe.evaluate)}

    def measure(when: str, model: kinds.MeasuredModel, facts: dict[str, str]) -> None:
        _measure(run, when, model, baselines, facts, tell)

    for_each_model(run, tell, measure)


Do = Callable[[str, kinds.MeasuredModel, dict[str, str]], None]


def for_each_model(run: Run, tell: Tell, do: Do) -> None:
    """Calls `do` with "before", the base model, and with "after", the trained one, in turn.

    Its arguments are which of them, the model, and facts about its weights. Only one of them is on
    the devices at a time. There is none before where training begins from scratch; with
    `init.weights` it is the one that training began with.
    """
    recipe = run.recipe
    mesh = weights.make_mesh(run, weights.config(run))
    if recipe.init.weights:
        cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
        tell("before: reading weights", 0, 0)
        params = weights.initial(run, cfg, mesh)
        do("before", _model(run, "before", cfg, params, tokenizer, mesh), {})
        del params
    elif isinstance(recipe.base, Pretrained):
        folder = run.base_folder()
        tokenizer = tokenizers.load(run.base_tokenizer())
        cfg = weights.configured(run, load.read_config(folder))
        cfg = dataclasses.replace(cfg, vocab_size=tokenizer.size)
        tell("before: reading the base", 0, 0)
        places, dtype = meshes.param_shardings(cfg, mesh), recipe.init.param_dtype
        params = load.load(folder, cfg, places, dtype, adapter=run.base_adapter())
        do("before", _model(run, "before", cfg, params, tokenizer, mesh), {})
        del params
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    tell("after: reading the checkpoint", 0, 0)
    params = weights.trained(run, cfg, mesh)
    facts = {"checkpoint": weights.called(weights.checkpoint(run))}
    do("after", _model(run, "after", cfg, params, tokenizer, mesh), facts)


def compare_start_and_end(run: Run) -> None:
    """Measures the model before its first and after its last step, for `lrl vocab probe`."""
    _measure_states(run, {"before": weights.initial, "after": weights.trained})


def measure_end(run: Run) -> None:
    """Measures the trained model alone, for studies whose cells begin with the same base."""
    _measure_states(run, {"after": weights.trained})


def _measure_states(run: Run, states: Mapping[str, Callable[..., llama.Params]]) -> None:
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    mesh = weights.make_mesh(run, cfg)
    for when, restore in states.items():
        model = _model(run, when, cfg, restore(run, cfg, mesh), tokenizer, mesh)
        _measure(run, when, model, {}, {})


def scores(run: Run, when: str) -> dict[str, float]:
    """Returns the bits per byte of every text in before.json or after.json, if it exists."""
    results, path = _results(run, when), _path(run, when)
    try:
        by_text = results["bits_per_byte"] if results else {}
        return {name: float(score["bits_per_byte"]) for name, score in by_text.items()}
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"{path}: holds no scores ({e!r}); run `lrl evaluate --redo`") from None


def results(run: Run, when: str = "after") -> dict[str, Any]:
    """Returns all that was measured of the trained model, or of the base; {} before the step."""
    return _results(run, when)


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


def _model(
    run: Run,
    when: str,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
) -> kinds.MeasuredModel:
    length, blocks = run.recipe.data.sequence_length, run.recipe.train.loss_blocks
    items = str(run.at("evaluate") / "items" / when)
    return kinds.MeasuredModel(
        cfg, params, tokenizer, mesh, length, blocks, context=weights.context(run),
        items=items, lines=items,
    )  # fmt: skip


def _measure(
    run: Run,
    when: str,
    model: kinds.MeasuredModel,
    baselines: dict[str, Any],
    facts: dict[str, str],
    tell: Tell = lambda what, done, whole: None,
) -> None:
    results = kinds.measure(run.recipe.evaluate, model, _within(tell, when)) | baselines
    results["facts"] |= facts
    if meshes.lead():
        storage.write_json(_path(run, when), results)


def _within(tell: Tell, when: str) -> Tell:
    return lambda what, done, whole: tell(f"{when}: {what}", done, whole)
