"""Turns the stages and mixtures of a recipe into the plan: weights become shares of rows.

    order = mixture.plan(recipe, manifests)          # which row of packed data is read when
    train = mixture.steps(recipe, manifests).train   # `epochs` have become steps

A weight is a share of tokens (or examples), but a plan counts rows, and the rows of one dataset are
fuller than those of another. So a share is divided by what a row of its dataset holds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import itertools
import math
import types

import numpy as np

from lrl_jax.data.feed import plan as plans
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack.rows import Manifest
from lrl_jax.recipe import train as recipe_train
from lrl_jax.recipe.data import Data
from lrl_jax.recipe.schema import Recipe

Weights = Mapping[str, float]
Manifests = Mapping[str, Manifest]

RAMP = 32  # most stages of a ramp
ROUNDS = 5000  # most rounds of fitting shares to what is left; a few dozen suffice nearly always
DIGITS = 12  # of a weight that are kept: the last ones of a power differ between machines


def plan(recipe: Recipe, manifests: Manifests) -> Plan:
    """Returns the plan of a run: which row of which dataset each row of training is.

    A stage with `ramp_to` becomes up to 32 stages, named `name.01` and so on.

    Raises:
      ValueError: a mixture that contains itself, or a stage that reads more of a dataset than its
        `max_epochs` allow.
    """
    stages = [plan_stages for _, plan_stages in by_stage(recipe, manifests)]
    return Plan(
        sizes={name: manifest.rows for name, manifest in manifests.items()},
        stages=tuple(itertools.chain(*stages)),
        seed=recipe.seed,
        fingerprints={name: manifest.fingerprint for name, manifest in manifests.items()},
        contents={name: manifest.content for name, manifest in manifests.items()},
        ordered=tuple(name for name, manifest in manifests.items() if manifest.order != "shuffled"),
    )


def steps(recipe: Recipe, manifests: Manifests) -> Recipe:
    """Returns the recipe with `steps` where it has `epochs`; for the trainer, not for `plan`."""
    in_steps = []
    for stage, plan_stages in by_stage(recipe, manifests):
        count = sum(plan_stage.rows for plan_stage in plan_stages) // recipe.train.rows_per_step
        in_steps.append(stage.model_copy(update={"steps": count, "epochs": 0.0}))
    train = recipe.train.model_copy(update={"stages": tuple(in_steps)})
    return recipe.model_copy(update={"train": train})


def members(data: Data, weights: Weights) -> tuple[str, ...]:
    """Returns the datasets in these weights and in their mixtures, each once; weight 0 is left out.

    Raises:
      ValueError: a mixture that contains itself.
    """
    return tuple(_multiplied(data, weights, lambda name: data.mixtures[name].of))


def shares(data: Data, weights: Weights, sizes: Weights) -> dict[str, float]:
    """Returns each dataset's share of a mixture, nested mixtures resolved; shares sum to 1.

    Args:
      sizes: dataset name -> size, for mixtures by size; the size of a mixture is the sum of those
        of its datasets.

    Raises:
      KeyError: a mixture by size has a dataset that is not in `sizes`.
    """
    members(data, weights)  # refuses a circle also where sizes are not there

    def inside(name: str) -> dict[str, float]:
        mixture = data.mixtures[name]
        if mixture.by == "weight":
            return _normalised(mixture.of)
        power = 1 / mixture.temperature
        return _normalised(
            {
                member: weight * math.fsum(sizes[n] for n in members(data, {member: 1})) ** power
                for member, weight in mixture.of.items()
                if weight
            }
        )

    return _multiplied(data, _normalised(weights), inside)


def unsized(
    recipe: Recipe, stage: recipe_train.Stage, sizes: Weights = types.MappingProxyType({})
) -> dict[str, float] | None:
    """Returns the mean shares of a stage before anything is packed; None if they need sizes.

    `sizes` are those of datasets that are known already.
    """
    for weights in (stage.mixture, stage.ramp_to, recipe.train.replay):
        members(recipe.data, weights)  # refuses a circle in any of them before sizes are asked for
    if stage.epochs:
        _times(recipe.data, stage.mixture, stage.name)  # refuses shares by temperature
    try:
        first = shares(recipe.data, stage.mixture, sizes)
        last = shares(recipe.data, stage.ramp_to or stage.mixture, sizes)
        mean = {name: (first.get(name, 0) + last.get(name, 0)) / 2 for name in {**first, **last}}
        return _with_replay(recipe, mean, sizes)
    except KeyError:  # of a mixture by size
        return None


def _multiplied(
    data: Data, weights: Weights, inside: Callable[[str], Weights], path: tuple[str, ...] = ()
) -> dict[str, float]:
    """Returns for each dataset the product of the weights on the way to it; of many ways, the sum.

    `inside` returns the weights in a mixture. `path` names the mixtures that these weights are in.
    """
    out: dict[str, float] = {}
    for name in (name for name, weight in weights.items() if weight):
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            raise ValueError(f"data.mixtures: {circle}: a mixture cannot hold itself")
        products = {name: 1.0}
        if name in data.mixtures:
            products = _multiplied(data, inside(name), inside, (*path, name))
        for dataset, product in products.items():
            out[dataset] = out.get(dataset, 0.0) + weights[name] * product
    return out


def _normalised(weights: Weights) -> dict[str, float]:
    whole = math.fsum(weights.values())
    return {name: weight / whole for name, weight in weights.items()}


def _with_replay(recipe: Recipe, own: Weights, sizes: Weights) -> dict[str, float]:
    """Returns the shares of a stage after `train.replay` has taken its part of each."""
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
    """Yields each stage of the recipe with its stages of the plan.

    What one stage reads of a dataset with `max_epochs` is not left for later ones.
    """
    left = {
        name: math.floor(dataset.max_epochs * manifests[name].rows)
        if dataset.max_epochs
        else math.inf
        for name, dataset in recipe.data.datasets.items()
    }
    for stage in recipe.train.stages:
        if stage.epochs:
            plan_stages = [_whole(recipe, stage, manifests, left)]
        else:
            weighted = _weighted(recipe, stage, manifests)
            plan_stages = _within(weighted, left, recipe.train.rows_per_step)
        for plan_stage in plan_stages:
            for name, count in plans.taken(plan_stage).items():
                left[name] -= count
        yield stage, plan_stages


def tokens_read(manifests: Manifests, stages: Iterable[plans.PlanStage]) -> dict[str, float]:
    """Returns how many tokens stages of the plan read of each dataset."""
    tokens: dict[str, float] = {}
    for stage in stages:
        for name, rows in plans.taken(stage).items():
            per_row = manifests[name].tokens / manifests[name].rows
            tokens[name] = tokens.get(name, 0.0) + rows * per_row
    return tokens


def amounts_read(manifests: Manifests, stages: Iterable[plans.PlanStage]) -> tuple[float, float]:
    """Returns the tokens and the bytes of text that stages of the plan read."""
    tokens = tokens_read(manifests, stages)
    sizes = {n: count * manifests[n].bytes / manifests[n].tokens for n, count in tokens.items()}
    return math.fsum(tokens.values()), math.fsum(sizes.values())


def _weighted(
    recipe: Recipe, stage: recipe_train.Stage, manifests: Manifests
) -> list[plans.PlanStage]:
    """Returns the stages of the plan for a stage with `steps`: one, or those of its ramp."""
    unit = "docs" if stage.weights == "examples" else "tokens"
    sizes = {name: getattr(manifest, unit) for name, manifest in manifests.items()}
    first = shares(recipe.data, stage.mixture, sizes)
    last = shares(recipe.data, stage.ramp_to, sizes) if stage.ramp_to else first
    count = min(RAMP, stage.steps) if stage.ramp_to else 1
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
        weights = {n: float(f"{share:.{DIGITS}g}") for n, share in _normalised(rows).items()}
        name = f"{stage.name}.{i + 1:02}" if stage.ramp_to else stage.name
        out.append(plans.PlanStage(name, (end - begin) * recipe.train.rows_per_step, weights))
    return out


# ---------------------------------------------------------------------------- whole epochs
def _whole(
    recipe: Recipe, stage: recipe_train.Stage, manifests: Manifests, left: Weights
) -> plans.PlanStage:
    """Returns the stage of the plan for a stage with `epochs`, which reads its datasets whole.

    The last batch is filled with rows of the next epoch of all datasets, in proportion. Where
    `max_epochs` forbid that, the last batch is left out.
    """
    counts = {
        name: math.ceil(round(times * stage.epochs * manifests[name].rows, 6))
        for name, times in _times(recipe.data, stage.mixture, stage.name).items()
    }
    tokens = {name: manifest.tokens / manifest.rows for name, manifest in manifests.items()}
    read = math.fsum(count * tokens[name] for name, count in counts.items())
    sizes = {name: manifest.tokens for name, manifest in manifests.items()}
    own = {name: count * tokens[name] / read for name, count in counts.items()}
    with_replay = _with_replay(recipe, own, sizes)
    unreplayed = 1 - math.fsum(recipe.train.replay.values())
    for name, share in with_replay.items():
        replayed = (share - own.get(name, 0.0) * unreplayed) * read / unreplayed / tokens[name]
        counts[name] = counts.get(name, 0) + math.ceil(round(replayed, 6))
    names = list(counts)
    room = np.array([left[name] for name in names])
    wanted = np.minimum([counts[name] for name in names], room)
    room = np.where(wanted > 0, room, 0)
    size, total = recipe.train.rows_per_step, int(wanted.sum())
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
    """Returns how often an epoch reads each dataset: the weights on the way to it, multiplied."""

    def inside(name: str) -> Weights:
        mixture = data.mixtures[name]
        if mixture.by == "size" and mixture.temperature != 1:
            raise ValueError(
                f"stage {stage!r}: epochs read datasets whole, and mixture {name!r} wants "
                f"shares by temperature {mixture.temperature:g}; give steps, or temperature 1"
            )
        return mixture.of

    return _multiplied(data, weights, inside)


# ---------------------------------------------------------------------------- max_epochs
def _within(plan_stages: list[plans.PlanStage], left: Weights, size: int) -> list[plans.PlanStage]:
    """Caps what the stages of a ramp read of a dataset at the rows that are left of it.

    The shares of a dataset that is too small are reduced by the same factor in all stages, and the
    other datasets of a stage take its place in proportion. The weights of the stages are then
    numbers of rows.
    """
    used: Counter[str] = Counter()
    for stage in plan_stages:
        used.update(plans.taken(stage))
    if all(count <= left[name] for name, count in used.items()):
        return plan_stages
    names = list(used)
    room = np.array([left[name] for name in names])
    rows = np.array([stage.rows for stage in plan_stages])
    if room.sum() < rows.sum():
        ends = " to ".join(dict.fromkeys([plan_stages[0].name, plan_stages[-1].name]))
        raise ValueError(_too_little(ends, rows.sum(), room.sum(), size, names))
    weights = np.array([[stage.weights.get(name, 0.0) for name in names] for stage in plan_stages])
    out = []
    for stage, fitted in zip(plan_stages, _fit(weights, rows, room), strict=True):
        usable = np.where(fitted > 0, room, 0)
        if usable.sum() < stage.rows:
            raise ValueError(_too_little(stage.name, stage.rows, usable.sum(), size, names))
        counts = _apportion(fitted * stage.rows, stage.rows, usable)
        room = room - counts
        out.append(plans.PlanStage(stage.name, stage.rows, _counted(names, counts)))
    return out


def _fit(weights: np.ndarray, rows: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Returns the shares of each stage, in proportion to weights[stage, dataset] * factor[dataset].

    Factors are at most 1, and as large as the rows left of each dataset (`room`) allow.
    """
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
    """Returns whole numbers in proportion to `wanted` that sum to `total`, none above `room`.

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
        f"{', '.join(names)} for {int(room) // size}: give it no more steps than that, raise "
        "max_epochs, or mix in a dataset without max_epochs"
    )
