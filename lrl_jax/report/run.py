"""Shows what a run did: one offline HTML page, and the table printed at the end of a run.

    write("runs/korean")                            # -> runs/korean/report/index.html
    rich.print(summary_table(before, after, gate))

The page is drawn from whatever the run folder holds so far; see `pieces`.
"""

from collections.abc import Iterator, Sequence
import dataclasses

from etils import epath
from rich import box
from rich.table import Table

from lrl_jax.report import pages, sections
from lrl_jax.report.pages import number
from lrl_jax.report.pieces import Json, Pieces, read

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


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """Holds one line of the table of results, as text.

    Attributes:
      verdict: "better", "worse" or "" (hardly a change, or nothing to compare).
      note: what to hold the number against.
    """

    measure: str
    name: str
    before: str
    after: str
    change: str
    verdict: str = ""
    note: str = ""


def write(folder: epath.PathLike) -> epath.Path:
    """Writes `report/index.html` into the run folder and returns its path.

    Raises:
      ValueError: a piece that is there is not what it should be; the message names the file.
    """
    folder = epath.Path(folder)
    path = folder / "report" / "index.html"
    html = render(read(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name("index.html.tmp")
    unfinished.write_text(html)
    unfinished.replace(path)
    return path


def render(p: Pieces) -> str:
    """Returns the page of a run."""
    results = list(rows(p.before, p.after, p.gate))
    return pages.render(
        "run.html.j2",
        name=p.name,
        subtitle=sections.subtitle(p),
        cards=_cards(results),
        results=[[r.measure, r.name, r.before, r.after, r, r.note] for r in results],
        bits_svg=sections.bits_svg(p),
        fertility=sections.fertility(p),
        proof=p.proof,
        views=sections.views(p),
        rates_svg=sections.rates_svg(p),
        speed=sections.speed(p),
        goodput=sections.time_spent(p),
        mixture=sections.mixture(p),
        samples=sections.samples(p),
        translation=p.after.get("translation") or {},
        chains=p.after.get("chains") or {},
        gate=p.gate,
        about=sections.about(p),
        recipe=p.recipe,
        labels=LABELS,
    )


def _cards(results: Sequence[ReportRow]) -> list[dict[str, str]]:
    """Returns the numbers to remember: a few of each kind that changed, and the gate."""
    chosen = []
    for measure, most in (("tokens per line", 1), ("bits per byte", 3), ("chrF", 1)):
        chosen += [row for row in results if row.measure == measure and row.change][:most]
    cards = [
        {
            "value": row.change,
            "label": f"{row.measure}, {row.name}",
            "note": f"{row.before} \N{RIGHTWARDS ARROW} {row.after}",
            "verdict": row.verdict,
        }
        for row in chosen
    ]
    gate = {"note": "tokens and logits of the export"}
    return cards + [
        gate | {"value": row.after, "label": row.measure, "verdict": row.verdict}
        for row in results
        if row.measure == "export gate"
    ]


# ---------------------------------------------------------------------------- the results
def rows(before: Json, after: Json, gate: Json | None = None) -> Iterator[ReportRow]:
    """Yields the results line by line: tokens and bits, translation, chains, export gate."""
    for measure in ("tokens per line", "bits per byte"):
        for name, old, new in _pairs(before, after, "bits_per_byte"):
            yield _text_row(measure, name, old, new, _baselines(before, after, name))
    for measure, key in (("chrF", "chrf"), ("BLEU", "bleu")):
        for name, old, new in _pairs(before, after, "translation"):
            yield _score_row(measure, name, key, old, new)
    for measure, key in (("whole chains, %", "parsed"), ("chrF of the answer", "chrf")):
        for name, old, new in _pairs(before, after, "chains"):
            yield _score_row(measure, name, key, old, new)
    if gate:
        passed = bool(gate.get("passed"))
        yield ReportRow(
            "export gate", "", "", "passed" if passed else "FAILED", "", "" if passed else "worse"
        )


def summary_table(before: Json, after: Json, gate: Json | None = None) -> Table:
    """Returns the same lines as a table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, title="before and after", title_justify="left")
    for column in ("", "", "before", "after", "change", ""):
        right = column in ("before", "after", "change")
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    styles = {"better": "green", "worse": "red", "": ""}
    last = ""
    for row in rows(before, after, gate):
        measure = row.measure if row.measure != last else ""
        if measure and last:
            table.add_section()
        last = row.measure
        style = styles[row.verdict]
        change = f"[{style}]{row.change}[/]" if style and row.change else row.change
        final = f"[{style}]{row.after}[/]" if style and not row.change else row.after
        table.add_row(measure, _plain(row.name), row.before, final, change, f"[dim]{row.note}[/]")
    return table


def tokens_per_line(score: Json) -> float | None:
    """Returns the tokens a line of a scored text takes; None when the score does not say."""
    tokens, lines = number(score.get("tokens")), number(score.get("lines"))
    return tokens / lines if tokens and lines else None


def _text_row(measure: str, name: str, old: Json, new: Json, note: str) -> ReportRow:
    if measure == "tokens per line":
        was, now = tokens_per_line(old), tokens_per_line(new)
        digits, note = 1, ""
    else:
        was, now = number(old.get("bits_per_byte")), number(new.get("bits_per_byte"))
        digits = 3
    change = verdict = ""
    if was and now is not None:
        ratio = now / was
        change = f"{100 * (ratio - 1):+.1f} %"
        if measure == "tokens per line" and abs(ratio - 1) > 0.005:
            change = f"{1 / ratio:.2f}x fewer" if ratio < 1 else f"{ratio:.2f}x more"
        verdict = "better" if ratio < 0.995 else "worse" if ratio > 1.005 else ""
    return ReportRow(measure, name, _fixed(was, digits), _fixed(now, digits), change, verdict, note)


def _score_row(measure: str, name: str, key: str, old: Json, new: Json) -> ReportRow:
    was, now = number(old.get(key)), number(new.get(key))
    change = verdict = note = ""
    if was is not None and now is not None:
        change = f"{now - was:+.1f}"
        verdict = "better" if now - was >= 0.05 else "worse" if was - now >= 0.05 else ""
    if lines := (new or old).get("lines"):
        note = f"{lines} lines"
    if key == "bleu" and "bleu_tokenizer" in new:
        note += f", tokenized by {new['bleu_tokenizer']}"
    return ReportRow(measure, name, _fixed(was, 1), _fixed(now, 1), change, verdict, note)


def _pairs(before: Json, after: Json, key: str) -> Iterator[tuple[str, Json, Json]]:
    old, new = before.get(key) or {}, after.get(key) or {}
    for name in {**new, **old}:
        yield name, old.get(name) or {}, new.get(name) or {}


def _baselines(before: Json, after: Json, name: str) -> str:
    every = {**(before.get("baselines") or {}), **(after.get("baselines") or {})}
    values = {kind: number(value) for kind, value in (every.get(name) or {}).items()}
    return ", ".join(f"{kind} {v:.2f}" for kind, v in values.items() if v is not None)


def _fixed(value: float | None, digits: int) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def _plain(text: str) -> str:
    """Returns text that rich does not read as markup."""
    return text.replace("[", r"\[")
