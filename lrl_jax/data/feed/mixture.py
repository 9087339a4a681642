"""Mixtures of a recipe become stages of the plan: from weights to shares of rows.

    order = mixture.plan(recipe, manifests)        # of packed data
    train = mixture.steps(recipe, manifests).train   # `epochs` have become steps

A weight is a share of tokens (or examples), a plan deals in rows, and rows of one dataset are
fuller than those of another: shares are divided by what a row of the dataset holds.
"""

from collections.abc import Iterator, Mapping, Sequence
import math

import numpy as np

from lrl_jax.data.feed import plan as plans
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack.rows import Manifest
from lrl_jax.recipe import train as recipe_train
from lrl_jax.recipe.data import Data
from lrl_jax.recipe.schema import Recipe

Weights = Mapping[str, float]
Manifests = Mapping[str, Manifest]

RAMP = 32  # stages a ramp has at most
ROUNDS = 5000  # of fitting shares to what is left; a few dozen suffice but in a corner
DIGITS = 12  # of a weight: the last ones of a power differ between machines


def plan(recipe: Recipe, manifests: Manifests) -> Plan:
    """Which row of which dataset is which row of training.

    Raises:
      ValueError: mixtures in a circle, or more of a dataset is wanted than its `max_epochs` allow.
    """
    return Plan(
        sizes={name: one.rows for name, one in manifests.items()},
        stages=stages(recipe, manifests),
        seed=recipe.seed,
        fingerprints={name: one.fingerprint for name, one in manifests.items()},
        ordered=tuple(name for name, one in manifests.items() if one.order != "shuffled"),
    )


def stages(recipe: Recipe, manifests: Manifests) -> tuple[plans.PlanStage, ...]:
    """The stages of the plan; one with `ramp_to` becomes up to 32, named `name.01` and so on."""
    return tuple(one for _, parts in by_stage(recipe, manifests) for one in parts)


def steps(recipe: Recipe, manifests: Manifests) -> Recipe:
    """The recipe with `steps` where it has `epochs`; for whoever trains, not for `plan`."""
    size = recipe.train.batch_size
    known = tuple(
        stage.model_copy(update={"steps": sum(part.rows for part in parts) // size, "epochs": 0.0})
        for stage, parts in by_stage(recipe, manifests)
    )
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"stages": known})})


def members(data: Data, weights: Weights) -> tuple[str, ...]:
    """The datasets that names with a weight stand for, each once.

    Raises:
      ValueError: a mixture holds itself.
    """
    return tuple(dict.fromkeys(_leaves(data, weights, ())))


def shares(data: Data, weights: Weights, sizes: Weights) -> dict[str, float]:
    """Each dataset's share of a mixture, of 1, whatever mixtures it is in.

    Args:
      weights: dataset or mixture name -> weight.
      sizes: of datasets, for mixtures by size; a mixture has the size of its datasets together.

    Raises:
      ValueError: a mixture holds itself.
    """
    members(data, weights)
    out: dict[str, float] = {}
    whole = math.fsum(weights.values())
    for name, weight in weights.items():
        if not weight:
            continue
        inside = {name: 1.0}
        if name in data.mixtures:
            inside = shares(data, _relative(data, name, sizes), sizes)
        for dataset, share in inside.items():
            out[dataset] = out.get(dataset, 0.0) + weight / whole * share
    return out


def unsized(recipe: Recipe, stage: recipe_train.Stage) -> dict[str, float] | None:
    """Mean shares of a stage before anything is packed; None where they depend on sizes.

    Raises:
      ValueError: a mixture holds itself, or replay leaves nothing.
    """
    data = recipe.data
    tables = (stage.mixture, stage.ramp_to, recipe.train.replay)
    named = set().union(*(_mixtures(data, weights) for weights in tables))
    if any(data.mixtures[name].by == "size" for name in named):
        return None
    first = shares(data, stage.mixture, {})
    last = shares(data, stage.ramp_to or stage.mixture, {})
    mean = {name: (first.get(name, 0) + last.get(name, 0)) / 2 for name in {**first, **last}}
    return _with_replay(recipe, mean, {})


def _leaves(data: Data, weights: Weights, path: tuple[str, ...]) -> Iterator[str]:
    for name in (name for name, weight in weights.items() if weight):
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise ValueError(f"data.mixtures: {circle}: a mixture cannot hold itself")
        if name in data.datasets:
            yield name
        else:
            yield from _leaves(data, data.mixtures[name].of, (*path, name))


def _mixtures(data: Data, weights: Weights) -> set[str]:
    members(data, weights)  # no circle
    named = {name for name, weight in weights.items() if weight and name in data.mixtures}
    return named.union(*(_mixtures(data, data.mixtures[name].of) for name in named))


def _relative(data: Data, name: str, sizes: Weights) -> dict[str, float]:
    """The weights in a mixture, after size and temperature."""
    one = data.mixtures[name]
    if one.by == "weight":
        return one.of
    return {
        member: weight
        and weight
        * math.fsum(sizes[dataset] for dataset in members(data, {member: 1}))
        ** (1 / one.temperature)
        for member, weight in one.of.items()
    }


def _with_replay(recipe: Recipe, own: Weights, sizes: Weights) -> dict[str, float]:
    """Shares of a stage: its own share what those of `train.replay` leave."""
    replay = recipe.train.replay
    taken = math.fsum(replay.values())
    if taken >= 1:
        raise ValueError(
            f"train.replay takes {taken:.0%} of every stage; leave something for the stages"
        )
    out = {name: share * (1 - taken) for name, share in own.items()}
    if taken:
        for name, share in shares(recipe.data, replay, sizes).items():
            out[name] = out.get(name, 0.0) + share * taken
    return out


# ---------------------------------------------------------------------------- stages
def by_stage(
    recipe: Recipe, manifests: Manifests
) -> Iterator[tuple[recipe_train.Stage, list[plans.PlanStage]]]:
    """Yields each stage with those it becomes; `max_epochs` hold over all of them together."""
    left = {
        name: math.floor(dataset.max_epochs * manifests[name].rows)
        if dataset.max_epochs
        else math.inf
        for name, dataset in recipe.data.datasets.items()
    }
    for stage in recipe.train.stages:
        parts = (
            [_whole(recipe, stage, manifests, left)]
            if stage.epochs
            else _within(_weighted(recipe, stage, manifests), left, recipe.train.batch_size)
        )
        for part in parts:
            for name, count in plans.taken(part).items():
                left[name] -= count
        yield stage, parts


def _weighted(
    recipe: Recipe, stage: recipe_train.Stage, manifests: Manifests
) -> list[plans.PlanStage]:
    """A stage of so many steps: as it is, or cut into those of its ramp."""
    unit = "docs" if stage.weights == "examples" else "tokens"
    sizes = {name: getattr(one, unit) for name, one in manifests.items()}
    first = shares(recipe.data, stage.mixture, sizes)
    last = shares(recipe.data, stage.ramp_to, sizes) if stage.ramp_to else first
    count = min(RAMP, stage.steps) if stage.ramp_to else 1
    if stage.ramp_to and count < 2:
        raise ValueError(f"stage {stage.name!r}: a ramp takes at least 2 steps, got {stage.steps}")
    out = []
    for i in range(count):
        begin, end = stage.steps * i // count, stage.steps * (i + 1) // count
        at = i / max(1, count - 1)
        mixed = {
            name: (1 - at) * first.get(name, 0) + at * last.get(name, 0)
            for name in {**first, **last}
        }
        rows = {
            name: share * manifests[name].rows / sizes[name]
            for name, share in _with_replay(recipe, mixed, sizes).items()
        }
        name = f"{stage.name}.{i + 1:02}" if stage.ramp_to else stage.name
        out.append(plans.PlanStage(name, (end - begin) * recipe.train.batch_size, _rounded(rows)))
    return out


def _rounded(weights: Weights) -> dict[str, float]:
    whole = math.fsum(weights.values())
    return {name: float(f"{weight / whole:.{DIGITS}g}") for name, weight in weights.items()}


# ---------------------------------------------------------------------------- whole epochs
def _whole(
    recipe: Recipe, stage: recipe_train.Stage, manifests: Manifests, left: Weights
) -> plans.PlanStage:
    """A stage that reads its datasets whole, so many times.

    The last batch is filled from the next epoch of all of them in proportion; where `max_epochs`
    forbid that, it is left out.
    """
    counts = {
        name: math.ceil(round(times * stage.epochs * manifests[name].rows, 6))
        for name, times in _times(recipe.data, stage.mixture, stage.name).items()
    }
    tokens = {name: one.tokens / one.rows for name, one in manifests.items()}
    read = math.fsum(count * tokens[name] for name, count in counts.items())
    sizes = {name: one.tokens for name, one in manifests.items()}
    own = {name: count * tokens[name] / read for name, count in counts.items()}
    both = _with_replay(recipe, own, sizes)
    part = 1 - math.fsum(recipe.train.replay.values())
    for name, share in both.items():
        more = (share - own.get(name, 0.0) * part) * read / part / tokens[name]  # replayed
        counts[name] = counts.get(name, 0) + math.ceil(round(more, 6))
    names = list(counts)
    room = np.array([left[name] for name in names])
    wanted = np.minimum([counts[name] for name in names], room)
    room = np.where(wanted > 0, room, 0)
    size, total = recipe.train.batch_size, int(wanted.sum())
    up, down = math.ceil(total / size) * size, total // size * size
    rows = up if room.sum() >= up else down
    if not rows:
        raise ValueError(_too_little(stage.name, size, room.sum(), size, names))
    if rows < total:
        exact = _apportion(wanted, rows, room)
    else:
        exact = wanted.astype(np.int64) + _apportion(wanted, rows - total, room - wanted)
    return plans.PlanStage(stage.name, rows, _counted(names, exact))


def _times(data: Data, weights: Weights, stage: str) -> dict[str, float]:
    """How often each dataset is read in an epoch: the product of the weights on the way to it."""
    members(data, weights)
    out: dict[str, float] = {}
    for name, weight in weights.items():
        if not weight:
            continue
        inside = {name: 1.0}
        if one := data.mixtures.get(name):
            if one.by == "size" and one.temperature != 1:
                raise ValueError(
                    f"stage {stage!r}: epochs read datasets whole, and mixture {name!r} wants "
                    f"shares by temperature {one.temperature:g}; give steps, or temperature 1"
                )
            inside = _times(data, one.of, stage)
        for dataset, times in inside.items():
            out[dataset] = out.get(dataset, 0.0) + weight * times
    return out


# ---------------------------------------------------------------------------- at most so often
def _within(parts: list[plans.PlanStage], left: Weights, size: int) -> list[plans.PlanStage]:
    """The parts of a stage, none reading more of a dataset than is left of it.

    What is short has its shares multiplied by a factor; the others of the part take its place in
    proportion. Then rows are counted out, not weighed.
    """
    used: dict[str, int] = {}
    for part in parts:
        for name, count in plans.taken(part).items():
            used[name] = used.get(name, 0) + count
    if all(count <= left[name] for name, count in used.items()):
        return parts
    names, stage = list(used), " to ".join(dict.fromkeys([parts[0].name, parts[-1].name]))
    room, rows = np.array([left[name] for name in names]), np.array([part.rows for part in parts])
    if room.sum() < rows.sum():
        raise ValueError(_too_little(stage, rows.sum(), room.sum(), size, names))
    weights = np.array([[part.weights.get(name, 0.0) for name in names] for part in parts])
    out = []
    for part, fitted in zip(parts, _fit(weights, rows, room), strict=True):
        if room[fitted > 0].sum() < part.rows:
            raise ValueError(_too_little(part.name, part.rows, room[fitted > 0].sum(), size, names))
        counts = _apportion(fitted * part.rows, part.rows, np.where(fitted > 0, room, 0))
        room = room - counts
        out.append(plans.PlanStage(part.name, part.rows, _counted(names, counts)))
    return out


def _fit(weights: np.ndarray, rows: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Shares in proportion to weights[part, dataset] * factor[dataset], factors at most 1 and as
    large as `room` for rows of each dataset allows."""
    factors = np.ones(len(room))
    fitted = weights
    for _ in range(ROUNDS):
        fitted = weights * factors
        fitted = fitted / fitted.sum(axis=1, keepdims=True)
        need = np.maximum(rows @ fitted, 1e-9)
        better = np.clip(factors * room / need, 1e-100, 1.0)
        if np.allclose(better, factors, rtol=1e-9, atol=0):
            break
        factors = better
    return fitted


def _apportion(wanted: np.ndarray, total: int, room: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to `wanted` that sum to `total`, none above `room`.

    >>> _apportion(np.array([1.5, 1.5, 7.0]), 10, np.array([9, 9, 5])).tolist()
    [3, 2, 5]
    """
    full = wanted <= 0
    target = np.zeros(len(wanted))
    while not full.all():
        target[~full] = wanted[~full] * (total - target[full].sum()) / wanted[~full].sum()
        over = ~full & (target > room)
        if not over.any():
            break
        target[over] = room[over]
        full |= over
    out = np.floor(target + 1e-6).astype(np.int64)
    for i in np.argsort(out - target, kind="stable"):  # largest remainders first
        out[i] += wanted[i] > 0 and out[i] < room[i] and out.sum() < total
    assert out.sum() == total, (wanted, total, room)
    return out


def _counted(names: Sequence[str], counts: np.ndarray) -> dict[str, float]:
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def _too_little(stage: str, rows: float, room: float, size: int, names: Sequence[str]) -> str:
    return (
        f"stage {stage!r} wants {int(rows) // size} steps; max_epochs leave rows of "
        f"{', '.join(names)} for {int(room) // size}: give it so many, raise max_epochs, or mix "
        "in a dataset without it"
    )
