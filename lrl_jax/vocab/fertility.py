"""How many tokens a language costs under each tokenizer: table, JSON, CSV, a plot and a page.

    texts = texts_in("udhr")
    write_report({"llama2": old, "new": new}, texts, "fertility", reference="eng", parallel=True)

`report`, `table` and `write` are its parts, for lines that are already read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import csv
import dataclasses
import difflib
import io
import itertools
import json
import re

from etils import epath
from rich.table import Table

from lrl_jax import text as text_lines
from lrl_jax.vocab import fertility_page, scripts
from lrl_jax.vocab.fertility_rows import REFERENCE, Row, Text, find, measure
from lrl_jax.vocab.tokenizer import Tokenizer

INDEX = "index.tsv"
CONTEXT = 4096  # Llama 2's (arXiv 2307.09288)
LOOK = 2000  # characters that tell the script
BARS = 16  # languages a plot of bars has room for


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
    named = {
        language: Text(lines, script=_script(language, lines)) for language, lines in texts.items()
    }
    return measure(tokenizers, named, reference)


def write_report(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, Text],
    folder: epath.PathLike,
    *,
    reference: str = REFERENCE,
    parallel: bool = False,
    context: int = CONTEXT,
) -> list[Row]:
    """Measures and writes fertility.json, .csv, .svg and index.html; the rows are returned.

    Args:
      texts: what `texts_in` reads.
      reference: language that parity is relative to; '' for none.
      parallel: texts say the same as wholes, whatever their lines; otherwise line by line.
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


def texts_in(folder: epath.PathLike) -> dict[str, Text]:
    """Text of every language in a folder: a file a language, or a subfolder of files.

    The language is the name without its suffix; where files differ in their suffix alone (dev.en,
    dev.ne) the suffix is. An index.tsv with the columns file, iso639_3, script and name, as UDHR
    collections have, names them instead.

    Raises:
      ValueError: no folder, nothing in it, two files of one language, or text.DataError.
    """
    folder = epath.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; want one with a text file a language")
    entries = [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
    index = _index(folder / INDEX) if folder / INDEX in entries else {}
    entries = [path for path in entries if path.name != INDEX]
    if not entries:
        raise ValueError(f"{folder}: is empty; want a text file a language")
    out = {}
    for path, language in zip(entries, _languages(entries, index), strict=True):
        if language in out:
            raise ValueError(f"{path}: is a second text of {language!r}; make it a folder of files")
        lines = list(text_lines.read_many(_files(path)))
        known = index.get(path.name, {})
        script = known.get("script") or _script(language, lines)
        out[language] = Text(lines, known.get("name") or "", script)
    return out


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal."""
    out = Table(title="tokens per ...", title_justify="left")
    for heading in ("tokenizer", "language"):
        out.add_column(heading)
    for heading in ("word", "character", "byte", "line", "parity", "one token"):
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
            f"{row.whole_words:.0%}",
        )
    return out


def write(
    rows: Sequence[Row],
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


def plot(rows: Sequence[Row], form: str = "svg") -> bytes:
    """Tokens per byte, which need no words; `form` is svg or png, the same bytes for the same rows.

    Bars, a group for each language; of many languages a line a tokenizer, cheapest first.
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
        mine = [row for row in rows if row.tokenizer == name]
        if not few:
            axes.plot(sorted(row.per_byte for row in mine), label=name)
            continue
        at = [languages.index(row.language) + (i - (len(names) - 1) / 2) * width for row in mine]
        bars = axes.bar(at, [row.per_byte for row in mine], width, label=name)
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


def _languages(paths: Sequence[epath.Path], index: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The language of each path."""
    plain = [path.name.removesuffix(".gz") for path in paths]
    stems = [name.rsplit(".", 1)[0] for name in plain]
    if len(set(stems)) == 1 and len(paths) > 1:
        return [name.rsplit(".", 1)[-1] for name in plain]
    codes = {name: f"{known['iso639_3']}_{known['script']}" for name, known in index.items()}
    count = Counter(codes.values())
    found = (codes.get(path.name, "") for path in paths)
    return [code if count[code] == 1 else stem for code, stem in zip(found, stems, strict=True)]


def _index(path: epath.Path) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(text_lines.lines(str(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    wanted = {"file", "iso639_3", "script", "name"}
    if missing := wanted - set(rows.fieldnames or ()):
        raise ValueError(f"{path}: has no column {', '.join(sorted(missing))}; see `texts_in`")
    return {row["file"]: row for row in rows}


def _files(path: epath.Path) -> list[str]:
    """The file, or all files of a folder."""
    if not path.is_dir():
        return [str(path)]
    files = [str(one) for one in sorted(path.iterdir()) if one.name[0] != "." and not one.is_dir()]
    if not files:
        raise ValueError(f"{path}: is a folder without files; want the text of a language")
    return files


def _script(language: str, lines: Sequence[str]) -> str:
    """The script a FLORES code ends in, or the one of most letters."""
    if named := re.search(r"[_-]([A-Z][a-z]{3})$", language):
        return named[1]
    letters = itertools.chain.from_iterable(lines)
    return scripts.of("".join(itertools.islice(letters, LOOK)))


def _csv(records: Sequence[dict]) -> str:
    out = io.StringIO()
    names = [field.name for field in dataclasses.fields(Row)]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()
