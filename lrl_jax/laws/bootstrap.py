"""Draws scores anew around a curve, and fits a curve to each draw, for intervals.

    curves = drawn(form, x_N, s_N, models, np.random.default_rng(0), count=1000)

The size of the noise is itself drawn from what it was estimated with (chi-squared), so that
intervals are as wide as Student's with as few points as there are.
"""

from collections.abc import Sequence
import math

import numpy as np

from lrl_jax.laws.forms import Curves, LawForm, scores


def drawn(
    form: LawForm,
    x_N: np.ndarray,
    s_N: np.ndarray,
    models: Sequence[Sequence[int]],
    rng: np.random.Generator,
    count: int,
) -> Curves:
    """Returns the curves of `count` draws.

    Where there are several seeds of an amount, the seeds are drawn anew, further apart where the
    curve misses their means by more than they differ; else normal noise of the size of the
    residuals is added to the fitted curve.

    Args:
      models: indices of the points that differ in their seed alone, a list for each amount.
    """
    targets_N = form.targets(s_N)
    centres_N = form.targets(scores(form.fit(x_N, targets_N[None]), x_N))[0]
    residuals_N, free = targets_N - centres_N, len(x_N) - form.unknowns
    means_N = np.empty_like(targets_N)
    for indices in models:
        means_N[list(indices)] = targets_N[list(indices)].mean()
    squares = ((targets_N - means_N) ** 2).sum()
    if squares:
        of_seeds = squares / sum(len(indices) - 1 for indices in models)
        widened = math.sqrt(max(1.0, residuals_N @ residuals_N / free / of_seeds))
        noise_DN = widened * _of_seeds(targets_N - means_N, models, rng, count)
        return form.fit(x_N, means_N + noise_DN)
    noise_D1 = np.sqrt(residuals_N @ residuals_N / rng.chisquare(free, (count, 1)))
    return form.fit(x_N, centres_N + noise_D1 * rng.standard_normal((count, len(x_N))))


def _of_seeds(
    deviations_N: np.ndarray, models: Sequence[Sequence[int]], rng: np.random.Generator, count: int
) -> np.ndarray:
    """Returns draws in which the deviations of each amount's seeds are drawn anew, [count, N].

    Deviations from the mean of k seeds are too small by the root of (k - 1) / k. An amount of one
    seed has none, and draws those of all others.
    """
    several = [list(indices) for indices in models if len(indices) > 1]
    pools = [deviations_N[own] * math.sqrt(len(own) / (len(own) - 1)) for own in several]
    free = sum(len(own) - 1 for own in several)
    scale_D1 = np.sqrt(free / rng.chisquare(free, (count, 1)))
    noise_DN = np.empty((count, len(deviations_N)))
    for indices in map(list, models):
        pool = pools[several.index(indices)] if indices in several else np.concatenate(pools)
        noise_DN[:, indices] = pool[rng.integers(len(pool), size=(count, len(indices)))]
    return scale_D1 * noise_DN
