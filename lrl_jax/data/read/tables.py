"""Reads rows of .csv and .tsv files, and tells whether the cells of a .tsv file are quoted.

    for at, row in quoted(Span("a.csv"), True, ","): ...      (2, {"Q": "...", "A": "..."})

Two kinds of .tsv files are about. Spreadsheets, pandas and the csv module quote a cell that holds a
quote mark, a tab or a newline, and double the marks inside. Corpora are written as they stand, and
a quote mark is text. A file is of the first kind only if its quotes follow those rules throughout:
a cell tells of them, or each of a column with many rows is in quotes.
"""

import collections
from collections.abc import Callable, Collection, Iterator, Sequence
import csv
import functools
import itertools
import json
import re
from typing import Any, NamedTuple

from lrl_jax import text
from lrl_jax.data.read.files import Span, where

Cells = Iterator[tuple[int | str, dict[str, Any] | text.Bad | str]]  # a str: why there is no row

OTHERS = {";": "semicolons", "\t": "tabs"}  # what spreadsheets write in place of commas
SEPARATOR = re.compile(r"sep=(.)", re.IGNORECASE)
LINES = 20  # from which a file is known that is not separated by commas
TORN = 10  # lines; a record that is no CSV and takes in more of them is an error of the file
SWALLOWED = 100  # lines of a cell; if so many are rows of the table, a quote was left open
LOOK_BYTES = 64 << 20  # of a .tsv file, from which it is told whether its cells are quoted
MOST_LINES = 100  # of a quoted cell while that is told
LEAST = 20  # rows of a column from which it is told that all its cells are quoted
FEW = 20  # one kind of lines is taken for damage if the other is more than so many times as common

_QUOTED = r'"[^"]*+(?:""[^"]*+)*+'  # of a cell, up to its last quote
_CELL = rf'(?:{_QUOTED}"|[^"\t]*+)'
RECORD = re.compile(rf"(?:{_CELL}\t)*{_CELL}\Z")
UNFINISHED = re.compile(rf"(?:{_CELL}\t)*{_QUOTED}\Z")
CELL = re.compile(rf"(?:\A|(?<=\t)){_CELL}(?=\t|\Z)")


# ---------------------------------------------------------------------------- separators
def comma_separated(
    span: Span, header: bool, delimiter: str = "", wanted: Collection[str] = ()
) -> Cells:
    """Yields the rows of a .csv file; `delimiter` is what the recipe says, '' if it says nothing.

    A first line such as `sep=;` says what stands between cells, as Excel reads and writes it.

    Raises DataError for a file that looks separated by something else than commas.
    """
    first = [str(line) for _, line in itertools.islice(text.numbered(span.uri), LINES)]
    said = SEPARATOR.fullmatch(first[0]) if first else None
    if said and delimiter in ("", said[1]):
        return quoted(span, header, said[1], before=1)
    other = "" if delimiter or not wanted else _other_delimiter(first, header, wanted)
    if other:
        raise text.DataError(
            f"{span.uri}:1: looks separated by {OTHERS[other]} and not by commas; say "
            f'`delimiter: {json.dumps(other)}`, or `delimiter: ","` if commas are meant'
        )
    return quoted(span, header, delimiter or ",")


def _other_delimiter(first: Sequence[str], header: bool, wanted: Collection[str]) -> str:
    """Returns what seems to stand between the cells of these lines, of which commas make one each.

    It is '' where a column that is wanted is called as the whole header.
    """
    filled = [line for line in first if line.strip()]
    if len(filled) < 2 or (header and (filled[0].strip('"') in wanted or "," in filled[0])):
        return ""
    if not header and any("," in line for line in filled):
        return ""
    for delimiter in OTHERS:
        counts = {line.count(delimiter) for line in (filled[:1] if header else filled)}
        if len(counts) == 1 and 0 not in counts:
            return delimiter
    return ""


# ---------------------------------------------------------------------------- quoted cells
def quoted(span: Span, header: bool, delimiter: str, before: int = 0) -> Cells:
    """Yields the rows of a file whose cells are quoted where they have to be, as RFC 4180 says.

    The first lines, as many as `before`, are left out.

    Raises DataError, whatever the recipe says of bad records, where a quote that was left open has
    taken in many rows: how many records are lost cannot be told.
    """
    csv.field_size_limit(text.LONGEST)
    flaws: list[tuple[int, str]] = []
    # strict: without it an open quote would take in the rest of the file
    lines = itertools.islice(_lines(span, flaws), before, None)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    names: list[str] = []
    while True:
        flaws.clear()
        at = before + reader.line_num + 1
        cells, lost = _next(reader)
        end = before + reader.line_num
        if end < at:
            return
        if lost and end - at >= TORN:
            raise _open_quote(span, at, end, f"and ends in no cell ({lost})")
        if lost or flaws:
            place, why = flaws[0] if flaws else (at, f"not CSV ({lost})")
            if header and not names:
                raise text.DataError(f"{where(span, place)}: {why}")
            yield place, why
            for line in range(at + 1, end + 1) if lost else ():
                yield line, f"is part of the record of line {at}, which is not CSV ({lost})"
        elif header and not names:
            names = header_names(cells, span)
        elif cells:
            if end - at > SWALLOWED and _holds_rows(cells, delimiter):
                raise _open_quote(span, at, end, "each of which looks like a row")
            yield at, named(names, cells)


def _next(reader: Any) -> tuple[list[str], str]:
    """Returns the next record and ''; or no record and what is wrong with it, '' at the end."""
    try:
        return next(reader, []), ""
    except csv.Error as e:
        return [], str(e)


def _lines(span: Span, flaws: list[tuple[int, str]]) -> Iterator[str]:
    """Yields lines for the csv reader, and adds the number and the flaw of each bad one to `flaws`.

    A bad line is yielded too, repaired, so that the quotes around it still match.
    """
    for number, line in enumerate(text.raw(*span), start=1):
        if why := text.flaw(line):
            flaws.append((number, why))
        yield (line or b"\n").decode(errors="replace").replace("\r\n", "\n").replace("\0", " ")


def _holds_rows(cells: list[str], delimiter: str) -> bool:
    """Tells whether a cell holds many lines, each of which is a row of as many cells."""
    return len(cells) > 1 and any(
        len(lines := cell.split("\n")) > SWALLOWED
        and all(line.count(delimiter) == len(cells) - 1 for line in lines[1:-1])
        for cell in cells
    )


def _open_quote(span: Span, at: int, end: int, how: str) -> text.DataError:
    return text.DataError(
        f"{where(span, at)}: a quote that opens in this record takes in {end - at + 1} lines, "
        f"to line {where(span, end).rpartition(':')[2]}, {how}; end or double that quote mark"
    )


# ---------------------------------------------------------------------------- cells as they stand
def raw(span: Span, header: bool, delimiter: str) -> Cells:
    """Yields the rows of a file, such as .tsv, in which a quote mark is text."""
    names: list[str] = []
    if header:
        _, first = next(text.numbered(span.uri), (1, ""))
        if isinstance(first, text.Bad):
            raise text.DataError(f"{first.where}: {first.why}")
        names = header_names(first.split(delimiter), span)
    for at, line in text.numbered(*span):
        if isinstance(line, text.Bad):
            yield at, line
        elif line and not (at == 1 and header and not span.start):
            yield at, named(names, line.split(delimiter))


def header_names(names: list[str], span: Span) -> list[str]:
    """Returns the names of columns; DataError unless each is named once."""
    twice = {name for name in names if names.count(name) > 1}
    if twice or not any(names):
        raise text.DataError(
            f"{span.uri}:1: a header names every column once; got {', '.join(names) or 'nothing'}; "
            "say `header: false` if there is none"
        )
    return names


def named(names: list[str], cells: list[str]) -> dict[str, Any] | str:
    """Returns a row, or why its cells are none; without names, columns are "0", "1", ..."""
    if not names:
        return {str(i): cell for i, cell in enumerate(cells)}
    if len(cells) != len(names):
        return f"has {len(cells)} cells where the header names {len(names)}"
    return dict(zip(names, cells, strict=True))


# ---------------------------------------------------------------------------- which of the two
class Quoting(NamedTuple):
    """Counts the lines of a .tsv file that say whether its cells are quoted.

    The numbers of the first such lines are 0 where there are none.
    """

    quoted: int = 0
    first_quoted: int = 0
    raw: int = 0
    first_raw: int = 0


def is_quoted(file: str) -> bool:
    """Tells whether the cells of a .tsv file are quoted; DataError where its lines disagree."""
    seen = _quoting(file, text.identity(file))
    if not seen.quoted or seen.raw >= FEW * seen.quoted:
        return False
    if seen.quoted > FEW * seen.raw:
        return True
    raise text.DataError(
        f"{file}: cells are quoted in line {seen.first_quoted} and {seen.quoted - 1} others, and "
        f"quote marks stand by themselves in line {seen.first_raw} and {seen.raw - 1} others; mend "
        "the lines that are wrong, or say `format: tsv_quoted` or `format: tsv_raw`"
    )


@functools.lru_cache(maxsize=64)
def _quoting(file: str, identity: object) -> Quoting:
    counts, first = {True: 0, False: 0}, {True: 0, False: 0}
    for at, evidence in _evidence(file):
        counts[evidence] += 1
        first[evidence] = first[evidence] or at
    wrapped = _wrapped(file)
    if wrapped:
        counts[True] = max(counts[True], len(wrapped))
        first[True] = min(filter(None, (first[True], wrapped[0])))
    return Quoting(counts[True], first[True], counts[False], first[False])


def _wrapped(file: str) -> list[int]:
    """Returns the lines of a column that has every cell after its first in quotes; [] if none has.

    Columns of few cells say nothing: they may be dialogue. Empty cells and damaged lines are left
    out, and so is what cells with newlines are torn into, which other lines tell of.
    """
    lines = _decoded(file)
    width = next(lines, (1, ""))[1].count("\t") + 1
    columns: dict[int, list[int]] = {i: [] for i in range(width)}
    for at, line in lines:
        cells = CELL.findall(line) if '"' in line else line.split("\t")
        if len(cells) != width or not (line.count('"') == 0 or RECORD.match(line)):
            continue
        for i in [*columns]:
            if cells[i].startswith('"') and len(cells[i]) > 2:
                columns[i].append(at)
            elif cells[i] not in ("", '""'):
                del columns[i]
        if not columns:
            return []
    return max((at for at in columns.values() if len(at) >= LEAST), key=len, default=[])


def _evidence(file: str) -> Iterator[tuple[int, bool]]:
    """Yields the number of each line whose quotes say something, and whether it is quoted."""
    lines, back = _decoded(file), collections.deque[tuple[int, str]]()

    def take() -> tuple[int, str] | None:
        return back.popleft() if back else next(lines, None)

    first = next(lines, (1, ""))
    back.append(first)
    is_record = RECORD.match(first[1])
    width = len(CELL.findall(first[1])) if is_record else first[1].count("\t") + 1
    if is_record and _all_wrapped(first[1]):
        yield 1, True
    while line := take():
        at, record = line
        if '"' not in record:
            continue
        if RECORD.match(record):
            if (evidence := _of_record(record, width)) is not None:
                yield at, evidence
            continue
        more = _rest(record, take)
        whole = "\n".join([record, *(line for _, line in more)])
        ends = more and RECORD.match(whole) and len(CELL.findall(whole)) == width
        rows = all(line.count("\t") == width - 1 for line in whole.split("\n"))  # as they stand
        evidence = bool(ends and not rows)
        yield at, evidence
        if not evidence:
            back.extendleft(reversed(more))


def _rest(record: str, take: Callable[[], tuple[int, str] | None]) -> list[tuple[int, str]]:
    """Takes the lines up to the end of the cell that a line leaves open, with their numbers."""
    more: list[tuple[int, str]] = []
    while UNFINISHED.match(record) and len(more) < MOST_LINES and (line := take()):
        more.append(line)
        record += f"\n{line[1]}"
    return more


def _of_record(record: str, width: int) -> bool | None:
    """Tells what one line says: quoted, not quoted, or nothing."""
    cells = CELL.findall(record)
    wrapped = [cell[1:-1] for cell in cells if cell.startswith('"')]
    if any("\t" in cell for cell in wrapped):
        return len(cells) == width
    return True if any('""' in cell for cell in wrapped) else None


def _all_wrapped(record: str) -> bool:
    return all(cell.startswith('"') and len(cell) > 2 for cell in CELL.findall(record))


def _decoded(file: str) -> Iterator[tuple[int, str]]:
    """Yields the first lines of a file, with their numbers."""
    size = 0
    for number, line in enumerate(text.raw(file), start=1):
        size += len(line or b"")
        if size > LOOK_BYTES:
            return
        yield number, (line or b"").decode(errors="replace").rstrip("\r\n")
