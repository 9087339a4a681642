"""Prints what `lrl check` knows of a recipe: its stages, its model, and what is to be supplied."""

from collections.abc import Iterator, Mapping
import importlib.util
import math
from typing import Any, NamedTuple

import jax
from rich.table import Table

from lrl_jax import terminal
from lrl_jax.hf import families
from lrl_jax.model import llama
from lrl_jax.recipe import supply
from lrl_jax.recipe.extras import how_to_install
from lrl_jax.recipe.schema import Recipe
from lrl_jax.recipe.train import Rule, Stage
from lrl_jax.storage import GIB


class Planned(NamedTuple):
    """Holds what training needs."""

    state: float  # bytes of parameters and optimizer state on all devices together
    machine: str  # `train.pod`, with the state on each of its chips; '' if there is none


def parameters(cfg: llama.LlamaConfig) -> int:
    """Returns how many parameters a model has."""
    return sum(math.prod(a.shape) for a in llama.abstract(cfg).values())


def stored(recipe: Recipe, cfg: llama.LlamaConfig) -> int:
    """Returns how many bytes its parameters take on disk."""
    return parameters(cfg) * (4 if recipe.init.param_dtype == "float32" else 2)


def stages(recipe: Recipe) -> Table:
    """Returns a table of the stages: how long, on what, and what learns."""
    columns = ("stage", "steps", "tokens", "mixture", "learns")
    table = terminal.FittedTable(*columns, numbers=("steps", "tokens"), title="Plan")
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


def model(recipe: Recipe, cfg: llama.LlamaConfig, planned: Planned | None) -> Table:
    """Returns a table of the model's size on disk and in memory."""
    table = terminal.FittedTable("model", "", show_header=False)
    table.add_row("parameters", f"{parameters(cfg):,}, at most {cfg.vocab_size:,} pieces")
    table.add_row("shape", f"{cfg.depth} layers of {cfg.width}, {cfg.num_heads} heads")
    if planned is not None:
        size, state = stored(recipe, cfg) / GIB, planned.state / GIB
        table.add_row("on disk", f"{size:.2f} GiB; a checkpoint {state:.2f} GiB")
        table.add_row("in memory", f"{state:.2f} GiB over all devices, gradients and activations")
        if planned.machine:
            table.add_row("pod", planned.machine)
    table.add_row("devices here", f"{len(jax.devices())} x {jax.devices()[0].device_kind}")
    return table


def to_supply(advice: Mapping[str, str]) -> Table:
    """Returns a table of what only the user can bring; `advice` says how to get each of it."""
    table = terminal.FittedTable("to supply", "how")
    for how in dict.fromkeys(advice.values()):
        names = "\n".join(name for name, given in advice.items() if given == how)
        table.add_row(names, how)
    return table


def context(recipe: Recipe, config: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line if rows are longer than a base with this `config.json` has positions."""
    if long := families.long_rows(config, recipe.data.sequence_length):
        yield f"data.sequence_length: {long}"


def remarks(recipe: Recipe) -> Iterator[str]:
    """Yields lines on what a recipe leaves out, or asks for that is not installed here."""
    if recipe.base.license == "unknown":
        yield "base.license is unknown: say what it is; it goes into the model card"
    if not recipe.evaluate.bits_per_byte:
        yield "evaluate.bits_per_byte is empty: nothing will show whether the run helped"
    elif "eng_Latn" not in recipe.evaluate.bits_per_byte:
        yield "evaluate.bits_per_byte has no eng_Latn: forgetting will not be seen"
    tracker = recipe.train.tracker
    if tracker != "none" and importlib.util.find_spec(tracker) is None:
        yield f"train.tracker: {tracker} is not installed here; {how_to_install(tracker)}"
    for pattern in supply.idle(recipe):
        yield f"supply: nothing in the recipe asks for {pattern!r}"
    if recipe.vocab.method == "extend" and not recipe.vocab.report.texts:
        yield "vocab.report.texts is empty: no fertility will be reported"
