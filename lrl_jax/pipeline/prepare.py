"""The first two words of the pipeline: the vocabulary, and the weights it begins with.

Each is a function of the run and leaves its own folder; `steps` has the words after them.
"""

from collections.abc import Mapping
import dataclasses
import tempfile
from typing import Any

from etils import epath
import jax
import numpy as np

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture
from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import clues, strategies
from lrl_jax.embeddings.moments import Matrix, calibrate
from lrl_jax.fit import auto
from lrl_jax.fit.compile import Job
from lrl_jax.hf import families, load, peft_read
from lrl_jax.model import llama
from lrl_jax.pipeline.console import display, say
from lrl_jax.pipeline.run import Run, write_json
from lrl_jax.recipe import train as recipe_train
from lrl_jax.recipe.schema import Pretrained, Recipe, Scratch
from lrl_jax.recipe.vocab import Extend, TrainVocab
from lrl_jax.report import fertility_files
from lrl_jax.train import adapt
from lrl_jax.train.checkpoint import Checkpoints, VerificationError
from lrl_jax.vocab import build, exposure, fertility
from lrl_jax.vocab.pieces import prove, splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import EXTRAS, Tokenizer

ENGLISH = "eng"  # the base language of every model of this family


# ---------------------------------------------------------------------------- vocab
def vocab(run: Run) -> None:
    """Finds, splices, proves and reports; leaves every tokenizer form and splice.json."""
    out = run.at("vocab")
    built = build.build(run.recipe.vocab, base_tokenizer(run))
    for note in built.notes:
        say(f"vocab: {note}")
    with tempfile.TemporaryDirectory() as local:  # transformers reads local folders only
        tokenizers.family(built.new).write(built.new, local)
        copy_tokenizer(epath.Path(local), out)
    built.splice.write(out / "splice.json")
    found = proof(run, out, built.base)
    found.write(out / "proof.json")
    _fertility(run, built)
    _exposure(run, built)
    say(f"vocab: {built.new.size:,} pieces, {len(built.splice.added):,} of them new")
    held(out, found)


def prove_again(run: Run) -> None:
    """Proves what `lrl vocab` has left, as it is now."""
    out = run.at("vocab")
    found = proof(run, out, base_tokenizer(run) or tokenizers.load(out))
    found.write(out / "proof.json")
    held(out, found)


def proof(run: Run, folder: epath.Path, base: Tokenizer) -> prove.Proof:
    part = run.recipe.vocab
    new_texts = part.text if isinstance(part, TrainVocab | Extend) else ()
    base_texts = part.prove_on if isinstance(part, Extend) else new_texts
    texts = (text.read_many(uris) for uris in (base_texts, new_texts))
    with tempfile.TemporaryDirectory() as local:
        copy_tokenizer(folder, epath.Path(local))
        if isinstance(run.recipe.base, Pretrained):  # transformers picks its class by the model
            config = (run.base_folder() / "config.json").read_bytes()
            (epath.Path(local) / "config.json").write_bytes(config)
        return prove.prove(local, base, *texts, start=build.starting(part, base))


def copy_tokenizer(source: epath.Path, target: epath.Path) -> None:
    kin = tokenizers.family(tokenizers.load(source))
    for name in dict.fromkeys((*kin.FORMS, *EXTRAS)):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())


def held(folder: epath.Path, proof: prove.Proof) -> None:
    if not proof.ok:
        raise VerificationError(f"{folder}: the tokenizer is not lossless:\n{proof.summary}")
    say(f"vocab: {proof.summary}")


def _fertility(run: Run, built: build.Built) -> None:
    texts = {code: list(text.lines(uri)) for code, uri in run.recipe.vocab.report.texts.items()}
    if not texts:
        return
    known = {"base": built.base, "new": built.new} if built.splice.added else {"new": built.new}
    found = fertility.report(known, texts)
    fertility_files.write(found, run.at("vocab"))
    display(fertility.table(found))


def _exposure(run: Run, built: build.Built) -> None:
    """How often training will show every new token, and what to do where it is too seldom."""
    part, budget = run.recipe.vocab, _tokens_of_new_languages(run.recipe)
    if not isinstance(part, Extend) or not budget:
        return
    seen = exposure.expose(built.new, built.splice, text.read_many(part.text), budget)
    seen.write(run.at("vocab") / "exposure.json")
    say(f"vocab: {seen.summary}")
    for line in seen.advice:
        say(f"vocab: {line}")


def _tokens_of_new_languages(recipe: Recipe) -> int:
    """Tokens that training reads of datasets in other languages than English.

    Of stages whose length or mixture depends on the size of datasets, which is not known before
    they are packed, none are counted.
    """
    mine = {
        name
        for name, dataset in recipe.data.datasets.items()
        if not datasets.language(dataset).startswith(f"{ENGLISH}_")
    }
    step = recipe.train.batch_size * recipe.data.sequence_length
    total = 0.0
    for stage in recipe.train.stages:
        shares = mixture.unsized(recipe, stage) or {}
        total += stage.steps * sum(share for name, share in shares.items() if name in mine)
    return round(step * total)


def base_tokenizer(run: Run) -> Tokenizer | None:
    """The tokenizer the weights know; None where one is learnt from nothing."""
    base = run.recipe.base
    if isinstance(base, Pretrained):
        return tokenizers.load(run.base_tokenizer())
    return tokenizers.load(base.tokenizer) if base.tokenizer else None


def new_pieces(run: Run) -> int:
    """How many pieces the base does not have."""
    return len(splice.read(run.at("vocab") / "splice.json").added)


# ---------------------------------------------------------------------------- devices
def mesh_shape(run: Run, cfg: llama.LlamaConfig) -> recipe_train.Mesh:
    """The mesh the recipe names, or what `auto` means for this model on the devices here."""
    recipe = run.recipe
    if recipe.train.mesh != "auto":
        return recipe.train.axes
    if cfg.lora is None and cfg.frozen is None:
        cfg = adapt.adapted(cfg, recipe.train)
    length, dtype = recipe.data.sequence_length, recipe.init.param_dtype
    return auto.mesh(Job(cfg, recipe.train, length, dtype, new_pieces(run)), jax.devices())


def mesh_of(run: Run, cfg: llama.LlamaConfig) -> jax.sharding.Mesh:
    """`mesh_shape` over the devices here."""
    return meshes.make(mesh_shape(run, cfg))


# ---------------------------------------------------------------------------- init
def init(run: Run) -> None:
    """Brings the weights in, with rows for new tokens, as the checkpoint of step 0."""
    recipe, out = run.recipe, run.at("init")
    tokenizer = tokenizers.load(run.at("vocab"))
    if isinstance(recipe.base, Scratch):
        config = _scratch_config(recipe.base, tokenizer)
    else:
        config = run.base_config()
    cfg = dataclasses.replace(families.config_from_hf(config), vocab_size=tokenizer.size)
    mesh = mesh_of(run, cfg)
    places = meshes.param_shardings(cfg, mesh)
    if isinstance(recipe.base, Scratch):
        make = jax.jit(
            lambda key: llama.init(cfg, key, recipe.init.param_dtype), out_shardings=places
        )
        params = make(jax.random.key(recipe.seed))
    else:
        params = _adapted(run, cfg, places)
    with Checkpoints(out / "checkpoint") as checkpoints:
        checkpoints.save(0, params, {"base": recipe.base.model_dump(mode="json")})
    if meshes.lead():
        write_json(out / "config.json", families.config_to_hf(config, cfg, recipe.init.param_dtype))
    count = sum(np.prod(a.shape) for a in jax.tree.leaves(params))
    say(f"init: {count:,} parameters in {recipe.init.param_dtype}")


def _adapted(run: Run, cfg: llama.LlamaConfig, places: Mapping[str, Any]) -> llama.Params:
    part, folder, adapter = run.recipe.init, run.base_folder(), run.base_adapter()
    relation = splice.read(run.at("vocab") / "splice.json")
    say(f"init: {folder}: {load.source_note(folder)}")
    if adapter is not None:
        say(f"init: {adapter}: {peft_read.note(adapter)}")
    grow = _grow(run, relation) if relation.added else {}
    rows = len(relation.kept)
    spare = run.base_config()["vocab_size"] - rows
    if relation.added and spare > 0:
        say(f"init: {spare} rows of the base beyond its {rows:,} tokens are padding, and left out")
    return load.load(folder, cfg, places, part.param_dtype, grow, rows, adapter)


def _grow(run: Run, relation: splice.Splice) -> dict[str, load.Grow]:
    """What makes the new matrices of the old ones; a tied model asks for the first alone."""
    part = run.recipe.init
    base, new = tokenizers.load(run.base_tokenizer()), tokenizers.load(run.at("vocab"))
    sources = _sources(run)
    needs = {need for way in (part.input_rows, part.output_rows) for need in strategies.needs(way)}
    shared = clues.build(needs - {"helper"}, base, new, relation, sources)  # text is read once
    count_V = clues.counts(base, clues.lines(sources)) if part.norms == "calibrated" else None

    def rows(index: int, name: str, matrix: Matrix) -> load.Grow:
        def grow(old_VD: np.ndarray) -> np.ndarray:
            known = dataclasses.replace(shared, matrix=matrix)
            if "helper" in strategies.needs(name) and sources.helper:
                space = clues.helper_space(base, new, relation, sources.helper, matrix)
                known = dataclasses.replace(known, helper=space)
            rng = np.random.default_rng([run.recipe.seed, index])
            new_WD = strategies.grow(name, old_VD, known, rng)
            return new_WD if count_V is None else calibrate(new_WD, relation, count_V)

        return grow

    return {
        "embed_VD": rows(0, part.input_rows, "input"),
        "unembed_DV": rows(1, part.output_rows, "output"),
    }


def _sources(run: Run) -> clues.Sources:
    part, vocab = run.recipe.init, run.recipe.vocab
    words = part.words.model_dump() if part.words else {}
    return clues.Sources(
        text=part.text or (vocab.text if isinstance(vocab, Extend) else ()),
        lines=part.lines,
        source_words=words.get("source", ""),
        target_words=words.get("target", ""),
        dictionary=words.get("dictionary", ""),
        helper=part.helper,
    )


def _scratch_config(base: Scratch, tokenizer: Tokenizer) -> dict[str, Any]:
    return base.shape.model_dump() | {
        "vocab_size": tokenizer.size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }
