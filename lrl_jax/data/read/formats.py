"""Reads rows of files: a table has the reader of each format.

    for at, row in rows(Span("a.csv"), RowFormat("csv")): ...      (2, {"Q": "...", "A": "..."})

`at` is a line number within the span, or "row 7" in formats where lines say nothing; `files.where`
makes a place of it. A row that cannot be read is yielded as text.Bad, and reading goes on.
"""

from collections.abc import Callable, Collection, Iterator
import contextlib
import dataclasses
import functools
import itertools
import json
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from etils import epath
import langcodes

from lrl_jax import text
from lrl_jax.data.read import tables
from lrl_jax.data.read.files import Span, parquet, where

WHOLE = 1 << 30  # bytes of JSON that are read at once
BATCH = 1024  # rows of Parquet in memory at once
NATIVE = {"bpt", "ept", "ph", "it", "ut"}  # TMX elements that hold markup of the original, not text

# Fields of a row of SQuAD that say what another says.
SQUAD = {"instruction": "question", "input": "context", "output": "answer"}

Rows = Iterator[tuple[int | str, dict[str, Any] | text.Bad]]
Read = Iterator[tuple[int | str, dict[str, Any] | text.Bad | str]]  # a str is why there is no row


@dataclasses.dataclass(frozen=True)
class RowFormat:
    """Says how rows are written.

    Attributes:
      header: whether .csv and .tsv begin with column names; if not, columns are "0", "1", ...
      wanted: columns that the caller needs; a reader may leave out others.
      beside: columns that the caller reads too in files that have them.
      delimiter: what stands between the cells of .csv, or of a table as it stands; that of the
        format if empty.
      decimals: what a JSON number with a point or an exponent becomes: the text as it was written,
        such as 3.10, or a number to calculate with.
    """

    format: str
    header: bool = True
    wanted: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    delimiter: str = ""
    decimals: Callable[[str], Any] = str


def rows(span: Span, form: RowFormat) -> Rows:
    """Yields (at, row or Bad) of a span; raises DataError if the whole file is unusable."""
    if form.format not in READERS:
        raise text.DataError(
            f"{span.uri}: plain text has no rows; want one of {', '.join(READERS)}, "
            "by suffix or by `format`"
        )
    for at, row in READERS[form.format](span, form):
        yield at, text.Bad(where(span, at), row) if isinstance(row, str) else row


# ---------------------------------------------------------------------------- JSON
def _json_lines(span: Span, form: RowFormat) -> Read:
    for at, line in text.numbered(*span):
        if isinstance(line, text.Bad):
            yield at, line
        elif line and not line.isspace():
            yield at, _object(line, form)


def _json(span: Span, form: RowFormat) -> Read:
    """Reads a list of rows, an object with a single list of rows, a row, or JSON lines."""
    head = (
        line for _, line in text.numbered(span.uri) if isinstance(line, text.Bad) or line.strip()
    )
    first, second = next(head, ""), next(head, "")
    if isinstance(first, str) and first.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(first, parse_float=str)
            if second or _is_row(row, form.wanted) or not _lists(row):
                yield from _json_lines(span, form)
                return
    whole = _whole(span.uri, form)
    if isinstance(whole, dict) and _is_row(whole, form.wanted):
        whole = [whole]
    elif isinstance(whole, dict) and len(_lists(whole)) == 1:
        [whole] = _lists(whole)
    if not isinstance(whole, list):
        raise text.DataError(
            f"{span.uri}: want a list of rows, an object that holds one such list, or an object a "
            f"line; got {str(whole)[:60]!r}"
        )
    for number, row in enumerate(whole, start=1):
        yield f"row {number}", row if isinstance(row, dict) else _no_object(str(row))


def _squad(span: Span, form: RowFormat) -> Read:
    """Reads a row for each question: id, context, question, answer, and all of its answers.

    The middle three are there as input, instruction and output too; `answers` is written as on the
    hub, {text: [...], answer_start: [...]}.
    """
    whole = _whole(span.uri, form)
    try:
        asked = [
            (paragraph["context"], question)
            for article in whole["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
        for number, (context, question) in enumerate(asked, start=1):
            right = question.get("answers", ())
            answers = {
                "text": [entry["text"] for entry in right],
                "answer_start": [entry.get("answer_start", -1) for entry in right],
            }
            answer = next(iter(answers["text"]), "")
            given = {"context": context, "question": question["question"], "answer": answer}
            alias = {name: given[field] for name, field in SQUAD.items()}
            asked_as = str(question.get("id", number))
            yield f"row {number}", {"id": asked_as, **given, **alias, "answers": answers}
    except (KeyError, TypeError, AttributeError) as e:
        raise text.DataError(
            f"{span.uri}: not of SQuAD's form, data > paragraphs > context and qas ({e!r})"
        ) from None


def _object(line: str, form: RowFormat) -> dict[str, Any] | str:
    try:
        value = json.loads(line, parse_float=form.decimals)
    except (ValueError, RecursionError) as e:
        return f"not JSON ({e}); got {line[:60]!r}"
    return value if isinstance(value, dict) else _no_object(line)


def _no_object(got: str) -> str:
    return f"want a JSON object; got {got[:60]!r}"


def _lists(value: dict[str, Any]) -> list[list]:
    """Returns the lists of rows that an object holds."""
    return [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]


def _is_row(value: dict[str, Any], wanted: Collection[str]) -> bool:
    """Tells whether an object has a wanted column that is no list of rows with such columns.

    >>> _is_row({"text": "a", "more": [{"text": "b"}]}, ["text"])
    True
    >>> _is_row({"messages": [{"messages": [{"role": "user"}]}]}, ["messages"])
    False
    """
    columns = {top(column) for column in wanted}
    rows = [value[column] for column in columns & value.keys()]
    lists = _lists(value)
    return any(row not in lists or not columns & row[0].keys() for row in rows)


def _whole(file: str, form: RowFormat) -> Any:
    data = "\n".join(text.lines(file)).encode() if file.startswith(text.SAMPLE) else _bytes(file)
    code = "utf-16" if data.startswith(text.UTF_16) else "utf-8-sig"
    try:
        return json.loads(data.decode(code), parse_float=form.decimals)
    except UnicodeDecodeError:
        for _ in text.lines(file):  # raises with the line
            pass
        raise
    except (ValueError, RecursionError) as e:
        raise text.DataError(
            f"{file}: not JSON ({e}); got {data[:60].decode(code, 'replace')!r}"
        ) from None


def _bytes(file: str) -> bytearray:
    content = bytearray()
    with text.opened(epath.Path(file)) as f:
        while block := f.read(text.BLOCK):
            content += block
            if len(content) > WHOLE:
                raise text.DataError(
                    f"{file}: more than {WHOLE >> 30} GiB of JSON in one value, which would have "
                    "to be in memory at once; write it as JSON lines, such as `jq -c '.[]'`"
                )
    return content


def _tsv(span: Span, form: RowFormat) -> Read:
    if tables.is_quoted(span.uri):
        return tables.quoted(span, form.header, "\t")
    return tables.raw(span, form.header, "\t")


# ---------------------------------------------------------------------------- Parquet
def _parquet(span: Span, form: RowFormat) -> Read:
    with parquet(span.uri) as file:
        facts, names = file.metadata, set(file.schema_arrow.names)
        end = facts.num_row_groups if span.end < 0 else span.end
        number = sum(facts.row_group(i).num_rows for i in range(span.start))
        columns = _columns_read(form, names)
        groups = range(span.start, end)
        for batch in file.iter_batches(BATCH, row_groups=groups, columns=columns):
            # a column `a.b` is read with `a`, as if it were inside of it
            for row in _listed(batch.select(columns) if columns else batch):
                number += 1
                yield f"row {number}", row


def _columns_read(form: RowFormat, names: Collection[str]) -> list[str] | None:
    """Returns the columns of a Parquet file that are read; None for all of them."""
    wanted = dict.fromkeys(name if name in names else top(name) for name in form.wanted)
    if not wanted or not wanted.keys() <= {*names}:
        return None
    return [*(wanted | dict.fromkeys(name for name in form.beside if name in names))]


def skipped(span: Span, form: RowFormat) -> list[str]:
    """Returns the columns of a span that no row has because the reader leaves them out."""
    if form.format != "parquet":
        return []
    with parquet(span.uri) as file:
        names = file.schema_arrow.names
    read = _columns_read(form, names)
    return [] if read is None else [name for name in names if name not in read]


def top(column: str) -> str:
    """Returns the outermost field of a path such as `a.b[0]`."""
    return column.partition(".")[0].partition("[")[0]


def _listed(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Yields the rows of a batch; in place of a row that is not UTF-8, the reason as a string."""
    names = batch.schema.names
    try:
        columns = [_values(column) for column in batch.columns]
    except UnicodeDecodeError as e:
        if batch.num_rows == 1:
            yield f"not UTF-8 at byte {e.start} (0x{e.object[e.start]:02x})"
            return
        for i in range(batch.num_rows):
            yield from _listed(batch.slice(i, 1))
        return
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: Any) -> list:
    """Returns the values of a column; where Python has none of its type, the type in their place.

    Such as times to the nanosecond, times after the year 9999, or those of an unknown time zone: a
    column that nobody reads must stop nobody, and one that is read is no text.
    """
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise
    except (ValueError, TypeError, NotImplementedError, ArithmeticError, LookupError):
        return [column.type if valid else None for valid in column.is_valid().to_pylist()]


# ---------------------------------------------------------------------------- TMX
def _tmx(span: Span, form: RowFormat) -> Read:
    """Reads a row, language -> segment, for each translation unit; column `ko` takes `ko-KR`."""
    builder, parents, units = ElementTree.TreeBuilder(), [], []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        parents.append(builder.start(_local(tag), attributes))

    def end(tag: str) -> None:
        tag = _local(tag)
        builder.end(tag)
        element = parents.pop()
        if tag == "tu":
            units.append(_unit(element, form.wanted))
            for parent in parents:
                parent.clear()  # a corpus need not fit in memory

    def refuse(name: str, *unused: object) -> None:
        # entities can grow without bound or name other files; one that is not declared here stands
        # for text that is not here
        raise text.DataError(
            f"{span.uri}:{parser.CurrentLineNumber}: has the entity {name!r}, and entities are not "
            "read; write the text that it stands for, and delete its declaration"
        )

    # a DOCTYPE that names the standard's own file declares nothing, and that file is not fetched
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = parser.SkippedEntityHandler = refuse
    numbers = itertools.count(1)
    with _naming(span.uri), text.opened(epath.Path(span.uri)) as f:
        while block := f.read(text.BLOCK):
            parser.Parse(block, False)
            for unit in units:
                yield f"row {next(numbers)}", unit
            units.clear()
        parser.Parse(b"", True)


@contextlib.contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Makes DataErrors, which name the file, of what expat raises."""
    try:
        yield
    except expat.ExpatError as e:
        raise text.DataError(f"{uri}:{e.lineno}: not XML ({expat.ErrorString(e.code)})") from None
    except text.DataError:
        raise
    except (LookupError, ValueError) as e:  # how it refuses an encoding
        raise text.DataError(
            f"{uri}:1: its encoding cannot be read ({e}); write it as UTF-8, and say so in its "
            'first line: encoding="UTF-8"'
        ) from None


def _local(tag: str) -> str:
    """Returns the name of an element without the prefix of its namespace."""
    return tag.rpartition(":")[2]


def _unit(element: ElementTree.Element, wanted: tuple[str, ...]) -> dict[str, str] | str:
    """Returns a translation unit as a row, or why it is none.

    Of several variants of a wanted language that of exactly this name is taken, else the first; the
    others are in the row too, to be counted as not read.
    """
    variants: dict[str, list[tuple[str, str]]] = {}
    for variant in element.iter("tuv"):
        language = variant.get("xml:lang") or variant.get("lang", "")
        for segment in variant.iter("seg"):
            segments = variants.setdefault(_column(language, wanted), [])
            segments.append((language, _text(segment).strip()))
    unit: dict[str, str] = {}
    for column, segments in variants.items():
        segments.sort(key=lambda segment: _tag(segment[0]) != _tag(column))  # else in their order
        (language, unit[column]), *others = segments
        if column not in wanted or not others:
            continue
        names = [*dict.fromkeys([language, *(other for other, _ in others)])]
        if _tag(language) != _tag(column) and len({*map(_script, names)}) > 1:
            return (
                f"has {' and '.join(names)}, which are written in several scripts, for {column!r}; "
                f"name one of them in `columns`, such as {language}"
            )
        unit |= {f"another {column} ({other})": segment for other, segment in others}
    return unit


def _tag(language: str) -> str:
    return language.lower().replace("_", "-")


def _column(language: str, wanted: tuple[str, ...]) -> str:
    """Returns the wanted column that stands for the language, or the language itself."""
    have = _tag(language) + "-"
    matching = [want for want in wanted if have.startswith(_tag(want) + "-")]
    return max(matching, key=len, default=language)


@functools.lru_cache
def _script(language: str) -> str:
    """Returns the script that a language is written in: Hant for zh-TW; '' where none is known."""
    try:
        return str(langcodes.Language.get(language).maximize().script)
    except ValueError:
        return ""


def _text(segment: ElementTree.Element) -> str:
    for element in [*segment.iter()]:
        if element.tag in NATIVE:
            tail = element.tail
            element.clear()
            element.tail = tail
    return "".join(segment.itertext())


READERS: dict[str, Callable[[Span, RowFormat], Read]] = {
    "jsonl": _json_lines,
    "json": _json,
    "csv": lambda span, form: tables.comma_separated(
        span, form.header, form.delimiter, form.wanted
    ),
    "tsv": _tsv,
    "tsv_quoted": lambda span, form: tables.quoted(span, form.header, "\t"),
    "tsv_raw": lambda span, form: tables.raw(span, form.header, form.delimiter or "\t"),
    "parquet": _parquet,
    "tmx": _tmx,
    "squad": _squad,
}
