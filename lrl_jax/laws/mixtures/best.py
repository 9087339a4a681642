"""Finds the mixture that is best by the law of a mixture, within bounds.

    goal = Goal(target={"kor_Hang": 1.0}, at_most={"eng_Latn": 2.0})
    optimum(laws, goal, reference_D, bounds)          # shares, [D]

The target is a weighted sum of losses. Each loss that is held may be at most so many percent above
that of a reference mixture.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np
from scipy import optimize

from lrl_jax.laws.mixtures import design
from lrl_jax.laws.mixtures import law as mixture
from lrl_jax.laws.mixtures.design import Bounds

SAMPLES = 2048  # mixtures that are tried before the descents, and that the result must beat
STARTS = 6  # best samples from which a descent begins, beside given mixtures
ROUNDS = 300  # most steps of a descent
SLACK = 1e-6  # by which a loss may miss its limit, as a share of it


@dataclasses.dataclass(frozen=True)
class Goal:
    """Says what is minimised, and what may not become worse.

    Attributes:
      target: loss -> how much it counts.
      at_most: loss -> percent that it may be above the reference's; below 0 it has to fall.
    """

    target: Mapping[str, float]
    at_most: Mapping[str, float]

    def check(self, losses: Sequence[str]) -> None:
        """Raises ValueError for a loss without a law, or a weight that is not above 0."""
        for name in [*self.target, *self.at_most]:
            if name not in losses:
                raise ValueError(f"there is no law of a loss {name!r}; there are {_some(losses)}")
        if not self.target:
            raise ValueError(f"no target; name a loss with its weight: --target {losses[0]}=1")
        for name, weight in self.target.items():
            if not 0 < weight < np.inf:
                raise ValueError(f"target {name}={weight:g}: want a weight above 0")
        for name, percent in self.at_most.items():
            if not -100 < percent < np.inf:
                raise ValueError(f"hold {name}={percent:g}: want percent, such as {name}=2")


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Holds the goal in numbers: target weights, and the limits of the losses that are held."""

    law: mixture.Predictor
    target_K: np.ndarray
    limit_K: np.ndarray
    bounds: Bounds

    def value(self, weights_D: np.ndarray) -> float:
        return float(self.law(weights_D[None])[0] @ self.target_K)

    def slope(self, weights_D: np.ndarray) -> np.ndarray:
        return self.target_K @ self.law.gradient(weights_D)

    def excess(self, weights_ND: np.ndarray) -> np.ndarray:
        """Returns by what share of its limit the worst of the held losses exceeds it, [N]."""
        return (self.law(weights_ND) / self.limit_K[None] - 1).max(axis=1)


def optimum(
    laws: mixture.MixtureLaws,
    goal: Goal,
    reference_D: np.ndarray,
    bounds: Bounds,
    starts: Sequence[np.ndarray] = (),
    seed: int = 0,
) -> np.ndarray:
    """Returns the mixture of the least target loss, [D], in steps of 0.0001.

    Sequential quadratic programming from the best of many samples and from `starts`: the
    exponential law is convex in the weights, the ridge is not. What it finds is never worse than a
    sample.

    Args:
      reference_D: the mixture whose losses the held ones are compared with.
      starts: mixtures to begin from as well, such as the recipe's own.

    Raises:
      ValueError: an unknown loss, or no mixture within the bounds that holds the losses.
    """
    goal.check(laws.names)
    problem = _problem(laws, goal, reference_D, bounds)
    near = [*starts, reference_D, *laws.measured().weights_ND]
    sampled_ND = design.around(reference_D, SAMPLES, seed)
    tried_ND = bounds.scaled(np.vstack([*(row[None] for row in near), sampled_ND]))
    value_N = problem.law(tried_ND) @ problem.target_K
    is_held = problem.excess(tried_ND) <= SLACK
    order = np.lexsort((value_N, ~is_held))  # those that hold first, the best before the others
    begins = [*tried_ND[order[:STARTS]], *tried_ND[: len(starts) + 1]]
    if not is_held.any():
        begins = [_nearest(problem, tried_ND)]
    ends = [_descended(problem, begin) for begin in begins]
    kept = [tried_ND[order[0]], *begins, *ends]
    kept = [row for row in kept if problem.excess(row[None])[0] <= 2 * SLACK and bounds.met(row)]
    if not kept:
        raise ValueError(_unreachable(laws, goal, problem, begins[0]))
    return bounds.rounded(min(kept, key=problem.value))


def _problem(
    laws: mixture.MixtureLaws, goal: Goal, reference_D: np.ndarray, bounds: Bounds
) -> _Problem:
    law = mixture.predictor(laws)
    whole = sum(goal.target.values())
    reference_K = law(reference_D[None])[0]
    rise_K = np.array([1 + goal.at_most.get(name, np.inf) / 100 for name in laws.names])
    target_K = np.array([goal.target.get(name, 0.0) / whole for name in laws.names])
    return _Problem(law, target_K, reference_K * rise_K, bounds)


def _descended(problem: _Problem, begin_D: np.ndarray) -> np.ndarray:
    """Returns where a descent from a mixture ends, put back inside of the bounds."""
    limited = np.flatnonzero(np.isfinite(problem.limit_K))
    limit_H = problem.limit_K[limited]
    sums = {
        "type": "eq",
        "fun": lambda weights_D: weights_D.sum() - 1,
        "jac": lambda weights_D: np.ones_like(weights_D),
    }
    limits = {
        "type": "ineq",
        "fun": lambda weights_D: 1 - problem.law(_inside(weights_D)[None])[0][limited] / limit_H,
        "jac": lambda weights_D: (
            -problem.law.gradient(_inside(weights_D))[limited] / limit_H[:, None]
        ),
    }
    end = optimize.minimize(
        lambda weights_D: problem.value(_inside(weights_D)),
        begin_D,
        jac=lambda weights_D: problem.slope(_inside(weights_D)),
        method="SLSQP",
        bounds=[*zip(problem.bounds.low_D, problem.bounds.high_D, strict=True)],
        constraints=[sums, limits] if len(limited) else [sums],
        options={"maxiter": ROUNDS, "ftol": 1e-10},
    )
    if not np.isfinite(end.x).all():
        return begin_D
    return problem.bounds.scaled(_inside(end.x))


def _inside(weights_D: np.ndarray) -> np.ndarray:
    """Returns weights without the small negative ones that a descent may try: roots need that."""
    return np.maximum(weights_D, 0.0)


def _nearest(problem: _Problem, tried_ND: np.ndarray) -> np.ndarray:
    """Returns the mixture whose held losses exceed their limits least, by a descent on the sum."""
    is_limited_K = np.isfinite(problem.limit_K)
    towards = np.where(is_limited_K, 1 / problem.limit_K, 0.0)
    begin_D = tried_ND[np.argmin(problem.excess(tried_ND))]
    free = _Problem(problem.law, towards, np.full(len(is_limited_K), np.inf), problem.bounds)
    return min(begin_D, _descended(free, begin_D), key=lambda row: problem.excess(row[None])[0])


def _unreachable(
    laws: mixture.MixtureLaws, goal: Goal, problem: _Problem, nearest_D: np.ndarray
) -> str:
    """Says that no mixture holds the losses, and how near one comes."""
    lowest = problem.law(nearest_D[None])[0]
    reached = []
    for name, percent in goal.at_most.items():
        k = laws.names.index(name)
        reference = problem.limit_K[k] / (1 + percent / 100)
        reached.append(f"{name} at {100 * (lowest[k] / reference - 1):+.2f} % of {percent:+g} %")
    return (
        "no mixture within the bounds holds the losses: the nearest one has "
        f"{', '.join(reached)}; allow more with --hold, or widen the bounds"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


# ---------------------------------------------------------------------------- what is said of it
@dataclasses.dataclass(frozen=True)
class Foretold:
    """Holds what the laws say of one loss of several mixtures.

    Attributes:
      losses: of each mixture.
      interval: 95 % of bootstrap fits, of the first mixture's loss.
      change: how many percent the first mixture's loss is above the second's.
      change_interval: 95 % of bootstrap fits of that, each fit comparing its own two losses.
    """

    loss: str
    losses: tuple[float, ...]
    interval: tuple[float, float]
    change: float
    change_interval: tuple[float, float]


def foretold(
    laws: mixture.MixtureLaws, mixtures_MD: np.ndarray, draws: Sequence[mixture.Predictor]
) -> list[Foretold]:
    """Returns what the laws and their bootstrap fits say of mixtures, a line for each loss."""
    point_MK = mixture.predict(laws, mixtures_MD)
    drawn_SMK = np.array([law(mixtures_MD) for law in draws])
    change_SK = 100 * (drawn_SMK[:, 0] / drawn_SMK[:, 1] - 1)
    return [
        Foretold(
            loss=name,
            losses=tuple(point_MK[:, k].tolist()),
            interval=mixture.interval(drawn_SMK[:, 0, k]),
            change=float(100 * (point_MK[0, k] / point_MK[1, k] - 1)),
            change_interval=mixture.interval(change_SK[:, k]),
        )
        for k, name in enumerate(laws.names)
    ]
