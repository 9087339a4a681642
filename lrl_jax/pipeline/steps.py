"""The six words of the pipeline: vocab and init (from `prepare`), data, train, evaluate, export.

Each is a function of the run, reads what the words before it left, and leaves its own folder.
`run.perform` decides which of them is due.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

from etils import epath
import jax
import numpy as np

from lrl_jax import text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture, plan, stream
from lrl_jax.data.feed import show as showing
from lrl_jax.data.pack import jobs, packing, progress, rows, workers
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import measure, samples
from lrl_jax.fit import auto
from lrl_jax.fit import compile as fitting
from lrl_jax.hf import card, gate, load, peft_write, save, vector
from lrl_jax.model import llama
from lrl_jax.pipeline import prepare, weights
from lrl_jax.pipeline.console import display, say
from lrl_jax.pipeline.run import Run, resolved, write_json
from lrl_jax.pipeline.run import manifests as read_manifests
from lrl_jax.recipe.schema import Pretrained, Recipe
from lrl_jax.report import run as reporting
from lrl_jax.train import adapt, loop
from lrl_jax.train.checkpoint import VerificationError
from lrl_jax.vocab.pieces import splice
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

if TYPE_CHECKING:
    from lrl_jax.data.seqio import online

Params = llama.Params
PLAN = "plan.json"  # what was read as what, for whoever looks


# ---------------------------------------------------------------------------- data
def data(run: Run, runner: workers.Runner | None = None) -> None:
    """Packs every dataset, on this machine if not given another runner, and prints the plan."""
    recipe, out = run.recipe, run.at("data")
    tokenizer = tokenizers.load(run.at("vocab"))
    if recipe.data.backend == "seqio":
        from lrl_jax.data.seqio import online  # TensorFlow

        online.refuse(recipe)
        say(f"data: {online.WHAT_IT_IS}")
        manifests = online.prepare(recipe.data, tokenizer, out)
    else:
        with progress.shown() as told:
            manifests = jobs.prepare_all(recipe.data, tokenizer, out, told, runner)
    display(showing.datasets(manifests))
    _show_plan(run, mixture.plan(recipe, manifests), manifests)


def _show_plan(run: Run, order: plan.Plan, manifests: Mapping[str, rows.Manifest]) -> None:
    """Prints the plan and notes it beside the data."""
    display(showing.plan_table(order, manifests))
    if meshes.lead():
        rows.write(run.at("data") / PLAN, order.to_json().encode())


def show(run: Run, dataset: str, stage: str, first: int, count: int, tokens: bool) -> None:
    """Prints rows `first` to `first + count` of a dataset, or of a stage, as the model reads it."""
    tokenizer, folders = tokenizers.load(run.at("vocab")), packing.folders(run.at("data"))
    if stage:
        order = mixture.plan(run.recipe, read_manifests(run))
        showing.show_stage(folders, order, tokenizer, stage, count, first, tokens=tokens)
        return
    name = dataset or next(iter(run.recipe.data.datasets))
    if name not in run.recipe.data.datasets:
        raise ValueError(f"--dataset {name}: there are {', '.join(run.recipe.data.datasets)}")
    showing.show(folders[name], tokenizer, count, first, tokens=tokens)


# ---------------------------------------------------------------------------- train
def train(run: Run) -> None:
    """Trains the stages, from the newest verified checkpoint if there is one."""
    recipe = resolved(run)
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    cfg = adapt.adapted(cfg, recipe.train)
    shape = prepare.mesh_shape(run, cfg)
    mesh = meshes.make(shape)
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"mesh": shape})})
    batches = _stream(run, mesh)
    noted = run.at("data") / PLAN
    if "data" not in run.elsewhere and noted.read_text() != batches.plan.to_json():
        _show_plan(run, batches.plan, batches.manifests)  # stages were edited
    relation = splice.read(run.at("vocab") / "splice.json")
    if recipe.train.remat == "auto":
        cfg = _as_much_as_fits(recipe, cfg, mesh, len(relation.added))
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


def _as_much_as_fits(
    recipe: Recipe, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh, new_tokens: int
) -> llama.LlamaConfig:
    """The model with what it keeps for the backward pass found by compiling."""
    job = fitting.Job(
        cfg, recipe.train, recipe.data.sequence_length, recipe.init.param_dtype, new_tokens
    )
    found = auto.remat(job, mesh)
    say(f"train: remat auto is {found}")
    return dataclasses.replace(cfg, remat=found)


def _stream(run: Run, mesh: jax.sharding.Mesh) -> "stream.Stream | online.Online":
    recipe = run.recipe
    mine = meshes.rows_here(mesh, recipe.train.batch_size)
    if recipe.data.backend == "seqio":
        return _online(run, mine)
    folders = packing.folders(run.at("data"))
    order = mixture.plan(recipe, read_manifests(run))
    return stream.Stream(folders, order, recipe.train.batch_size, mine)


def _online(run: Run, mine: np.ndarray) -> "online.Online":
    """Batches of seqio's own, for debugging: the one way TensorFlow comes into training."""
    from lrl_jax.data.seqio import online

    recipe, tokenizer = run.recipe, tokenizers.load(run.at("vocab"))
    counts = online.read_counts(run.at("data"))
    manifests = {name: one.manifest for name, one in counts.items()}
    order = mixture.plan(recipe, manifests)
    size = recipe.train.batch_size
    return online.Online(recipe.data, order, counts, tokenizer, size, mine)


# ---------------------------------------------------------------------------- evaluate
def evaluate(run: Run) -> None:
    """Measures the base before and the trained model after, on the same text."""
    recipe, out = run.recipe, run.at("evaluate")
    mesh = prepare.mesh_of(run, weights.config(run))
    length, blocks = recipe.data.sequence_length, recipe.train.loss_blocks
    baselines = {"baselines": measure.baselines(recipe.evaluate)}
    before: dict[str, Any] = {}
    if isinstance(recipe.base, Pretrained):
        folder = run.base_folder()
        tokenizer = tokenizers.load(run.base_tokenizer())
        cfg = weights.configured(run, load.read_config(folder))
        cfg = dataclasses.replace(cfg, vocab_size=tokenizer.size)
        places, dtype = meshes.param_shardings(cfg, mesh), recipe.init.param_dtype
        params = load.load(folder, cfg, places, dtype, adapter=run.base_adapter())
        before = measure.measure(recipe.evaluate, cfg, params, tokenizer, mesh, length, blocks)
        _write(out / "before.json", before | baselines)
        del params
    cfg = weights.config(run)
    params = weights.trained(run, cfg, mesh)
    tokenizer = tokenizers.load(run.at("vocab"))
    after = measure.measure(recipe.evaluate, cfg, params, tokenizer, mesh, length, blocks)
    _write(out / "after.json", after | baselines)
    say(f"evaluate: {out}/before.json, after.json")


def evaluate_start_and_end(run: Run) -> None:
    """Measures the model before its first step and after its last: what a probe compares."""
    cfg, tokenizer = weights.config(run), tokenizers.load(run.at("vocab"))
    mesh = prepare.mesh_of(run, cfg)
    length, blocks = run.recipe.data.sequence_length, run.recipe.train.loss_blocks
    for when, found in (("before", weights.initial), ("after", weights.trained)):
        params = found(run, cfg, mesh)
        part = run.recipe.evaluate
        scores = measure.measure(part, cfg, params, tokenizer, mesh, length, blocks)
        _write(run.at("evaluate") / f"{when}.json", scores)


# ---------------------------------------------------------------------------- export
def export(run: Run) -> None:
    """Writes the Hugging Face folder beside its place, proves it, and renames it there."""
    recipe, final = run.recipe, run.at("export")
    cfg = dataclasses.replace(weights.config(run), dtype="float32")
    mesh = prepare.mesh_of(run, cfg)
    tokenizer = tokenizers.load(run.at("vocab"))
    lines = [line for line in text.read_many(_gate_texts(run)) if line.strip()]
    staged = final.with_name("export.unproved")
    if meshes.lead() and staged.exists():
        staged.rmtree()
    meshes.meet("export is clear")
    forms = {"merged": _merged, "adapter": _adapter}
    check = forms[recipe.export.form](run, staged, cfg, mesh)
    if meshes.lead():
        prepare.copy_tokenizer(run.at("vocab"), staged)
        prepare.held(staged, prepare.proof(run, staged, prepare.base_tokenizer(run) or tokenizer))
        (staged / "README.md").write_text(_card(run))
    meshes.meet("export is written")
    found = check(tokenizer, lines[: recipe.export.gate_lines], recipe.export.dtype)
    if not found.passed:
        raise VerificationError(
            f"{staged}: the export is not the model: {'; '.join(found.problems)}. "
            f"Nothing was put at {final}"
        )
    if meshes.lead():
        write_json(staged / "gate.json", {"passed": True} | dataclasses.asdict(found))
        save.finish(staged, final)
    say(f"export: {final}: same tokens on {found.texts} texts, {_differences(found)}")


Check = Callable[[Tokenizer, Sequence[str], str], gate.Gate]


def _merged(run: Run, staged: epath.Path, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh) -> Check:
    """Writes the model itself; what compares it with what was written."""
    part = run.recipe.export
    params = weights.trained(run, cfg, mesh)
    if part.vector is not None:
        instruct = load.resolve(Pretrained(model=part.vector.instruct))
        base = load.resolve(Pretrained(model=part.vector.base))
        rows = len(splice.read(run.at("vocab") / "splice.json").kept)
        params = vector.add(params, cfg, instruct, base, part.vector.scale, rows)
    config = json.loads((run.at("init") / "config.json").read_text())
    save.save(staged, params, cfg, config, part.dtype, part.max_shard_bytes)
    return functools.partial(gate.check, staged, cfg, params)


def _adapter(
    run: Run, staged: epath.Path, cfg: llama.LlamaConfig, mesh: jax.sharding.Mesh
) -> Check:
    """Writes adapters and what else was trained, to be put on the base."""
    training = adapt.adapted(cfg, run.recipe.train)
    params = weights.unmerged(run, training, mesh)
    cfg = dataclasses.replace(training, frozen=None)
    full = {*llama.abstract(cfg)} - {*adapt.frozen(cfg, run.recipe.train.stages)}
    if prepare.new_pieces(run):
        full |= {"embed_VD", "unembed_DV"} & {*params}
    full = {name for name in full if "_lora_" not in name}
    base = run.recipe.base
    assert isinstance(base, Pretrained)
    peft_write.save(staged, params, cfg, full, base.model, run.recipe.export.dtype)
    return functools.partial(gate.check_adapter, staged, run.base_folder(), cfg, params, full)


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
        base_adapter=base.adapter if isinstance(base, Pretrained) else "",
        base_license=base.license,
        license=recipe.export.license,
        languages=sorted({datasets.language(d) for d in recipe.data.datasets.values()}),
        metrics=[
            card.Metric(f"bits per byte, {name}", old.get(name), score)
            for name, score in new.items()
        ],
        new_pieces=prepare.new_pieces(run),
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
        display(reporting.summary_table(pieces.before, pieces.after, pieces.gate))
    say(f"report: {path}")


def _write(path: epath.Path, value: Any) -> None:
    if meshes.lead():
        write_json(path, value)


STEPS: Mapping[str, Callable[[Run], None]] = {
    "vocab": prepare.vocab, "init": prepare.init, "data": data,
    "train": train, "evaluate": evaluate, "export": export,
}  # fmt: skip
