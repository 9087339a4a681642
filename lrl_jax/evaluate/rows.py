"""Makes the lines of a table of results from what was measured before and after training."""

from collections.abc import Iterator, Mapping
import dataclasses
import math
from typing import Any

from lrl_jax.storage import Json


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """Holds one line of the table of results, as text."""

    measure: str  # what is measured, with its unit, such as "bits per byte"
    name: str  # of the entry in the recipe
    before: str
    after: str
    change: str  # from before to after; "" if there is nothing to compare
    verdict: str = ""  # "better", "worse", or "" if the change is too small or unknown
    note: str = ""  # what the number can be compared with, or how it was measured
    key: str = ""  # the kind and the score, such as "translation.chrf"


@dataclasses.dataclass(frozen=True)
class ComparableScore:
    """Holds a score of one model, and what it was measured with.

    Scores of two models are compared only where all of that is equal.

    Attributes:
      conditions: name -> what it was; "" where that is not recorded. The files and the settings of
        an entry in the recipe are added by whoever compares.
      each: the score of every item, as `benchmark.scores.compact` writes them; "" without items.
      sums: fields of the lines that are kept (`benchmark.items.keep_lines`), where the score is the
        ratio of their sums over all lines.
    """

    measure: str  # what is measured, with its unit
    name: str  # of the entry in the recipe
    key: str  # the kind and the score, such as "translation.chrf"
    value: float | None  # None for a score that is only a text
    text: str  # the value as it is shown
    conditions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    falls: bool = False  # whether lower is better
    by_token: bool = False  # whether it is comparable within one vocabulary only
    bounds: tuple[float, float] | None = None  # the 95 % interval
    each: str = ""
    sums: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()  # what it has to be read with


def recorded(value: Any) -> str:
    """Returns a condition as text; "" for one that is not recorded.

    >>> recorded(0), recorded(None)
    ('0', '')
    """
    return "" if value is None else str(value)


def pairs(before: Json, after: Json, kind: str) -> Iterator[tuple[str, Json, Json]]:
    """Yields name, result before and result after of every entry of a kind; {} for no result.

    >>> list(pairs({}, {"translation": {"en_ko": {"chrf": 1.0}}}, "translation"))
    [('en_ko', {}, {'chrf': 1.0})]
    """
    old, new = before.get(kind) or {}, after.get(kind) or {}
    for name in {**new, **old}:
        yield name, old.get(name) or {}, new.get(name) or {}


def score_rows(before: Json, after: Json, kind: str, measure: str, key: str) -> Iterator[ReportRow]:
    """Yields a row for every entry of a kind, for the score `key`, which is better when higher."""
    for name, old, new in pairs(before, after, kind):
        was, now = number(old.get(key)), number(new.get(key))
        change = verdict = ""
        if was is not None and now is not None:
            change = f"{now - was:+.1f}"
            verdict = "better" if now - was >= 0.05 else "worse" if was - now >= 0.05 else ""
        lines = (new or old).get("lines")
        note = f"{lines} lines" if lines else ""
        yield ReportRow(
            measure, name, fixed(was, 1), fixed(now, 1), change, verdict, note, f"{kind}.{key}"
        )


def fixed(value: float | None, digits: int) -> str:
    """Returns a number with `digits` digits after the point, or "not measured" for None."""
    return "not measured" if value is None else f"{value:.{digits}f}"


def number(value: Any) -> float | None:
    """Returns a finite number as a float, and None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
