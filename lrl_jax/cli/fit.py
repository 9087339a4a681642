"""Runs `lrl fit`: tells how much memory and time a recipe's training needs on a machine.

Neither the machine nor the base's weights are needed. The shape of the model comes from what the
run has made, from the base's config.json, or from `base.expected` if the base is not here.
"""

from collections.abc import Sequence
import dataclasses
import functools
import json
import sys
from typing import Any

from etils import epath
from rich.table import Table

from lrl_jax import terminal
from lrl_jax.data.feed import batches
from lrl_jax.fit import compile as compiling
from lrl_jax.fit import published, search, topology
from lrl_jax.fit.compile import CompileJob, Fitted, TooLargeError
from lrl_jax.fit.published import Band
from lrl_jax.pipeline import vocab, weights
from lrl_jax.pipeline.run import Run, resolved
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.storage import GIB
from lrl_jax.train import adapt, learn
from lrl_jax.vocab.tokenizer import load as tokenizers


def job(run: Run) -> CompileJob:
    """Returns the recipe's model and training as a job to compile."""
    recipe, made = run.recipe, run.at("init") / "config.json"
    if made.exists():
        config, new = weights.made_config(run), vocab.new_pieces(run)
    else:  # as many pieces as there will be at most
        config, new = foreseen(run), getattr(recipe.vocab, "pieces", 0)
    cfg = adapt.adapted(weights.configured(run, config), recipe.train)
    return CompileJob(cfg, recipe.train, recipe.data.sequence_length, recipe.init.param_dtype, new)


def fit(run: Run, name: str, *, searching: bool, as_json: bool) -> None:
    """Compiles the recipe's training for a machine, and prints how much memory and time it needs.

    Settings that do not fit there are refused with settings that do.
    """
    tell = functools.partial(terminal.console(stderr=True).print, soft_wrap=True)
    name = name or run.recipe.train.pod
    if not name:
        raise ValueError("no machine to fit: --on v5e-64, or train.pod in the recipe")
    topology.unused_backend()
    target = topology.describe(name)
    wanted = compiling.settled(job(run), target.devices, target.chip.memory)
    if searching:
        best = search.frontier(search.walk(wanted, target, tell))
        if as_json:
            _print_json([{"settings": trial.words} | _plain(trial.fitted) for trial in best])
        else:
            terminal.console().print(frontier_table(best, target))
        return
    if run.recipe.train.remat == "auto":  # the highest rung on which all phases fit
        fitted = search.most(wanted, lambda tried: search.compile_phases(tried, target, tell), tell)
    else:
        fitted = _compile_or_advise(wanted, target, tell)
    count = _steps(run)
    if as_json:
        _print_json([_plain(step) | {"steps": count.get(step.phase)} for step in fitted])
        return
    for step in fitted:
        terminal.console().print(report(run.recipe.name, step, target, count.get(step.phase)))
    if len(fitted) > 1 and all(count.get(step.phase) and step.cost for step in fitted):
        days = [step.days(count[step.phase]) for step in fitted]
        low, high = (sum(each) for each in zip(*days, strict=True))
        hours = [24 * target.count * day for day in (low, high)]
        terminal.console().print(
            f"the whole run: {low:.2f} to {high:.2f} days, {hours[0]:,.0f} to {hours[1]:,.0f} "
            "chip-hours"
        )


def _compile_or_advise(
    wanted: CompileJob, target: topology.Machine, tell: search.Told
) -> list[Fitted]:
    """Compiles every phase; where one does not fit, raises with what would."""
    try:
        return search.compile_phases(wanted, target, tell)
    except TooLargeError as e:
        tell(str(e))
        instead = search.nearest(wanted, target, tell)
        if instead is None:
            larger = search.larger(wanted, target)
            raise ValueError(
                f"{target.name}: {e}, and no setting tried makes it fit; take more chips"
                f"{f' ({larger} holds twice the state)' if larger else ''}, train less "
                "(train.lora), or store moments in fewer bits (train.optimizer.moments)"
            ) from None
        raise ValueError(f"{target.name}: {e}; it fits with {instead.words}") from None


# ---------------------------------------------------------------------------- the model
def foreseen(run: Run) -> dict[str, Any]:
    """Returns the config.json of the base with the largest vocabulary that the recipe can make."""
    base, settings = run.recipe.base, run.recipe.vocab
    if not isinstance(base, Pretrained):
        config = base.shape.model_dump()
        pieces = tokenizers.load(base.tokenizer).size if base.tokenizer else 0
    elif base.expected is not None and not all(
        epath.Path(path).is_dir() for path in (base.model, base.adapter) if path
    ):
        config, pieces = base.expected.model_dump(), base.expected.vocab_size
    else:
        config, pieces = run.base_config(), tokenizers.load(run.base_tokenizer()).size
    more = getattr(settings, "pieces", 0) + getattr(settings, "size", 0)
    return config | {"vocab_size": pieces + more}


def _steps(run: Run) -> dict[str, int]:
    """Returns the batches of each phase by name, without phases whose length is not known yet."""
    try:
        settings = resolved(run).train
    except (ValueError, OSError):  # nothing is packed yet, so that epochs have no length
        settings = run.recipe.train
    rows, counts = settings.rows_per_step, {}
    for phase in learn.phases(settings.stages):
        start, end = phase.start * rows, phase.end * rows
        ends = [row for row in settings.ends if start < row <= end]
        if ends:
            counts[phase.name] = batches.count(start, ends, settings.batch_size)
    return counts


# ---------------------------------------------------------------------------- tables
def report(title: str, step: Fitted, target: topology.Machine, count: int | None) -> Table:
    """Returns a table of the memory and time of a compiled step; None as count is not known yet."""
    machine = f"on {target.name} ({step.chips} chips)"
    table = terminal.FittedTable(f"{title}: {step.phase}", machine)
    m = step.memory
    for name, size in (
        ("parameters", m.parameters), ("optimizer", m.optimizer), ("temporaries", m.temporaries),
        ("batch and padding", m.other),
    ):  # fmt: skip
        table.add_row(name, f"{size / GIB:7.2f} GiB a chip")
    table.add_row("all", f"{m.total / GIB:7.2f} GiB of {m.limit / GIB:.2f}")
    table.add_row("host memory", f"{m.host / GIB:7.2f} GiB for each chip")
    table.add_row("remat", step.remat)
    for option, value in target.chip.options.items():
        table.add_row("compiler option", f"{option}={value}")
    if step.cost is None:
        table.add_row("time", "not estimated: this compiler says nothing about it")
        return table
    table.add_section()
    for line in _times(step, step.cost, count):
        table.add_row(*line)
    return table


def _times(step: Fitted, cost, count: int | None) -> list[tuple[str, str]]:
    band = step.band
    low, high = step.seconds * band.low, step.seconds * band.high
    fast = step.tokens_per_second_per_chip
    out = [
        ("a step", f"{low:.3f} to {high:.3f} s (estimate {step.seconds:.3f} s; {compared(band)})"),
        ("  arithmetic", f"{cost.compute:.3f} s, attention kernels {cost.kernels:.3f} s"),
        ("  not hidden", f"{cost.exposed:.3f} s between chips, {cost.host:.3f} s to the host"),
        ("compiler", compiler(topology.libtpu())),
        ("MFU", mfu(step)),
        ("tokens/s/chip", f"{fast / band.high:,.0f} to {fast / band.low:,.0f}"),
    ]
    if count:
        days = step.days(count)
        hours = [24 * step.chips * day for day in days]
        tokens = count * step.tokens
        out.append(("steps", f"{count:,}, {tokens / 1e9:,.2f} billion tokens"))
        out.append(("days", f"{days[0]:.2f} to {days[1]:.2f}"))
        out.append(("chip-hours", f"{hours[0]:,.0f} to {hours[1]:,.0f}"))
    for each in sorted(cost.collectives, key=lambda c: -c.bytes)[:6]:
        size = f"{each.count} x, {each.bytes / GIB:.2f} GiB"
        how = "hidden" if each.hidden else "waited for"
        out.append((f"{each.op} of {each.group}", f"{size}, {how}"))
    return out + [("not counted", text) for text in cost.unknown]


def compiler(version: str) -> str:
    """Says the version of libtpu, and whether the bands were made with it.

    >>> compiler("0.0.99")
    'libtpu 0.0.99; published runs were compared by 0.0.51'
    """
    other = version != published.LIBTPU
    return f"libtpu {version}" + f"; published runs were compared by {published.LIBTPU}" * other


def mfu(step: Fitted) -> str:
    """Says the share of the chips' peak, at least and at most; never more than all of it."""
    return f"{step.mfu / step.band.high:.0%} to {min(1.0, step.mfu / step.band.low):.0%}"


def compared(band: Band) -> str:
    """Says how many published runs a band comes from.

    >>> compared(Band(0.75, 1.25, 3)), compared(Band(0.75, 1.25, 0))
    ('3 published runs compared', 'no published run compared on this chip')
    """
    if not band.runs:
        return "no published run compared on this chip"
    return f"{band.runs} published run{'s' * (band.runs > 1)} compared"


def frontier_table(best: Sequence[search.FitTrial], target: topology.Machine) -> Table:
    """Returns a table of the settings that no other beats in both memory and time."""
    numbers = ("GiB a chip", "s a step, estimated", "MFU")
    title = f"best on {target.name}; {compared(published.band(target.kind))}"
    table = terminal.FittedTable("settings", *numbers, numbers=numbers, title=title)
    for trial in best:
        assert trial.fitted is not None
        step = trial.fitted
        cells = f"{trial.memory / GIB:.2f}", f"{step.seconds:.3f}", mfu(step)
        table.add_row(trial.words, *cells)
    return table


def _plain(step: Fitted | None) -> dict[str, Any]:
    assert step is not None  # a setting on the frontier fits
    return dataclasses.asdict(step) | {
        "seconds": step.seconds,
        "band": (step.band.low, step.band.high),
        "published_runs": step.band.runs,
        "libtpu": topology.libtpu(),
    }


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
