"""Says how far a measured number can be trusted: intervals, and tests of before against after.

All resampling is seeded: the same items give the same interval on every machine.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math

import numpy as np
from scipy import special

CONFIDENCE = 0.95
SAMPLES = 1000  # resamples of a bootstrap, as sacrebleu's paired tests take
BLOCK = 1 << 22  # numbers that are drawn at once


def wilson(right: int, whole: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns the Wilson interval of a share: that of `right` among `whole` items.

    Unlike the usual interval of mean and standard error it stays within 0 and 1, and is not empty
    where everything or nothing is right (Wilson 1927; Brown, Cai and DasGupta 2001).

    >>> [round(bound, 3) for bound in wilson(0, 10)], [round(bound, 3) for bound in wilson(5, 10)]
    ([0.0, 0.278], [0.237, 0.763])
    """
    if not 0 <= right <= whole or not whole:
        raise ValueError(
            f"{right} right of {whole} items; want at least one item, and no more right"
        )
    z = float(special.ndtri(0.5 + confidence / 2))
    share, scale = right / whole, 1 + z * z / whole
    middle = (share + z * z / (2 * whole)) / scale
    spread = z / scale * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    low = middle - spread if right else 0.0
    high = middle + spread if right < whole else 1.0
    return low, high


def student(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns Student's interval of the mean of a few values, such as those of three seeds.

    >>> [round(bound, 3) for bound in student([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    values_N = _values(values)
    if len(values_N) < 2:
        raise ValueError("Student's interval needs at least two values")
    t = float(special.stdtrit(len(values_N) - 1, 0.5 + confidence / 2))
    mean, reach = float(values_N.mean()), t * float(values_N.std(ddof=1)) / math.sqrt(len(values_N))
    return mean - reach, mean + reach


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, samples: int = SAMPLES, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Returns the percentile interval of the mean of `values` by resampling them."""
    values_N = _values(values)
    return _percentiles(_means(values_N, seed, samples), confidence)


def bootstrap(
    score: Callable[[np.ndarray], float],
    count: int,
    seed: int = 0,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Returns the percentile interval of a number that is no mean, such as macro F1 or chrF.

    Args:
      score: gives the number of the items at these indices, int64 [count], some more than once.
    """
    if count < 1:
        raise ValueError("an interval needs at least one item")
    random = np.random.default_rng(seed)
    scores_S = np.array([score(random.integers(0, count, count)) for _ in range(samples)])
    return _percentiles(scores_S, confidence)


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Holds on how many items two models differ, and how likely that is by chance."""

    gained: int  # items that only the second has right
    lost: int  # items that only the first has right
    p: float  # of a split as uneven as this or more, if both were equally good


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """Compares what two models have right of the same items, by the exact test (McNemar 1947).

    >>> mcnemar([True, False, False], [True, True, True])
    McNemar(gained=2, lost=0, p=0.5)
    """
    before_N, after_N = _paired(before, after)
    gained = int(np.sum(~(before_N > 0) & (after_N > 0)))
    lost = int(np.sum((before_N > 0) & ~(after_N > 0)))
    return McNemar(gained, lost, sign_test(gained, lost))


def sign_test(wins: int, losses: int) -> float:
    """Returns how likely so uneven a split, or more, is by chance: two-sided, exact.

    >>> sign_test(5, 0), sign_test(3, 3), sign_test(0, 0)
    (0.0625, 1.0, 1.0)
    """
    if not wins + losses:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


@dataclasses.dataclass(frozen=True)
class MeanChange:
    """Holds by how much a mean changed between two models, and within which bounds."""

    change: float  # after - before
    low: float
    high: float
    p: float  # two-sided


def paired_bootstrap(
    before: Sequence[float],
    after: Sequence[float],
    seed: int = 0,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
) -> MeanChange:
    """Compares two models by their scores of the same items (Koehn 2004).

    Items are resampled together with both of their scores. p is twice the share of resamples in
    which the change has the other sign or none, counting the data themselves as one of them, so
    that it is never 0.

    >>> paired_bootstrap([0.5, 0.5, 0.5], [0.75, 0.75, 0.75], samples=9)
    MeanChange(change=0.25, low=0.25, high=0.25, p=0.2)
    """
    before_N, after_N = _paired(before, after)
    changes_N = after_N - before_N
    change, means_S = float(changes_N.mean()), _means(changes_N, seed, samples)
    if not change:
        return MeanChange(change, *_percentiles(means_S, confidence), 1.0)
    against = int(np.sum(means_S * np.sign(change) <= 0))
    p = min(1.0, 2 * (against + 1) / (samples + 1))
    return MeanChange(change, *_percentiles(means_S, confidence), p)


def _means(values_N: np.ndarray, seed: int, samples: int) -> np.ndarray:
    """Returns the means of `samples` resamples; they are drawn in blocks that fit in memory."""
    random, count = np.random.default_rng(seed), len(values_N)
    rows = max(1, BLOCK // count)
    sizes = [min(rows, samples - start) for start in range(0, samples, rows)]
    return np.concatenate(
        [values_N[random.integers(0, count, (size, count))].mean(axis=1) for size in sizes]
    )


def _percentiles(scores_S: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(scores_S, [tail, 100 - tail])
    return float(low), float(high)


def _values(values: Sequence[float]) -> np.ndarray:
    values_N = np.asarray(values, np.float64)
    if not values_N.size or not np.isfinite(values_N).all():
        raise ValueError("an interval needs at least one item, and a finite number for each")
    return values_N


def _paired(before: Sequence[float], after: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} items before and {len(after)} after; "
            "only models that were scored on the same items can be compared"
        )
    return _values(before), _values(after)
