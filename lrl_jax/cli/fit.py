"""`lrl fit`: what a recipe's training will need and take on a machine, before it is rented.

The base's weights are not needed: its shape comes from what the run has made, from the base's
config.json, or, where the base is not here, from `base.expected`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import sys
from typing import Any

from etils import epath
from rich.console import Console
from rich.table import Table

from lrl_jax.fit import compile as compiling
from lrl_jax.fit import search, topology
from lrl_jax.fit.compile import BAND, CompileJob, Fitted, TooLargeError
from lrl_jax.pipeline import vocab, weights
from lrl_jax.pipeline.run import Run, resolved
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.storage import GIB
from lrl_jax.train import adapt, learn
from lrl_jax.vocab.tokenizer import load as tokenizers


def job(run: Run) -> CompileJob:
    """Returns the recipe's model and training, to be compiled.

    Raises:
      ValueError: nothing says what shape the base has.
    """
    recipe = run.recipe
    config, new = _config(run)
    cfg = adapt.adapted(weights.configured(run, config), recipe.train)
    return CompileJob(
        dataclasses.replace(cfg, remat=search.RUNGS[0]) if recipe.train.remat == "auto" else cfg,
        recipe.train,
        recipe.data.sequence_length,
        recipe.init.param_dtype,
        new,
    )


def fit(run: Run, name: str, *, searching: bool, as_json: bool) -> None:
    """Compiles the recipe's training for a machine and prints what it takes.

    Raises:
      ValueError: no machine, a setting that cannot be, or one that does not fit, with one that
        does.
    """
    console = Console(stderr=True, highlight=False)

    def told(line: str) -> None:
        console.print(line, soft_wrap=True)

    name = name or run.recipe.train.pod
    if not name:
        raise ValueError("no machine to fit: --on v5e-64, or train.pod in the recipe")
    topology.unused_backend()
    found = topology.describe(name)
    wanted = compiling.settled(job(run), found.devices, found.chip.memory)
    if searching:
        trials = search.walk(wanted, found, told)
        best = search.frontier(trials)
        if as_json:
            _print_json([_plain(trial) for trial in best])
        else:
            Console().print(frontier_table(best, found))
        return
    if run.recipe.train.remat == "auto":  # the rung that `lrl train` will choose, of all phases
        fitted = search.most(wanted, lambda one: search.compile_phases(one, found, told), told)
    else:
        fitted = _fitting(wanted, found, told)
    count = _steps(run)
    if as_json:
        _print_json([_plain(one) | {"steps": count.get(one.phase)} for one in fitted])
        return
    for one in fitted:
        Console().print(report(run.recipe.name, one, found, count.get(one.phase)))
    if len(fitted) > 1 and all(count.get(one.phase) and one.cost for one in fitted):
        days = [one.days(count[one.phase]) for one in fitted]
        low, high = (sum(each) for each in zip(*days, strict=True))
        hours = [24 * found.count * day for day in (low, high)]
        Console().print(
            f"the whole run: {low:.2f} to {high:.2f} days, {hours[0]:,.0f} to {hours[1]:,.0f} "
            "chip-hours"
        )


def _fitting(wanted: CompileJob, found: topology.Machine, told: search.Told) -> list[Fitted]:
    """Every phase compiled.

    Raises:
      ValueError: one does not fit; says what makes it.
    """
    try:
        return search.compile_phases(wanted, found, told)
    except TooLargeError as e:
        told(str(e))
        instead = search.nearest(wanted, found, told)
        if instead is None:
            larger = search.larger(wanted, found)
            raise ValueError(
                f"{found.name}: {e}, and no setting tried makes it fit; take more chips"
                f"{f' ({larger} holds twice the state)' if larger else ''}, train less "
                "(train.lora), or store moments in fewer bits (train.optimizer.moments)"
            ) from None
        raise ValueError(f"{found.name}: {e}; it fits with {instead.words}") from None


# ---------------------------------------------------------------------------- the model
def _config(run: Run) -> tuple[Mapping[str, Any], int]:
    """A config.json with the vocabulary as it is or will be, and how many of its tokens are new."""
    made = run.at("init") / "config.json"
    if not made.exists():
        return foreseen(run), getattr(run.recipe.vocab, "pieces", 0)
    return json.loads(made.read_text()), vocab.new_pieces(run)


def foreseen(run: Run) -> dict[str, Any]:
    """Returns a config.json of the base with the vocabulary it will have at most."""
    settings = run.recipe.vocab
    config, pieces = _base(run)
    more = getattr(settings, "pieces", 0) + getattr(settings, "size", 0)
    return {**config, "vocab_size": pieces + more}


def _base(run: Run) -> tuple[Mapping[str, Any], int]:
    """The config.json of the base, and how many pieces its tokenizer has."""
    base = run.recipe.base
    if not isinstance(base, Pretrained):
        pieces = tokenizers.load(base.tokenizer).size if base.tokenizer else 0
        return base.shape.model_dump(), pieces
    parts = filter(None, (base.model, base.adapter))
    if base.expected is not None and not all(epath.Path(part).is_dir() for part in parts):
        return base.expected.model_dump(), base.expected.vocab_size
    return run.base_config(), tokenizers.load(run.base_tokenizer()).size


def _steps(run: Run) -> dict[str, int]:
    """Of each phase; of none whose epochs are not known before the data is packed."""
    try:
        settings = resolved(run).train
    except (ValueError, OSError):  # nothing is packed yet
        settings = run.recipe.train
    phases = learn.phases(settings.stages)
    return {phase.name: phase.steps for phase in phases if phase.steps}


# ---------------------------------------------------------------------------- tables
def report(title: str, one: Fitted, found: topology.Machine, count: int | None) -> Table:
    """Returns a table of what one compiled step takes."""
    table = Table(
        f"{title}: {one.phase}", f"on {found.name} ({one.chips} chips)", title_justify="left"
    )
    m = one.memory
    for name, size in (
        ("parameters", m.parameters), ("optimizer", m.optimizer), ("temporaries", m.temporaries),
        ("batch and padding", m.other),
    ):  # fmt: skip
        table.add_row(name, f"{size / GIB:7.2f} GiB a chip")
    table.add_row("all", f"{m.total / GIB:7.2f} GiB of {m.limit / GIB:.2f}")
    table.add_row("host memory", f"{m.host / GIB:7.2f} GiB for each chip")
    table.add_row("remat", one.remat)
    for option, value in found.chip.options.items():
        table.add_row("compiler option", f"{option}={value}")
    if one.cost is None:
        table.add_row("time", "not estimated: this compiler says nothing about it")
        return table
    table.add_section()
    for line in _times(one, one.cost, count):
        table.add_row(*line)
    return table


def _times(one: Fitted, cost, count: int | None) -> list[tuple[str, str]]:
    low, high = (one.seconds * factor for factor in BAND)
    out = [
        ("a step", f"{low:.3f} to {high:.3f} s (estimate: optimistic)"),
        ("  arithmetic", f"{cost.compute:.3f} s, attention kernels {cost.kernels:.3f} s"),
        ("  not hidden", f"{cost.exposed:.3f} s between chips, {cost.host:.3f} s to the host"),
        ("MFU", f"{one.mfu / BAND[1]:.0%} to {one.mfu / BAND[0]:.0%}"),
        ("tokens/s/chip", f"{one.tokens_per_second_per_chip / BAND[1]:,.0f} to "
         f"{one.tokens_per_second_per_chip / BAND[0]:,.0f}"),
    ]  # fmt: skip
    if count:
        days = one.days(count)
        hours = [24 * one.chips * day for day in days]
        tokens = count * one.tokens
        out.append(("steps", f"{count:,}, {tokens / 1e9:,.2f} billion tokens"))
        out.append(("days", f"{days[0]:.2f} to {days[1]:.2f}"))
        out.append(("chip-hours", f"{hours[0]:,.0f} to {hours[1]:,.0f}"))
    for each in sorted(cost.collectives, key=lambda c: -c.bytes)[:6]:
        how = "hidden" if each.hidden else "waited for"
        out.append(
            (f"{each.op} of {each.group}", f"{each.count} x, {each.bytes / GIB:.2f} GiB, {how}")
        )
    return out + [("not counted", text) for text in cost.unknown]


def frontier_table(best: Sequence[search.FitTrial], found: topology.Machine) -> Table:
    """Returns a table of the settings that no other beats, fastest first."""
    table = Table("settings", "GiB a chip", "s a step", "MFU", title=f"best on {found.name}")
    for trial in best:
        assert trial.fitted is not None
        one = trial.fitted
        table.add_row(
            trial.words, f"{trial.memory / GIB:.2f}", f"{one.seconds:.3f}", f"{one.mfu:.0%}"
        )
    return table


def _plain(one: Fitted | search.FitTrial) -> dict[str, Any]:
    if isinstance(one, search.FitTrial):
        assert one.fitted is not None
        return {"settings": one.words} | _plain(one.fitted)
    return dataclasses.asdict(one) | {"seconds": one.seconds, "band": BAND}


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
