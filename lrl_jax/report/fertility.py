"""The fertility report as a page: findings in words, figures, and every number in a table.

One offline file that reads well with two languages and with hundreds. The only script sorts the
table of languages; without it the table stands in the order given.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import statistics

from lrl_jax.report import fertility_findings as words
from lrl_jax.report import fertility_plots as plots
from lrl_jax.report.fertility_findings import Report
from lrl_jax.report.markup import Html, document, figure, h, join, table
from lrl_jax.vocab.fertility_counts import BALANCE, FertilityRow, prefill

DETAIL = 24  # rows a table of everything at once may have
BARS = 16  # languages a figure of bars has room for
COLORS = 6  # scripts with a colour of their own
DEAR = 8.0  # parity with the darkest cell
EXTREMES = 4  # languages shown at either end


@dataclasses.dataclass(frozen=True)
class Measure:
    """A column of the tables.

    Attributes:
      good: more of it is better, and shaded so.
      words: it counts words, and means nothing where none are written.
    """

    key: str
    title: str
    value: Callable[[FertilityRow], float | None]
    text: Callable[[float], str]
    good: bool = False
    words: bool = False

    def of(self, row: FertilityRow) -> float | None:
        return None if self.words and not row.spaced else self.value(row)


Span = tuple[float, float]  # the least and the most of a measure


def render(rows: Sequence[FertilityRow], reference: str, context: int) -> str:
    """The whole page: the same bytes for the same rows.

    Args:
      reference: the language of parity, as `fertility_rows.find` reads it.
      context: tokens a model reads at most.
    """
    r = Report(rows, reference, context)
    sections = {
        "Findings": h("ul", *(h("li", line) for line in words.findings(r)), class_="findings"),
        "By language": _languages(r),
        "By script": _scripts(r),
        "Cost of saying the same": _cost(r),
        "Every number": _numbers(r),
        "How to read this": _legend(r),
    }
    there = {title: body for title, body in sections.items() if body}
    nav = [h("a", title, href=f"#{_slug(title)}") for title in there]
    head = h("header", h("h1", "What text costs in tokens"), h("p", words.subtitle(r)), _cards(r))
    body = [h("section", h("h2", title), part, id=_slug(title)) for title, part in there.items()]
    css = CSS + _switch_css(_measures(r))
    return document("Fertility", head, h("nav", *nav), *body, css=css, script=SORT)


def _cards(r: Report) -> Html:
    """The median language under each tokenizer."""
    items = []
    for name in r.tokenizers:
        values = [value for value, _ in r.parities(name)]
        if not values:
            continue
        language = r.label(r.parities(name)[0][1].language)
        what = "median parity" if len(values) > 1 else f"parity of {language}"
        note = f"{what}, {values[-1]:.2f} to {values[0]:.2f}" if len(values) > 1 else what
        card = [h("b", f"{statistics.median(values):.2f}"), h("span", name), h("small", note)]
        items.append(h("li", *card))
    return h("ul", *items, class_="cards") if items else Html()


# ---------------------------------------------------------------------------- figures
def _languages(r: Report) -> Html:
    if len(r.languages) <= BARS:
        series = {
            name: {r.label(row.language): value for row, value in r.costs(name)}
            for name in r.tokenizers
        }
        note = f"{r.unit[0].upper()}{r.unit[1:]}."
        keys = _keys({name: _tone(r, name) for name in r.tokenizers})
        colors = {name: _tone(r, name) for name in r.tokenizers}
        return join(keys, figure(plots.bars(series, colors, r.unit), note))
    colors = _script_colors(r)
    named = {words.script_name(code): color for code, color in colors.items()}
    other = "s6" in {_color(colors, row) for row in r.rows}
    every = [value for name in r.tokenizers for _, value in r.costs(name)]
    marks = (2.0, 4.0) if r.parity else ()
    out = [_keys(named | ({"other scripts": "s6"} if other else {}))]
    for name in r.tokenizers:
        dots = [
            plots.Dot(r.label(row.language), value, _color(colors, row))
            for row, value in r.costs(name)
        ]
        out.append(figure(plots.ranks(name, dots, every, marks)))
    text = (
        f"{r.unit[0].upper()}{r.unit[1:]}, on a logarithmic axis. A dot is a language; its name "
        "shows on hover."
    )
    return join(*out, h("p", text, class_="note"))


def _scripts(r: Report) -> Html:
    codes = Counter(row.script for row in r.rows if row.tokenizer == r.tokenizers[0])
    if len(codes) < 3 or len(r.languages) <= BARS:
        return Html()
    medians: dict[str, dict[str, float]] = {}
    dearest: dict[str, str] = {}
    for name in r.tokenizers:
        found: dict[str, list[tuple[float, str]]] = {}
        for row, value in r.costs(name):
            found.setdefault(row.script, []).append((value, r.label(row.language)))
        medians[name] = {code: statistics.median(v for v, _ in of) for code, of in found.items()}
        dearest |= {code: max(of)[1] for code, of in found.items()}
    last = medians[r.tokenizers[-1]]
    order = sorted(last, key=lambda code: (last[code], code))
    series = {
        name: {f"{words.script_name(c)} ({codes[c]})": found[c] for c in order if c in found}
        for name, found in medians.items()
    }
    colors = {name: _tone(r, name) for name in r.tokenizers}
    cells = [
        [words.script_name(code), code, codes[code]]
        + [f"{medians[name][code]:.2f}" for name in r.tokenizers]
        + [dearest[code]]
        for code in order
    ]
    last_column = f"dearest under {r.tokenizers[-1]}"
    columns = ["script", "code", "languages", *r.tokenizers, last_column]
    fold = h("summary", f"The {len(order)} scripts as a table")
    return join(
        _keys(colors),
        figure(plots.spreads(series, colors, f"median {r.unit}"), f"Median {r.unit}."),
        h("details", fold, table(columns, cells, numeric=range(2, 3 + len(r.tokenizers)))),
    )


def _keys(colors: Mapping[str, str]) -> Html:
    """What the colours stand for."""
    items = [h("li", h("i", class_=color), name) for name, color in colors.items()]
    return h("ul", *items, class_="keys")


def _tone(r: Report, name: str) -> str:
    """The colour of a tokenizer: the last is what the page is about, the first what it was."""
    at = r.tokenizers.index(name)
    return "t9" if at == len(r.tokenizers) - 1 else f"t{at % 4}"


def _script_colors(r: Report) -> dict[str, str]:
    count = Counter(row.script for row in r.rows if row.script)
    ranked = sorted(count, key=lambda code: (-count[code], code))
    return {code: f"s{i}" for i, code in enumerate(ranked[:COLORS])}


def _color(colors: Mapping[str, str], row: FertilityRow) -> str:
    return colors.get(row.script, "s6")


# ---------------------------------------------------------------------------- tables
def _cost(r: Report) -> Html:
    """What the other tokenizers make of the text the first one is used to."""
    first, others = r.tokenizers[0], r.tokenizers[1:]
    if not others:
        return Html()
    cells = []
    for name in others:
        rows = r.of(name)
        if many := len(rows) > BARS:
            fewer, more = words.changed(r, name)
            middle = statistics.median(row.relative for row in rows)
            cells.append([name, h("i", "median"), *_costs(middle, r.context), "", ""])
            rows = [*fewer[:EXTREMES], *more[:EXTREMES][::-1]]
        for i, row in enumerate(rows):
            old = r.row(first, row.language)
            room = [f"{of.words_in(r.context):,}" if of.spaced else "" for of in (old, row)]
            title = "" if many or i else name
            cells.append([title, r.label(row.language), *_costs(row.relative, r.context), *room])
    words_in = f"words in {r.context:,} tokens"
    columns = ["tokenizer", "language", "tokens, steps, cache", "prefill"]
    columns += [f"{words_in}: {first}", "this"]
    text = (
        f"Relative to {first} on the same text: 0.5 is half. A text of r times the tokens takes r "
        "times the steps to generate, and r times the memory of keys and values. Reading it "
        f"(prefill), where it fills {r.context:,} tokens under {first}, computes "
        f"r (1 + r N/B) / (1 + N/B) times as much: N = {r.context:,}, B = {BALANCE:,}, the tokens "
        "at which attention costs as much as the weights (here Llama 2 7B). That is nearly r for "
        "short texts and nears r squared for very long ones."
    )
    return join(h("p", text, class_="note"), table(columns, cells, numeric=range(2, 6)))


def _costs(ratio: float, context: int) -> list[str]:
    return [f"{ratio:.2f}", f"{prefill(ratio, context):.2f}"]


def _measures(r: Report) -> list[Measure]:
    """The columns that say something about these rows."""
    first, room = r.tokenizers[0], f"words in {r.context:,} tokens"
    every = [
        Measure("parity", r.parity_unit, lambda row: row.parity, _two),
        Measure("per_word", "tokens per word", lambda row: row.per_word, _two, words=True),
        Measure("per_character", "per character", lambda row: row.per_character, _three),
        Measure("per_byte", "per byte", lambda row: row.per_byte, _three),
        Measure("relative", f"relative to {first}", lambda row: row.relative, _two),
        Measure("whole", "words of one token", lambda row: row.whole_words, _share, True, True),
        Measure("types", "distinct words", lambda row: row.whole_types, _share, True, True),
        Measure("bytes", "single bytes", lambda row: row.byte_share, _share),
        Measure("room", room, lambda row: row.words_in(r.context), _count, True, True),
        Measure("floor", "floor per word", lambda row: row.floor, _two, words=True),
        Measure("lost", "texts that do not come back", lambda row: row.lost, _count),
    ]
    dull = {"lost"} if not any(row.lost for row in r.rows) else set()
    dull |= {"relative"} if len(r.tokenizers) == 1 else set()
    dull |= {"parity"} if not r.parity else set()
    dull |= {"floor"} if all(row.floor < 1.05 for row in r.rows if row.spaced) else set()
    return [measure for measure in every if measure.key not in dull]


def _numbers(r: Report) -> Html:
    measures = _measures(r)
    spans = {measure.key: _span(r, measure) for measure in measures}
    if len(r.rows) <= DETAIL:
        cells = [
            h("tr", _head(r, language) if i == 0 else h("td", ""), h("td", name),
              *(_cell(m, r.row(name, language), spans[m.key]) for m in measures))
            for language in r.languages
            for i, name in enumerate(r.tokenizers)
        ]  # fmt: skip
        columns = ["language", "tokenizer", *(measure.title for measure in measures)]
        return _table([h("th", text) for text in columns], cells, "detail")
    switch: list[Html] = []
    for i, measure in enumerate(measures):
        key = f"by-{measure.key}"
        switch.append(h("input", type="radio", name="measure", id=key, checked=i == 0))
        switch.append(h("label", measure.title, for_=key))
    head = [h("th", "language"), h("th", "script")]
    head += [
        h("th", name, class_=f"num {measure.key}") for measure in measures for name in r.tokenizers
    ]
    cells = []
    for language in r.languages:
        of = [r.row(name, language) for name in r.tokenizers]
        script = h("td", words.script_name(of[0].script))
        values = [_cell(m, row, spans[m.key]) for m in measures for row in of]
        cells.append(h("tr", _head(r, language), script, *values))
    note = "A click on a heading sorts. Empty: nothing to count, as words where none are written."
    return h("div", *switch, _table(head, cells, "sorts"), h("p", note, class_="note"),
             class_="switch")  # fmt: skip


def _head(r: Report, language: str) -> Html:
    name = r.label(language)
    return h("td", name, " ", h("small", language) if name != language else "", class_="name")


def _cell(measure: Measure, row: FertilityRow, span: Span) -> Html:
    value = measure.of(row)
    if value is None:
        return h("td", "", class_=f"num {measure.key}", data_v="")
    shade, good = _shade(measure, value, span)
    kind = f"num heat {measure.key}{' good' if good else ''}"
    style = f"--v:{shade:.2f}" if shade >= 0.01 else None
    return h("td", measure.text(value), class_=kind, style=style, data_v=f"{value:.6g}")


def _shade(measure: Measure, value: float, span: Span) -> tuple[float, bool]:
    """From 0 to 1, and whether it is good: ratios from 1 on, the rest between the extremes."""
    if measure.key in ("parity", "relative"):
        far = math.log(max(value, 1e-9)) / math.log(DEAR)
        return min(abs(far), 1), far < 0
    low, high = span
    return ((value - low) / (high - low) if high > low else 0.0), measure.good


def _span(r: Report, measure: Measure) -> Span:
    found = [value for row in r.rows if (value := measure.of(row)) is not None]
    return (min(found), max(found)) if found else (0.0, 0.0)


def _table(head: Sequence[Html], rows: Sequence[Html], kind: str) -> Html:
    inner = h("table", h("thead", h("tr", *head)), h("tbody", *rows), class_=kind)
    return h("div", inner, class_="wide")


def _legend(r: Report) -> Html:
    return h("dl", *(join(h("dt", k), h("dd", v)) for k, v in words.legend(r)), class_="legend")


def _switch_css(measures: Sequence[Measure]) -> str:
    return "".join(
        f"#by-{m.key}:checked~.wide .num:not(.{m.key}) {{ display:none }}\n" for m in measures
    )


def _two(value: float) -> str:
    return f"{value:.2f}"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


CSS = """
:root { --s0:#8a94a0; --s1:#d9730d; --s2:#7048c8; --s3:#0a7a4b; --s4:#c2255c; --s5:#0b6e99;
  --s6:#8d6e2f }
@media (prefers-color-scheme: dark) { :root { --s0:#7d8894; --s1:#f2a154; --s2:#a98bf0;
  --s3:#57c596; --s4:#f07ba5; --s5:#58b6e0; --s6:#c9ab66 } }
.plot text { fill:var(--muted); font-size:12px; font-variant-numeric:tabular-nums }
.plot .title { fill:var(--ink); font-size:14px; font-weight:600 }
.plot .name, .plot .value { fill:var(--ink); font-size:12.5px }
.grid { stroke:var(--grid) } .grid.strong { stroke:var(--muted) }
.span { stroke:var(--grid); stroke-width:4 }
.plot circle { fill-opacity:.85 } .plot circle:hover { fill-opacity:1; stroke:var(--ink) }
.s0 { fill:var(--s0); background:var(--s0) } .s1 { fill:var(--s1); background:var(--s1) }
.s2 { fill:var(--s2); background:var(--s2) } .s3 { fill:var(--s3); background:var(--s3) }
.s4 { fill:var(--s4); background:var(--s4) } .s5 { fill:var(--s5); background:var(--s5) }
.s6 { fill:var(--s6); background:var(--s6) } .t0 { fill:var(--s0); background:var(--s0) }
.t1 { fill:var(--s1); background:var(--s1) } .t2 { fill:var(--s2); background:var(--s2) }
.t3 { fill:var(--s3); background:var(--s3) } .t9 { fill:var(--accent); background:var(--accent) }
.keys { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; list-style:none; padding:0; margin:.8rem 0;
  font-size:.88rem }
.keys i { display:inline-block; width:.7rem; height:.7rem; border-radius:50%; margin-right:.45rem }
.findings { padding-left:1.1rem } .findings li { margin:.45rem 0 }
.heat { --tint:var(--bad); background:color-mix(in srgb, var(--tint) calc(var(--v,0)*48%),
  transparent) }
.heat.good { --tint:var(--good) }
.sorts td, .detail td { padding:.3rem .7rem } .sorts th, .detail th { padding:.4rem .7rem }
.detail th { white-space:normal; vertical-align:bottom }
.detail th:nth-child(n+3) { text-align:right }
.sorts thead th { position:sticky; top:0; background:var(--page); z-index:1 }
.sorts .name { white-space:nowrap }
.sorts button { all:unset; cursor:pointer; color:inherit } .sorts button:hover { color:var(--ink) }
.sorts button:focus-visible { outline:2px solid var(--accent); outline-offset:2px }
th[aria-sort] { color:var(--ink) } th[aria-sort=ascending] button::after { content:" \\2191" }
th[aria-sort=descending] button::after { content:" \\2193" }
.wide:has(.sorts) { max-height:85vh; overflow:auto }
.switch>label { margin-bottom:.4rem } .switch>.wide { margin-top:.8rem }
.legend { display:grid; grid-template-columns:12rem 1fr; gap:.5rem 1rem; font-size:.92rem }
@media (max-width:40rem) { .legend { grid-template-columns:1fr } }
"""

SORT = """
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") === "descending" || !head.ariaSort && i < 2;
      const key = row => row.cells[i].dataset.v ?? row.cells[i].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        return (up ? 1 : -1) * (i < 2 ? x.localeCompare(y) : x - y);
      });
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    };
  });
}
"""
