"""Runs `lrl check`: reports every problem of a recipe that takes seconds to see, and prints a plan.

Nothing is kept, downloaded or trained. All problems are reported, not only the first.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import itertools
import math
from typing import Any, NamedTuple

from etils import epath
import jax
from rich.table import Table

from lrl_jax import storage, terminal, text
from lrl_jax.cli import fit as fit_verb
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture
from lrl_jax.data.read.tally import Tally, refuse_absent
from lrl_jax.data.templates import table as templates
from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import strategies as starts
from lrl_jax.fit import compile as compiling
from lrl_jax.fit import topology
from lrl_jax.hf import families, load, peft_read, safetensors_ranges
from lrl_jax.model import llama, sharding
from lrl_jax.pipeline import weights
from lrl_jax.pipeline.run import Run, counted
from lrl_jax.recipe import supply
from lrl_jax.recipe.data import Dataset
from lrl_jax.recipe.schema import Expected, Pretrained, Recipe
from lrl_jax.recipe.train import Rule, Stage
from lrl_jax.recipe.vocab import Extend
from lrl_jax.storage import GIB
from lrl_jax.train import adapt, learn
from lrl_jax.vocab.tokenizer import load as tokenizers

LOOK = 200_000  # records of each dataset that are read and checked at most


class ProblemsError(ValueError):
    """Reports everything that must be corrected before the recipe can run."""

    exit_code = 3


class Planned(NamedTuple):
    """Holds what training needs."""

    state: float  # bytes of parameters and optimizer state on all devices together
    machine: str  # `train.pod`, with the state on each of its chips; '' if there is none


def check(run: Run) -> None:
    """Prints the plan of a recipe and what the user still has to supply; raises all problems."""
    console, recipe = terminal.console(), run.recipe
    wanted = supply.wanted(recipe)
    problems = [*dict.fromkeys(_gather(run, wanted))]  # a missing base is seen by several looks
    unknown = getattr(recipe.base, "tokenizer", "") in wanted  # then the model's size is unknown
    console.print(terminal.styled((recipe.name, "bold"), f"  ->  {run.folder}"))
    console.print(_stages(recipe if problems else counted(run)))
    if not problems and not unknown:
        cfg = families.config_from_hf(fit_verb.foreseen(run))
        problems += _learn_tables(recipe, cfg)
        if recipe.init.weights and recipe.init.weights.run not in wanted:
            problems += _trouble("init", _another_model, run, cfg)
        planned = None
        if not problems:
            try:
                planned = _planned(run)
            except (ValueError, OSError) as e:
                problems.append(f"train: {e}")
        console.print(_model(recipe, cfg, planned))
        if planned is not None and not wanted:
            problems += _room(run, cfg, planned)
    if wanted:
        console.print(_wanted(wanted))
    for remark in (*_remarks(recipe), *([] if problems else _of_base(run, wanted))):
        console.print(terminal.styled(("note", "yellow"), f" {remark}"))
    if problems:
        raise ProblemsError(f"{len(problems)} problem(s)\n  " + "\n  ".join(problems))
    then = f"lrl run {recipe.name}"
    console.print(f"sound; when {len(wanted)} are supplied: {then}" if wanted else f"ready: {then}")


# ---------------------------------------------------------------------------- files of the recipe
def _gather(run: Run, wanted: Collection[str]) -> Iterator[str]:
    """Yields the problems of the recipe's files, except for the files in `wanted`.

    Those are not here yet, and the user is told to supply them.
    """
    recipe = run.recipe
    for where, uri in supply.texts(recipe):
        if uri not in wanted:
            yield from _trouble(where, next, text.lines(uri), None)
    try:
        storage.check_writable(run.folder)
    except OSError as e:
        yield (
            f"folder: {run.folder} cannot be written ({e.strerror or e}); "
            "set `folder` to where this user may write"
        )
    for name, dataset in recipe.data.datasets.items():
        if not any(uri in wanted for uri in dataset.places()):
            yield from _trouble(f"data.datasets.{name}", _readable, name, dataset)
    yield from _base(run, wanted)
    donor = recipe.vocab.donor if isinstance(recipe.vocab, Extend) else ""
    if donor and donor not in wanted:
        yield from _trouble("vocab.donor", tokenizers.read, donor)
    yield from _sources_of_rows(recipe)
    for stage in recipe.train.stages:
        yield from _trouble(f"train.stages.{stage.name}", mixture.unsized, recipe, stage)
    mesh = recipe.train.mesh
    shards = 1 if mesh == "auto" else math.prod(n for n in (mesh.data, mesh.fsdp) if n > 0)
    rows, parts = recipe.train.batch_size, recipe.train.accumulate
    if rows % (shards * parts):
        yield (
            f"train.batch_size: {rows} rows do not divide over data x fsdp = {shards}"
            + f" in accumulate = {parts} parts" * (parts > 1)
        )


def _base(run: Run, wanted: Collection[str]) -> Iterator[str]:
    base = run.recipe.base
    if not isinstance(base, Pretrained):
        if base.tokenizer and base.tokenizer not in wanted:
            yield from _trouble("base.tokenizer", tokenizers.load, base.tokenizer)
        return
    away = [field for field in ("model", "adapter") if getattr(base, field) in wanted]
    if "model" not in away:
        yield from _trouble("base.model", lambda: load.read_config(run.base_folder()))
        yield from _trouble("base.model", lambda: tokenizers.load(run.base_folder()))
        yield from _trouble("base.model", _weights, run.base_folder())
    if base.adapter and not away:
        yield from _trouble("base.adapter", _goes_on, run)
    if not away:
        yield from _trouble("base.model", _fits, run, base)
    elif base.expected is None:
        missing = " and ".join(f"base.{field}" for field in away)
        yield f"{missing} is to be supplied: set base.expected, so that the rest can be checked"


def _sources_of_rows(recipe: Recipe) -> Iterator[str]:
    """Yields what the strategies for new rows need but the recipe does not name."""
    settings = recipe.init
    named = {
        "words": settings.words is not None,
        "helper": bool(settings.helper),
        "contexts": bool(settings.text) or isinstance(recipe.vocab, Extend),
        "tokens": bool(settings.text) or isinstance(recipe.vocab, Extend),
    }
    for field, way in (("input_rows", settings.input_rows), ("output_rows", settings.output_rows)):
        for need in starts.STRATEGIES[way].needs:
            if not named.get(need, True):
                yield f"init.{field}: {way} needs more; set {starts.FIELDS[need]}"


def _another_model(run: Run, cfg: llama.LlamaConfig) -> None:
    """Checks that the model of `init.weights` is that of the recipe, as far as it is known."""
    other = run.another()
    pieces = load.read_config(other.at("init"))["vocab_size"]  # those of this run are not known yet
    weights.refuse_another_model(run, other, dataclasses.replace(cfg, vocab_size=pieces))


def _readable(called: str, dataset: Dataset) -> None:
    """Reads up to LOOK records of a dataset as `lrl data` will, which takes seconds."""
    tally = Tally()
    every = (r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard, tally))
    name = dataset.template
    first = bad = None
    for record in itertools.islice(every, LOOK):
        if isinstance(record, text.Bad):
            bad = bad or record
            if record.reason == "unreadable" and dataset.filters.bad == "refuse":
                raise text.DataError(f"{record.where}: {record.why}")
        elif first is None:  # a template of the tokenizer is tried if there is a tokenizer
            first = record
            if name != templates.OWN:
                templates.parts(name, record)
    if first is None:
        raise ValueError(f"holds no record{f'; {bad.where}: {bad.why}' if bad else ''}")
    if next(every, None) is None:  # all of it was read
        refuse_absent(dataset, called, tally)


def _trouble(where: str, look: Callable[..., object], *args: object) -> Iterator[str]:
    """Yields the problem with a key of the recipe, if looking raises one."""
    try:
        look(*args)
    except (ValueError, OSError) as e:
        yield f"{where}: {e}"


def _goes_on(run: Run) -> None:
    """Checks that an adapter fits its base; reads only the headers of their files."""
    folder, adapter = run.base_folder(), run.base_adapter()
    assert adapter is not None
    cfg = families.config_from_hf(load.read_config(folder))
    with contextlib.ExitStack() as stack:
        peft_read.put(adapter, safetensors_ranges.open_folder(folder, stack), cfg, stack)


def _weights(folder: epath.Path) -> None:
    """Checks that the weights are those config.json describes, and what generation asks for."""
    load.check(folder, families.config_from_hf(load.read_config(folder)))
    load.read_generation(folder)


def _fits(run: Run, base: Pretrained) -> None:
    folder = run.base_folder()
    pieces = tokenizers.load(run.base_tokenizer()).size
    cfg = families.config_from_hf(run.base_config())
    if cfg.vocab_size < pieces:
        raise ValueError(
            f"{folder}: config.json has vocab_size {cfg.vocab_size}, the tokenizer {pieces} "
            "pieces; this tokenizer is not this model's"
        )
    if base.expected is not None:
        as_expected(base.expected, load.read_config(folder))


def as_expected(expected: Expected, config: Mapping[str, Any]) -> None:
    """Checks that a config.json means the same model as `base.expected`; names what differs.

    The two are compared as LlamaConfigs, because files may leave out keys that have a default.
    """
    want, got = (families.config_from_hf(hf) for hf in (expected.model_dump(), config))
    odd = [
        f"{field.name}: expected {getattr(want, field.name)}, is {getattr(got, field.name)}"
        for field in dataclasses.fields(want)
        if getattr(want, field.name) != getattr(got, field.name)
    ]
    if odd:
        raise ValueError(f"config.json is not as base.expected says: {'; '.join(odd)}")


# ---------------------------------------------------------------------------- size of the model
def _learn_tables(recipe: Recipe, cfg: llama.LlamaConfig) -> list[str]:
    """Returns the problems of adapters or, if they have none, those of learn tables."""
    train = recipe.train
    problems = [*_trouble("train.lora", adapt.with_lora, cfg, train)]
    if not problems:
        with_lora = adapt.with_lora(cfg, train)
        names = [*llama.abstract(with_lora)]
        for stage in train.stages:
            where = f"train.stages.{stage.name}.learn"
            problems += _trouble(where, learn.groups, stage.learn, names)
        if not problems:
            problems += _trouble("train", adapt.adapted, cfg, train)
            if isinstance(recipe.vocab, Extend):
                problems += _trouble("train.stages", adapt.refuse_idle_rows, with_lora, train)
    return problems


def _planned(run: Run) -> Planned:
    """Returns how much memory training needs, after refusing a `train.pod` that cannot run it."""
    job, here, train = fit_verb.job(run), jax.devices()[0], run.recipe.train
    if not train.pod:
        return Planned(compiling.whole_state(job, here), "")
    target = topology.read(train.pod)
    job = compiling.planned(job, target.count, target.slices, target.chip.memory, here)
    axes = job.settings.axes
    if axes.slices != target.slices:
        raise ValueError(f"mesh.slices={axes.slices}, but {train.pod} has {target.slices}")
    compiling.refuse(job, target.count, target.is_tpu)
    data, fsdp, tensor = meshes.sizes(axes, target.count)
    state = compiling.whole_state(job, here)
    within = dict(data=data // target.slices, fsdp=fsdp, tensor=tensor)
    share, memory = state / sharding.holders(job.cfg.width, within), target.chip.memory
    if share > memory:
        raise compiling.TooLargeError(share, memory, "the state alone (parameters and optimizer)")
    return Planned(
        state,
        f"{train.pod}: {target.count} chips, data {data} x fsdp {fsdp} x tensor {tensor}, "
        f"{share / GIB:.2f} of {memory / GIB:.2f} GiB a chip and activations: "
        f"lrl fit {run.recipe.name}",
    )


def _room(run: Run, cfg: llama.LlamaConfig, planned: Planned) -> Iterator[str]:
    checkpoints = planned.state * (run.recipe.train.save.keep + 1)
    need, free = 2 * _stored(run.recipe, cfg) + checkpoints, storage.free_bytes(run.folder)
    if free is not None and free < need:
        yield (
            f"{run.folder}: needs about {need / GIB:.1f} GiB for checkpoints and the export, "
            f"{free / GIB:.1f} GiB are free; choose another folder, or a smaller train.save.keep"
        )


def _parameters(cfg: llama.LlamaConfig) -> int:
    return sum(math.prod(a.shape) for a in llama.abstract(cfg).values())


def _stored(recipe: Recipe, cfg: llama.LlamaConfig) -> int:
    return _parameters(cfg) * (4 if recipe.init.param_dtype == "float32" else 2)


# ---------------------------------------------------------------------------- tables
def _stages(recipe: Recipe) -> Table:
    table = Table(
        "stage", "steps", "tokens", "mixture", "learns", title="Plan", title_justify="left"
    )
    row = recipe.train.rows_per_step * recipe.data.sequence_length
    for stage in recipe.train.stages:
        length = f"{stage.steps:,}", f"{stage.steps * row:,}"
        if stage.epochs:  # steps are known once the data is packed
            length = f"{stage.epochs:g} epoch{'s' * (stage.epochs != 1)}", "as packed"
        learns = "; ".join(_learns(rule) for rule in stage.learn)
        table.add_row(stage.name, *length, _mixed(recipe, stage), learns)
    return table


def _learns(rule: Rule) -> str:
    rate = "frozen" if rule.schedule == "frozen" else f"{rule.schedule.peak:g}"
    return f"{rule.match}{' (new rows)' * (rule.rows == 'new')}: {rate}"


def _mixed(recipe: Recipe, stage: Stage) -> str:
    def shares(weights: Mapping[str, float], whole: float = 1.0) -> str:
        total = sum(weights.values())
        return ", ".join(f"{name} {w * whole / total:.0%}" for name, w in weights.items() if w)

    replay, replayed = recipe.train.replay, sum(recipe.train.replay.values())
    if stage.epochs:
        words = ", ".join(f"{name} x{w:g}" for name, w in stage.mixture.items() if w)
    else:
        words = shares(stage.mixture, 1 - replayed)
    if stage.ramp_to:
        words += f" -> {shares(stage.ramp_to, 1 - replayed)}"
    return f"{words}; replayed {shares(replay, replayed)}" if replay else words


def _model(recipe: Recipe, cfg: llama.LlamaConfig, planned: Planned | None) -> Table:
    table = Table("model", "", title_justify="left", show_header=False)
    table.add_row("parameters", f"{_parameters(cfg):,}, at most {cfg.vocab_size:,} pieces")
    table.add_row("shape", f"{cfg.depth} layers of {cfg.width}, {cfg.num_heads} heads")
    if planned is not None:
        stored, state = _stored(recipe, cfg) / GIB, planned.state / GIB
        table.add_row("on disk", f"{stored:.2f} GiB; a checkpoint {state:.2f} GiB")
        table.add_row("in memory", f"{state:.2f} GiB over all devices, gradients and activations")
        if planned.machine:
            table.add_row("pod", planned.machine)
    table.add_row("devices here", f"{len(jax.devices())} x {jax.devices()[0].device_kind}")
    return table


def _wanted(wanted: Mapping[str, str]) -> Table:
    table = Table("to supply", "how", title_justify="left")
    for how in dict.fromkeys(wanted.values()):
        names = "\n".join(name for name, advice in wanted.items() if advice == how)
        table.add_row(names, how)
    return table


def _of_base(run: Run, wanted: Collection[str]) -> list[str]:
    """Returns what of the base's weights is not read, is rounded, or is shorter than rows."""
    base, remarks = run.recipe.base, []
    if not isinstance(base, Pretrained):
        config = base.shape.model_dump() | {"vocab_size": 1}
    elif base.model in wanted:
        return []
    else:
        config = load.read_config(run.base_folder())
        remarks = load.remarks(run.base_folder(), run.recipe.init.param_dtype)
    if long := families.long_rows(config, run.recipe.data.sequence_length):
        remarks.append(f"data.sequence_length: {long}")
    return remarks


def _remarks(recipe: Recipe) -> Iterator[str]:
    if recipe.base.license == "unknown":
        yield "base.license is unknown: say what it is; it goes into the model card"
    if not recipe.evaluate.bits_per_byte:
        yield "evaluate.bits_per_byte is empty: nothing will show whether the run helped"
    elif "eng_Latn" not in recipe.evaluate.bits_per_byte:
        yield "evaluate.bits_per_byte has no eng_Latn: forgetting will not be seen"
    for pattern in supply.idle(recipe):
        yield f"supply: nothing in the recipe asks for {pattern!r}"
    if recipe.vocab.method == "extend" and not recipe.vocab.report.texts:
        yield "vocab.report.texts is empty: no fertility will be reported"
