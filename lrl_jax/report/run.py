"""Shows what a run did: one offline HTML page, and the table printed at the end of a run.

    write("runs/korean")                            # -> runs/korean/report/index.html
    rich.print(summary_table(before, after, gate))

The page is drawn from whatever the run folder holds so far; see `pieces`.
"""

from collections.abc import Iterator, Sequence

from etils import epath
from rich import box
from rich.table import Table

from lrl_jax import storage
from lrl_jax.evaluate import kinds
from lrl_jax.evaluate.rows import ReportRow
from lrl_jax.report import pages, sections
from lrl_jax.report.pieces import Pieces, read
from lrl_jax.storage import Json

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


def write(folder: epath.PathLike) -> epath.Path:
    """Writes `report/index.html` into the run folder and returns its path.

    Raises:
      ValueError: a piece that is there is not what it should be; the message names the file.
    """
    folder = epath.Path(folder)
    path = folder / "report" / "index.html"
    html = render(read(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(path, html)
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
        examples=kinds.examples(p.after),
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
    """Yields the results line by line: those of every kind of evaluation, then the gate."""
    yield from kinds.all_rows(before, after)
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


def _plain(text: str) -> str:
    """Returns text that rich does not read as markup."""
    return text.replace("[", r"\[")
