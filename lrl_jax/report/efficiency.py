"""Shows what text costs before and after: tokens and seconds of 1,000 characters.

Makes tables for the report from `efficiency` and `facts` of before.json and after.json. A
vocabulary that was extended needs fewer tokens for the same text. A run that is compared with its
base at equal tokens has therefore read more text, and one that is compared at equal bytes has
computed fewer tokens: the table of text that is read has both, side by side. How well text is
predicted is another question, which bits per byte answer.
"""

from typing import Any

from lrl_jax.evaluate.rows import fixed, number
from lrl_jax.report.pieces import Pieces
from lrl_jax.storage import Json

MILLION = 1e6
TOKENS, SECONDS = "tokens per 1,000 characters", "seconds per 1,000 characters"
EQUAL_TOKENS, EQUAL_BYTES = "MB of text per 1M tokens", "1,000 tokens per MB of text"
WHEN = ("before", "after")


def tables(p: Pieces) -> dict[str, Any]:
    """Returns the tables of text that is read and of answers, by title; those without rows are
    left out."""
    made = {"Text that is read": reading(p), "Answers": answers(p)}
    return {title: table for title, table in made.items() if table["rows"]}


def reading(p: Pieces) -> dict[str, Any]:
    """Returns tokens and seconds of text that is scored, and equal tokens beside equal bytes."""
    rows = []
    for name, old, new in _pairs(p, "input"):
        sides = (old, new)
        rows.append(
            [
                name,
                *(_fixed(_ratio(side, "tokens", "characters", 1000), 1) for side in sides),
                *_seconds(p, "input", name),
                *(_fixed(_ratio(side, "bytes", "tokens", 1), 2) for side in sides),
                *(_fixed(_ratio(side, "tokens", "bytes", MILLION / 1000), 0) for side in sides),
            ]
        )
    return _table("text", (TOKENS, SECONDS, EQUAL_TOKENS, EQUAL_BYTES), rows)


def answers(p: Pieces) -> dict[str, Any]:
    """Returns tokens and seconds of what was generated."""
    rows = [
        [
            name,
            *(_fixed(_ratio(side, "tokens", "characters", 1000), 1) for side in (old, new)),
            *_seconds(p, "answer", name),
        ]
        for name, old, new in _pairs(p, "answer")
    ]
    return _table("asked", (TOKENS, SECONDS), rows)


def _table(first: str, measures: tuple[str, ...], rows: list[list[str]]) -> dict[str, Any]:
    columns = [first, *(f"{measure}, {when}" for measure in measures for when in WHEN)]
    return {"columns": columns, "rows": rows, "numeric": [*range(1, len(columns))]}


def _pairs(p: Pieces, side: str) -> list[tuple[str, Json, Json]]:
    old, new = (
        (results.get("efficiency") or {}).get(side) or {} for results in (p.before, p.after)
    )
    return [(name, old.get(name) or {}, new.get(name) or {}) for name in {**new, **old}]


def _ratio(counts: Json, above: str, below: str, times: float) -> float | None:
    top, bottom = number(counts.get(above)), number(counts.get(below))
    return times * top / bottom if top is not None and bottom else None


def _seconds(p: Pieces, side: str, name: str) -> list[str]:
    cells = []
    for results in (p.before, p.after):
        measured = (results.get("facts") or {}).get("seconds_per_1000_characters") or {}
        cells.append(_fixed(number((measured.get(side) or {}).get(name)), 4))
    return cells


def _fixed(value: float | None, digits: int) -> str:
    return "" if value is None else fixed(value, digits)
