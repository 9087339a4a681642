"""Shares a budget of translation pairs among languages by their laws (arXiv 2308.04948, Table 4).

    allocate(laws.read("laws/laws.json"), budget=100_000, caps={"kor_Hang": 30_000})

Maximises the weighted sum of the scores. Laws are concave, so there is one optimum.
"""

from collections.abc import Mapping, Sequence
import math

import numpy as np

from lrl_jax.laws.law import Law

MOST = 10**12  # pairs of a budget; of many more, doubles could not tell one pair from the next


def allocate(
    laws: Sequence[Law],
    budget: int,
    caps: Mapping[str, int] | None = None,
    weights: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """Returns the pairs of each language, `budget` in total, that maximise the weighted scores.

    Every language gets at least one pair: without any the law has no score.

    Args:
      caps: the most pairs there are of a language.
      weights: how much a language counts; 1 where none is given.

    Raises:
      ValueError: a budget beyond the caps or MOST, or below a pair each; a cap or a weight that is
        not above 0, or infinite; a name that has no law.
    """
    if not len(laws) <= budget <= MOST:
        raise ValueError(
            f"a budget of {budget} pairs; want one for each of {len(laws)} laws or more, and at "
            f"most {MOST:,}"
        )
    below = {name: min(cap, budget) for name, cap in (caps or {}).items()}
    most = _by_language(laws, below, budget, "cap")
    counted = _by_language(laws, weights or {}, 1, "weight")
    if most.sum() < budget:
        raise ValueError(
            f"a budget of {budget} pairs is more than the caps allow, {most.sum():.0f}; lower it, "
            "or take all there are"
        )
    best = optimum(laws, budget, most, counted)
    pairs = np.floor(best).astype(int)
    by_rest = np.argsort(pairs - best, kind="stable")  # those at a cap have none, and come last
    pairs[by_rest[: budget - pairs.sum()]] += 1
    return {law.language: int(n) for law, n in zip(laws, pairs, strict=True)}


def optimum(
    laws: Sequence[Law], budget: float, caps: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Returns the real-valued optimum: pairs of each language, between 1 and its cap.

    Where the gain of one more pair is the same for all languages between their bounds (Karush,
    Kuhn, Tucker), found by bisection on the logarithm of that gain.
    """
    exponents = np.array([law.b - 1 for law in laws])
    # of the gain at one pair, whose factors may be too large to multiply
    first = np.log([law.a for law in laws]) + np.log([-law.b for law in laws]) + np.log(weights)
    low, high = (first + exponents * np.log(caps)).min(), first.max()

    def pairs(log_gain: float) -> np.ndarray:
        return np.exp(np.clip((log_gain - first) / exponents, 0, np.log(caps)))

    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if pairs(middle).sum() > budget else (low, middle)
    return pairs(high)


def even(budget: int, languages: Sequence[str], caps: Mapping[str, int]) -> dict[str, int]:
    """Shares the budget equally, for comparison; what a cap leaves over goes to the others.

    >>> even(100, ["kor_Hang", "tam_Taml", "swh_Latn"], {"tam_Taml": 20})
    {'tam_Taml': 20, 'kor_Hang': 40, 'swh_Latn': 40}
    """
    shares: dict[str, int] = {}
    for name in sorted(languages, key=lambda name: caps.get(name, math.inf)):
        share = (budget - sum(shares.values())) // (len(languages) - len(shares))
        shares[name] = min(share, caps.get(name, share))
    return shares


def takes(pairs: Mapping[str, int], datasets: Mapping[str, str]) -> dict[str, int]:
    """Returns the field `take` of each dataset; datasets: language -> name, where they differ.

    Refuses a language that is not there, and two languages of one dataset.

    >>> takes({"kor_Hang": 3, "tam_Taml": 4}, {"tam_Taml": "tamil"})
    {'kor_Hang': 3, 'tamil': 4}
    """
    _known(datasets, list(pairs), "dataset")
    counts = {datasets.get(language, language): count for language, count in pairs.items()}
    if len(counts) < len(pairs):
        raise ValueError("--dataset: two languages have the same dataset; give each its own")
    return counts


def _known(given: Mapping[str, object], names: Sequence[str], what: str) -> None:
    if unknown := set(given) - set(names):
        raise ValueError(
            f"a {what} for {', '.join(sorted(unknown))}, of which there is no law; "
            f"there are {', '.join(names)}"
        )


def _by_language(
    laws: Sequence[Law], given: Mapping[str, float], default: float, what: str
) -> np.ndarray:
    names = [law.language for law in laws]
    _known(given, names, what)
    for name, number in given.items():
        if not 0 < number < math.inf:
            raise ValueError(
                f"{what} {name}={number:g}: want a number above 0; or leave its law out"
            )
    return np.array([given.get(name, default) for name in names], float)
