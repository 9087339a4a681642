"""Runs `lrl check`: reports every problem of a recipe that takes seconds to see, and prints a plan.

Nothing is kept, downloaded or trained. All problems are reported, not only the first.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
import re
import shlex
from typing import Any

from etils import epath
import jax

from lrl_jax import storage, terminal
from lrl_jax.cli import fit as fit_verb
from lrl_jax.cli.checks import files, overlaps, printed, runtimes, settings, sizes, texts
from lrl_jax.cli.checks.printed import Planned
from lrl_jax.data.feed import mixture
from lrl_jax.data.read import contamination
from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import strategies as starts
from lrl_jax.evaluate import kinds, tasks
from lrl_jax.fit import compile as compiling
from lrl_jax.fit import topology
from lrl_jax.hf import families, load, peft_read, safetensors_ranges
from lrl_jax.model import llama, sharding
from lrl_jax.pipeline import weights
from lrl_jax.pipeline.run import Run, counted
from lrl_jax.recipe import supply
from lrl_jax.recipe.schema import Expected, Pretrained, Recipe
from lrl_jax.recipe.train import Train
from lrl_jax.recipe.vocab import Extend
from lrl_jax.storage import GIB
from lrl_jax.train import adapt, learn
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer

SHOWN = 6  # keys that one problem names at most
Problem = tuple[str, str]  # the key of the recipe that has it, and what is wrong


class ProblemsError(ValueError):
    """Reports everything that must be corrected before the recipe can run."""

    exit_code = 3


def check(run: Run, command: Sequence[str] = ()) -> None:
    """Prints the plan of a recipe and what the user still has to supply; raises all problems.

    `command` is what runs the recipe, word by word, as this one was typed.
    """
    console, recipe = terminal.console(), run.recipe
    wanted = supply.wanted(recipe)
    problems = [*_gather(run, wanted)]
    notes = [*printed.remarks(recipe), *_texts(run, wanted, problems)]
    console.print(terminal.styled((recipe.name, "bold"), f"  ->  {run.folder}"))
    console.print(printed.stages(recipe if problems else counted(run)))
    planned = None
    if not problems and getattr(recipe.base, "tokenizer", "") not in wanted:
        cfg = families.config_from_hf(fit_verb.foreseen(run))  # of a size that is known
        planned = _model(run, cfg, wanted, problems)
        console.print(printed.model(recipe, cfg, planned))
    if wanted:
        console.print(printed.to_supply(wanted))
    if not problems:
        notes += [*_of_base(run, wanted), *runtimes.remarks(run, wanted)]
        notes += settings.of_devices(recipe)
    for note in dict.fromkeys(notes):
        console.print(terminal.styled(("note", "yellow"), f" {note}"), soft_wrap=True)
    if problems:
        lines = together(problems)
        many = "s" * (len(lines) != 1)
        raise ProblemsError(f"{len(lines)} problem{many}\n  " + "\n  ".join(lines))
    for line in _next(command or ("lrl", "run", recipe.name), len(wanted), planned, recipe):
        console.print(terminal.styled(line), soft_wrap=True)


def _next(
    command: Sequence[str], wanted: int, planned: Planned | None, recipe: Recipe
) -> Iterator[str]:
    """Yields what to type next; the last line is the command that runs the recipe."""
    if planned is not None and planned.machine:
        fits = shlex.join([command[0], "fit", *command[2:]])
        yield f"memory and time on {recipe.train.pod}: {fits}"
    they = "it is" if wanted == 1 else f"all {wanted} are"
    when = f"sound; when {they} supplied" if wanted else "ready"
    yield f"{when}: {shlex.join(command)}"


def together(problems: Sequence[Problem]) -> list[str]:
    """Returns a line for each problem, with all keys of the recipe that have it.

    >>> together([("vocab.text", "a.txt: no file"), ("data.datasets.a", "a.txt: no file")])
    ['vocab.text, data.datasets.a: a.txt: no file']
    """
    keys: dict[str, list[str]] = {}
    for where, problem in problems:
        keys.setdefault(problem, []).append(where)
    lines = []
    for problem, having in keys.items():
        shown = [*dict.fromkeys(having)]
        more = [f"{len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
        lines.append(f"{', '.join([*shown[:SHOWN], *more])}: {problem}")
    return lines


# ---------------------------------------------------------------------------- files of the recipe
def _gather(run: Run, wanted: Collection[str]) -> Iterator[Problem]:
    """Yields the problems of the recipe's files but those `wanted`, which are still to come."""
    recipe = run.recipe
    yield from files.unreadable(recipe, wanted)
    yield from kinds.problems(recipe.evaluate, wanted)
    yield from tasks.problems(recipe.evaluate, wanted)
    for uri in recipe.data.decontaminate:
        if uri not in wanted:
            yield from settings.trouble("data.decontaminate", contamination.gather, [uri])
    try:
        storage.check_writable(run.folder)
    except OSError as e:
        yield (
            "folder",
            f"{run.folder} cannot be written ({e.strerror or e}); "
            "set `folder` to where this user may write",
        )
    yield from _base(run, wanted)
    donor = recipe.vocab.donor if isinstance(recipe.vocab, Extend) else ""
    if donor and donor not in wanted:
        yield from settings.trouble("vocab.donor", tokenizers.read, donor)
    yield from _sources_of_rows(recipe)
    for stage in recipe.train.stages:
        yield from settings.trouble(f"train.stages.{stage.name}", mixture.unsized, recipe, stage)
    mesh = recipe.train.mesh
    shards = 1 if mesh == "auto" else math.prod(n for n in (mesh.data, mesh.fsdp) if n > 0)
    rows, parts = recipe.train.batch_size, recipe.train.accumulate
    if rows % (shards * parts):
        yield (
            "train.batch_size",
            f"{rows} rows do not divide over data x fsdp = {shards}"
            + f" in accumulate = {parts} parts" * (parts > 1),
        )


def _base(run: Run, wanted: Collection[str]) -> Iterator[Problem]:
    base = run.recipe.base
    if not isinstance(base, Pretrained):
        if base.tokenizer and base.tokenizer not in wanted:
            yield from settings.trouble("base.tokenizer", tokenizers.load, base.tokenizer)
        return
    away = [field for field in ("model", "adapter") if getattr(base, field) in wanted]
    if "model" not in away:
        yield from settings.trouble("base.model", lambda: load.read_config(run.base_folder()))
        yield from settings.trouble("base.model", lambda: tokenizers.load(run.base_folder()))
        yield from settings.trouble("base.model", lambda: _weights(run.base_folder()))
    if base.adapter and not away:
        yield from settings.trouble("base.adapter", _goes_on, run)
    if not away:
        yield from settings.trouble("base.model", _fits, run, base)
    elif base.expected is None:
        missing = " and ".join(f"base.{field}" for field in away)
        yield (
            "base.expected",
            f"{missing} is to be supplied: set base.expected, so that the rest can be checked",
        )


def _sources_of_rows(recipe: Recipe) -> Iterator[Problem]:
    """Yields what the strategies for new rows need but the recipe does not name."""
    init = recipe.init
    of_text = ("contexts", "tokens", "snippets")
    named = {
        "words": init.words is not None,
        "helper": bool(init.helper),
        **dict.fromkeys(of_text, bool(init.text) or isinstance(recipe.vocab, Extend)),
    }
    for field, way in (("input_rows", init.input_rows), ("output_rows", init.output_rows)):
        for need in starts.STRATEGIES[way].needs:
            if not named.get(need, True):
                yield f"init.{field}", f"{way} needs more; set {starts.FIELDS[need]}"


def _another_model(run: Run, cfg: llama.LlamaConfig) -> None:
    """Checks that the model of `init.weights` is that of the recipe, as far as it is known."""
    other = run.another()
    pieces = load.read_config(other.at("init"))["vocab_size"]  # those of this run are not known yet
    weights.refuse_another_model(run, other, dataclasses.replace(cfg, vocab_size=pieces))


def _texts(run: Run, wanted: Collection[str], problems: list[Problem]) -> Iterator[str]:
    """Yields what is odd about datasets and texts; appends what cannot be right to `problems`."""
    recipe = run.recipe
    tokenizer, own = _tokenizer(run, wanted)
    measured = overlaps.Measured(recipe, wanted)
    tokens: dict[str, float] = {}
    for name, dataset in recipe.data.datasets.items():
        key = f"data.datasets.{name}"
        if any(uri in wanted for uri in dataset.places()):
            continue
        try:
            seen = texts.look(name, dataset, recipe, measured, tokenizer, own)
        except (ValueError, OSError) as e:
            problems.append((key, str(e)))
            continue
        if seen.tokens:
            tokens[name] = seen.tokens
        yield from (f"{key}: {note}" for note in seen.notes)
    yield from measured.notes
    problems += texts.scripts_of_texts(recipe, wanted)
    problems += texts.unaligned(recipe, wanted)
    problems += texts.prompts(recipe, tokenizer)
    yield from texts.odd_prompts(recipe)
    if not problems:
        yield from sizes.repeated(recipe, tokens)


def _tokenizer(run: Run, wanted: Collection[str]) -> tuple[Tokenizer | None, bool]:
    """Returns the tokenizer of texts, as far as it is here, and whether it gets more pieces.

    It is the run's own where that is made, else that of the base.
    """
    base = run.recipe.base
    try:
        if tokenizers.present(run.at("vocab")):
            return tokenizers.load(run.at("vocab")), False
        if not isinstance(base, Pretrained):
            here = base.tokenizer and base.tokenizer not in wanted
            return (tokenizers.load(base.tokenizer) if here else None), True
        if base.model in wanted or base.adapter in wanted:
            return None, True
        return tokenizers.load(run.base_tokenizer()), isinstance(run.recipe.vocab, Extend)
    except (ValueError, OSError):  # said by the looks at the base
        return None, True


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
def _model(
    run: Run, cfg: llama.LlamaConfig, wanted: Collection[str], problems: list[Problem]
) -> Planned | None:
    """Returns what training needs; appends what is wrong with the model to `problems`."""
    recipe = run.recipe
    problems += _learn_tables(recipe, cfg)
    if not problems:
        problems += settings.unfit(recipe, adapt.with_lora(cfg, recipe.train))
    if recipe.init.weights and recipe.init.weights.run not in wanted:
        problems += settings.trouble("init", _another_model, run, cfg)
    if problems:
        return None
    try:
        planned = _planned(run)
    except (ValueError, OSError) as e:
        problems.append(("train", str(e)))
        return None
    if not wanted:
        problems += _room(run, cfg, planned)
    return planned


def _learn_tables(recipe: Recipe, cfg: llama.LlamaConfig) -> list[Problem]:
    """Returns the problems of adapters or, if they have none, those of learn tables."""
    train = recipe.train
    problems = [*settings.trouble("train.lora", adapt.with_lora, cfg, train)]
    if not problems:
        with_lora = adapt.with_lora(cfg, train)
        names = [*llama.abstract(with_lora)]
        for stage in train.stages:
            where = f"train.stages.{stage.name}.learn"
            problems += settings.trouble(where, learn.groups, stage.learn, names)
        if not problems:
            problems += settings.trouble("train", adapt.adapted, cfg, train)
            if isinstance(recipe.vocab, Extend):
                problems += settings.trouble(
                    "train.stages", adapt.refuse_idle_rows, with_lora, train
                )
                if not problems:
                    problems += settings.trouble(
                        "train.stages", _refuse_frozen_rows, with_lora, train
                    )
    return problems


def _refuse_frozen_rows(cfg: llama.LlamaConfig, train: Train) -> None:
    """Refuses stages that never train rows of new tokens, unless a rule says that it is meant."""
    meant = [
        rule.match
        for stage in train.stages
        for rule in stage.learn
        if rule.rows == "new" and rule.schedule == "frozen"
    ]
    rows = [
        name
        for name in adapt.frozen(cfg, train.stages)
        if name in learn.ROWS and not any(re.search(match, name) for match in meant)
    ]
    if rows:
        raise ValueError(
            f"the vocabulary is extended, but no stage trains {' or '.join(rows)}: the rows of new "
            "tokens would stay as they were made. Add a rule such as {match: embed, rows: new, "
            "schedule: {peak: 1.0e-3}}, or say that it is meant: {match: embed, rows: new, "
            "schedule: frozen}"
        )


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
        f"{share / GIB:.2f} of {memory / GIB:.2f} GiB a chip and activations",
    )


def _room(run: Run, cfg: llama.LlamaConfig, planned: Planned) -> Iterator[Problem]:
    checkpoints = planned.state * (run.recipe.train.save.keep + 1)
    need, free = 2 * printed.stored(run.recipe, cfg) + checkpoints, storage.free_bytes(run.folder)
    if free is not None and free < need:
        yield (
            "folder",
            f"{run.folder}: needs about {need / GIB:.1f} GiB for checkpoints and the export, "
            f"{free / GIB:.1f} GiB are free; choose another folder, or a smaller train.save.keep",
        )


def _of_base(run: Run, wanted: Collection[str]) -> list[str]:
    """Returns what of the base is not read, is rounded, or is trained beyond what it has learnt."""
    recipe, base = run.recipe, run.recipe.base
    if not isinstance(base, Pretrained):
        return [*printed.context(recipe, base.shape.model_dump() | {"vocab_size": 1})]
    if base.model in wanted or base.adapter in wanted:
        return [*printed.context(recipe, base.expected.model_dump() if base.expected else {})]
    return [
        *load.remarks(run.base_folder(), recipe.init.param_dtype),
        *printed.context(recipe, run.base_config()),
    ]
