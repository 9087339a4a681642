"""Writes measured fertility: as JSON, as CSV, as a plot and as a page.

    texts = fertility.texts_in("udhr")
    write_report({"llama2": old, "new": new}, texts, "out", reference="eng", parallel=True)

The page has findings in words, figures, and every number in a table. It is one offline file that
reads well with two languages and with hundreds. Its only script sorts the table of languages;
without it the table stands in the order given.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
import csv
import dataclasses
import difflib
import io
import json
import math
import statistics
from typing import Any, NamedTuple

from etils import epath

from lrl_jax.report import fertility_plots as plots
from lrl_jax.report import pages
from lrl_jax.report.fertility_findings import CHANGED, FEW, WHOLE, FertilityFindings, script_name
from lrl_jax.vocab.fertility import (
    BALANCE,
    REFERENCE,
    FertilityRow,
    LanguageText,
    find,
    measure,
    prefill,
)
from lrl_jax.vocab.tokenizer.types import Tokenizer

CONTEXT = 4096  # Llama 2's (arXiv 2307.09288)
DETAIL = 24  # rows a table of everything at once may have
BARS = 16  # languages a figure of bars has room for
COLORS = 6  # scripts with a colour of their own
OTHER = "s6"  # the colour of all other scripts
DEAR = 8.0  # parity with the darkest cell
EXTREMES = 4  # languages shown at either end


def write_report(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, LanguageText],
    folder: epath.PathLike,
    *,
    reference: str = REFERENCE,
    parallel: bool = False,
    context: int = CONTEXT,
) -> list[FertilityRow]:
    """Measures and writes fertility.json, .csv, .svg and index.html; the rows are returned.

    Args:
      reference: language that parity is relative to; '' for none.
      parallel: the texts say the same as wholes, whatever their lines; otherwise line by line.
      context: tokens a model reads at most, to say how many words they hold.

    Raises:
      ValueError: no text, or none of the reference language.
    """
    if reference and find(reference, texts) is None:
        near = difflib.get_close_matches(reference, texts, n=3, cutoff=0.3) or list(texts)[:3]
        raise ValueError(
            f"no text of the reference language {reference!r} among {len(texts)}; want one of "
            f"them, such as {', '.join(near)}, or '' to do without parity"
        )
    rows = measure(tokenizers, texts, reference, parallel=parallel)
    write(rows, folder, reference=reference, page="index.html", context=context)
    return rows


def write(
    rows: Sequence[FertilityRow],
    folder: epath.PathLike,
    *,
    reference: str = REFERENCE,
    page: str = "fertility.html",
    context: int = CONTEXT,
) -> None:
    """Writes fertility.json, fertility.csv, fertility.svg and the page."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = [dataclasses.asdict(row) for row in rows]
    (folder / "fertility.json").write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    (folder / "fertility.csv").write_text(_csv(records))
    (folder / "fertility.svg").write_bytes(plot(rows))
    (folder / page).write_text(render(rows, reference, context))


def plot(rows: Sequence[FertilityRow]) -> bytes:
    """Draws tokens per byte, which need no words, as SVG: the same bytes for the same rows.

    Few languages are groups of bars; of many, each tokenizer is a line, cheapest language first.
    """
    import matplotlib
    from matplotlib.figure import Figure

    languages = list(dict.fromkeys(row.language for row in rows))
    names = list(dict.fromkeys(row.tokenizer for row in rows))
    few = len(languages) <= BARS
    wide = max(4.0, 0.6 * len(rows) + 2.0) if few else 9.0
    figure = Figure(figsize=(wide, 3.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(len(names), 1)
    for i, name in enumerate(names):
        own = [row for row in rows if row.tokenizer == name]
        own = [row for row in own if row.comparable]
        if not few:
            axes.plot(sorted(row.per_byte for row in own), label=name)
            continue
        at = [languages.index(row.language) + (i - (len(names) - 1) / 2) * width for row in own]
        bars = axes.bar(at, [row.per_byte for row in own], width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    if few:
        axes.set_xticks(range(len(languages)), languages, rotation=30 if len(languages) > 6 else 0)
    else:
        axes.set_xlabel(f"{len(languages)} languages, cheapest first")
    axes.set_ylabel("tokens per byte")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fertility"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _csv(records: Sequence[dict]) -> str:
    out = io.StringIO()
    names = [field.name for field in dataclasses.fields(FertilityRow)]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


# ---------------------------------------------------------------------------- the page
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

    def of(self, row: FertilityRow) -> float | None:
        return None if self.words and not row.spaced else self.value(row)


class HeatCell(NamedTuple):
    """Holds one number of the tables: as text, as the script sorts it, and its shade, 0 to 1."""

    text: str = ""
    value: str = ""
    shade: float = 0.0
    good: bool = False


def render(rows: Sequence[FertilityRow], reference: str, context: int) -> str:
    """Returns the whole page: the same bytes for the same rows; arguments as `write_report`."""
    r = FertilityFindings(rows, reference, context)
    measures = _measures(r)
    bars = len(r.languages) <= BARS
    tones = {name: f"t{i % 4}" for i, name in enumerate(r.tokenizers)} | {r.tokenizers[-1]: "t9"}
    return pages.render(
        "fertility.html.j2",
        cards=list(_cards(r)),
        few=FEW,
        whole=WHOLE,
        changed=CHANGED,
        median=statistics.median,
        bars=bars,
        figures=_bars(r, tones) if bars else _ranks(r),
        tones=tones,
        scripts={} if bars else _scripts(r, tones),
        costs=list(_costs(r)),
        detailed=len(r.rows) <= DETAIL,
        measures=measures,
        cells={measure.key: _cells(r, measure) for measure in measures},
        report=r,
        script_name=script_name,
        balance=BALANCE,
        prefill=prefill,
    )


def _cards(r: FertilityFindings) -> Iterator[tuple[str, str, str]]:
    """Yields each tokenizer, the median parity of languages under it, and what that is of."""
    for name in r.tokenizers:
        pairs = r.parities(name)
        values = [value for value, _ in pairs]
        if len(values) == 1:
            yield name, f"{values[0]:.2f}", f"parity of {r.label(pairs[0][1].language)}"
        elif values:
            note = f"median parity, {values[-1]:.2f} to {values[0]:.2f}"
            yield name, f"{statistics.median(values):.2f}", note


# ---------------------------------------------------------------------------- figures
Figures = tuple[dict[str, str], list[plots.Picture]]  # colours by name, and what has them


def _bars(r: FertilityFindings, tones: dict[str, str]) -> Figures:
    """Returns the figure of few languages: a bar for each tokenizer."""
    series = {
        name: {r.label(row.language): value for row, value in r.costs(name)}
        for name in r.tokenizers
    }
    return tones, [plots.bars(series, tones, r.unit)]


def _ranks(r: FertilityFindings) -> Figures:
    """Returns the figures of many languages: for each tokenizer a dot a language, by script."""
    counts = Counter(row.script for row in r.rows if row.script)
    ranked = sorted(counts, key=lambda code: (-counts[code], code))
    colors = {code: f"s{i}" for i, code in enumerate(ranked[:COLORS])}
    named = {script_name(code): color for code, color in colors.items()}
    if any(row.script not in colors for row in r.rows):
        named["other scripts"] = OTHER
    dots = {
        name: [
            plots.Dot(r.label(row.language), value, colors.get(row.script, OTHER))
            for row, value in r.costs(name)
        ]
        for name in r.tokenizers
    }
    values = [dot.value for of_tokenizer in dots.values() for dot in of_tokenizer]
    marks = (2.0, 4.0) if r.parity else ()
    return named, [plots.ranks(name, dots[name], values, marks) for name in r.tokenizers]


def _scripts(r: FertilityFindings, tones: Mapping[str, str]) -> dict[str, Any]:
    """Returns the medians of scripts as a figure and rows; nothing for few scripts."""
    codes = Counter(row.script for row in r.of(r.tokenizers[0]))
    if len(codes) < 3:
        return {}
    costs: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for name in r.tokenizers:
        for row, value in r.costs(name):
            costs[name, row.script].append((value, r.label(row.language)))
    medians = {key: statistics.median(value for value, _ in costs[key]) for key in costs}
    last = r.tokenizers[-1]
    priced = (code for name, code in costs if name == last)
    order = sorted(priced, key=lambda code: (medians[last, code], code))
    series = {
        name: {
            f"{script_name(code)} ({codes[code]})": medians[name, code]
            for code in order
            if (name, code) in medians
        }
        for name in r.tokenizers
    }
    rows = [
        [script_name(code), code, codes[code]]
        + [
            f"{medians[key]:.2f}" if (key := (name, code)) in medians else ""
            for name in r.tokenizers
        ]
        + [max(costs[last, code])[1]]
        for code in order
    ]
    return {"picture": plots.spreads(series, tones, f"median {r.unit}"), "rows": rows}


# ---------------------------------------------------------------------------- tables
def _costs(r: FertilityFindings) -> Iterator[tuple[str, list[FertilityRow], float | None]]:
    """Yields each tokenizer with the rows to show; of many, the extremes, and the median of all."""
    for name in r.tokenizers[1:]:
        rows, middle = r.compared(name), None
        if len(rows) > BARS:
            fewer, more = r.changed(name)
            middle = statistics.median(row.relative for row in rows)
            rows = [*fewer[:EXTREMES], *more[:EXTREMES][::-1]]
        yield name, rows, middle


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
        Measure("unknown", "unknown characters", lambda row: row.unknown, "%"),
        Measure("lost", "texts that do not come back", lambda row: row.lost, ",.0f"),
    ]
    says_something = {
        "lost": any(row.lost for row in r.rows),
        "unknown": any(row.unknown for row in r.rows),
        "relative": len(r.tokenizers) > 1,
        "parity": r.parity,
        "floor": any(row.floor >= 1.05 for row in r.rows if row.spaced),
    }
    return [measure for measure in measures if says_something.get(measure.key, True)]


def _cells(r: FertilityFindings, measure: Measure) -> dict[tuple[str, str], HeatCell]:
    """Returns the cell of every tokenizer and language; empty where there is no number."""
    numbers = {(row.tokenizer, row.language): measure.of(row) for row in r.rows}
    present = [value for value in numbers.values() if value is not None]
    span = min(present, default=0.0), max(present, default=0.0)
    return {key: _cell(measure, value, *span) for key, value in numbers.items()}


def _cell(measure: Measure, value: float | None, low: float, high: float) -> HeatCell:
    """Returns a number with its shade: ratios from 1 on, the rest between the extremes."""
    if value is None:
        return HeatCell()
    if measure.key in ("parity", "relative"):
        distance = math.log(max(value, 1e-9)) / math.log(DEAR)
        shade, good = min(abs(distance), 1.0), distance < 0
    else:
        shade, good = (value - low) / (high - low) if high > low else 0.0, measure.good
    text = f"{100 * value:.1f} %" if measure.form == "%" else f"{value:{measure.form}}"
    return HeatCell(text, f"{value:.6g}", shade, good)
