"""The six words of the pipeline: vocab, init, data, train, evaluate, export.

Each is a function of the run, reads what the words before it left, and leaves its own folder.
`run.perform` decides which of them is due.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import tempfile
from typing import Any

from etils import epath
import jax
import numpy as np
from rich.console import Console

from lrl_jax import mesh as meshes
from lrl_jax import text
from lrl_jax.data import pack, plan, records, rows, stream
from lrl_jax.data import show as showing
from lrl_jax.embeddings import table
from lrl_jax.embeddings.rows import Clues
from lrl_jax.evaluate import measure, samples
from lrl_jax.evaluate import report as reporting
from lrl_jax.hf import card, gate, layout, load, save
from lrl_jax.model import llama
from lrl_jax.recipe import Extend, Pretrained, Scratch, TrainVocab
from lrl_jax.run import Run, write_json
from lrl_jax.train import loop
from lrl_jax.train.checkpoint import Checkpoints, VerificationError
from lrl_jax.vocab import fertility, learn, prove, splice
from lrl_jax.vocab import tokenizer as tokenizers

Params = llama.Params


# ---------------------------------------------------------------------------- vocab
def vocab(run: Run) -> None:
    """Learns, splices, proves and reports; leaves both tokenizer forms and splice.json."""
    part, out = run.recipe.vocab, run.at("vocab")
    new_texts = part.text if isinstance(part, TrainVocab | Extend) else ()
    base_texts = part.prove_on if isinstance(part, Extend) else new_texts
    if isinstance(part, TrainVocab):
        base = learn.train(text.read_many(part.text), part.size, part.character_coverage)
    else:
        base = _base_tokenizer(run)
    new, relation = base, splice.identity(base)
    if isinstance(part, Extend):
        new, relation = _extend(part, base)
    with tempfile.TemporaryDirectory() as local:  # transformers reads local folders only
        tokenizers.family(new).write(new, local)
        proof = prove.prove(local, base, text.read_many(base_texts), text.read_many(new_texts))
        for path in epath.Path(local).iterdir():
            (out / path.name).write_bytes(path.read_bytes())
    relation.write(out / "splice.json")
    proof.write(out / "proof.json")
    _fertility(run, base)
    _say(f"vocab: {tokenizers.load(out).size:,} pieces, {len(relation.added):,} of them new")
    if not proof.ok:
        raise VerificationError(f"{out}: the tokenizer is not lossless:\n{proof.summary}")
    _say(f"vocab: {proof.summary}")


def _extend(part: Extend, base: tokenizers.Tokenizer) -> tuple[tokenizers.Tokenizer, splice.Splice]:
    found = learn.pieces(
        text.read_many(part.text), part.pieces, part.scripts, part.character_coverage, base
    )
    kept = splice.prune(
        base, found, text.read_many(part.text), part.min_count, text.read_many(part.prove_on)
    )
    if not kept:
        raise ValueError(
            f"vocab: none of {len(found)} pieces is seen {part.min_count} times in "
            f"{', '.join(part.text)}; give more text, or lower vocab.min_count"
        )
    return splice.splice(base, kept)


def _fertility(run: Run, base: tokenizers.Tokenizer) -> None:
    texts = {code: list(text.lines(uri)) for code, uri in run.recipe.vocab.report.texts.items()}
    if not texts:
        return
    known = {"new": tokenizers.load(run.at("vocab"))}
    if isinstance(run.recipe.vocab, Extend):
        known = {"base": base, **known}
    found = fertility.report(known, texts)
    fertility.write(found, run.at("vocab"))
    _print(fertility.table(found))


def _base_tokenizer(run: Run) -> tokenizers.Tokenizer:
    base = run.recipe.base
    if isinstance(base, Pretrained):
        return tokenizers.load(run.base_folder())
    return tokenizers.load(base.tokenizer)


# ---------------------------------------------------------------------------- init
def init(run: Run) -> None:
    """Brings the weights in, with rows for new tokens, as the checkpoint of step 0."""
    recipe, out = run.recipe, run.at("init")
    tokenizer = tokenizers.load(run.at("vocab"))
    if isinstance(recipe.base, Scratch):
        config = _scratch_config(recipe.base, tokenizer)
    else:
        config = load.read_config(run.base_folder())
    cfg = dataclasses.replace(layout.config_from_hf(config), vocab_size=tokenizer.size)
    mesh = meshes.make(recipe.train.mesh)
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
        write_json(out / "config.json", layout.config_to_hf(config, cfg, recipe.init.param_dtype))
    count = sum(np.prod(a.shape) for a in jax.tree.leaves(params))
    _say(f"init: {count:,} parameters in {recipe.init.param_dtype}")


def _adapted(run: Run, cfg: llama.LlamaConfig, places: Mapping[str, Any]) -> Params:
    part, folder = run.recipe.init, run.base_folder()
    relation = splice.read(run.at("vocab") / "splice.json")
    _say(f"init: {folder}: {load.source_note(folder)}")
    grow = {}
    if relation.added:
        ways = {"embed_VD": part.input_rows, "unembed_DV": part.output_rows}
        for index, (name, way) in enumerate(ways.items()):
            rng = np.random.default_rng([run.recipe.seed, index])
            known = Clues(relation, "input" if name == "embed_VD" else "output")
            grow[name] = lambda old_VD, way=way, known=known, rng=rng: table.grow(
                way, old_VD, known, rng
            )
    rows_before = len(relation.kept)
    return load.load(folder, cfg, places, part.param_dtype, grow, rows_before)


def _scratch_config(base: Scratch, tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    shape = base.shape.model_dump()
    theta = shape.pop("rope_theta")
    return shape | {
        "model_type": "llama",
        "vocab_size": tokenizer.size,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    }


# ---------------------------------------------------------------------------- data
def data(run: Run) -> None:
    """Packs every dataset and prints the plan; the one step that may import TensorFlow."""
    recipe, out = run.recipe, run.at("data")
    if recipe.data.backend == "seqio":
        raise ValueError(
            "data.backend: seqio is not served by lrl yet; use packed, or call "
            "lrl_jax.data.tasks.online_batches in Python to look at seqio's own batches"
        )
    tokenizer = tokenizers.load(run.at("vocab"))
    manifests = pack.prepare_all(recipe.data, tokenizer, out, _shards)
    order = plan.from_recipe(recipe.train.stages, recipe.train.batch_size, manifests, recipe.seed)
    _print(showing.datasets(manifests))
    _print(showing.plan_table(order, manifests))


def _shards(name: str, done: int, total: int) -> None:
    _say(f"data: {name}: {done} of {total} shards")


def show(run: Run, dataset: str, first: int, count: int) -> None:
    """Prints rows `first` to `first + count` of a dataset as the model sees them."""
    name = dataset or next(iter(run.recipe.data.datasets))
    if name not in run.recipe.data.datasets:
        raise ValueError(f"--dataset {name}: there are {', '.join(run.recipe.data.datasets)}")
    tokenizer = tokenizers.load(run.at("vocab"))
    showing.show(run.at("data") / name, tokenizer, count, first)


# ---------------------------------------------------------------------------- train
def train(run: Run) -> None:
    """Trains the stages, from the newest verified checkpoint if there is one."""
    recipe = run.recipe
    cfg, tokenizer = _config(run), tokenizers.load(run.at("vocab"))
    mesh = meshes.make(recipe.train.mesh)
    batches = _stream(run)
    relation = splice.read(run.at("vocab") / "splice.json")
    is_new = np.zeros(cfg.padded_vocab_size, bool)
    is_new[list(relation.added)] = True
    loop.train(
        recipe.train,
        cfg,
        lambda: _initial(run, cfg, mesh),
        mesh,
        batches,
        run.at("train"),
        param_dtype=recipe.init.param_dtype,
        new_rows=is_new,
        bytes_per_token={name: m.bytes / m.loss_tokens for name, m in batches.manifests.items()},
        sample=samples.sampler(recipe.train, cfg, tokenizer, mesh),
    )


def _stream(run: Run) -> stream.Stream:
    recipe = run.recipe
    folders = {name: run.at("data") / name for name in recipe.data.datasets}
    manifests = {name: rows.read_manifest(folder) for name, folder in folders.items()}
    order = plan.from_recipe(recipe.train.stages, recipe.train.batch_size, manifests, recipe.seed)
    return stream.Stream(
        folders, order, recipe.train.batch_size, jax.process_index(), jax.process_count()
    )


# ---------------------------------------------------------------------------- evaluate
def evaluate(run: Run) -> None:
    """Measures the base before and the trained model after, on the same text."""
    recipe, out = run.recipe, run.at("evaluate")
    mesh = meshes.make(recipe.train.mesh)
    length, blocks = recipe.data.sequence_length, recipe.train.loss_blocks
    baselines = {"baselines": measure.baselines(recipe.evaluate)}
    before: dict[str, Any] = {}
    if isinstance(recipe.base, Pretrained):
        folder = run.base_folder()
        tokenizer = tokenizers.load(folder)
        cfg = _compute(run, load.read_config(folder))
        cfg = dataclasses.replace(cfg, vocab_size=tokenizer.size)
        params = load.load(folder, cfg, meshes.param_shardings(cfg, mesh), recipe.init.param_dtype)
        before = measure.measure(recipe.evaluate, cfg, params, tokenizer, mesh, length, blocks)
        _write(out / "before.json", before | baselines)
        del params
    cfg = _config(run)
    params = _trained(run, cfg, mesh)
    tokenizer = tokenizers.load(run.at("vocab"))
    after = measure.measure(recipe.evaluate, cfg, params, tokenizer, mesh, length, blocks)
    _write(out / "after.json", after | baselines)
    _say(f"evaluate: {out}/before.json, after.json")


# ---------------------------------------------------------------------------- export
def export(run: Run) -> None:
    """Writes the Hugging Face folder beside its place, proves it, and renames it there."""
    recipe, final = run.recipe, run.at("export")
    mesh = meshes.make(recipe.train.mesh)
    cfg = dataclasses.replace(_config(run), dtype="float32")
    params = _trained(run, cfg, mesh)
    tokenizer = tokenizers.load(run.at("vocab"))
    config = json.loads((run.at("init") / "config.json").read_text())
    lines = [line for line in text.read_many(_gate_texts(run)) if line.strip()]
    staged = final.with_name("export.unproved")
    if meshes.lead() and staged.exists():
        staged.rmtree()
    meshes.meet("export is clear")
    part = recipe.export
    save.save(staged, params, cfg, config, part.dtype, part.max_shard_bytes)
    if meshes.lead():
        for name in (*tokenizers.family(tokenizer).FORMS, *tokenizers.EXTRAS):
            if (run.at("vocab") / name).exists():
                (staged / name).write_bytes((run.at("vocab") / name).read_bytes())
        (staged / "README.md").write_text(_card(run))
    meshes.meet("export is written")
    found = gate.check(staged, cfg, params, tokenizer, lines[: part.gate_lines], part.dtype)
    if not found.passed:
        raise VerificationError(
            f"{staged}: the export is not the model: {'; '.join(found.problems)}. "
            f"Nothing was put at {final}"
        )
    if meshes.lead():
        write_json(staged / "gate.json", {"passed": True} | dataclasses.asdict(found))
        save.finish(staged, final)
    _say(f"export: {final}: same tokens on {found.texts} texts, {_differences(found)}")


def _gate_texts(run: Run) -> Sequence[str]:
    """What the recipe names; else the texts that are evaluated."""
    return run.recipe.export.gate_on or tuple(run.recipe.evaluate.bits_per_byte.values())


def _differences(found: gate.Gate) -> str:
    words = f"logits reloaded within {found.reload_error:.1e}"
    if found.transformers_error is None:
        return f"{words} (transformers: not compared, torch is not installed)"
    return f"{words}, transformers' within {found.transformers_error:.1e}"


def _card(run: Run) -> str:
    recipe, base = run.recipe, run.recipe.base
    old, new = (_bits_per_byte(run, when) for when in ("before", "after"))
    return card.card(
        title=recipe.export.title or recipe.name,
        base_model=base.model if isinstance(base, Pretrained) else "",
        base_license=base.license,
        license=recipe.export.license,
        languages=sorted({records.language(d) for d in recipe.data.datasets.values()}),
        metrics=[
            card.Metric(f"bits per byte, {name}", old.get(name), score)
            for name, score in new.items()
        ],
        new_pieces=len(splice.read(run.at("vocab") / "splice.json").added),
    )


def _bits_per_byte(run: Run, when: str) -> dict[str, float]:
    path = run.at("evaluate") / f"{when}.json"
    scores = json.loads(path.read_text())["bits_per_byte"] if path.exists() else {}
    return {name: score["bits_per_byte"] for name, score in scores.items()}


# ---------------------------------------------------------------------------- shared
def report(run: Run) -> None:
    """Writes report/index.html; prints what was measured before and after, and where it is."""
    if not meshes.lead():
        return
    path = reporting.write(run.folder)
    pieces = reporting.read(run.folder)
    if pieces.after:
        _print(reporting.summary_table(pieces.before, pieces.after, pieces.gate))
    _say(f"report: {path}")


def _config(run: Run) -> llama.LlamaConfig:
    return _compute(run, json.loads((run.at("init") / "config.json").read_text()))


def _compute(run: Run, config: Mapping[str, Any]) -> llama.LlamaConfig:
    settings = run.recipe.train
    cfg = layout.config_from_hf(config, settings.compute_dtype, settings.remat)
    return dataclasses.replace(cfg, unroll=min(settings.unroll, cfg.depth))


def _abstract(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    shapes = llama.abstract(cfg, run.recipe.init.param_dtype)
    places = meshes.param_shardings(cfg, mesh)
    return {
        name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=places[name])
        for name, a in shapes.items()
    }


def _initial(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Params:
    return _restored(run.at("init") / "checkpoint", _abstract(run, cfg, mesh))


def _trained(run: Run, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Params:
    target = {"params": _abstract(run, cfg, mesh)}
    return _restored(run.at("train") / "checkpoints", target)["params"]


def _restored(folder: epath.Path, target: Any) -> Any:
    with Checkpoints(folder) as checkpoints:
        found = checkpoints.restore(target, partial=True)
    if found is None:
        raise VerificationError(f"{folder}: holds no checkpoint; run the step that writes it again")
    return found.state


def _write(path: epath.Path, value: Any) -> None:
    if meshes.lead():
        write_json(path, value)


def _print(what: Any) -> None:
    if meshes.lead():
        Console().print(what)


def _say(line: str) -> None:
    if meshes.lead():
        Console(stderr=True, highlight=False).print(line, soft_wrap=True)


STEPS: Mapping[str, Callable[[Run], None]] = {
    "vocab": vocab, "init": init, "data": data,
    "train": train, "evaluate": evaluate, "export": export,
}  # fmt: skip
