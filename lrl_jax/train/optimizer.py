"""Updates the parameters of a phase from their gradients, at the learning rate of each group."""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn, moments, rounding
from lrl_jax.train.checkpoint import CheckpointMismatchError
from lrl_jax.train.moments import Params


@dataclasses.dataclass(frozen=True)
class Learner:
    """Holds the optimizer of one phase. Frozen parameters have no moments and no gradient.

    Where only new rows learn, gradient and moments have the size of the whole table, with zeros in
    old rows. Rows of new tokens may be anywhere in the table, and gathering them from the shards of
    V would cost more than the memory it saves (docs/decisions/0013-optimizers.md).
    """

    phase: learn.Phase
    groups: tuple[learn.Group, ...]
    settings: recipe_train.Optimizer
    new_rows: np.ndarray  # bool [V] over the padded vocabulary, true for rows of new tokens

    @property
    def trainable(self) -> tuple[str, ...]:
        return learn.trainable(self.groups)

    def init(self, params: Params) -> moments.State:
        """Returns a new optimizer state, in float32: in bfloat16 sums of squares stop growing."""
        like = {path: params[path].astype(jnp.float32) for path in self.trainable}
        return moments.init(self.settings, like)

    def mask(self, grads: Params) -> Params:
        """Returns the gradients, set to zero on old rows where only new rows learn."""
        masked = {path for group in self.groups if group.new_rows_only for path in group.paths}
        return {
            path: jnp.where(self._row_mask(path), grad, 0) if path in masked else grad
            for path, grad in grads.items()
        }

    def update(
        self,
        params: Params,
        grads: Params,
        norm: jax.Array,
        state: moments.State,
        done: jax.Array,
        step: jax.Array,
    ) -> tuple[Params, moments.State, dict[str, jax.Array]]:
        """Returns the new parameters, the new optimizer state, and the learning rate of each group.

        Old rows under `rows: new` are returned bit for bit, even with weight decay. The gradients
        are those after `mask`, with global norm `norm`; `done` is how much of the phase is done, in
        steps of the recipe, and `step` counts the updates of the run, which choose the noise.
        """
        scale = jnp.minimum(1.0, self.settings.clip / norm)
        clipped = {path: g.astype(jnp.float32) * scale for path, g in grads.items()}
        wide = {path: params[path].astype(jnp.float32) for path in clipped}
        moves, state = moments.update(self.settings, clipped, state, wide, step)
        rates, out = {}, {}
        for group in self.groups:
            rates[group.name] = learn.rate(group.schedule, self.phase.steps, done)
            for path in group.paths:
                move = moves[path]
                if learn.is_matrix(path):  # norms and biases do not decay
                    move += self.settings.weight_decay * wide[path]
                new = self._narrow(path, wide[path] - rates[group.name] * move, params[path], step)
                if group.new_rows_only:
                    new = jnp.where(self._row_mask(path), new, params[path])
                out[path] = new
        return out, state, rates

    def _narrow(self, path: str, new: jax.Array, old: jax.Array, step: jax.Array) -> jax.Array:
        """Returns a new weight in the dtype of the old one, rounded as the settings say."""
        if self.settings.rounding == "nearest" or old.dtype != jnp.bfloat16:
            return new.astype(old.dtype)
        return rounding.bfloat16(new, rounding.noise(step, f"weight {path}", new.shape)[0])

    def _row_mask(self, path: str) -> jax.Array:
        return jnp.expand_dims(self.new_rows, 1 - learn.ROWS[path])


def learner(
    phase: learn.Phase,
    settings: recipe_train.Optimizer,
    paths: Sequence[str],
    new_rows: np.ndarray,
) -> Learner:
    """Returns the optimizer of a phase, after checking its learn table against the parameters."""
    groups = learn.groups(phase.learn, paths)
    for group in groups:
        learn.check_schedule(group.schedule, phase.steps, group.name, phase.name)
        if group.new_rows_only and not bool(new_rows.any()):
            raise ValueError(
                f"rule {group.name!r} has `rows: new`, but the vocabulary was not extended; "
                "use `rows: all`"
            )
    return Learner(phase, groups, settings, new_rows)


def check_rounding(
    settings: recipe_train.Optimizer, params: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    """Refuses stochastic rounding when no trained parameter is stored in bfloat16."""
    dtypes = {jnp.dtype(leaf.dtype).name for leaf in params.values()}
    if settings.rounding == "stochastic" and "bfloat16" not in dtypes:
        raise ValueError(
            f"rounding: stochastic is for parameters stored in bfloat16, and what learns is stored "
            f"in {', '.join(sorted(dtypes))}; set init.param_dtype: bfloat16, or rounding: nearest"
        )


def check_same(saved: Mapping[str, Any], settings: recipe_train.Train) -> None:
    """Refuses to resume from an optimizer state whose kind or storage these settings change.

    `saved` is the `train` section of the recipe that made the state, as plain data.
    """
    before = recipe_train.Optimizer.model_validate(saved["optimizer"])
    now = settings.optimizer
    names = ("kind", "moments")
    pairs = [(f"optimizer.{name}", getattr(before, name), getattr(now, name)) for name in names]
    if before.kind == "adafactor":  # with b1 = 0 it keeps no first moment
        pairs.append(("optimizer.b1 above 0", before.b1 > 0, now.b1 > 0))
    pairs.append(("ema above 0", saved.get("ema", 0.0) > 0, settings.ema > 0))
    changed = [f"train.{name} was {old}, is {new}" for name, old, new in pairs if old != new]
    if changed:
        raise CheckpointMismatchError(
            f"the run was begun with another optimizer: {'; '.join(changed)}. A run keeps the kind "
            "and the storage of its optimizer: undo the change, or give the recipe another name"
        )


def check_rows(
    saved: Mapping[str, Any], settings: recipe_train.Train, row: int, paths: Sequence[str]
) -> None:
    """Refuses to go on in a phase under way if other rows of a parameter learn than learnt in it.

    Args:
      saved: the `train` section of the recipe that trained so far, as plain data.
      row: the next row that is read; at the end of a phase nothing of it is under way.
      paths: the parameters.
    """
    table, done = learn.phases(settings.stages), row / settings.rows_per_step
    phase = table[learn.phase_at(table, math.ceil(done))]
    if done >= phase.end:
        return
    unit = recipe_train.saved_rows_per_step(saved)
    ends = itertools.accumulate(stage["steps"] * unit for stage in saved["stages"])
    stage = next(s for s, end in zip(saved["stages"], ends, strict=True) if row <= end)
    rules = [recipe_train.Rule.model_validate(rule) for rule in stage["learn"]]
    before, now = _new_rows_only(rules, paths), _new_rows_only(phase.learn, paths)
    words = {True: "`rows: new`", False: "`rows: all`"}
    changed = [
        f"{words[before[path]]} of {path} has become {words[now[path]]}"
        for path in paths
        if path in before and path in now and before[path] != now[path]
    ]
    if changed:
        raise CheckpointMismatchError(
            f"train.stages: {'; '.join(changed)}, and stage {stage['name']!r} is under way. What "
            "learns may change where a stage begins: undo the change, and end this stage to add "
            "another one"
        )


def _new_rows_only(rules: Sequence[recipe_train.Rule], paths: Sequence[str]) -> dict[str, bool]:
    """Returns whether only new rows learn, of each parameter that learns."""
    groups = learn.groups(rules, paths)
    return {path: group.new_rows_only for group in groups for path in group.paths}
