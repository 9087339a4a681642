"""The report, section by section; each shows what its part of the run left, or nothing."""

from collections.abc import Mapping
import re
import statistics
from typing import Any

from lrl_jax.report import plots
from lrl_jax.report import run as run_page
from lrl_jax.report.markup import (
    Html,
    cell,
    document,
    duration,
    facts,
    figure,
    fixed,
    h,
    join,
    number,
    table,
)
from lrl_jax.report.run import Json, Pieces
from lrl_jax.train import goodput

VIEWS = {"tokens_read": "tokens", "bytes_read": "bytes of text", "step": "steps"}  # x axes
FERTILITY = {
    "per_line": "tokens per line",
    "per_word": "per word",
    "per_character": "per character",
    "per_byte": "per byte",
    "parity": "parity with the reference language",
}
LABELS = {  # of hf.gate.Gate and vocab.prove.Proof
    "ok": "all promises kept",
    "form_ids": "texts the two tokenizer forms encode differently",
    "form_texts": "texts the two tokenizer forms decode differently",
    "round_trip": "texts that do not survive encoding and decoding",
    "base_moved": "base-language texts whose tokens changed",
    "base_pieces": "base pieces that changed",
    "unreachable": "new pieces that cannot be reached",
    "silent": "new pieces never emitted on the new text",
    "utilisation": "share of new pieces emitted",
    "reload_error": "largest difference of logits, reloaded by lrl_jax",
    "transformers_error": "largest difference of logits, in transformers",
}
EXAMPLES = 6  # shown before a fold
WORDS = ("vocab", "init", "data", "train", "evaluate", "export")


def render(p: Pieces) -> str:
    """The whole page."""
    sections = {
        "Results": _results(p),
        "Vocabulary": _vocabulary(p),
        "Training": _training(p),
        "Time": _time(p),
        "Mixture": _mixture(p),
        "Samples while training": _samples(p),
        "Translations": _texts(p, "translation"),
        "Chains": _texts(p, "chains"),
        "Export": facts(p.gate, LABELS),
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
    return document(f"{p.name}: report", *body)


# ---------------------------------------------------------------------------- head
def _subtitle(p: Pieces) -> str:
    last = p.metrics[-1] if p.metrics else {}
    parts = []
    if last:
        parts.append(f"{last['step']:,} steps")
    for key, unit in (("tokens_read", "tokens"), ("bytes_read", "bytes of text")):
        if (value := number(last.get(key))) is not None:
            parts.append(f"{plots.short(value)} {unit}")
    if total := sum(p.seconds.values()):
        parts.append(duration(total))
    if devices := (p.after.get("facts") or {}).get("devices"):
        parts.append(f"on {devices}")
    return ", ".join(parts) or "not trained yet"


def _cards(p: Pieces) -> Html:
    """The numbers to remember: of each kind the one that changed most, and the gate."""
    rows = list(run_page.rows(p.before, p.after, p.gate))
    cards = []
    for measure, most in (("tokens per line", 1), ("bits per byte", 3), ("chrF", 1)):
        cards += [row for row in rows if row.measure == measure and row.change][:most]
    items = [_card(row.change, f"{row.measure}, {row.name}", row) for row in cards]
    items += [_card(row.after, row.measure, row) for row in rows if row.measure == "export gate"]
    return h("ul", *items, class_="cards") if items else Html()


def _card(value: str, label: str, row: run_page.ReportRow) -> Html:
    path = f"{row.before} → {row.after}" if row.before else "tokens and logits of the export"
    return h("li", h("b", value, class_=row.verdict), h("span", label), h("small", path))


# ---------------------------------------------------------------------------- sections
def _results(p: Pieces) -> Html:
    rows = list(run_page.rows(p.before, p.after, p.gate))
    if not rows:
        return Html()
    cells = [
        [row.measure, row.name, row.before, row.after, _verdict(row), row.note] for row in rows
    ]
    columns = ["measure", "text", "before", "after", "change", ""]
    numbers = table(columns, cells, numeric=(2, 3, 4))
    before, after = (
        {
            name: value
            for name, score in (part.get("bits_per_byte") or {}).items()
            if (value := number(score.get("bits_per_byte"))) is not None
        }
        for part in (p.before, p.after)
    )
    if not before | after:
        return numbers
    baselines = {**(p.before.get("baselines") or {}), **(p.after.get("baselines") or {})}
    svg = plots.dumbbells(before, after, "bits per byte", baselines)
    note = (
        "Bits per byte do not depend on the tokenizer, so they compare before and after. "
        "Hollow: before. Full: after. Ticks: character n-gram models counted on the training text."
    )
    return join(numbers, figure(svg, note))


def _vocabulary(p: Pieces) -> Html:
    columns = [key for key in FERTILITY if any(number(r.get(key)) is not None for r in p.fertility)]
    series: dict[str, dict[str, float]] = {}
    for row in p.fertility:
        if columns and (value := number(row.get(columns[0]))) is not None:
            series.setdefault(str(row.get("tokenizer")), {})[str(row.get("language"))] = value
    out = []
    if series:
        cells = [
            [cell(row.get("tokenizer")), cell(row.get("language"))]
            + [fixed(row.get(key)) for key in columns]
            for row in p.fertility
        ]
        names = ["tokenizer", "language", *(FERTILITY[key] for key in columns)]
        out.append(figure(plots.bars(series, FERTILITY[columns[0]])))
        out.append(table(names, cells, numeric=range(2, len(names))))
    if p.proof:
        out += [h("h3", "Proof"), facts(p.proof, LABELS)]
    return join(*out)


def _training(p: Pieces) -> Html:
    count = len(_points(p, "step", "loss")[0])
    if not count:
        return Html()
    views = [view for view in VIEWS if len(_points(p, view, "loss")[0]) == count]
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
        out.append(figure(plots.lines(rates, "steps", "learning rate", marks)))
    speed = _points(p, "step", "tokens_per_second")
    if speed[0]:
        svg = plots.curve(speed, "steps", "tokens per second", marks, zero=True)
        out.append(figure(svg, f"Median {plots.short(statistics.median(speed[1]))} tokens/s."))
    return join(*out)


def _curves(p: Pieces, view: str) -> Html:
    marks = _marks(p, view)
    loss = plots.curve(_points(p, view, "loss"), VIEWS[view], "loss, nats per token", marks)
    names = sorted({name for record in p.metrics for name in record.get("bits_per_byte") or {}})
    each = _present({name: _points(p, view, "bits_per_byte", name) for name in names})
    if not each:
        return figure(loss)
    panels = plots.panels(each, VIEWS[view], "bits per byte", marks)
    return join(
        figure(loss),
        figure(panels, "One panel a dataset, on its training text; grey: the other datasets."),
    )


def _time(p: Pieces) -> Html:
    """Where the wall time of training went, over all its processes."""
    found = goodput.measure(p.events, p.metrics)
    if found is None:
        return Html()
    named = {goodput.SAYS[kind]: seconds for kind, seconds in found.spent.items()}
    cells = [
        [name, duration(seconds), f"{100 * seconds / found.wall:.1f} %"]
        for name, seconds in named.items()
    ]
    cells.append(["from the first start to the last step", duration(found.wall), "100 %"])
    note = (
        f"Goodput: {100 * found.share:.1f} % of the time went into steps that count. "
        f"Restarts: {found.restarts}; steps made again: {found.lost}."
    )
    svg = plots.stack(found.spent, "seconds")
    return join(figure(svg, note), table(["", "time", "share"], cells, numeric=(1, 2)))


def _mixture(p: Pieces) -> Html:
    stages = (p.plan.get("train") or {}).get("stages") or []
    cells = []
    before: Mapping[str, float] = {}
    for stage in stages:
        done = [r.get("epochs") or {} for r in p.metrics if r.get("stage") == stage.get("name")]
        after = done[-1] if done else before
        weights = _configured(p, stage)
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
    return table(columns, cells, numeric=(2, 3, 5, 6))


def _configured(p: Pieces, stage: Json) -> dict[str, float]:
    """Tokens of each dataset that a stage is to read, by the plan; without one, its weights."""
    mine = re.compile(re.escape(str(stage.get("name"))) + r"(\.\d+)?")  # a ramp is many in the plan
    parts = [s for s in p.order.get("stages") or [] if mine.fullmatch(str(s.get("name")))]
    if not parts:
        return {name: number(w) or 0.0 for name, w in (stage.get("mixture") or {}).items()}
    tokens: dict[str, float] = {}
    for part in parts:
        whole = sum(part["weights"].values())
        for name, weight in part["weights"].items():
            manifest = p.manifests.get(name, {})
            per_row = (number(manifest.get("tokens")) or 0) / (number(manifest.get("rows")) or 1)
            tokens[name] = tokens.get(name, 0.0) + part["rows"] * weight / whole * per_row
    return tokens


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
        out.append(h("div", h("h3", prompt, dir="auto"), table([], cells), class_="sample"))
    return join(*out)


def _texts(p: Pieces, measure: str) -> Html:
    """Examples of what was written, of each name under `measure`."""
    out = []
    for name, score in (p.after.get(measure) or {}).items():
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
    rows = [join(h("dt", key), h("dd", text, dir="auto")) for key, text in example.items()]
    return h("dl", *rows, class_="example")


def _about(p: Pieces) -> Html:
    about = dict(p.after.get("facts") or p.before.get("facts") or {})
    if (seconds := number(about.pop("seconds", None))) is not None:
        about["time: measuring once"] = duration(seconds)
    about |= {f"time: {word}": duration(p.seconds[word]) for word in WORDS if word in p.seconds}
    out = [facts(about)]
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


def _verdict(row: run_page.ReportRow) -> Html:
    return h("span", row.change, class_=row.verdict or None)


def _bar(want: float, got: float | None) -> Html:
    """A bar of the realised share, with a tick at the configured one."""
    full = h("i", style=f"width:{100 * (got or 0):.1f}%")
    return h("div", full, h("b", style=f"left:{100 * want:.1f}%"), class_="bar")


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")
