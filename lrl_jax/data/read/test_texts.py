"""Reads the texts of test files, whatever their layout: lines, or every string of their rows.

    for text in strings("xquad.hi.json"): ...      contexts, questions and answers, each a text

What is asked of a model stands in one field, what it is to answer in another, and layouts differ,
so no field is left out. Identifiers are too short to be compared.
"""

from collections.abc import Iterator
import re
from typing import Any, NamedTuple

from lrl_jax import text
from lrl_jax.data.read import files, formats, plain
from lrl_jax.data.read.files import Span

NUMBER = re.compile(r"\d+")  # in "row 7", the place of a row where lines say nothing


class FileText(NamedTuple):
    """Holds a text of a test file, and where it stands: in a line, or in a row counted from 1."""

    text: str
    number: int
    is_row: bool


def strings(file: str) -> Iterator[FileText]:
    """Yields the texts of a file, one for each line, or for each string in a row.

    Raises:
      DataError: the file is missing, empty or no text, or a line cannot be read; names file:line.
    """
    if _format(file) == "text":
        for number, line in text.numbered(file):
            if isinstance(line, text.Bad):
                raise text.DataError(f"{line.where}: {line.why}")
            if line and not line.isspace():
                yield FileText(line, number, False)
        return
    # header=False: names of columns are too short to be compared, and some files have none
    for at, row in formats.rows(Span(file), formats.RowFormat(_format(file), header=False)):
        if isinstance(row, text.Bad):
            raise text.DataError(f"{row.where}: {row.why}")
        number = at if isinstance(at, int) else int(NUMBER.findall(at)[0])
        for value in _strings(row):
            yield FileText(value, number, not isinstance(at, int))


def place(file: str, number: int, is_row: bool) -> str:
    """Returns where a text of a file stands, for messages.

    >>> place("a.txt", 3, False), place("a.json", 3, True)
    ('a.txt:3', 'a.json: row 3')
    """
    return files.where(Span(file), f"row {number}" if is_row else number)


def _format(file: str) -> str:
    written = files.format_of(file)
    if written == "text" and not files.named(file):
        look = plain.mistaken(file)
        written = (look and look.form) or "text"
    # a quote mark is punctuation, which is not compared
    return "tsv_raw" if written == "tsv" else written


def _strings(row: Any) -> Iterator[str]:
    """Yields every text in a row that is not blank, however deep it lies."""
    pending = [row]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            if value and not value.isspace():
                yield value
        elif isinstance(value, dict):
            pending += reversed(value.values())
        elif isinstance(value, list | tuple):
            pending += reversed(value)
