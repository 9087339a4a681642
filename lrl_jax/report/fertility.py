"""Makes the fertility report a page: findings in words, figures, and every number in a table.

One offline file that reads well with two languages and with hundreds. The only script sorts the
table of languages; without it the table stands in the order given.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import dataclasses
import math
import statistics
from typing import Any, NamedTuple

from lrl_jax.report import fertility_plots as plots
from lrl_jax.report import pages
from lrl_jax.report.fertility_findings import (
    FertilityFindings,
    changed,
    legend,
    script_name,
    sentences,
    subtitle,
)
from lrl_jax.vocab.fertility import BALANCE, FertilityRow, prefill

DETAIL = 24  # rows a table of everything at once may have
BARS = 16  # languages a figure of bars has room for
COLORS = 6  # scripts with a colour of their own
OTHER = "s6"  # the colour of all other scripts
DEAR = 8.0  # parity with the darkest cell
EXTREMES = 4  # languages shown at either end


@dataclasses.dataclass(frozen=True)
class Measure:
    """Describes a column of the tables.

    Attributes:
      good: whether more of it is better, which its shade then says.
      words: whether it counts words, so that scripts without spaces leave it empty.
    """

    key: str
    title: str
    value: Callable[[FertilityRow], float | None]
    form: str
    good: bool = False
    words: bool = False

    @property
    def choice(self) -> tuple[str, str]:
        return self.key, self.title

    def of(self, row: FertilityRow) -> float | None:
        return None if self.words and not row.spaced else self.value(row)


class Cell(NamedTuple):
    """Holds one number of the tables: as text, as the script sorts it, and its shade, 0 to 1."""

    key: str
    text: str = ""
    value: str = ""
    shade: float = 0.0
    good: bool = False


def render(rows: Sequence[FertilityRow], reference: str, context: int) -> str:
    """Returns the whole page: the same bytes for the same rows.

    Args:
      reference: the language of parity, as `fertility.find` reads it.
      context: tokens a model reads at most.
    """
    r = FertilityFindings(rows, reference, context)
    measures = _measures(r)
    return pages.render(
        "fertility.html.j2",
        subtitle=subtitle(r),
        cards=_cards(r),
        sentences=sentences(r),
        languages=_bars(r) if len(r.languages) <= BARS else _ranks(r),
        scripts=_scripts(r),
        costs=_costs(r),
        detailed=len(r.rows) <= DETAIL,
        rows=_detail(r, measures) if len(r.rows) <= DETAIL else _sortable(r, measures),
        measures=measures,
        legend=legend(r),
        tokenizers=r.tokenizers,
        unit=r.unit,
        context=context,
        balance=BALANCE,
    )


def _cards(r: FertilityFindings) -> list[dict[str, str]]:
    """Returns the median language under each tokenizer."""
    cards = []
    for name in r.tokenizers:
        values = [value for value, _ in r.parities(name)]
        if not values:
            continue
        note = f"parity of {r.label(r.parities(name)[0][1].language)}"
        if len(values) > 1:
            note = f"median parity, {values[-1]:.2f} to {values[0]:.2f}"
        cards.append({"value": f"{statistics.median(values):.2f}", "label": name, "note": note})
    return cards


# ---------------------------------------------------------------------------- figures
def _bars(r: FertilityFindings) -> dict[str, Any]:
    """Returns the figure of few languages: a bar for each tokenizer."""
    series = {
        name: {r.label(row.language): value for row, value in r.costs(name)}
        for name in r.tokenizers
    }
    colors = {name: _tone(r, name) for name in r.tokenizers}
    return {
        "colors": colors,
        "pictures": [plots.bars(series, colors, r.unit)],
        "caption": f"{r.unit[0].upper()}{r.unit[1:]}.",
        "note": "",
    }


def _ranks(r: FertilityFindings) -> dict[str, Any]:
    """Returns the figures of many languages: for each tokenizer a dot a language, by script."""
    counts = Counter(row.script for row in r.rows if row.script)
    ranked = sorted(counts, key=lambda code: (-counts[code], code))
    colors = {code: f"s{i}" for i, code in enumerate(ranked[:COLORS])}
    named = {script_name(code): color for code, color in colors.items()}
    if any(row.script not in colors for row in r.rows):
        named["other scripts"] = OTHER
    values = [value for name in r.tokenizers for _, value in r.costs(name)]
    pictures = []
    for name in r.tokenizers:
        dots = [
            plots.Dot(r.label(row.language), value, colors.get(row.script, OTHER))
            for row, value in r.costs(name)
        ]
        pictures.append(plots.ranks(name, dots, values, (2.0, 4.0) if r.parity else ()))
    note = (
        f"{r.unit[0].upper()}{r.unit[1:]}, on a logarithmic axis. A dot is a language; its name "
        "shows on hover."
    )
    return {"colors": named, "pictures": pictures, "caption": "", "note": note}


def _scripts(r: FertilityFindings) -> dict[str, Any]:
    """Returns the medians of scripts as a figure and rows; nothing for few languages or scripts."""
    codes = Counter(row.script for row in r.rows if row.tokenizer == r.tokenizers[0])
    if len(codes) < 3 or len(r.languages) <= BARS:
        return {}
    medians: dict[str, dict[str, float]] = {}
    dearest: dict[str, str] = {}
    for name in r.tokenizers:
        by_script: dict[str, list[tuple[float, str]]] = {}
        for row, value in r.costs(name):
            by_script.setdefault(row.script, []).append((value, r.label(row.language)))
        medians[name] = {
            code: statistics.median(value for value, _ in pairs)
            for code, pairs in by_script.items()
        }
        dearest |= {code: max(pairs)[1] for code, pairs in by_script.items()}
    last = medians[r.tokenizers[-1]]
    order = sorted(last, key=lambda code: (last[code], code))
    series = {
        name: {f"{script_name(c)} ({codes[c]})": values[c] for c in order if c in values}
        for name, values in medians.items()
    }
    colors = {name: _tone(r, name) for name in r.tokenizers}
    rows = [
        [script_name(code), code, codes[code]]
        + [f"{medians[name][code]:.2f}" for name in r.tokenizers]
        + [dearest[code]]
        for code in order
    ]
    return {
        "colors": colors,
        "picture": plots.spreads(series, colors, f"median {r.unit}"),
        "rows": rows,
    }


def _tone(r: FertilityFindings, name: str) -> str:
    """Returns a tokenizer's colour: the last is what the page is about, the first what it was."""
    at = r.tokenizers.index(name)
    return "t9" if at == len(r.tokenizers) - 1 else f"t{at % 4}"


# ---------------------------------------------------------------------------- tables
def _costs(r: FertilityFindings) -> list[list[str]]:
    """Returns what other tokenizers make of the text the first one is used to, row by row."""
    first, cells = r.tokenizers[0], []
    for name in r.tokenizers[1:]:
        rows = r.of(name)
        if many := len(rows) > BARS:
            fewer, more = changed(r, name)
            middle = statistics.median(row.relative for row in rows)
            cells.append([name, "median", *_ratios(middle, r.context), "", ""])
            rows = [*fewer[:EXTREMES], *more[:EXTREMES][::-1]]
        for i, row in enumerate(rows):
            old = r.row(first, row.language)
            room = [f"{of.words_in(r.context):,}" if of.spaced else "" for of in (old, row)]
            title = "" if many or i else name
            cells.append([title, r.label(row.language), *_ratios(row.relative, r.context), *room])
    return cells


def _ratios(ratio: float, context: int) -> list[str]:
    return [f"{ratio:.2f}", f"{prefill(ratio, context):.2f}"]


def _measures(r: FertilityFindings) -> list[Measure]:
    """Returns the columns that say something about these rows."""
    first, room = r.tokenizers[0], f"words in {r.context:,} tokens"
    measures = [
        Measure("parity", r.parity_unit, lambda row: row.parity, ".2f"),
        Measure("per_word", "tokens per word", lambda row: row.per_word, ".2f", words=True),
        Measure("per_character", "per character", lambda row: row.per_character, ".3f"),
        Measure("per_byte", "per byte", lambda row: row.per_byte, ".3f"),
        Measure("relative", f"relative to {first}", lambda row: row.relative, ".2f"),
        Measure("whole", "words of one token", lambda row: row.whole_words, "%", True, True),
        Measure("types", "distinct words", lambda row: row.whole_types, "%", True, True),
        Measure("bytes", "single bytes", lambda row: row.byte_share, "%"),
        Measure("room", room, lambda row: row.words_in(r.context), ",.0f", True, True),
        Measure("floor", "floor per word", lambda row: row.floor, ".2f", words=True),
        Measure("lost", "texts that do not come back", lambda row: row.lost, ",.0f"),
    ]
    dull = {"lost"} if not any(row.lost for row in r.rows) else set()
    dull |= {"relative"} if len(r.tokenizers) == 1 else set()
    dull |= {"parity"} if not r.parity else set()
    dull |= {"floor"} if all(row.floor < 1.05 for row in r.rows if row.spaced) else set()
    return [measure for measure in measures if measure.key not in dull]


def _detail(r: FertilityFindings, measures: Sequence[Measure]) -> list[dict[str, Any]]:
    """Returns a row for each language and tokenizer; the language is named in its first."""
    cells = _cells(r, measures)
    return [
        {
            "first": i == 0,
            "language": language,
            "label": r.label(language),
            "tokenizer": name,
            "cells": [column[name, language] for column in cells],
        }
        for language in r.languages
        for i, name in enumerate(r.tokenizers)
    ]


def _sortable(r: FertilityFindings, measures: Sequence[Measure]) -> list[dict[str, Any]]:
    """Returns a row for each language, with a cell for each measure and tokenizer."""
    cells = _cells(r, measures)
    return [
        {
            "language": language,
            "label": r.label(language),
            "script": script_name(r.row(r.tokenizers[0], language).script),
            "cells": [column[name, language] for column in cells for name in r.tokenizers],
        }
        for language in r.languages
    ]


def _cells(r: FertilityFindings, measures: Sequence[Measure]) -> list[dict[tuple[str, str], Cell]]:
    """Returns, for each measure, the cell of every tokenizer and language."""
    columns = []
    for measure in measures:
        numbers = {(row.tokenizer, row.language): measure.of(row) for row in r.rows}
        present = [value for value in numbers.values() if value is not None]
        span = (min(present), max(present)) if present else (0.0, 0.0)
        columns.append({key: _cell(measure, value, *span) for key, value in numbers.items()})
    return columns


def _cell(measure: Measure, value: float | None, low: float, high: float) -> Cell:
    """Returns a number with its shade: ratios from 1 on, the rest between the extremes."""
    if value is None:
        return Cell(measure.key)
    if measure.key in ("parity", "relative"):
        distance = math.log(max(value, 1e-9)) / math.log(DEAR)
        shade, good = min(abs(distance), 1.0), distance < 0
    else:
        shade, good = (value - low) / (high - low) if high > low else 0.0, measure.good
    text = f"{100 * value:.1f} %" if measure.form == "%" else f"{value:{measure.form}}"
    return Cell(measure.key, text, f"{value:.6g}", shade, good)
