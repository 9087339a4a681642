"""Runs `lrl check`: reports every problem of a recipe that takes seconds to see, and prints a plan.

Nothing is written, downloaded or trained. All problems are reported, not only the first.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lrl_jax import storage, text
from lrl_jax.cli import fit as fit_verb
from lrl_jax.data import dataset as datasets
from lrl_jax.data.feed import mixture
from lrl_jax.data.templates import table as templates
from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import strategies as starts
from lrl_jax.fit import compile as compiling
from lrl_jax.fit import topology
from lrl_jax.hf import families, load, peft_read, safetensors_ranges
from lrl_jax.model import llama, sharding
from lrl_jax.pipeline.run import Run
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


@dataclasses.dataclass(frozen=True)
class Size:
    """Holds the size of a recipe's model.

    Attributes:
      config: the model's config, with the largest vocabulary that the recipe can make.
      parameters: how many parameters it has.
    """

    config: llama.LlamaConfig
    parameters: int


@dataclasses.dataclass(frozen=True)
class Planned:
    """Holds what training needs.

    Attributes:
      state: bytes of parameters and optimizer state on all devices together.
      machine: a line about `train.pod` and the state on each of its chips; '' if there is none.
    """

    state: float
    machine: str


def check(run: Run) -> None:
    """Prints the plan of a recipe, and what the user still has to supply.

    Raises:
      ProblemsError: lists all problems, a line each.
    """
    console, recipe = Console(), run.recipe
    wanted = supply.wanted(recipe)
    problems = [*_gather(run, wanted)]
    unknown = getattr(recipe.base, "tokenizer", "") in wanted  # then the model's size is unknown
    size = None if problems or unknown else _size(run)
    console.print(f"[bold]{recipe.name}[/bold]  ->  {run.folder}")
    console.print(_stages(recipe))
    if size is not None:
        problems += _learn_tables(recipe, size)
        planned = None
        if not problems:
            problems += _trouble(lambda: _planned(run), "train")
            planned = None if problems else _planned(run)
        console.print(_model(recipe, size, planned))
        if planned is not None and not wanted:
            problems += _room(run, size, planned)
    if wanted:
        console.print(_wanted(wanted))
    for remark in _remarks(recipe):
        console.print(f"[yellow]note[/yellow] {escape(remark)}")
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
            yield from _trouble(lambda uri=uri: next(text.lines(uri), None), where)
    for name, dataset in recipe.data.datasets.items():
        if not any(uri in wanted for uri in supply.places(dataset)):
            yield from _trouble(lambda dataset=dataset: _readable(dataset), f"data.datasets.{name}")
    yield from _base(run, wanted)
    donor = recipe.vocab.donor if isinstance(recipe.vocab, Extend) else ""
    if donor and donor not in wanted:
        yield from _trouble(lambda: tokenizers.read(donor), "vocab.donor")
    yield from _sources_of_rows(recipe)
    for stage in recipe.train.stages:
        look = functools.partial(mixture.unsized, recipe, stage)
        yield from _trouble(look, f"train.stages.{stage.name}")
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
            yield from _trouble(lambda: tokenizers.load(base.tokenizer), "base.tokenizer")
        return
    away = [field for field in ("model", "adapter") if getattr(base, field) in wanted]
    if "model" not in away:
        yield from _trouble(lambda: load.read_config(run.base_folder()), "base.model")
        yield from _trouble(lambda: tokenizers.load(run.base_folder()), "base.model")
    if base.adapter and not away:
        yield from _trouble(lambda: _goes_on(run), "base.adapter")
    if not away:
        yield from _trouble(lambda: _fits(run, base), "base.model")
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
        for need in starts.needs(way):
            if not named.get(need, True):
                yield f"init.{field}: {way} needs more; set {starts.FIELDS[need]}"


def _readable(dataset: Dataset) -> None:
    """Reads up to LOOK records of a dataset as `lrl data` will, which takes seconds."""
    every = (r for shard in datasets.shards(dataset) for r in datasets.read(dataset, shard))
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


def _trouble(look: Callable[[], object], where: str) -> Iterator[str]:
    try:
        look()
    except (ValueError, OSError) as e:
        yield f"{where}: {e}"


def _goes_on(run: Run) -> None:
    """Checks that an adapter fits its base; reads only the headers of their files."""
    folder, adapter = run.base_folder(), run.base_adapter()
    assert adapter is not None
    cfg = families.config_from_hf(load.read_config(folder))
    with contextlib.ExitStack() as stack:
        peft_read.put(adapter, safetensors_ranges.open_folder(folder, stack), cfg, stack)


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
    """Checks that a config.json means the same model as `base.expected`.

    The two are compared as LlamaConfigs, because files may leave out keys that have a default.

    Raises:
      ValueError: names what differs.
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
def _size(run: Run) -> Size:
    cfg = families.config_from_hf(fit_verb.foreseen(run))
    return Size(cfg, sum(math.prod(a.shape) for a in llama.abstract(cfg).values()))


def _learn_tables(recipe: Recipe, size: Size) -> Iterator[str]:
    """Yields the problems of adapters or, if they have none, those of learn tables."""
    train, cfg = recipe.train, size.config
    if problems := [*_trouble(lambda: adapt.with_lora(cfg, train), "train.lora")]:
        yield from problems
        return
    names = [*llama.abstract(adapt.with_lora(cfg, train))]
    for stage in train.stages:
        look = functools.partial(learn.groups, stage.learn, names)
        problems += _trouble(look, f"train.stages.{stage.name}.learn")
    yield from problems
    if not problems:
        yield from _trouble(lambda: adapt.adapted(cfg, train), "train")
        if isinstance(recipe.vocab, Extend):
            look = functools.partial(adapt.refuse_idle_rows, adapt.with_lora(cfg, train), train)
            yield from _trouble(look, "train.stages")


def _planned(run: Run) -> Planned:
    """Returns how much memory training needs, and on which machine.

    Raises:
      ValueError: `train.pod` does not exist or cannot run the recipe; says what could.
    """
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


def _room(run: Run, size: Size, planned: Planned) -> Iterator[str]:
    parameters = _stored(run.recipe, size)
    need = parameters * 2 + planned.state * (run.recipe.train.save.keep + 1)
    free = storage.free_bytes(run.folder)
    if free is not None and free < need:
        yield (
            f"{run.folder}: needs about {need / GIB:.1f} GiB for checkpoints and the export, "
            f"{free / GIB:.1f} GiB are free; choose another folder, or a smaller train.save.keep"
        )


def _stored(recipe: Recipe, size: Size) -> int:
    return size.parameters * (4 if recipe.init.param_dtype == "float32" else 2)


# ---------------------------------------------------------------------------- tables
def _stages(recipe: Recipe) -> Table:
    table = Table(
        "stage", "steps", "tokens", "mixture", "learns", title="Plan", title_justify="left"
    )
    row = recipe.train.batch_size * recipe.data.sequence_length
    for stage in recipe.train.stages:
        learns = "; ".join(
            f"{rule.match}{' (new rows)' if rule.rows == 'new' else ''}: {_rate(rule)}"
            for rule in stage.learn
        )
        table.add_row(stage.name, *_length(stage, row), _mixed(recipe, stage), learns)
    return table


def _length(stage: Stage, row: int) -> tuple[str, str]:
    """Returns the steps and tokens of a stage, as text; in epochs until the data is packed."""
    if stage.epochs:
        return f"{stage.epochs:g} epoch{'s' * (stage.epochs != 1)}", "as packed"
    return f"{stage.steps:,}", f"{stage.steps * row:,}"


def _mixed(recipe: Recipe, stage: Stage) -> str:
    def shares(weights: Mapping[str, float], whole: float = 1.0) -> str:
        total = sum(weights.values()) / whole
        return ", ".join(f"{name} {w / total:.0%}" for name, w in weights.items() if w)

    replay = recipe.train.replay
    if stage.epochs:
        words = ", ".join(f"{name} x{w:g}" for name, w in stage.mixture.items() if w)
    else:
        words = shares(stage.mixture, 1 - sum(replay.values()))
    if stage.ramp_to:
        words += f" -> {shares(stage.ramp_to, 1 - sum(replay.values()))}"
    return f"{words}; replayed {shares(replay, sum(replay.values()))}" if replay else words


def _rate(rule: Rule) -> str:
    return "frozen" if rule.schedule == "frozen" else f"{rule.schedule.peak:g}"


def _model(recipe: Recipe, size: Size, planned: Planned | None) -> Table:
    cfg, parameters = size.config, _stored(recipe, size)
    table = Table("model", "", title_justify="left", show_header=False)
    table.add_row("parameters", f"{size.parameters:,}, at most {cfg.vocab_size:,} pieces")
    table.add_row("shape", f"{cfg.depth} layers of {cfg.width}, {cfg.num_heads} heads")
    if planned is not None:
        state = planned.state / GIB
        table.add_row("on disk", f"{parameters / GIB:.2f} GiB; a checkpoint {state:.2f} GiB")
        table.add_row("in memory", f"{state:.2f} GiB over all devices, gradients and activations")
    if planned is not None and planned.machine:
        table.add_row("pod", planned.machine)
    table.add_row("devices here", f"{len(jax.devices())} x {jax.devices()[0].device_kind}")
    return table


def _wanted(wanted: Mapping[str, str]) -> Table:
    table = Table("to supply", "how", title_justify="left")
    for how in dict.fromkeys(wanted.values()):
        names = "\n".join(name for name, advice in wanted.items() if advice == how)
        table.add_row(Text(names), Text(how))  # as Text, so that brackets are not read as markup
    return table


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
