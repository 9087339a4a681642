"""How many tokens a language costs under each tokenizer: table, CSV, JSON and a plot.

    rows = report({"base": old, "new": new}, {"eng_Latn": english, "kor_Hang": korean})
    write(rows, "runs/korean/vocab")

Words are what stands between spaces; for scripts that write none, read tokens per character, or
parity: tokens relative to the reference language on text that says the same.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import io
import json

from etils import epath
from rich.table import Table

from lrl_jax.vocab.tokenizer import Tokenizer

REFERENCE = "eng_Latn"


@dataclasses.dataclass(frozen=True)
class Row:
    """One tokenizer on one language.

    Attributes:
      parity: tokens relative to the reference language; None where it has no text of as many lines.
    """

    tokenizer: str
    language: str
    lines: int
    words: int
    characters: int
    bytes: int
    tokens: int
    per_word: float
    per_character: float
    per_byte: float
    per_line: float
    parity: float | None


def report(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, Sequence[str]],
    reference: str = REFERENCE,
) -> list[Row]:
    """Rows in the order given, languages within tokenizers.

    Args:
      texts: language -> lines, aligned with those of `reference` for parity to mean anything.

    Raises:
      ValueError: a language without any text.
    """
    rows = []
    for name, tokenizer in tokenizers.items():
        counts = {
            language: sum(map(len, tokenizer.encode_batch(lines)))
            for language, lines in texts.items()
        }
        for language, lines in texts.items():
            aligned = reference in texts and len(lines) == len(texts[reference])
            parity = counts[language] / max(counts[reference], 1) if aligned else None
            rows.append(_row(name, language, lines, counts[language], parity))
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    out = Table(title="tokens per ...", title_justify="left")
    for heading in ("tokenizer", "language"):
        out.add_column(heading)
    for heading in ("word", "character", "byte", "line", "parity"):
        out.add_column(heading, justify="right")
    for row in rows:
        out.add_row(
            row.tokenizer,
            row.language,
            f"{row.per_word:.2f}",
            f"{row.per_character:.3f}",
            f"{row.per_byte:.3f}",
            f"{row.per_line:.1f}",
            "" if row.parity is None else f"{row.parity:.2f}",
        )
    return out


def write(rows: Sequence[Row], folder: epath.PathLike) -> None:
    """Writes fertility.json, fertility.csv and fertility.svg."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = [dataclasses.asdict(row) for row in rows]
    (folder / "fertility.json").write_text(json.dumps(records, indent=1) + "\n")
    (folder / "fertility.csv").write_text(_csv(records))
    (folder / "fertility.svg").write_bytes(plot(rows))


def plot(rows: Sequence[Row], form: str = "svg") -> bytes:
    """Bars of tokens per byte, a group for each language; `form` is svg or png.

    Per byte, for it needs no words; the same rows give the same bytes.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    languages = list(dict.fromkeys(row.language for row in rows))
    names = list(dict.fromkeys(row.tokenizer for row in rows))
    figure = Figure(figsize=(max(4.0, 0.6 * len(rows) + 2.0), 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.8 / max(len(names), 1)
    for i, name in enumerate(names):
        mine = [row for row in rows if row.tokenizer == name]
        at = [languages.index(row.language) + (i - (len(names) - 1) / 2) * width for row in mine]
        bars = axes.bar(at, [row.per_byte for row in mine], width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(languages)), languages, rotation=30 if len(languages) > 6 else 0)
    axes.set_ylabel("tokens per byte")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    out = io.BytesIO()
    still = {"Date": None} if form == "svg" else {}  # a date would change the file on every run
    with matplotlib.rc_context({"svg.hashsalt": "fertility"}):
        figure.savefig(out, format=form, metadata=still)
    return out.getvalue()


def _row(name: str, language: str, lines: Sequence[str], tokens: int, parity: float | None) -> Row:
    words = sum(len(line.split()) for line in lines)
    characters = sum(len(line) for line in lines)
    size = sum(len(line.encode()) for line in lines)
    if not words:
        raise ValueError(f"{language}: has no text; the fertility report needs some of every one")
    return Row(
        tokenizer=name,
        language=language,
        lines=len(lines),
        words=words,
        characters=characters,
        bytes=size,
        tokens=tokens,
        per_word=tokens / words,
        per_character=tokens / characters,
        per_byte=tokens / size,
        per_line=tokens / len(lines),
        parity=parity,
    )


def _csv(records: Sequence[dict]) -> str:
    out = io.StringIO()
    names = [field.name for field in dataclasses.fields(Row)]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
