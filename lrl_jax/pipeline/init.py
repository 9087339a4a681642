"""Runs the step `init`: makes the starting weights, with rows for the new tokens."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import numpy as np

from lrl_jax import storage
from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import clues, distil, strategies
from lrl_jax.embeddings.moments import Clues, Matrix, calibrate
from lrl_jax.hf import families, load, peft_read
from lrl_jax.hf.safetensors_ranges import some
from lrl_jax.model import llama
from lrl_jax.pipeline import weights
from lrl_jax.pipeline.console import progress, say
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe.schema import Init, Scratch
from lrl_jax.recipe.vocab import Extend
from lrl_jax.train.checkpoint import Checkpoints
from lrl_jax.train.digest import not_finite
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers


def run(run: Run) -> None:
    """Saves the starting weights, with rows for new tokens, as the checkpoint of step 0."""
    recipe, out = run.recipe, run.at("init")
    tokenizer = tokenizers.load(run.at("vocab"))
    dtype = recipe.init.param_dtype
    if isinstance(recipe.base, Scratch):
        ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
        config = recipe.base.shape.model_dump() | {"vocab_size": tokenizer.size} | ids
    else:
        config = run.base_config()
    cfg = dataclasses.replace(families.config_from_hf(config), vocab_size=tokenizer.size)
    mesh = weights.make_mesh(run, cfg)
    places = meshes.param_shardings(cfg, mesh)
    if recipe.init.weights:
        params = weights.of_another_run(run, cfg, mesh)
    elif isinstance(recipe.base, Scratch):
        make = jax.jit(lambda key: llama.init(cfg, key, dtype), out_shardings=places)
        params = make(jax.random.key(recipe.seed))
    else:
        params = _adapted(run, cfg, places, mesh)
        if broken := not_finite(params):
            raise ValueError(
                f"{recipe.base.model}: its weights are not all finite numbers: {some(broken)}; no "
                "training mends that: fetch the base again, or take another one"
            )
    with Checkpoints(out / "checkpoint") as checkpoints:
        checkpoints.save(0, params, {})  # the note of the step says what they were made from
    if meshes.lead():
        storage.write_json(out / "config.json", families.config_to_hf(config, cfg, dtype))
    count = sum(np.prod(a.shape) for a in jax.tree.leaves(params))
    say(f"init: {count:,} parameters in {dtype}")


def _adapted(
    run: Run, cfg: llama.LlamaConfig, places: Mapping[str, Any], mesh: jax.sharding.Mesh
) -> llama.Params:
    """Returns the weights of the base, with its adapter merged and rows for the new tokens."""
    folder, adapter = run.base_folder(), run.base_adapter()
    relation = splice.read(run.at("vocab") / "splice.json")
    say(f"init: {folder}: {load.source_note(folder)}")
    for remark in load.remarks(folder, run.recipe.init.param_dtype):
        say(f"init: {remark}")
    if adapter is not None:
        say(f"init: {adapter}: {peft_read.note(adapter)}")
    shared = _clues(run, relation) if relation.added else Clues(relation)
    grow = _grow(run, shared) if relation.added else {}
    rows = len(relation.kept)
    spare = run.base_config()["vocab_size"] - rows
    if relation.added and spare > 0:
        say(f"init: {spare} rows of the base beyond its {rows:,} tokens are padding, and left out")
    dtype = run.recipe.init.param_dtype
    params = load.load(folder, cfg, places, dtype, grow, rows, adapter)
    return _distilled(run, cfg, params, shared, mesh) if shared.snippets else params


def _settings(run: Run) -> Init:
    """Returns the recipe's section; without text of its own, with that of the new pieces."""
    settings, vocab = run.recipe.init, run.recipe.vocab
    if not settings.text and isinstance(vocab, Extend):
        return settings.model_copy(update={"text": vocab.files})
    return settings


def _clues(run: Run, relation: splice.Splice) -> Clues:
    """Returns what both matrices need to know of new tokens; text is read once."""
    settings = _settings(run)
    base, new = tokenizers.load(run.base_tokenizer()), tokenizers.load(run.at("vocab"))
    ways = (strategies.STRATEGIES[settings.input_rows], strategies.STRATEGIES[settings.output_rows])
    needs = {need for way in ways for need in way.needs}
    return clues.build(needs - {"helper"}, base, new, relation, settings)


def _grow(run: Run, shared: Clues) -> dict[str, load.Grow]:
    """Returns functions that make new embedding matrices from old ones, by parameter name.

    A model with tied embeddings uses only the one for the input matrix.
    """
    settings, relation = _settings(run), shared.splice
    base, new = tokenizers.load(run.base_tokenizer()), tokenizers.load(run.at("vocab"))
    count_V = clues.counts(base, clues.lines(settings)) if settings.norms == "calibrated" else None

    def rows(index: int, name: str, matrix: Matrix) -> load.Grow:
        def grow(old_VD: np.ndarray) -> np.ndarray:
            own = {"helper"}.intersection(strategies.STRATEGIES[name].needs)
            helper = clues.build(own, base, new, relation, settings, matrix).helper
            context = dataclasses.replace(shared, matrix=matrix, helper=helper)
            rng = np.random.default_rng([run.recipe.seed, index])
            new_WD = strategies.grow(name, old_VD, context, rng)
            return new_WD if count_V is None else calibrate(new_WD, relation, count_V)

        return grow

    return {
        "embed_VD": rows(0, settings.input_rows, "input"),
        "unembed_DV": rows(1, settings.output_rows, "output"),
    }


def _distilled(
    run: Run,
    cfg: llama.LlamaConfig,
    params: llama.Params,
    shared: Clues,
    mesh: jax.sharding.Mesh,
) -> llama.Params:
    """Returns the parameters with input rows that learnt to stand for what the base reads."""
    assert shared.snippets is not None
    settings = run.recipe.init.distillation
    cfg = dataclasses.replace(cfg, dtype=run.recipe.train.compute_dtype)
    with jax.set_mesh(mesh), progress("init") as tell:
        params, result = distil.learn(
            cfg, params, shared.splice, shared.snippets, settings, run.recipe.seed, tell
        )
    say(
        f"init: token_distillation: {result.learnt:,} input rows learnt from {result.snippets:,} "
        f"snippets: mean squared error {result.before:.3g} to {result.after:.3g}"
    )
    if result.scarce:
        say(
            f"init: {result.scarce:,} new tokens have fewer than {settings.fewest} snippets in the "
            "text, and keep their subword mean; name more text in init.text"
        )
    return params
