"""Designs the mixtures of small runs, and says how far a mixture is from those that were run.

    tried_ND = mixtures([0.5, 0.3, 0.2], Bounds.free(3), count=24, seed=0)      # [24, 3]

The first is the recipe's own mixture, the second the even one. The others come from Dirichlet
distributions around the recipe's own, as in RegMix (arXiv 2407.01492), but from a low-discrepancy
sequence in place of random numbers, so that few runs cover the simplex evenly. A longer design
begins with the shorter one.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math

import numpy as np
from scipy import optimize, special
from scipy.stats import qmc

FLATTENED = 0.5  # power of the recipe's own weights in the prior, as RegMix's temperature
NARROWEST, WIDEST = 3.0, 0.5  # sum of the Dirichlet's parameters, for each dataset
DIGITS = 4  # of a weight: what a table shows is what was trained
TINY = 1e-9  # weight given to what has none, so that bounds can raise it
HALVINGS = 64  # of the interval in which the factor of a mixture lies


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Holds the least and the largest weight of each dataset; some mixture meets them."""

    low_D: np.ndarray
    high_D: np.ndarray

    @staticmethod
    def free(count: int) -> "Bounds":
        """Returns bounds that any mixture of so many datasets meets."""
        return Bounds(np.zeros(count), np.ones(count))

    @staticmethod
    def of(
        datasets: Sequence[str],
        given: Mapping[str, tuple[float, float]],
        caps: Mapping[str, float],
    ) -> "Bounds":
        """Returns the bounds of each dataset.

        Args:
          given: least and largest weight of some datasets.
          caps: the largest weight that is possible of some datasets; may be above 1.

        Raises:
          ValueError: an unknown dataset, a bound below 0 or above 1, a least weight above the
            largest, or bounds that no mixture meets.
        """
        for name in [*given, *caps]:
            if name not in datasets:
                raise ValueError(
                    f"there is no dataset {name!r} in the mixture; there are {', '.join(datasets)}"
                )
        for name, (low, high) in given.items():
            if not 0 <= low <= high <= 1:
                raise ValueError(
                    f"bounds {low:g}:{high:g} of {name}: want 0 or more, and at most 1, the least "
                    "weight before the largest"
                )
        low_D = np.array([given.get(name, (0.0, 1.0))[0] for name in datasets])
        high_D = np.array(
            [min(given.get(name, (0.0, 1.0))[1], caps.get(name, 1.0)) for name in datasets]
        )
        for name, low, high in zip(datasets, low_D, high_D, strict=True):
            if low > high:
                raise ValueError(
                    f"{name} is to have at least {low:g}, and its epochs allow {high:.4g}; lower "
                    "the bound, or allow more epochs with --max-epochs"
                )
        if low_D.sum() > 1 + 1e-9 or high_D.sum() < 1 - 1e-9:
            raise ValueError(
                f"no mixture meets the bounds: the least weights sum to {low_D.sum():.4g} and the "
                f"largest to {high_D.sum():.4g}, and weights sum to 1; widen a bound, allow more "
                "epochs with --max-epochs, or train fewer tokens"
            )
        return Bounds(low_D, high_D)

    def met(self, weights_D: np.ndarray, slack: float = 1e-6) -> bool:
        """Tells whether a mixture is inside of the bounds."""
        inside = (weights_D >= self.low_D - slack) & (weights_D <= self.high_D + slack)
        return bool(inside.all())

    def scaled(self, weights_ND: np.ndarray) -> np.ndarray:
        """Returns the mixtures in proportion to these weights, as far as the bounds allow.

        Of one, [D], or many, [N, D].

        >>> bounds = Bounds(np.zeros(3), np.array([1, 0.2, 1]))
        >>> bounds.scaled(np.array([2.0, 4.0, 2.0])).round(6).tolist()
        [0.4, 0.2, 0.4]
        """
        some_ND = np.maximum(np.atleast_2d(weights_ND), TINY)
        low_N1 = np.full((len(some_ND), 1), -80.0)  # of the logarithm of the factor
        high_N1 = -low_N1
        for _ in range(HALVINGS):
            middle_N1 = (low_N1 + high_N1) / 2
            is_short = self._clipped(some_ND * np.exp(middle_N1)).sum(1, keepdims=True) < 1
            low_N1 = np.where(is_short, middle_N1, low_N1)
            high_N1 = np.where(is_short, high_N1, middle_N1)
        scaled_ND = self._clipped(some_ND * np.exp(high_N1))
        return (scaled_ND / scaled_ND.sum(1, keepdims=True)).reshape(weights_ND.shape)

    def _clipped(self, weights_ND: np.ndarray) -> np.ndarray:
        return np.clip(weights_ND, self.low_D[None], self.high_D[None])

    def rounded(self, weights_D: np.ndarray) -> np.ndarray:
        """Returns a mixture in steps of 0.0001 whose weights sum to 1, as near as bounds allow.

        >>> Bounds.free(3).rounded(np.array([1 / 3, 1 / 3, 1 / 3])).tolist()
        [0.3334, 0.3333, 0.3333]
        """
        whole = 10**DIGITS
        most_D = np.floor(self.high_D * whole + 1e-6).astype(int)
        least_D = np.minimum(np.ceil(self.low_D * whole - 1e-6).astype(int), most_D)
        parts_D = np.clip(np.floor(weights_D * whole + 1e-6).astype(int), least_D, most_D)
        for i in np.argsort(parts_D - weights_D * whole, kind="stable"):  # largest rests first
            parts_D[i] += parts_D.sum() < whole and parts_D[i] < most_D[i]
        roomiest = np.argmax(most_D - parts_D)
        parts_D[roomiest] += whole - parts_D.sum()
        return parts_D / whole


def mixtures(own_D: Sequence[float], bounds: Bounds, count: int, seed: int = 0) -> np.ndarray:
    """Returns `count` mixtures inside of the bounds, [count, D], in steps of 0.0001.

    Args:
      own_D: the recipe's own weights; where they break a bound, the nearest in proportion.
      seed: of the scrambled Sobol sequence.
    """
    own = np.array(own_D, float) / math.fsum(own_D)
    even = np.full(len(own), 1 / len(own))
    tried_ND = np.vstack([own[None], even[None], around(own, count, seed)])[:count]
    return np.array([bounds.rounded(row) for row in bounds.scaled(tried_ND)])


def around(own_D: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Returns mixtures of Dirichlet distributions, wide and narrow, around one, [count, D]."""
    width = len(own_D)
    prior_D = np.maximum(own_D, TINY) ** FLATTENED
    prior_D /= prior_D.sum()
    power = math.ceil(math.log2(max(count, 2)))
    points = qmc.Sobol(width + 1, scramble=True, rng=np.random.default_rng(seed))
    uniform_NP = np.clip(points.random_base2(power)[:count], 1e-9, 1 - 1e-9)
    total_N1 = width * NARROWEST * (WIDEST / NARROWEST) ** uniform_NP[:, :1]
    gamma_ND = special.gammaincinv(total_N1 * prior_D[None], uniform_NP[:, 1:]) + TINY
    return gamma_ND / gamma_ND.sum(1, keepdims=True)


def beyond(weights_D: np.ndarray, run_ND: np.ndarray) -> float:
    """Returns how much weight has to move for the mixture to be a blend of mixtures that were run.

    0 inside of their convex hull. Half the sum of differences, by a linear program.

    >>> run_ND = np.array([[0.8, 0.2], [0.4, 0.6]])
    >>> [round(beyond(np.array([x, 1 - x]), run_ND), 6) for x in (0.5, 0.1)]
    [0.0, 0.3]
    """
    count, width = run_ND.shape
    # unknowns: the share of each run, and for each dataset what is too much and what is missing
    cost = np.concatenate([np.zeros(count), np.full(2 * width, 0.5)])
    balance = np.hstack([run_ND.T, np.eye(width), -np.eye(width)])
    shares_sum = np.concatenate([np.ones(count), np.zeros(2 * width)])
    solution = optimize.linprog(
        cost, A_eq=np.vstack([balance, shares_sum[None]]), b_eq=np.append(weights_D, 1.0)
    )
    assert solution.success, solution.message
    return max(float(solution.fun), 0.0)
