"""What learns, and how fast: the learn table of a recipe becomes masks, rates and AdamW."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np
import optax

from lrl_jax import recipe_train
from lrl_jax.model import sharding

Params = dict[str, jax.Array]
ROWS = {"embed_VD": 0, "unembed_DV": 1}  # matrices with a row for each token, and on which axis


@dataclasses.dataclass(frozen=True)
class Phase:
    """Neighbouring stages with one learn table: one optimizer and one schedule.

    Attributes:
      name: the names of its stages, joined by `+`.
      start: steps of the run before it.
      steps: its joint length.
    """

    name: str
    start: int
    steps: int
    learn: tuple[recipe_train.Rule, ...]

    @property
    def end(self) -> int:
        return self.start + self.steps


@dataclasses.dataclass(frozen=True)
class Group:
    """The parameters one rule decides, and how they learn."""

    name: str
    paths: tuple[str, ...]
    schedule: recipe_train.Schedule
    new_rows_only: bool


def phases(stages: Sequence[recipe_train.Stage]) -> tuple[Phase, ...]:
    """Joins neighbouring stages whose `learn` tables are equal."""
    out: list[Phase] = []
    for stage in stages:
        if out and out[-1].learn == stage.learn:
            last = out[-1]
            joint = f"{last.name}+{stage.name}", last.start, last.steps + stage.steps
            out[-1] = Phase(*joint, last.learn)
        else:
            start = out[-1].end if out else 0
            out.append(Phase(stage.name, start, stage.steps, stage.learn))
    return tuple(out)


def phase_at(table: Sequence[Phase], step: int) -> int:
    """Index of the phase that made the state after `step` steps (of the first, before any)."""
    return next(i for i, phase in enumerate(table) if step <= phase.end)


def groups(learn: Sequence[recipe_train.Rule], paths: Sequence[str]) -> tuple[Group, ...]:
    """The groups that learn; parameters in none of them are frozen.

    The first rule whose pattern is found in a path (`re.search`) decides it.

    Raises:
      ValueError: a bad pattern, a parameter without a rule, a rule that decides nothing,
        `rows: new` on other parameters than embeddings, or nothing that learns.
    """
    decided: list[list[str]] = [[] for _ in learn]
    missed = []
    for path in paths:
        index = next((i for i, rule in enumerate(learn) if _finds(rule.match, path)), None)
        missed.append(path) if index is None else decided[index].append(path)
    if missed:
        raise ValueError(
            f"no rule of `learn` matches {', '.join(missed)}; end the table with "
            '{match: ".*", schedule: frozen} or a schedule'
        )
    idle = [rule.match for rule, found in zip(learn, decided, strict=True) if not found]
    if idle:
        raise ValueError(
            f"rules of `learn` that decide no parameter: {', '.join(map(repr, idle))}; an earlier "
            f"rule may take theirs; parameters are {', '.join(paths)}"
        )
    out = tuple(
        Group(rule.match, tuple(found), rule.schedule, _new_rows_only(rule, found))
        for rule, found in zip(learn, decided, strict=True)
        if isinstance(rule.schedule, recipe_train.Schedule)
    )
    if not out:
        raise ValueError("every rule of `learn` is frozen: nothing would learn")
    return out


def rate(schedule: recipe_train.Schedule, steps: int, done: jax.Array) -> jax.Array:
    """Learning rate of the step that follows `done` steps of a phase of `steps`, float32.

    Warm-up is a line that reaches `peak` after `warmup` steps and never starts at zero.

    >>> schedule = recipe_train.Schedule(peak=1.0, warmup=1, kind="linear", final=0.5)
    >>> [float(rate(schedule, 5, jnp.int32(i))) for i in range(5)]
    [0.5, 1.0, 0.875, 0.75, 0.625]
    """
    x = done.astype(jnp.float32)
    rise = jnp.minimum((x + 1.0) / (schedule.warmup + 1.0), 1.0)
    progress = jnp.clip((x - schedule.warmup) / max(steps - schedule.warmup, 1), 0.0, 1.0)
    shapes = {
        "constant": lambda: jnp.ones_like(progress),
        "linear": lambda: 1.0 - (1.0 - schedule.final) * progress,
        "cosine": lambda: (
            schedule.final + (1.0 - schedule.final) * 0.5 * (1.0 + jnp.cos(math.pi * progress))
        ),
    }
    return schedule.peak * rise * shapes[schedule.kind]()


@dataclasses.dataclass(frozen=True)
class Learner:
    """AdamW over one phase: gradients in, parameters out. Frozen parameters have no moments.

    Attributes:
      new_rows: bool [V] over the padded vocabulary, true for rows of new tokens.
    """

    phase: Phase
    groups: tuple[Group, ...]
    adam: recipe_train.Optimizer
    new_rows: np.ndarray

    @property
    def trainable(self) -> tuple[str, ...]:
        return tuple(path for group in self.groups for path in group.paths)

    def init(self, params: Params) -> optax.OptState:
        """Moments in float32 whatever the parameters are: bfloat16 squares stop growing."""
        like = {path: params[path].astype(jnp.float32) for path in self.trainable}
        return self._transform().init(like)

    def state_shardings(
        self, params: Mapping[str, NamedSharding], other: NamedSharding
    ) -> optax.OptState:
        """Moments lie where their parameters do; `other` for counters."""
        leaf = jax.ShapeDtypeStruct((), jnp.float32)
        state = jax.eval_shape(self._transform().init, dict.fromkeys(self.trainable, leaf))
        return optax.tree_utils.tree_map_params(
            self._transform(),
            lambda _, place: place,
            state,
            {path: params[path] for path in self.trainable},
            transform_non_params=lambda _: other,
        )

    def mask(self, grads: Params) -> Params:
        """Gradients, zero on old rows where only new rows learn."""
        masked = {path for group in self.groups if group.new_rows_only for path in group.paths}
        return {
            path: jnp.where(self._row_mask(path), grad, 0) if path in masked else grad
            for path, grad in grads.items()
        }

    def update(
        self, params: Params, grads: Params, norm: jax.Array, state: optax.OptState, done: jax.Array
    ) -> tuple[Params, optax.OptState, dict[str, jax.Array]]:
        """One AdamW step on masked gradients of global norm `norm`.

        Returns the new parameters, the new optimizer state, and the rate of each group.
        Old rows under `rows: new` come back bit for bit, weight decay notwithstanding.
        """
        scale = jnp.minimum(1.0, self.adam.clip / norm)
        clipped = {path: g.astype(jnp.float32) * scale for path, g in grads.items()}
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            moves, state = self._transform().update(clipped, state)
        rates, out = {}, {}
        for group in self.groups:
            rates[group.name] = rate(group.schedule, self.phase.steps, done)
            for path in group.paths:
                old = params[path]
                move = moves[path]
                if decays(path):
                    move += self.adam.weight_decay * old.astype(jnp.float32)
                new = (old.astype(jnp.float32) - rates[group.name] * move).astype(old.dtype)
                out[path] = (
                    jnp.where(self._row_mask(path), new, old) if group.new_rows_only else new
                )
        return out, state, rates

    def _transform(self) -> Any:  # optax's types know trees of any shape, not our flat dicts
        return optax.scale_by_adam(self.adam.b1, self.adam.b2, self.adam.eps)

    def _row_mask(self, path: str) -> jax.Array:
        return jnp.expand_dims(self.new_rows, 1 - ROWS[path])


def learner(
    phase: Phase, adam: recipe_train.Optimizer, paths: Sequence[str], new_rows: np.ndarray
) -> Learner:
    """Checks the learn table of a phase against the parameters and the vocabulary.

    Args:
      new_rows: bool [V] over the padded vocabulary; all false when it was not extended.
    """
    found = groups(phase.learn, paths)
    for group in found:
        if group.schedule.warmup >= phase.steps:
            raise ValueError(
                f"rule {group.name!r} warms up for {group.schedule.warmup} steps, but stages "
                f"{phase.name} have {phase.steps}: the peak would never be reached"
            )
        if group.new_rows_only and not bool(new_rows.any()):
            raise ValueError(
                f"rule {group.name!r} has `rows: new`, but the vocabulary was not extended; "
                "use `rows: all`"
            )
    return Learner(phase, found, adam, new_rows)


def decays(path: str) -> bool:
    """Weight decay spares parameters of one dimension (the layer axis does not count).

    >>> decays("layers/q_DNH"), decays("layers/attn_norm_D")
    (True, False)
    """
    return len(sharding.letters(path).removeprefix("L")) > 1


def _finds(pattern: str, path: str) -> bool:
    try:
        return re.search(pattern, path) is not None
    except re.error as e:
        raise ValueError(f"match: {pattern!r} is not a regular expression: {e}") from None


def _new_rows_only(rule: recipe_train.Rule, paths: Sequence[str]) -> bool:
    others = [path for path in paths if path not in ROWS]
    if rule.rows == "new" and others:
        raise ValueError(
            f"rule {rule.match!r} has `rows: new`, which only {', '.join(ROWS)} can honour, but "
            f"decides {', '.join(others)} too; give those their own rule"
        )
    return rule.rows == "new"
