"""Adds adapters to a model as the recipe asks, and chooses how frozen weights are stored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax

from lrl_jax.model import llama, lora, quantize
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn
from lrl_jax.train.checkpoint import CheckpointMismatchError


def adapted(cfg: llama.LlamaConfig, settings: recipe_train.Train) -> llama.LlamaConfig:
    """Returns the config with the recipe's adapters, and frozen weights stored in `frozen_dtype`.

    Adapters and storage are the same for the whole run. Stages choose which parameters learn, not
    which parameters exist, so a weight that any stage trains is stored unchanged in all stages.

    Raises:
      ValueError: a pattern that matches nothing, adapters that no stage trains, or a `frozen_dtype`
        although every weight is trained.
    """
    cfg = with_lora(cfg, settings)
    idle = [factor for factor in _factors(cfg) if factor in frozen(cfg, settings.stages)]
    if idle:
        raise ValueError(
            f"train.lora adds adapters that no stage trains: {', '.join(idle)}; begin the "
            "learn table of a stage with {match: lora, schedule: {peak: 2.0e-4}}"
        )
    if settings.frozen_dtype == "as_is":
        return cfg
    names = frozen(cfg, settings.stages)
    if not names:
        raise ValueError(
            f"train.frozen_dtype: {settings.frozen_dtype}, but the stages train every weight; "
            "use as_is, or freeze some"
        )
    storage = quantize.Storage(kind=settings.frozen_dtype, names=names)
    return dataclasses.replace(cfg, frozen=storage)


def with_lora(cfg: llama.LlamaConfig, settings: recipe_train.Train) -> llama.LlamaConfig:
    """Returns the config with the recipe's adapters; refuses a pattern that matches nothing."""
    if settings.lora is None:
        return cfg
    names = lora.matching(settings.lora.match, [*llama.abstract(cfg)])
    shape = settings.lora.model_dump(exclude={"match"})
    return dataclasses.replace(cfg, lora=lora.LoraConfig(names=names, **shape))


def frozen(cfg: llama.LlamaConfig, stages: Sequence[recipe_train.Stage]) -> tuple[str, ...]:
    """Returns the parameters that no stage trains, in the model's order."""
    names = [*llama.abstract(cfg)]
    tables = {stage.learn for stage in stages}
    learning = {path for table in tables for path in learn.trainable(learn.groups(table, names))}
    return tuple(name for name in names if name not in learning)


def refuse_idle_rows(cfg: llama.LlamaConfig, settings: recipe_train.Train) -> None:
    """Refuses adapters on an extended vocabulary when no stage trains the rows of new tokens."""
    rows = [name for name in frozen(cfg, settings.stages) if name in learn.ROWS]
    if settings.lora is not None and rows:
        raise ValueError(
            f"the vocabulary was extended, but no stage trains {' or '.join(rows)}: with adapters "
            "alone the rows of new tokens would stay as they were made. Add a rule such as "
            "{match: embed, rows: new, schedule: {peak: 2.0e-4}} (or rows: all) to a stage"
        )


def check_same(saved: Mapping[str, Any], settings: recipe_train.Train) -> None:
    """Refuses adapters of another rank than training had, and ones that would be scaled otherwise.

    `saved` is the `train` section of the recipe that trained them, as plain data. Adapters of other
    weights do not fit their arrays, which is refused where they are read.
    """
    if "lora" not in saved:  # of a version without adapters
        return
    before, now = saved["lora"], settings.lora
    if not before and now is None:
        return
    if not before or now is None:
        had, has = ("adapters", "none") if before else ("no adapters", "some")
        raise CheckpointMismatchError(
            f"it was trained with {had} (train.lora), and the recipe has {has}: undo the change, "
            "or give the recipe another name"
        )
    changed = [
        f"train.lora.{name} was {before[name]}, is {getattr(now, name)}"
        for name in ("rank", "alpha", "rank_stabilised")
        if name in before and before[name] != getattr(now, name)
    ]
    if changed:
        raise CheckpointMismatchError(
            f"the adapters were trained at another rank or scale: {'; '.join(changed)}. With it "
            "they are another model: undo the change, or give the recipe another name"
        )


def start(
    read: Callable[[Iterable[str]], llama.Params],
    cfg: llama.LlamaConfig,
    places: Mapping[str, jax.sharding.Sharding],
    seed: int,
) -> llama.Params:
    """Returns the starting parameters of `cfg`, made from the plain model's parameters.

    Args:
      read: returns the plain parameters with these names. Parameters to be quantised are read one
        at a time, so that only one of them is in memory unquantised.
    """
    names = llama.abstract(dataclasses.replace(cfg, lora=None, frozen=None))
    stored = cfg.frozen.names if cfg.frozen else ()
    params = read([name for name in names if name not in stored])
    for name in stored:
        assert cfg.frozen is not None
        params |= cfg.frozen.stored(name, read([name])[name], places)
    if cfg.lora is not None:
        params |= _adapters(cfg, places, seed)
    return {name: params[name] for name in llama.abstract(cfg)}


def _factors(cfg: llama.LlamaConfig) -> list[str]:
    """Returns the names of the parameters of all adapters."""
    names = cfg.lora.names if cfg.lora else ()
    return [factor for name in names for factor in lora.factors(name)]


def _adapters(cfg: llama.LlamaConfig, places: Mapping[str, Any], seed: int) -> llama.Params:
    shapes, names = llama.abstract(cfg), _factors(cfg)

    @functools.partial(jax.jit, out_shardings={name: places[name] for name in names})
    def make(key):
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        return {name: lora.init(name, shapes[name].shape, keys[name]) for name in names}

    return make(jax.random.key(seed))
