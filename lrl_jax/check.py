"""`lrl check`: everything about a recipe that can be known in seconds, and the plan.

Nothing is written, downloaded or trained. Every problem is found, not only the first.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import itertools
import math

import jax
from rich.console import Console
from rich.table import Table

from lrl_jax import text
from lrl_jax.data import mixture, records, templates
from lrl_jax.embeddings import table as starts
from lrl_jax.hf import layout, load
from lrl_jax.model import llama
from lrl_jax.recipe import Pretrained, Recipe
from lrl_jax.recipe_data import Dataset
from lrl_jax.recipe_train import Rule, Stage
from lrl_jax.recipe_vocab import Extend, TrainVocab
from lrl_jax.run import Run, free_bytes
from lrl_jax.train import optimizer
from lrl_jax.vocab import tokenizer as tokenizers

GIB = 2**30
LOOK = 200_000  # records of a dataset that are read before the plan is called sound


class ProblemsError(ValueError):
    """What has to be put right before the recipe can run."""

    exit_code = 3


@dataclasses.dataclass(frozen=True)
class Size:
    """What a recipe's model needs.

    Attributes:
      config: with as many pieces as the vocabulary can come to have.
      parameters: how many numbers.
    """

    config: llama.LlamaConfig
    parameters: int


def check(run: Run) -> None:
    """Prints the plan.

    Raises:
      ProblemsError: everything that is wrong, a line each.
    """
    console, recipe = Console(), run.recipe
    problems = [*_gather(run)]
    size = None if problems else _size(run)
    console.print(f"[bold]{recipe.name}[/bold]  ->  {run.folder}")
    console.print(_stages(recipe))
    if size is not None:
        console.print(_model(recipe, size))
        problems += _learn_tables(recipe, size)
        problems += _room(run, size)
    for remark in _remarks(recipe):
        console.print(f"[yellow]note[/yellow] {remark}")
    if problems:
        raise ProblemsError(f"{len(problems)} problem(s)\n  " + "\n  ".join(problems))
    console.print(f"ready: lrl run {recipe.name}")


# ---------------------------------------------------------------------------- what is there
def _gather(run: Run) -> Iterator[str]:
    recipe = run.recipe
    for where, uri in _uris(recipe):
        yield from _trouble(lambda uri=uri: next(text.lines(uri), None), where)
    for name, dataset in recipe.data.datasets.items():
        yield from _trouble(lambda one=dataset: _readable(one), f"data.datasets.{name}")
    if isinstance(recipe.base, Pretrained):
        yield from _trouble(lambda: load.read_config(run.base_folder()), "base.model")
        yield from _trouble(lambda: tokenizers.load(run.base_folder()), "base.model")
        yield from _trouble(lambda: _fits(run), "base.model")
    elif recipe.base.tokenizer:
        yield from _trouble(lambda: tokenizers.load(recipe.base.tokenizer), "base.tokenizer")
    if isinstance(recipe.vocab, Extend) and recipe.vocab.donor:
        yield from _trouble(lambda: tokenizers.read(recipe.vocab.donor), "vocab.donor")
    yield from _sources_of_rows(recipe)
    for stage in recipe.train.stages:
        look = functools.partial(mixture.unsized, recipe, stage)
        yield from _trouble(look, f"train.stages.{stage.name}")
    batch, mesh = recipe.train.batch_size, recipe.train.mesh
    shards = math.prod(n for n in (mesh.data, mesh.fsdp) if n > 0)
    if batch % shards:
        yield f"train.batch_size: {batch} rows do not divide over data x fsdp = {shards}"


def _sources_of_rows(recipe: Recipe) -> Iterator[str]:
    """What the starts of new rows need and the recipe does not name."""
    part = recipe.init
    named = {
        "words": part.words is not None,
        "helper": bool(part.helper),
        "contexts": bool(part.text) or isinstance(recipe.vocab, Extend),
        "tokens": bool(part.text) or isinstance(recipe.vocab, Extend),
    }
    for field, way in (("input_rows", part.input_rows), ("output_rows", part.output_rows)):
        for need in starts.needs(way):
            if not named.get(need, True):
                yield f"init.{field}: {way} needs more; set {starts.FIELDS[need]}"


def _readable(dataset: Dataset) -> None:
    """Reads the records as `lrl data` will, up to a number that takes seconds."""
    every = (r for shard in records.shards(dataset) for r in records.read(dataset, shard))
    name = templates.name(dataset)
    first = bad = None
    for record in itertools.islice(every, LOOK):
        if isinstance(record, text.Bad):
            bad = bad or record
            if record.reason == "unreadable" and dataset.filters.bad == "refuse":
                raise text.DataError(f"{record.where}: {record.why}")
        elif first is None:  # a template of the tokenizer is tried when there is one
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


def _uris(recipe: Recipe) -> Iterator[tuple[str, str]]:
    part = recipe.vocab
    for code, uri in part.report.texts.items():
        yield f"vocab.report.texts.{code}", uri
    if isinstance(part, TrainVocab | Extend):
        yield from (("vocab.text", uri) for uri in part.text)
    if isinstance(part, Extend):
        yield from (("vocab.prove_on", uri) for uri in part.prove_on)
    for name, uri in recipe.evaluate.bits_per_byte.items():
        yield f"evaluate.bits_per_byte.{name}", uri
    for name, pair in recipe.evaluate.translation.items():
        yield from ((f"evaluate.translation.{name}", uri) for uri in (pair.source, pair.target))
    for name, one in recipe.evaluate.chains.items():
        yield from ((f"evaluate.chains.{name}", uri) for uri in (one.english, one.translated))
    yield from (("export.gate_on", uri) for uri in recipe.export.gate_on)


def _fits(run: Run) -> None:
    folder = run.base_folder()
    pieces = tokenizers.load(folder).size
    cfg = layout.config_from_hf(load.read_config(folder))
    if cfg.vocab_size < pieces:
        raise ValueError(
            f"{folder}: config.json has vocab_size {cfg.vocab_size}, the tokenizer {pieces} "
            "pieces; this tokenizer is not this model's"
        )


# ---------------------------------------------------------------------------- how large it is
def _size(run: Run) -> Size:
    recipe, base = run.recipe, run.recipe.base
    if isinstance(base, Pretrained):
        folder = run.base_folder()
        config, pieces = load.read_config(folder), tokenizers.load(folder).size
    else:
        shape = base.shape.model_dump()
        theta = shape.pop("rope_theta")
        config = shape | {"model_type": "llama", "rope_theta": theta}
        pieces = tokenizers.load(base.tokenizer).size if base.tokenizer else 0
    pieces += getattr(recipe.vocab, "pieces", 0) + getattr(recipe.vocab, "size", 0)
    cfg = layout.config_from_hf(config | {"vocab_size": pieces})
    count = sum(math.prod(a.shape) for a in llama.abstract(cfg).values())
    return Size(cfg, count)


def _learn_tables(recipe: Recipe, size: Size) -> Iterator[str]:
    names = list(llama.abstract(size.config))
    for stage in recipe.train.stages:
        yield from _trouble(
            lambda stage=stage: optimizer.groups(stage.learn, names),
            f"train.stages.{stage.name}.learn",
        )


def _bytes(recipe: Recipe, size: Size) -> tuple[int, int]:
    """Of the parameters, and of the whole training state: parameters and two moments."""
    width = 4 if recipe.init.param_dtype == "float32" else 2
    return size.parameters * width, size.parameters * width * 3


def _room(run: Run, size: Size) -> Iterator[str]:
    parameters, state = _bytes(run.recipe, size)
    need = parameters * 2 + state * (run.recipe.train.save.keep + 1)
    free = free_bytes(run.folder)
    if free is not None and free < need:
        yield (
            f"{run.folder}: needs about {need / GIB:.1f} GiB for checkpoints and the export, "
            f"{free / GIB:.1f} GiB are free; choose another folder, or a smaller train.save.keep"
        )


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
    """Steps and tokens, as far as they are known before anything is packed."""
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


def _model(recipe: Recipe, size: Size) -> Table:
    cfg = size.config
    parameters, state = _bytes(recipe, size)
    table = Table("model", "", title_justify="left", show_header=False)
    table.add_row("parameters", f"{size.parameters:,}, at most {cfg.vocab_size:,} pieces")
    table.add_row("shape", f"{cfg.depth} layers of {cfg.width}, {cfg.num_heads} heads")
    table.add_row("on disk", f"{parameters / GIB:.2f} GiB; a checkpoint {state / GIB:.2f} GiB")
    table.add_row(
        "in memory", f"{(state + parameters) / GIB:.2f} GiB over all devices, and activations"
    )
    table.add_row("devices here", f"{len(jax.devices())} x {jax.devices()[0].device_kind}")
    return table


def _remarks(recipe: Recipe) -> Iterator[str]:
    if recipe.base.license == "unknown":
        yield "base.license is unknown: say what it is; it goes into the model card"
    if not recipe.evaluate.bits_per_byte:
        yield "evaluate.bits_per_byte is empty: nothing will show whether the run helped"
    elif "eng_Latn" not in recipe.evaluate.bits_per_byte:
        yield "evaluate.bits_per_byte has no eng_Latn: forgetting will not be seen"
    if recipe.vocab.method == "extend" and not recipe.vocab.report.texts:
        yield "vocab.report.texts is empty: no fertility will be reported"
