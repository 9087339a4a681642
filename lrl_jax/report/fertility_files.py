"""Writes measured fertility: as JSON, as CSV, as a plot and as a page.

texts = fertility.texts_in("udhr")
write_report({"llama2": old, "new": new}, texts, "out", reference="eng", parallel=True)
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import difflib
import io
import json

from etils import epath

from lrl_jax.report import fertility as fertility_page
from lrl_jax.vocab.fertility import REFERENCE, FertilityRow, LanguageText, find, measure
from lrl_jax.vocab.tokenizer.types import Tokenizer

CONTEXT = 4096  # Llama 2's (arXiv 2307.09288)
BARS = 16  # languages a plot of bars has room for


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
      texts: the texts of each language, as `fertility.texts_in` reads them.
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
    (folder / page).write_text(fertility_page.render(rows, reference, context))


def plot(rows: Sequence[FertilityRow], form: str = "svg") -> bytes:
    """Draws tokens per byte, which need no words: the same bytes for the same rows.

    Few languages are groups of bars; of many, each tokenizer is a line, cheapest language first.

    Args:
      form: svg or png.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    languages = list(dict.fromkeys(row.language for row in rows))
    names = list(dict.fromkeys(row.tokenizer for row in rows))
    few = len(languages) <= BARS
    wide = max(4.0, 0.6 * len(rows) + 2.0) if few else 9.0
    figure = Figure(figsize=(wide, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / max(len(names), 1)
    for i, name in enumerate(names):
        own = [row for row in rows if row.tokenizer == name]
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
    still = {"Date": None} if form == "svg" else {}  # a date would change the file on every run
    with matplotlib.rc_context({"svg.hashsalt": "fertility"}):
        figure.savefig(out, format=form, metadata=still)
    return out.getvalue()


def _csv(records: Sequence[dict]) -> str:
    out = io.StringIO()
    names = [field.name for field in dataclasses.fields(FertilityRow)]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
