"""Measures how many tokens a language costs under each tokenizer.

    texts = texts_in("udhr")
    rows = report({"llama2": old, "new": new}, texts)

`report/fertility` writes the rows as JSON, CSV, a plot and a page.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import csv
import itertools
import re

from etils import epath
from rich.table import Table

from lrl_jax import text as text_lines
from lrl_jax.vocab import scripts
from lrl_jax.vocab.fertility_counts import REFERENCE, FertilityRow, LanguageText, measure
from lrl_jax.vocab.tokenizer.types import Tokenizer

INDEX = "index.tsv"
LOOK = 2000  # characters that tell the script


def report(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, Sequence[str]],
    reference: str = REFERENCE,
) -> list[FertilityRow]:
    """Measures every tokenizer on every language: rows in the order given, languages within
    tokenizers.

    Args:
      texts: language -> lines, aligned with those of `reference` for parity to mean anything.

    Raises:
      ValueError: a language without any text.
    """
    named = {
        language: LanguageText(lines, script=_script(language, lines))
        for language, lines in texts.items()
    }
    return measure(tokenizers, named, reference)


def texts_in(folder: epath.PathLike) -> dict[str, LanguageText]:
    """Reads the text of every language in a folder: a file for each language, or a subfolder of
    files.

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
        entry = index.get(path.name, {})
        script = entry.get("script") or _script(language, lines)
        out[language] = LanguageText(lines, entry.get("name") or "", script)
    return out


def table(rows: Sequence[FertilityRow]) -> Table:
    """Returns the rows as a table for the terminal."""
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


def _languages(paths: Sequence[epath.Path], index: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns the language of each path."""
    plain = [path.name.removesuffix(".gz") for path in paths]
    stems = [name.rsplit(".", 1)[0] for name in plain]
    if len(set(stems)) == 1 and len(paths) > 1:
        return [name.rsplit(".", 1)[-1] for name in plain]
    codes = {name: f"{entry['iso639_3']}_{entry['script']}" for name, entry in index.items()}
    count = Counter(codes.values())
    indexed = (codes.get(path.name, "") for path in paths)
    return [code if count[code] == 1 else stem for code, stem in zip(indexed, stems, strict=True)]


def _index(path: epath.Path) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(text_lines.lines(str(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    wanted = {"file", "iso639_3", "script", "name"}
    if missing := wanted - set(rows.fieldnames or ()):
        raise ValueError(f"{path}: has no column {', '.join(sorted(missing))}; see `texts_in`")
    return {row["file"]: row for row in rows}


def _files(path: epath.Path) -> list[str]:
    """Returns the file itself, or all files of a folder."""
    if not path.is_dir():
        return [str(path)]
    files = [
        str(file) for file in sorted(path.iterdir()) if file.name[0] != "." and not file.is_dir()
    ]
    if not files:
        raise ValueError(f"{path}: is a folder without files; want the text of a language")
    return files


def _script(language: str, lines: Sequence[str]) -> str:
    """Returns the script that a FLORES code ends in, or else the script of most letters."""
    if named := re.search(r"[_-]([A-Z][a-z]{3})$", language):
        return named[1]
    letters = itertools.chain.from_iterable(lines)
    return scripts.of("".join(itertools.islice(letters, LOOK)))
