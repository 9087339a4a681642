"""Cuts files into shards of about one size, so that any number of workers share the reading.

    shards(["corpus/*.txt"])              [(Span("corpus/a.txt", 0, 67108871),), ...]
    aligned("dev.en", "dev.ko")           [(Span("dev.en"), Span("dev.ko"))]

Where a file is cut depends on the files alone, so the same text gives the same shards everywhere.
"""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import functools
import itertools
import os
import re
from typing import Any, NamedTuple

from etils import epath
import numpy as np

from lrl_jax import text
from lrl_jax.data import unpack

SHARD_BYTES = 64 << 20
SUFFIXES = {
    ".txt": "text", ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".tmx": "tmx",
}  # fmt: skip
# Other names of JSON lines; and case does not matter.
OTHER_NAMES = {
    ".ndjson": "jsonl", ".jl": "jsonl", ".jsonlines": "jsonl", ".json-lines": "jsonl",
    ".ldjson": "jsonl",
}  # fmt: skip
CUT = ("text", "jsonl", "tsv", "tsv_raw")  # formats whose files may be cut at any line
# A Parquet file above these sizes may not be so much larger when it is read than on disk: text is
# packed to a third or a tenth.
GROWN, ROWS, GROWTH = 64 << 20, 1 << 20, 1000
ROWS_A_BYTE = 100  # above ROWS; rows that all say the same
LINE = re.compile(rb"\n")
BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


class Span(NamedTuple):
    """Holds a range of a file: bytes, or row groups of Parquet; -1 is the end of the file."""

    uri: str
    start: int = 0
    end: int = -1


def format_of(uri: str, given: str = "auto", other: str = "text") -> str:
    """Returns the format of a file: `given`, or with "auto" that of its suffix, or else `other`.

    >>> format_of("a/b.JSONL.gz"), format_of("dev/kor_Hang.dev"), format_of("a.json", "squad")
    ('jsonl', 'text', 'squad')
    """
    if given != "auto":
        return given
    ending = suffix(uri)
    named = (SUFFIXES | OTHER_NAMES).get(ending.lower(), other)
    return other if ending not in SUFFIXES and (named, other) == ("jsonl", "json") else named


def renamed(uri: str, other: str = "text") -> bool:
    """Tells whether a file has a name by which only newer versions know its format."""
    ending = epath.Path(uri).suffix if unpack.without_query(uri) != uri else suffix(uri)
    return ending not in SUFFIXES and format_of(uri, other=other) != other


def named(uri: str) -> bool:
    """Tells whether the suffix of a file says its format."""
    return suffix(uri).lower() in SUFFIXES | OTHER_NAMES


def suffix(uri: str) -> str:
    """Returns the suffix of a file, of what is inside where it is compressed.

    >>> suffix("a.csv.gz"), suffix("train.tsv?download=true")
    ('.csv', '.tsv')
    """
    path = epath.Path(unpack.without_query(uri))
    return path.with_suffix("").suffix if text.is_packed(path.name) else path.suffix


def where(span: Span, at: int | str) -> str:
    """Returns the place of a record for messages: file:line for a line number, else file: `at`."""
    if isinstance(at, int):
        return text.place(span.uri, span.start, at)
    return f"{span.uri}: {at}"


# ---------------------------------------------------------------------------- shards
def shards(
    uris: Iterable[str],
    written: Callable[[str], str] = format_of,
    documents: str = "lines",
    size: int = SHARD_BYTES,
) -> list[tuple[Span, ...]]:
    """Returns shards of about `size` bytes: gathers small files, cuts large ones where it can.

    Text, JSON lines and .tsv are cut at lines, paragraphs at blank lines, Parquet at row groups.
    A file that is compressed or has to be read from its beginning is one span. `written` gives the
    format of a file by its name. A file that several uris name is read once.

    Raises DataError if a file is missing or empty, or a Parquet file is cut short.
    """
    names = [first for first, *_ in grouped(file for uri in uris for file in text.files(uri))]
    return _gather((_pieces(file, written(file), documents, size) for file in names), size)


def grouped(names: Iterable[str]) -> list[list[str]]:
    """Returns the names of each file, in the order of the first.

    >>> grouped(["web/b.txt", "web/a.txt", "./web/b.txt"])
    [['web/b.txt', './web/b.txt'], ['web/a.txt']]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name if "://" in name else os.path.abspath(name), []).append(name)
    return [*groups.values()]


def aligned(source: str, target: str, size: int = SHARD_BYTES) -> list[tuple[Span, ...]]:
    """Returns shards of files whose lines are translations of each other.

    The spans of a shard are source and target in turn. Both files are cut at the same lines; if
    they have to be cut and differ in their numbers of lines, DataError says so. Globs are paired
    file by file.
    """
    sources, targets = text.files(source), text.files(target)
    if len(sources) != len(targets):
        raise text.DataError(
            f"{source} is {len(sources)} files and {target} {len(targets)}; aligned files are "
            "paired in the order of their names, so there must be as many"
        )
    pairs = zip(sources, targets, strict=True)
    return _gather((_aligned_pieces(*pair, size) for pair in pairs), size)


def unequal(source: str, sources: int, target: str, targets: int) -> text.DataError:
    """Returns the error that says that two aligned files differ in their numbers of lines."""
    return text.DataError(
        f"{source} has {sources} lines and {target} {targets}; "
        "parallel files say the same thing on the same line, so they must be equal"
    )


Piece = tuple[tuple[Span, ...], int]  # spans that stay together, and how many bytes they have


def _gather(pieces: Iterable[Iterator[Piece]], size: int) -> list[tuple[Span, ...]]:
    groups: list[tuple[Span, ...]] = []
    room = 0
    for spans, length in itertools.chain.from_iterable(pieces):
        if length > room or not groups:
            groups.append(())
            room = size
        groups[-1] += spans
        room -= length
    return groups


def _pieces(file: str, kind: str, documents: str, size: int) -> Iterator[Piece]:
    if file.startswith(text.SAMPLE):
        yield (Span(file),), size  # the sample world has no files; each name is a shard
        return
    length = epath.Path(file).stat().length
    if kind == "parquet":
        cuts, sizes = _row_groups(file, size)
    elif length <= size or kind not in CUT or documents == "files" or _uncut(file):
        cuts, sizes = [0, -1], [length]
    else:
        mark = BLANK_LINE if documents == "paragraphs" else LINE
        cuts = _cuts(file, length, size, mark)
        sizes = np.diff([*cuts[:-1], length]).tolist()
    for (start, end), bytes_ in zip(itertools.pairwise(cuts), sizes, strict=True):
        yield (Span(file, start, end),), bytes_


def _uncut(file: str) -> bool:
    """Tells whether a file has to be read from its beginning, whatever its format."""
    return text.is_packed(file) or text.is_utf_16(file)


def _cuts(file: str, length: int, size: int, mark: re.Pattern[bytes]) -> list[int]:
    """Returns bytes to cut at, evenly spread over the file, each after a `mark`; -1 is the last."""
    cuts = [0]
    with epath.Path(file).open("rb") as f:
        for goal in _goals(length, size):
            if cuts[-1] < goal and 0 < (cut := _after(f, goal, mark)) < length:
                cuts.append(cut)
    return [*cuts, -1]


def _goals(length: int, size: int) -> list[int]:
    count = -(-length // size)
    return [length * i // count for i in range(1, count)]


def _after(f: Any, goal: int, mark: re.Pattern[bytes]) -> int:
    """Returns the end of the first mark that ends at `goal` or later; -1 where there is none."""
    f.seek(goal - 1)
    at, tail = goal - 1, b""
    while data := f.read(text.BLOCK):
        window = tail + data
        if match := mark.search(window):
            return at - len(tail) + match.end()
        at += len(data)
        tail = window[-text.BLOCK :]  # a mark may begin in one block and end in the next
    return -1


# ---------------------------------------------------------------------------- Parquet
@contextlib.contextmanager
def parquet(file: str) -> Iterator[Any]:
    """Opens a file as a pyarrow.parquet.ParquetFile.

    Raises DataError, also while the caller reads it, if it is no Parquet file or is cut short.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        remote = "://" in file
        source = epath.Path(file).open("rb") if remote else contextlib.nullcontext(file)
        with source as opened, ParquetFile(opened) as row_groups:
            _refuse_growth(file, row_groups.metadata)
            yield row_groups
    except (pyarrow.ArrowException, OSError) as e:
        raise text.DataError(f"{file}: is no whole Parquet file; is it cut short? ({e})") from None


def _refuse_growth(file: str, facts: Any) -> None:
    """Raises DataError for a file that grows beyond reason when it is read."""
    length = epath.Path(file).stat().length
    unpacked = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
    if unpacked > GROWN and unpacked > GROWTH * length:
        raise text.DataError(
            f"{file}: {length:,} bytes that unpack to {unpacked:,}, over {GROWTH:,} times as many; "
            "this is no text"
        )
    if facts.num_rows > ROWS and facts.num_rows > ROWS_A_BYTE * length:
        raise text.DataError(
            f"{file}: says that it has {facts.num_rows:,} rows in {length:,} bytes; this is no text"
        )


def _row_groups(file: str, size: int) -> tuple[list[int], list[int]]:
    """Returns row groups to cut before, and the bytes of text between each and the next."""
    with parquet(file) as opened:
        facts = opened.metadata
        bytes_ = [facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)]
    cuts, sizes = [0], [0]
    for i, length in enumerate(bytes_):
        if sizes[-1] and sizes[-1] + length > size:
            cuts.append(i)
            sizes.append(0)
        sizes[-1] += length
    return [*cuts, len(bytes_)], sizes


# ---------------------------------------------------------------------------- two aligned files
def _aligned_pieces(source: str, target: str, size: int) -> Iterator[Piece]:
    both = source, target
    if any(file.startswith(text.SAMPLE) for file in both):
        yield (Span(source), Span(target)), size
        return
    length = max(epath.Path(file).stat().length for file in both)
    if length <= size or any(map(_uncut, both)):
        yield (Span(source), Span(target)), length
        return
    cuts = _cuts_of_both(source, target, size, (text.identity(source), text.identity(target)))
    for starts, ends in itertools.pairwise(cuts):
        yield tuple(map(Span, both, starts, ends)), size


@functools.lru_cache(maxsize=64)
def _cuts_of_both(source: str, target: str, size: int, identities: object) -> list[tuple[int, int]]:
    """Returns a pair of bytes for each cut, at which both files begin the same line."""
    (counts, lines), (others, other_lines) = _newlines(source), _newlines(target)
    if lines != other_lines:
        raise unequal(source, lines, target, other_lines)
    lengths = [epath.Path(file).stat().length for file in (source, target)]
    larger = counts if lengths[0] >= lengths[1] else others
    chosen = {int(larger[goal // text.BLOCK]) for goal in _goals(max(lengths), size)}
    cuts = [
        (_after_line(source, counts, line), _after_line(target, others, line))
        for line in sorted(chosen - {0, lines})
    ]
    return [(0, 0), *cuts, (-1, -1)]


def _newlines(file: str) -> tuple[np.ndarray, int]:
    """Returns how many newlines there are up to the end of each block, and the number of lines."""
    counts, last = [], b""
    with epath.Path(file).open("rb") as f:
        while data := f.read(text.BLOCK):
            counts.append(data.count(b"\n"))
            last = data[-1:]
    total = np.cumsum(counts)
    return total, int(total[-1]) + (last != b"\n")


def _after_line(file: str, counts: np.ndarray, line: int) -> int:
    """Returns the byte after so many lines."""
    block = int(np.searchsorted(counts, line))
    with epath.Path(file).open("rb") as f:
        f.seek(block * text.BLOCK)
        data = np.frombuffer(f.read(text.BLOCK), np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    return block * text.BLOCK + int(ends[line - int(counts[block]) - 1]) + 1
