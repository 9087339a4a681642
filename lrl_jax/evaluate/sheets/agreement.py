"""Measures how far people agree who judged the same items: Krippendorff's alpha, Cohen's kappa.

    alpha([(0, 0), (1, 1), (0, 1)], values=2)                   0.444...

A judgement is a whole number below `values`. For alpha of the level "ordinal" they are in order.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np


def alpha(
    items: Sequence[Sequence[int]], values: int, level: Literal["nominal", "ordinal"] = "nominal"
) -> float | None:
    """Returns Krippendorff's alpha: 1 for full agreement, 0 for that of chance.

    The reference is Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): alpha is 1
    less the observed disagreement over the expected one, where a pair of judgements of an item
    that m people judged counts 1 / (m - 1).

    >>> round(alpha([(0, 0, 0), (2, 2), (1, 1, 1), (0, 1), (2,)], values=3), 4)
    0.7188

    Args:
      items: the judgements of each item, of any number of people; one alone says nothing.
      values: how many judgements there are to choose from, K below.

    Returns:
      None where no item has two judgements, or all of them are the same, which leaves nothing to
      agree on.
    """
    pairs_KK = np.zeros((values, values))
    for judgements in items:
        if len(judgements) > 1:
            counts_K = np.bincount(np.asarray(judgements, np.int64), minlength=values)
            whole_KK = np.outer(counts_K, counts_K) - np.diag(counts_K)
            pairs_KK += whole_KK / (len(judgements) - 1)
    counts_K = pairs_KK.sum(axis=1)
    distances_KK = _distances(counts_K, level)
    expected = (np.outer(counts_K, counts_K) * distances_KK).sum()
    if not expected:
        return None
    return float(1 - (counts_K.sum() - 1) * (pairs_KK * distances_KK).sum() / expected)


def _distances(counts_K: np.ndarray, level: str) -> np.ndarray:
    """Returns the squared distance [K, K] of every two values.

    On the ordinal level it is how many judgements lie between two values, each counted by half.
    """
    if level == "nominal":
        return 1 - np.eye(len(counts_K))
    ends_K = np.cumsum(counts_K) - counts_K / 2
    return np.square(ends_K[:, None] - ends_K[None, :])


def kappa(pairs: Sequence[tuple[int, int]], values: int) -> float | None:
    """Returns Cohen's kappa of two people, unweighted (Cohen 1960).

    >>> kappa([(0, 0), (0, 0), (1, 1), (1, 0)], values=2)
    0.5

    Args:
      pairs: what both said of each item that both judged.

    Returns:
      None where there is no such item, or both always said the same one thing.
    """
    if not pairs:
        return None
    counts_KK = np.zeros((values, values))
    for first, second in pairs:
        counts_KK[first, second] += 1
    shares_KK = counts_KK / len(pairs)
    agreed = float(np.trace(shares_KK))
    chance = float(shares_KK.sum(axis=1) @ shares_KK.sum(axis=0))
    return (agreed - chance) / (1 - chance) if chance < 1 else None
