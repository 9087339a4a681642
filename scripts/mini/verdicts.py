"""Says from the results of studies whether a direction holds: by intervals, and by nothing else.

    direction:
      name: vocabulary
      checks:
        - says: at equal bytes the expanded vocabulary needs fewer bits for a byte of Korean
          study: vocabulary_bytes
          unit: bits per byte
          terms:                    # their sum, for each seed by itself
            - {of: {vocab.pieces: 768}, metric: after.bits_per_byte.kor_Hang}
            - {of: {vocab.pieces: 0}, metric: after.bits_per_byte.kor_Hang, weight: -1}
          below: 0                  # or `above`: the whole interval lies on this side

A term is the value of the one cell of a seed that has these facts. `exponent: LANGUAGE` takes, in
place of terms, b of c - a X^b (arXiv 2308.04948) with its interval, as `lrl laws run` fitted it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from lrl_jax.evaluate import intervals

SEED = "seed"

Json = Mapping[str, Any]


class NotMeasuredError(ValueError):
    """Says why a check has no number: a cell that failed, or that is not there yet."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """Holds a mean over seeds with the ends of its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Holds what a check or a direction came to.

    Attributes:
      holds: None where it was not measured.
      words: how a reader is told.
      interval: of a check; None for a direction, and where nothing was measured.
    """

    holds: bool | None
    words: str
    interval: Interval | None = None


def student(values: Sequence[float]) -> Interval:
    """Returns the mean of values with its interval, which is infinite for a single one.

    >>> student([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.484..., high=4.484..., n=3)
    """
    mean, n = math.fsum(values) / len(values), len(values)
    low, high = intervals.student(values) if n > 1 else (-math.inf, math.inf)
    return Interval(mean, low, high, n)


def judge(check: Json, studies: Mapping[str, Json]) -> Verdict:
    """Returns what a check comes to in the results of studies, by their names."""
    side, bound = ("below", check["below"]) if "below" in check else ("above", check["above"])
    try:
        fitted = "exponent" in check
        interval = of_law(check, studies) if fitted else student(by_seed(check, studies))
    except NotMeasuredError as e:
        return Verdict(None, f"not measured: {e}")
    if interval.n < 2:
        return Verdict(None, "not measured: one seed has no interval", interval)
    low, high = (
        (interval.low, interval.high) if side == "below" else (-interval.high, -interval.low)
    )
    limit = bound if side == "below" else -bound
    what = "zero" if bound == 0 else f"{bound:g}"
    if high < limit:
        return Verdict(True, f"holds: the interval excludes {what}", interval)
    if low > limit:
        return Verdict(False, f"does not hold: the interval lies beyond {what}", interval)
    return Verdict(False, f"does not hold: the interval holds {what}", interval)


def overall(checks: Sequence[Verdict]) -> Verdict:
    """Returns the verdict of a direction: it holds where each of its checks holds."""
    if any(check.holds is False for check in checks):
        failed = sum(check.holds is False for check in checks)
        return Verdict(False, f"does not hold: {failed} of {len(checks)} checks fail")
    if unmeasured := sum(check.holds is None for check in checks):
        return Verdict(None, f"not measured: {unmeasured} of {len(checks)} checks")
    return Verdict(True, f"holds: all {len(checks)} intervals exclude their bound")


def of_law(check: Json, studies: Mapping[str, Json]) -> Interval:
    """Returns the exponent of a language's law with its interval, and its number of points."""
    laws = studies.get(check["study"], {"laws": ()})["laws"]
    for law in laws:
        if law["language"] == check["exponent"]:
            low, high = law["b_interval"]
            return Interval(law["b"], low, high, law["points"])
    raise NotMeasuredError(f"no law of {check['exponent']}")


def by_seed(check: Json, studies: Mapping[str, Json]) -> list[float]:
    """Returns the number of a check for each seed, in the order of seeds."""
    name = check["study"]
    if name not in studies:
        raise NotMeasuredError(f"no results of study {name}")
    cells = studies[name]["cells"]
    seeds = sorted({cell["facts"].get(SEED, 0) for cell in cells})
    if not seeds:
        raise NotMeasuredError(f"no cell of study {name} has ended")
    return [
        math.fsum(
            term.get("weight", 1) * value(cells, term["of"] | {SEED: seed}, term["metric"])
            for term in check["terms"]
        )
        for seed in seeds
    ]


def value(cells: Sequence[Json], facts: Json, metric: str) -> float:
    """Returns a metric of the one cell that has these facts."""
    matching = [cell for cell in cells if _has(cell, facts)]
    said = ", ".join(f"{key} {fact}" for key, fact in facts.items())
    if len(matching) != 1:
        raise NotMeasuredError(f"{len(matching)} cells have {said}; want one")
    (cell,) = matching
    if cell["error"]:
        raise NotMeasuredError(f"cell {cell['name']} failed: {cell['error']}")
    if not isinstance(number := cell["values"].get(metric), int | float):
        raise NotMeasuredError(f"cell {cell['name']} has no {metric}")
    return float(number)


def _has(cell: Json, facts: Json) -> bool:
    own = {SEED: 0, **cell["facts"]}
    return all(key in own and own[key] == fact for key, fact in facts.items())
