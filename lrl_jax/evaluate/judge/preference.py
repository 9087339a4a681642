"""Computes how often one model is preferred, also at equal length, and how far judges agree.

    win_rate(preferences_N, groups_N)               Rate(value=0.62, low=0.54, high=0.70)
    length_controlled(preferences_N, lengths_N2, groups_N)
    cohen_kappa(["A", "tie"], ["A", "B"])

A preference is 1 where the first model wins, 0 where the second does, 0.5 for a tie. The letters
of arrays: N items (a turn each), Q questions, S resamples, K coefficients. Intervals resample
questions with all of their turns.
"""

from collections.abc import Hashable, Sequence
import dataclasses

import numpy as np
from scipy import special

from lrl_jax.evaluate.intervals import CONFIDENCE

# Of the coefficients, a normal prior of standard deviation 10: next to nothing, but that a model
# which wins everywhere still gets a finite one.
PRECISION = 0.01
STEPS, TOLERANCE, LONGEST_STEP = 50, 1e-9, 4.0  # of Newton's method
ROWS = 1 << 22  # numbers of an array [S, N] at once
OUTSIDE = 50  # resamples that lie outside of an interval: of 1000 where it is one of 95 %


@dataclasses.dataclass(frozen=True)
class Rate:
    """Holds a share or a mean with the bounds of its interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, object]:
        """Returns {"value", "interval"}."""
        return {"value": self.value, "interval": [self.low, self.high]}


@dataclasses.dataclass(frozen=True)
class LengthControlledRate(Rate):
    """Holds a win rate at equal length; `length_weight` is the coefficient of the length term.

    Above 0 the judge prefers longer answers.
    """

    length_weight: float


# ---------------------------------------------------------------------------- rates
def mean(
    values_N: Sequence[float] | np.ndarray,
    groups_N: Sequence[Hashable],
    seed: int = 0,
    samples: int = 0,
    confidence: float = CONFIDENCE,
) -> Rate:
    """Returns the mean of values and its interval, by a bootstrap over groups (questions).

    Args:
      samples: resamples; 0 takes as many as leave OUTSIDE of them outside of the interval.

    >>> mean([1.0, 0.0, 1.0, 0.5], ["q1", "q1", "q2", "q2"], samples=100).value
    0.625
    """
    values_N = np.asarray(values_N, np.float64)
    if not values_N.size or len(groups_N) != len(values_N):
        raise ValueError(f"{len(values_N)} values of {len(groups_N)} groups; want one of each")
    means_S = [
        (weights_SN @ values_N) / weights_SN.sum(axis=1)
        for weights_SN in _resamples(groups_N, seed, samples or _samples(confidence))
    ]
    return Rate(float(values_N.mean()), *_bounds(np.concatenate(means_S), confidence))


win_rate = mean  # of preferences: a tie is half a win, as AlpacaEval counts it


def length_controlled(
    preferences_N: Sequence[float] | np.ndarray,
    lengths_N2: Sequence[Sequence[float]] | np.ndarray,
    groups_N: Sequence[Hashable],
    difficulty_N: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    samples: int = 0,
    confidence: float = CONFIDENCE,
) -> LengthControlledRate:
    """Returns the win rate that would be, were both answers of equal length (arXiv 2404.04475).

    The logit of a preference is `theta + phi tanh(d / std(d)) + psi difficulty`, where d is the
    length of the first answer less that of the second. The rate is the mean of what this predicts
    at d = 0. Swapping the models gives 1 less the rate. The transform of lengths is that of all
    items, in every resample.

    Args:
      lengths_N2: characters of both answers.
      difficulty_N: of the question, from other comparisons; None where that is not known, and the
        term is left out.
      samples: as of `mean`.
    """
    y_N = np.asarray(preferences_N, np.float64)
    lengths_N2 = np.asarray(lengths_N2, np.float64)
    if not y_N.size or lengths_N2.shape != (len(y_N), 2) or len(groups_N) != len(y_N):
        raise ValueError(f"{len(y_N)} preferences, lengths {lengths_N2.shape}; want two of each")
    difference_N = lengths_N2[:, 0] - lengths_N2[:, 1]
    spread = difference_N.std()
    lengths_N = np.tanh(difference_N / spread) if spread else np.zeros_like(y_N)
    x_NK = np.stack([np.ones_like(y_N), lengths_N, *_standardised(difficulty_N)], axis=1)
    equal_NK = x_NK.copy()
    equal_NK[:, 1] = 0
    fit_1K = _fit(x_NK, y_N, np.ones((1, len(y_N))))
    value = float(_predicted(equal_NK, fit_1K, np.ones((1, len(y_N))))[0])
    rates_S = [
        _predicted(equal_NK, _fit(x_NK, y_N, weights_SN), weights_SN)
        for weights_SN in _resamples(groups_N, seed, samples or _samples(confidence))
    ]
    bounds = _bounds(np.concatenate(rates_S), confidence)
    return LengthControlledRate(value, *bounds, float(fit_1K[0, 1]))


def _standardised(difficulty_N: Sequence[float] | np.ndarray | None) -> list[np.ndarray]:
    if difficulty_N is None:
        return []
    values_N = np.asarray(difficulty_N, np.float64)
    spread = values_N.std()
    return [(values_N - values_N.mean()) / spread] if spread else []


def _fit(x_NK: np.ndarray, y_N: np.ndarray, weights_SN: np.ndarray) -> np.ndarray:
    """Fits a logistic regression to each row of weights, by Newton's method; returns [S, K]."""
    beta_SK = np.zeros((len(weights_SN), x_NK.shape[1]))
    count = x_NK.shape[1]
    prior_KK = PRECISION * np.eye(count)
    squares_NJ = (x_NK[:, :, None] * x_NK[:, None, :]).reshape(len(x_NK), -1)  # J = K * K
    for _ in range(STEPS):
        p_SN = special.expit(beta_SK @ x_NK.T)
        slope_SK = (weights_SN * (y_N[None] - p_SN)) @ x_NK - PRECISION * beta_SK
        bend_SN = weights_SN * p_SN * (1 - p_SN)
        bend_SKK = (bend_SN @ squares_NJ).reshape(-1, count, count) + prior_KK[None]
        step_SK = np.linalg.solve(bend_SKK, slope_SK[..., None])[..., 0]
        size_S = np.abs(step_SK).max(axis=1)
        beta_SK += step_SK * np.minimum(1, LONGEST_STEP / np.maximum(size_S, 1e-300))[:, None]
        if size_S.max() < TOLERANCE:
            break
    return beta_SK


def _predicted(x_NK: np.ndarray, beta_SK: np.ndarray, weights_SN: np.ndarray) -> np.ndarray:
    p_SN = special.expit(beta_SK @ x_NK.T)
    return (weights_SN * p_SN).sum(axis=1) / weights_SN.sum(axis=1)


def _resamples(groups_N: Sequence[Hashable], seed: int, samples: int) -> list[np.ndarray]:
    """Returns how often each item is in each resample of groups, in blocks [S, N]."""
    numbers = {group: n for n, group in enumerate(dict.fromkeys(groups_N))}
    group_N = np.array([numbers[group] for group in groups_N])
    random, count = np.random.default_rng(seed), len(numbers)
    rows = max(1, ROWS // len(group_N))
    blocks = []
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn_SQ = random.multinomial(count, np.full(count, 1 / count), size)
        blocks.append(drawn_SQ[:, group_N].astype(np.float64))
    return blocks


def _samples(confidence: float) -> int:
    return round(OUTSIDE / (1 - confidence))


def _bounds(values_S: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values_S, [tail, 100 - tail])
    return float(low), float(high)


# ---------------------------------------------------------------------------- agreement
def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Returns Cohen's kappa of two judges of the same items; None where it is not defined.

    It is not where there are no items, or where both always say the same one thing.

    >>> cohen_kappa(["A", "A", "B", "B"], ["A", "A", "B", "A"])
    0.5
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} verdicts; want two of each item")
    count = len(first)
    if not count:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    chance = sum(first.count(x) * second.count(x) for x in {*first, *second}) / count**2
    return (agreed - chance) / (1 - chance) if chance < 1 else None


def weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns Cohen's kappa of two ratings with quadratic weights; None where it is not defined.

    >>> weighted_kappa([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), weighted_kappa([5.0], [5.0])
    (1.0, None)
    """
    a_N, b_N = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a_N) != len(b_N):
        raise ValueError(f"{len(a_N)} and {len(b_N)} ratings; want two of each item")
    if not a_N.size:
        return None
    # of every rating of one with every rating of the other
    chance = a_N.var() + b_N.var() + (a_N.mean() - b_N.mean()) ** 2
    return float(1 - np.mean((a_N - b_N) ** 2) / chance) if chance else None
