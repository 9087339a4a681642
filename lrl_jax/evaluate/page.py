"""The report as HTML: one page that needs no script, font or picture from anywhere else.

Everything that is not made by `h` itself is escaped, so text of a model or a corpus cannot be
read as markup.
"""

from collections.abc import Mapping, Sequence
import html
import json
import statistics
from typing import Any

from lrl_jax.evaluate import plots, report
from lrl_jax.evaluate.report import Json, Pieces, number

VIEWS = {"tokens": "tokens", "bytes": "bytes of text", "step": "steps"}  # x axes of training
EXAMPLES = 6  # shown before a fold
WORDS = ("vocab", "init", "data", "train", "evaluate", "export")


class Html(str):
    """Text that is markup already."""


def h(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element; children and attributes are escaped unless they are Html.

    >>> h("p", "1 < 2", h("b", "!"), class_="note")
    '<p class="note">1 &lt; 2<b>!</b></p>'
    """
    pairs = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    text = "".join(
        f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
        for name, value in pairs
        if value not in (False, None)
    )
    if tag in ("input", "meta"):
        return Html(f"<{tag}{text}>")
    return Html(f"<{tag}{text}>{join(*children)}</{tag}>")


def join(*children: Any) -> Html:
    """Children one after another, each escaped unless it is Html."""
    return Html("".join(c if isinstance(c, Html) else html.escape(str(c)) for c in children))


def render(p: Pieces) -> str:
    """The whole page."""
    sections = {
        "Results": _results(p),
        "Vocabulary": _vocabulary(p),
        "Training": _training(p),
        "Mixture": _mixture(p),
        "Samples while training": _samples(p),
        "Translations": _translations(p),
        "Export": _facts(p.gate),
        "About this run": _about(p),
    }
    there = {title: body for title, body in sections.items() if body}
    missing = [title for title, body in sections.items() if not body]
    nav = [h("a", title, href=f"#{_slug(title)}") for title in there]
    body = [
        h("header", h("h1", p.name), h("p", _subtitle(p)), _cards(p), h("nav", *nav)),
        *(h("section", h("h2", t), b, id=_slug(t)) for t, b in there.items()),
    ]
    if missing:
        text = f"Nothing yet for: {', '.join(missing)}."
        body.append(h("p", text, class_="note"))
    head = [
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", http_equiv="Content-Security-Policy", content=POLICY),
        h("title", f"{p.name}: report"),
        h("style", Html(CSS)),
    ]
    page = h("html", h("head", *head), h("body", h("main", *body)), lang="en")
    return f"<!doctype html>\n{page}\n"


# ---------------------------------------------------------------------------- head
def _subtitle(p: Pieces) -> str:
    last = p.metrics[-1] if p.metrics else {}
    parts = []
    if last:
        parts.append(f"{last['step']:,} steps")
    for key, unit in (("tokens", "tokens"), ("bytes", "bytes of text")):
        if (value := number(last.get(key))) is not None:
            parts.append(f"{plots.short(value)} {unit}")
    if total := sum(p.seconds.values()):
        parts.append(_duration(total))
    if devices := (p.after.get("facts") or {}).get("devices"):
        parts.append(f"on {devices}")
    return ", ".join(parts) or "not trained yet"


def _cards(p: Pieces) -> Html:
    """The numbers to remember: of each kind the one that changed most, and the gate."""
    rows = list(report.rows(p.before, p.after, p.gate))
    cards = []
    for measure, most in (("tokens per line", 1), ("bits per byte", 3), ("chrF", 1)):
        cards += [row for row in rows if row.measure == measure and row.change][:most]
    items = [_card(row.change, f"{row.measure}, {row.name}", row) for row in cards]
    items += [_card(row.after, row.measure, row) for row in rows if row.measure == "export gate"]
    return h("ul", *items, class_="cards") if items else Html()


def _card(value: str, label: str, row: report.Row) -> Html:
    path = f"{row.before} → {row.after}" if row.before else "tokens and logits of the export"
    return h("li", h("b", value, class_=row.verdict), h("span", label), h("small", path))


# ---------------------------------------------------------------------------- sections
def _results(p: Pieces) -> Html:
    rows = list(report.rows(p.before, p.after, p.gate))
    if not rows:
        return Html()
    cells = [
        [row.measure, row.name, row.before, row.after, _verdict(row), row.note] for row in rows
    ]
    table = _table(["measure", "text", "before", "after", "change", ""], cells, numeric=(2, 3, 4))
    before, after = (
        {
            name: value
            for name, score in (part.get("bits_per_byte") or {}).items()
            if (value := number(score.get("bits_per_byte"))) is not None
        }
        for part in (p.before, p.after)
    )
    if not before | after:
        return table
    baselines = {**(p.before.get("baselines") or {}), **(p.after.get("baselines") or {})}
    figure = plots.dumbbells(before, after, "bits per byte", baselines)
    note = (
        "Bits per byte do not depend on the tokenizer, so they compare before and after. "
        "Hollow: before. Full: after. Ticks: character n-gram models counted on the training text."
    )
    return join(table, _figure(figure, note))


def _vocabulary(p: Pieces) -> Html:
    measures = {key: key.replace("_", " ") for key in ("tokens_per_line", "tokens_per_word")}
    out = []
    for key, unit in measures.items():
        series: dict[str, dict[str, float]] = {}
        for row in p.fertility:
            if (value := number(row.get(key))) is not None:
                series.setdefault(str(row.get("tokenizer", "")), {})[str(row["language"])] = value
        if series:
            out.append(_figure(plots.bars(series, unit), ""))
            break
    if p.fertility:
        keys = list(p.fertility[0])
        cells = [[_cell(row.get(key, "")) for key in keys] for row in p.fertility]
        numeric = [i for i, key in enumerate(keys) if number(p.fertility[0][key]) is not None]
        out.append(_table([key.replace("_", " ") for key in keys], cells, numeric=numeric))
    if p.proof:
        out += [h("h3", "Proof"), _facts(p.proof)]
    return join(*out)


def _training(p: Pieces) -> Html:
    views = [view for view in VIEWS if _points(p, view, "loss")[0]]
    if not views:
        return Html()
    switch: list[Html] = []
    for view in views:
        first = view == views[0]
        switch += [
            h("input", type="radio", name="view", id=f"by-{view}", checked=first),
            h("label", f"by {VIEWS[view]}", for_=f"by-{view}"),
        ]
    note = (
        "By tokens, runs are compared at equal compute; by bytes, at equal text read. "
        "A tokenizer with longer pieces reads more text in the same tokens."
    )
    bodies = [h("div", _curves(p, view), class_=f"view {view}") for view in views]
    out = [h("p", note), h("div", *switch, *bodies, class_="switch")]
    marks = _marks(p, "step")
    groups = sorted({name for record in p.metrics for name in record.get("lr") or {}})
    if rates := _present({name: _points(p, "step", "lr", name) for name in groups}):
        out.append(_figure(plots.lines(rates, "steps", "learning rate", marks), ""))
    speed = _points(p, "step", "tokens_per_second")
    if speed[0]:
        figure = plots.curve(speed, "steps", "tokens per second", marks, zero=True)
        out.append(_figure(figure, f"Median {plots.short(statistics.median(speed[1]))} tokens/s."))
    return join(*out)


def _curves(p: Pieces, view: str) -> Html:
    marks = _marks(p, view)
    figure = plots.curve(_points(p, view, "loss"), VIEWS[view], "loss, nats per token", marks)
    names = sorted({name for record in p.metrics for name in record.get("bits_per_byte") or {}})
    each = _present({name: _points(p, view, "bits_per_byte", name) for name in names})
    if not each:
        return _figure(figure, "")
    panels = plots.panels(each, VIEWS[view], "bits per byte", marks)
    return join(
        _figure(figure, ""),
        _figure(panels, "One panel a dataset, on its training text; grey: the other datasets."),
    )


def _mixture(p: Pieces) -> Html:
    stages = (p.plan.get("train") or {}).get("stages") or []
    cells = []
    before: Mapping[str, float] = {}
    for stage in stages:
        done = [r.get("epochs") or {} for r in p.metrics if r.get("stage") == stage.get("name")]
        after = done[-1] if done else before
        weights = {name: number(w) or 0.0 for name, w in (stage.get("mixture") or {}).items()}
        tokens = {
            name: (after.get(name, 0) - before.get(name, 0))
            * (number(p.manifests.get(name, {}).get("tokens")) or 0)
            for name in weights
        }
        for name, weight in weights.items():
            want = weight / (sum(weights.values()) or 1)
            got = tokens[name] / total if (total := sum(tokens.values())) else None
            cells.append(
                [
                    stage.get("name", "") if name == next(iter(weights)) else "",
                    name,
                    f"{100 * want:.1f} %",
                    "not measured" if got is None else f"{100 * got:.1f} %",
                    _bar(want, got),
                    plots.short(tokens[name]) if got is not None else "",
                    f"{after[name]:.2f}" if name in after else "",
                ]
            )
        before = after
    if not cells:
        return Html()
    columns = ["stage", "dataset", "configured", "realised", "", "tokens", "epochs so far"]
    return _table(columns, cells, numeric=(2, 3, 5, 6))


def _samples(p: Pieces) -> Html:
    prompts: dict[str, list[Json]] = {}
    for sample in p.samples:
        prompts.setdefault(str(sample.get("prompt", "")), []).append(sample)
    out = []
    for prompt, told in prompts.items():
        chosen = [told[i] for i in sorted({0, len(told) // 2, len(told) - 1})]
        cells = [
            [f"step {s['step']:,}", h("span", s.get("text") or "(nothing)", dir="auto")]
            for s in chosen
        ]
        out.append(h("div", h("h3", prompt, dir="auto"), _table([], cells), class_="sample"))
    return join(*out)


def _translations(p: Pieces) -> Html:
    out = []
    for name, score in (p.after.get("translation") or {}).items():
        examples = [_example(example) for example in score.get("examples") or []]
        out += [h("h3", name), *examples[:EXAMPLES]]
        if len(examples) > EXAMPLES:
            more = f"{len(examples) - EXAMPLES} more"
            out.append(h("details", h("summary", more), *examples[EXAMPLES:]))
        if signatures := score.get("signatures"):
            text = ", ".join(f"{key} {value}" for key, value in signatures.items())
            out.append(h("p", f"sacrebleu signatures: {text}", class_="note"))
    return join(*out)


def _example(example: Json) -> Html:
    rows = [
        join(h("dt", key), h("dd", example.get(key, ""), dir="auto"))
        for key in ("source", "reference", "hypothesis")
    ]
    return h("dl", *rows, class_="example")


def _about(p: Pieces) -> Html:
    facts = dict(p.after.get("facts") or p.before.get("facts") or {})
    times = {f"time: {word}": _duration(p.seconds[word]) for word in WORDS if word in p.seconds}
    out = [_facts({**facts, **times})]
    if p.recipe:
        out.append(h("details", h("summary", "recipe.yaml, as resolved"), h("pre", p.recipe)))
    return join(*out)


# ---------------------------------------------------------------------------- parts
def _points(p: Pieces, x: str, *path: str) -> plots.Curve:
    """The records that have both the x and the value, as a curve."""
    pairs = []
    for record in p.metrics:
        value: Any = record
        for key in path:
            value = (value or {}).get(key)
        at, value = number(record.get(x)), number(value)
        if at is not None and value is not None:
            pairs.append((at, value))
    return [at for at, _ in pairs], [value for _, value in pairs]


def _marks(p: Pieces, x: str) -> list[plots.Mark]:
    """Where each stage begins."""
    marks: dict[str, float] = {}
    for record in p.metrics:
        if "stage" in record and (at := number(record.get(x))) is not None:
            marks.setdefault(str(record["stage"]), at)
    return [(at, name) for name, at in marks.items()]


def _present(curves: dict[str, plots.Curve]) -> dict[str, plots.Curve]:
    return {name: data for name, data in curves.items() if data[0]}


def _figure(svg: str, caption: str) -> Html:
    return h("figure", Html(svg), h("figcaption", caption) if caption else "")


def _table(
    columns: Sequence[str], cells: Sequence[Sequence[Any]], numeric: Sequence[int] = ()
) -> Html:
    def line(tag: str, values: Sequence[Any]) -> Html:
        marked = ("num" if i in numeric else None for i in range(len(values)))
        return h("tr", *(h(tag, v, class_=c) for v, c in zip(values, marked, strict=True)))

    head = h("thead", line("th", columns)) if columns else ""
    return h("div", h("table", head, h("tbody", *(line("td", c) for c in cells))), class_="wide")


def _facts(facts: Json) -> Html:
    rows = [[key.replace("_", " "), _cell(value)] for key, value in facts.items()]
    return _table([], rows) if rows else Html()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _verdict(row: report.Row) -> Html:
    return h("span", row.change, class_=row.verdict or None)


def _bar(want: float, got: float | None) -> Html:
    """A bar of the realised share, with a tick at the configured one."""
    full = h("i", style=f"width:{100 * (got or 0):.1f}%")
    return h("div", full, h("b", style=f"left:{100 * want:.1f}%"), class_="bar")


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def _duration(seconds: float) -> str:
    """
    >>> _duration(4.2), _duration(75), _duration(7322)
    ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
CSS = """
:root { --ink:#1b1f24; --muted:#646c76; --grid:#dfe3e8; --page:#fff; --soft:#f5f7f9;
  --accent:#0b6e99; --good:#0a7a4b; --bad:#b3362b; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ed; --muted:#98a2ad; --grid:#343b44;
  --page:#14181d; --soft:#1c2229; --accent:#58b6e0; --good:#57c596; --bad:#f0877c; } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.55 system-ui, "Segoe UI", "Noto Sans", "Noto Sans CJK KR", sans-serif }
main { max-width:60rem; margin:0 auto; padding:2.5rem 1.25rem 5rem }
h1 { font-size:2rem; line-height:1.2; margin:0 } header>p { color:var(--muted); margin:.3rem 0 }
h2 { font-size:1.3rem; margin:3.5rem 0 1rem; padding-top:1rem; border-top:1px solid var(--grid) }
h3 { font-size:1rem; margin:1.8rem 0 .4rem }
nav { display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; margin-top:1.5rem; font-size:.9rem }
a { color:var(--accent); text-decoration:none } a:hover { text-decoration:underline }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr)); gap:.8rem;
  list-style:none; padding:0; margin:1.8rem 0 0 }
.cards li { background:var(--soft); border-radius:.6rem; padding:.9rem 1rem }
.cards b { display:block; white-space:nowrap; font-size:1.35rem; line-height:1.25;
  font-variant-numeric:tabular-nums }
.cards span { display:block; font-size:.9rem }
small, .note, figcaption { color:var(--muted); font-size:.85rem }
.better { color:var(--good) } .worse { color:var(--bad) }
.wide { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-size:.92rem; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:500; color:var(--muted); white-space:nowrap }
th, td { padding:.38rem .9rem .38rem 0; border-bottom:1px solid var(--grid); vertical-align:top }
.num { text-align:right; white-space:nowrap }
.num+td:not(.num) { padding-left:.8rem }
figure { margin:1.6rem 0 } figure svg { display:block; width:100%; height:auto; overflow:visible }
.switch>input { position:absolute; opacity:0 }
.switch>label { display:inline-block; padding:.25rem .9rem; margin-right:.4rem; cursor:pointer;
  border:1px solid var(--grid); border-radius:2rem; font-size:.88rem }
.switch>input:checked+label { background:var(--accent); border-color:var(--accent);
  color:var(--page) }
.switch>input:focus-visible+label { outline:2px solid var(--ink); outline-offset:2px }
#by-tokens:checked~.view:not(.tokens), #by-bytes:checked~.view:not(.bytes),
#by-step:checked~.view:not(.step) { display:none }
.bar { position:relative; width:9rem; height:.7rem; margin-top:.4rem; background:var(--soft);
  border-radius:2px }
.bar i { display:block; height:100%; background:var(--accent); border-radius:2px }
.bar b { position:absolute; top:-.2rem; width:2px; height:1.1rem; background:var(--ink) }
.sample td:first-child { width:7rem; color:var(--muted); white-space:nowrap }
.sample h3, dd, .sample td { white-space:pre-wrap; overflow-wrap:anywhere }
.example { display:grid; grid-template-columns:6.5rem 1fr; gap:.1rem .5rem; margin:0;
  padding:.7rem 0; border-bottom:1px solid var(--grid) }
dt { color:var(--muted); font-size:.85rem; line-height:1.75 } dd { margin:0 }
summary { cursor:pointer; color:var(--accent); margin:1rem 0 }
pre { background:var(--soft); padding:1rem; border-radius:.6rem; overflow-x:auto; font-size:.82rem }
@media print { .view { display:block !important } nav, .switch>label { display:none } }
"""
