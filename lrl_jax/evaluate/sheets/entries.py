"""Parses the files that annotators give back: CSV of any spreadsheet, pages' files, Label Studio.

    parse("kim.csv", data).entries[0]            SheetEntry("kim.csv:2", row="bcdfghjklm", ...)

An entry is what stands in the file, right or wrong; what it means, `returned` tells.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import io
import json
from typing import Any

from lrl_jax import storage, text
from lrl_jax.evaluate.sheets.forms import ANSWERS_FORM, unguarded

LARGEST = 64 << 20  # bytes of a file
DELIMITERS = ",;\t|"
TEXTS = ("prompt", "left", "right")
EXPORTED = "annotation_id"  # a column that Label Studio adds
NAMES = (*TEXTS, "number", "choice", "comment", "annotator", "sheet", "row", EXPORTED)
SINGLE = ("row", "choice", "comment")  # columns of which a sheet has one each
MOJIBAKE = "\xef\xbb\xbf"  # a byte-order mark that was read as cp1252
PACKED = {b"PK\x03\x04": "a workbook", b"\xd0\xcf\x11\xe0": "an old workbook"}


@dataclasses.dataclass(frozen=True)
class SheetEntry:
    """Holds a row of a file as it stands there; texts are () where it has none."""

    where: str
    row: str
    choice: str
    comment: str = ""
    annotator: str = ""
    sheet: str = ""
    texts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ParsedSheet:
    """Holds a file.

    Attributes:
      is_whole: whether it has the rows without an answer too.
      notes: what is worth knowing of it, in words.
    """

    entries: tuple[SheetEntry, ...]
    content: str
    is_whole: bool
    notes: tuple[str, ...] = ()


def parse(file: str, data: bytes) -> ParsedSheet:
    """Reads a file that an annotator gave back, of any kind.

    Excel saves CSV in the code page of its country. What counts, ids and choices, is ASCII there
    too.

    Raises:
      DataError: the file is none of these kinds; the message says what it is, and what to do.
    """
    if storage.is_web_page(data):
        raise text.DataError(
            f"{file}: is the page itself, and holds no answers; open it, and press "
            "'Save to a file' for the file that does"
        )
    for magic, what in PACKED.items():
        if data.startswith(magic):
            raise text.DataError(f"{file}: is {what}; save it as CSV UTF-8 (comma delimited)")
    notes: tuple[str, ...] = ()
    try:
        content = data.decode("utf-16" if data.startswith(text.UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        content = data.decode("cp1252", errors="replace")
        damaged = "is not UTF-8, so that its letters are damaged; ids and choices are read"
        notes = (f"{file}: {damaged}",)
    content = content.removeprefix(text.MARK).removeprefix(MOJIBAKE)
    if content.lstrip()[:1] in ("{", "["):
        return ParsedSheet(tuple(_of_json(file, content)), content, False, notes)
    return _of_csv(file, content, notes)


# ---------------------------------------------------------------------------- CSV
def _of_csv(file: str, content: str, notes: tuple[str, ...]) -> ParsedSheet:
    """Reads a CSV file, by whatever its cells are separated.

    In one that Label Studio exported, annotators are numbers of its own, and rows without an
    annotation are left out.
    """
    csv.field_size_limit(LARGEST)
    lines = content
    if lines[:4].lower() == "sep=":  # a line by which Excel is told what separates cells
        lines = lines.partition("\n")[2]
    skipped = content.count("\n", 0, len(content) - len(lines))
    reader, columns = _reader(file, lines)
    exported = EXPORTED in columns
    if exported:
        columns.pop("annotator", None)
    entries = tuple(_table_rows(file, reader, columns, skipped))
    return ParsedSheet(entries, content, not exported, notes)


def _table_rows(
    file: str, reader: Any, columns: Mapping[str, int], skipped: int
) -> Iterator[SheetEntry]:
    """Yields the rows of a table below its header; `skipped` lines stand before that."""
    start = reader.line_num + 1
    for cells in _whole_rows(file, reader):
        at, start = start + skipped, reader.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        row = {name: cells[i] for name, i in columns.items() if i < len(cells)}
        texts = tuple(unguarded(row[name]) for name in TEXTS if name in row)
        yield SheetEntry(
            f"{file}:{at}",
            unguarded(row.get("row", "")).strip().casefold(),
            row.get("choice", ""),
            unguarded(row.get("comment", "")),
            row.get("annotator", ""),
            row.get("sheet", "").strip(),
            texts if len(texts) == len(TEXTS) else (),
        )


def _whole_rows(file: str, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as e:
        raise text.DataError(f"{file}:{reader.line_num}: not CSV ({e})") from None


def _reader(file: str, content: str) -> tuple[Any, dict[str, int]]:
    """Returns a reader that has read the header, and the place of each column that it names."""
    first: list[str] = []
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
        header = next(
            (row for row in _whole_rows(file, reader) if any(cell.strip() for cell in row)), []
        )
        columns: dict[str, list[int]] = {}
        for i, cell in enumerate(header):
            words = cell.strip("\ufeff'\" ").casefold().split()
            if words and words[0] in NAMES:
                columns.setdefault(words[0], []).append(i)
        if {"row", "choice"} <= columns.keys():
            for several in (columns[name] for name in SINGLE if len(columns.get(name, ())) > 1):
                both = " and ".join(repr(header[i]) for i in several[:2])
                raise text.DataError(
                    f"{file}: has the columns {both}, of which one is read; take the other out, or "
                    "begin its name with another word"
                )
            return reader, {name: places[0] for name, places in columns.items()}
        first = first or header
    raise text.DataError(
        f"{file}: want a sheet, with the columns row and choice; its first line begins "
        f"{', '.join(first)[:80]!r}"
    )


# ---------------------------------------------------------------------------- JSON
def _of_json(file: str, content: str) -> Iterator[SheetEntry]:
    """Yields the answers of a file that a page saved, or that Label Studio exported."""
    try:
        value = storage.parse_json(content.encode(), file)
    except ValueError as e:
        raise text.DataError(str(e)) from None
    if isinstance(value, Mapping):
        yield from _of_page(file, value)
    elif not any(_task_data(task) for task in value):
        raise text.DataError(
            f"{file}: want answers that a page saved, or tasks that Label Studio exported as JSON; "
            f"got {json.dumps(value)[:60]!r}"
        )
    else:
        for number, task in enumerate(value, start=1):
            yield from _of_task(f"{file}: task {number}", task)


def _of_page(file: str, saved: Mapping[str, Any]) -> Iterator[SheetEntry]:
    answers = saved.get("answers")
    if saved.get("form") != ANSWERS_FORM or not isinstance(answers, Mapping):
        raise text.DataError(
            f"{file}: want the answers that a page saved, of the form {ANSWERS_FORM}; got "
            f"{json.dumps(saved)[:60]!r}"
        )
    for row, answer in answers.items():
        words = answer if isinstance(answer, Mapping) else {}
        yield SheetEntry(
            f"{file}: row {_word(row)}", _word(row), _word(words.get("choice")),
            _word(words.get("comment")), _word(saved.get("annotator")), _word(saved.get("sheet")),
        )  # fmt: skip


def _word(value: Any) -> str:
    """Returns a value of some JSON as text that UTF-8 can hold; "" for none."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


# ---------------------------------------------------------------------------- Label Studio
def _task_data(task: Any) -> Mapping[str, Any]:
    """Returns the data of a task; in Label Studio's JSON-MIN it is the task itself."""
    if not isinstance(task, Mapping):
        return {}
    data = task.get("data", task)
    return data if isinstance(data, Mapping) and "row" in data else {}


def _of_task(where: str, task: Any) -> Iterator[SheetEntry]:
    """Yields an entry for each choice in each annotation of a task."""
    data = _task_data(task)
    texts = tuple(_word(data[name]) for name in TEXTS if name in data)
    texts = texts if len(texts) == len(TEXTS) else ()
    own = _word(data["row"])
    sheet = _word(data.get("sheet"))
    if "annotations" not in task:
        for choice in _plain_choices(data):
            comment = data.get("comment")
            comment = (
                "\n".join(map(_word, comment)) if isinstance(comment, list) else _word(comment)
            )
            yield SheetEntry(where, own, choice, comment, sheet=sheet, texts=texts)
        return
    for annotation in task["annotations"] or ():
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled"):
            continue
        choices, comment = _results(annotation.get("result") or ())
        for choice in choices or [""]:
            yield SheetEntry(where, own, choice, comment, sheet=sheet, texts=texts)


def _plain_choices(data: Mapping[str, Any]) -> list[str]:
    """Returns the choice of a task of JSON-MIN, which has results beside the data."""
    value = data.get("choice", data.get("pw", ""))
    if isinstance(value, Mapping):
        value = value.get("choices") or value.get("selected")
    return [*map(_word, value)] if isinstance(value, list) else [_word(value)]


def _results(results: Sequence[Any]) -> tuple[list[str], str]:
    """Returns the choices and the comment of an annotation."""
    choices: list[str] = []
    comment = ""
    for result in results:
        value = result.get("value") if isinstance(result, Mapping) else None
        if not isinstance(value, Mapping):
            continue
        if result.get("type") == "pairwise" and value.get("selected"):
            choices.append(_word(value["selected"]))
        elif result.get("type") == "choices":
            choices += map(_word, value.get("choices") or ())
        elif result.get("type") == "textarea":
            comment = "\n".join(map(_word, value.get("text") or ()))
    return choices, comment
