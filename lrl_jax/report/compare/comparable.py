"""Decides which scores of several runs may stand side by side, and says why others may not.

    rows(scores, absent)        a row for each score that was measured in one way
    differences(first, other)   ["another prompt", "another number of shots"]

A number means something beside another only where both were measured on the same text, in the same
way. So a row has the conditions of its first run. Any other run has a number there if its own
conditions are the same, and words that say what differs if they are not.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses

from lrl_jax.evaluate.rows import ComparableScore

# What a condition was, in ways of which any may be known: two are the same where one way says so.
Ways = tuple[str, ...]
Conditions = Mapping[str, Ways]

# Of conditions that differ, in the order in which they are said.
DIFFERS = {
    "vocabulary": "another vocabulary",
    "task": "another task",
    "test text": "other test text",
    "training text": "other training text",
    "questions": "other questions",
    "lines": "other lines of the test text",
    "version": "another version of the task",
    "prompt": "another prompt",
    "template": "another template",
    "shots": "another number of shots",
    "limit": "another limit",
    "max_new_tokens": "another limit of an answer's tokens",
    "language": "another language",
    "source_language": "another source language",
    "target_language": "another target language",
    "tokenizer of BLEU": "another tokenizer of BLEU",
    "signature": "scored in another way (sacrebleu's signature)",
    "program": "asked by another program",
    "reference": "another reference text",
    "mixture": "another mixture",
    "judges": "another judge",
    "opponent": "against another model",
    "judged": "judged in another way",
    "machine": "another machine",
}
# What of another text or task is another too, and is not said.
IMPLIED = {"test text": ("lines",), "task": ("version", "questions", "prompt")}
UNMEASURED = "not measured"


@dataclasses.dataclass(frozen=True)
class MeasuredScore:
    """Holds a score of a run with everything that it depends on beside the model."""

    score: ComparableScore
    conditions: Conditions


@dataclasses.dataclass
class ComparedRow:
    """Holds the runs that were measured in one way, by name, and why others were not.

    Attributes:
      missing: name of a run -> why it has no score in this row.
      number: counts the rows of one name, of which each was measured in another way.
    """

    measure: str
    key: str
    names: list[str]  # what the entry is called in the recipes
    conditions: Conditions
    scores: dict[str, MeasuredScore]
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    number: int = 1

    @property
    def name(self) -> str:
        """Returns what the entry is called, by all recipes, with a number if others are too."""
        name = " = ".join(self.names)
        return f"{name} ({self.number})".lstrip() if self.number > 1 else name

    @property
    def first(self) -> str:
        """Returns the run with which the others are compared."""
        return next(iter(self.scores))


def differences(first: Conditions, other: Conditions) -> list[str]:
    """Returns in words what differs between two scores; [] where they are comparable.

    A condition that is not recorded counts as different, since nobody knows.

    >>> differences({"prompt": ("a",), "shots": ("0",)}, {"prompt": ("b",), "shots": ("0",)})
    ['another prompt']
    >>> differences({"test text": ("a",)}, {"test text": ("",)})
    ['test text not recorded']
    """
    names = [name for name in DIFFERS if name in first or name in other]
    sides = [
        (name, first.get(name, ()), other.get(name, ()))
        for name in dict.fromkeys([*names, *first, *other])
    ]
    unequal = [side for side in sides if not _pairs(*side[1:], equal=True)]
    other_names = [name for name, *ways in unequal if _pairs(*ways)]
    implied = [below for name in other_names for below in IMPLIED.get(name, ())]
    differ = [DIFFERS.get(n, f"another {n}") for n in other_names if n not in implied]
    return differ or [_unrecorded(*side) for side in unequal]


def _pairs(was: Ways, now: Ways, *, equal: bool = False) -> bool:
    """Tells whether both are known in some way, and in that way equal if that is asked."""
    return any(x and y and (x == y or not equal) for x, y in zip(was, now, strict=False))


def _unrecorded(name: str, was: Ways, now: Ways) -> str:
    if not any(now):
        return f"{name} not recorded"
    if not any(was):
        return f"{name} of the first run not recorded"
    return f"{name} recorded in another way"


def rows(
    scores: Mapping[str, Sequence[MeasuredScore]], absent: Mapping[str, str] | None = None
) -> list[ComparedRow]:
    """Returns the rows of a table of runs, in the order in which scores first appear.

    Scores under other names stand in one row if everything else is the same.

    Args:
      scores: run -> what was measured of it.
      absent: run -> why nothing was measured of it.
    """
    table: list[ComparedRow] = []
    by_name: dict[tuple[str, str], list[ComparedRow]] = {}
    by_conditions: dict[tuple[str, frozenset], list[ComparedRow]] = {}
    for run, measured in scores.items():
        for each in measured:
            key, exact = each.score.key, frozenset(each.conditions.items())
            near = by_name.setdefault((key, each.score.name), [])
            alike = by_conditions.setdefault((key, exact), [])
            row = next(_fitting([*near, *alike], run, each), None)
            if row is None:
                row = ComparedRow(each.score.measure, key, [], each.conditions, {})
                table.append(row)
            if each.score.name not in row.names:
                row.names.append(each.score.name)
            row.scores[run] = each
            near += [row] if row not in near else []
            alike += [row] if row not in alike else []
    counts: Counter[tuple[str, str]] = Counter()
    for row in table:
        counts[row.key, row.name] += 1
        row.number = counts[row.key, row.name]
        row.missing = {
            run: _why(row, run, scores[run], (absent or {}).get(run, ""))
            for run in scores
            if run not in row.scores
        }
    return table


def _fitting(
    table: Sequence[ComparedRow], run: str, measured: MeasuredScore
) -> Iterator[ComparedRow]:
    for row in table:
        if run not in row.scores and not differences(row.conditions, measured.conditions):
            yield row


def _why(row: ComparedRow, run: str, measured: Sequence[MeasuredScore], absent: str) -> str:
    """Returns why a run is not in a row: what differs where it was measured, or that it was not."""
    for each in measured:
        if each.score.key == row.key and each.score.name in row.names:
            return ", ".join(differences(row.conditions, each.conditions)) or "measured twice"
    return absent or UNMEASURED
