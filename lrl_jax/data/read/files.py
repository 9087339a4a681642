"""Files cut into shards of about one size, so that any number of workers share the reading.

    shards(["corpus/*.txt"])              [(Span("corpus/a.txt", 0, 67108871),), ...]
    aligned("dev.en", "dev.ko")           [(Span("dev.en"), Span("dev.ko"))]

Where a file is cut depends on the files alone, so the same text gives the same shards everywhere.
"""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import functools
import itertools
import re
from typing import Any, NamedTuple

from etils import epath
import numpy as np

from lrl_jax import text

SHARD_BYTES = 64 << 20
SUFFIXES = {
    ".txt": "text", ".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".tmx": "tmx",
}  # fmt: skip
CUT = ("text", "jsonl", "tsv")  # formats whose files may be cut at any line
LINE = re.compile(rb"\n")
BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
NEWLINE = 10


class Span(NamedTuple):
    """Part of a file: bytes of one that has lines, row groups of Parquet; -1: to the end."""

    uri: str
    start: int = 0
    end: int = -1


def format_of(uri: str, given: str = "auto", other: str = "text") -> str:
    """How a file is written: as `given`, or by its suffix; `other` where the suffix says nothing.

    >>> format_of("a/b.jsonl.gz"), format_of("dev/kor_Hang.dev"), format_of("a.json", "squad")
    ('jsonl', 'text', 'squad')
    """
    if given != "auto":
        return given
    path = epath.Path(uri)
    if path.suffix in text.PACKED:
        path = path.with_suffix("")
    return SUFFIXES.get(path.suffix, other)


def where(span: Span, at: int | str) -> str:
    """The place of a record for a reader: of a line its number in the file, else `at` itself."""
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
    """Spans of about `size` bytes together: small files gathered, large ones cut where they can be.

    Text, JSON lines and .tsv are cut at lines, paragraphs at blank lines, Parquet at row groups;
    whatever is compressed, or has to be read from its beginning, is one span.

    Args:
      written: the format of a file by its name.

    Raises:
      DataError: a file is missing or empty, or Parquet that is cut short.
    """
    found = (file for uri in uris for file in text.files(uri))
    return _gather(
        (one for file in found for one in _pieces(file, written(file), documents, size)), size
    )


def aligned(source: str, target: str, size: int = SHARD_BYTES) -> list[tuple[Span, ...]]:
    """Shards of two files that say the same on the same line: alternately source and target.

    Both are cut at the same line. Globs are paired file by file.

    Raises:
      DataError: missing, empty or, if they have to be cut, unequal files.
    """
    sources, targets = text.files(source), text.files(target)
    if len(sources) != len(targets):
        raise text.DataError(
            f"{source} is {len(sources)} files and {target} {len(targets)}; aligned files are "
            "paired in the order of their names, so there must be as many"
        )
    pairs = zip(sources, targets, strict=True)
    return _gather((one for pair in pairs for one in _aligned_pieces(*pair, size)), size)


def unequal(source: str, sources: int, target: str, targets: int) -> text.DataError:
    """The error of two aligned files with these numbers of lines."""
    return text.DataError(
        f"{source} has {sources} lines and {target} {targets}; "
        "parallel files say the same thing on the same line, so they must be equal"
    )


Piece = tuple[tuple[Span, ...], int]  # spans that stay together, and their bytes


def _gather(pieces: Iterable[Piece], size: int) -> list[tuple[Span, ...]]:
    groups: list[tuple[Span, ...]] = []
    room = 0
    for spans, length in pieces:
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
    elif length <= size or kind not in CUT or documents == "files" or _packed(file):
        cuts, sizes = [0, -1], [length]
    else:
        mark = BLANK_LINE if documents == "paragraphs" else LINE
        cuts = _cuts(file, length, size, mark)
        sizes = np.diff([*cuts[:-1], length]).tolist()
    for (start, end), part in zip(itertools.pairwise(cuts), sizes, strict=True):
        yield (Span(file, start, end),), part


def _packed(file: str) -> bool:
    return epath.Path(file).suffix in text.PACKED


def _cuts(file: str, length: int, size: int, mark: re.Pattern[bytes]) -> list[int]:
    """Bytes to cut at, evenly spread over the file, each after a `mark`."""
    found = {0}
    with epath.Path(file).open("rb") as f:
        for goal in _goals(length, size):
            if max(found) < goal and 0 < (cut := _after(f, goal, mark)) < length:
                found.add(cut)
    return [*sorted(found), -1]


def _goals(length: int, size: int) -> list[int]:
    count = -(-length // size)
    return [length * i // count for i in range(1, count)]


def _after(f: Any, goal: int, mark: re.Pattern[bytes]) -> int:
    """The end of the first mark that ends at `goal` or later; -1: there is none."""
    f.seek(goal - 1)
    at, tail = goal - 1, b""
    while data := f.read(text.BLOCK):
        window = tail + data
        if found := mark.search(window):
            return at - len(tail) + found.end()
        at += len(data)
        tail = window[-text.BLOCK :]  # a mark may begin in one block and end in the next
    return -1


# ---------------------------------------------------------------------------- Parquet
@contextlib.contextmanager
def parquet(file: str) -> Iterator[Any]:
    """An open pyarrow.parquet.ParquetFile.

    Raises:
      DataError: not Parquet, or cut short; also while it is read.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        if "://" in file:
            with epath.Path(file).open("rb") as f:
                yield ParquetFile(f)
        else:
            with ParquetFile(file) as found:
                yield found
    except (pyarrow.ArrowException, OSError) as e:
        raise text.DataError(f"{file}: is no whole Parquet file; is it cut short? ({e})") from None


def _row_groups(file: str, size: int) -> tuple[list[int], list[int]]:
    """Row groups to cut before, and bytes of text between them."""
    with parquet(file) as found:
        facts = found.metadata
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
    if length <= size or any(map(_packed, both)):
        yield (Span(source), Span(target)), length
        return
    cuts = _cuts_of_both(source, target, size, (text.identity(source), text.identity(target)))
    for starts, ends in itertools.pairwise(cuts):
        yield tuple(map(Span, both, starts, ends)), size


@functools.lru_cache(maxsize=64)
def _cuts_of_both(source: str, target: str, size: int, identities: object) -> list[tuple[int, int]]:
    """Bytes of both files that begin the same line, a pair a cut; counts the lines of both once."""
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
    """Newlines up to the end of each block of a file, and its lines."""
    counts, last = [], b""
    with epath.Path(file).open("rb") as f:
        while data := f.read(text.BLOCK):
            counts.append(data.count(b"\n"))
            last = data[-1:]
    total = np.cumsum(counts)
    return total, int(total[-1]) + (last != b"\n")


def _after_line(file: str, counts: np.ndarray, line: int) -> int:
    """The byte after so many lines."""
    block = int(np.searchsorted(counts, line))
    with epath.Path(file).open("rb") as f:
        f.seek(block * text.BLOCK)
        data = np.frombuffer(f.read(text.BLOCK), np.uint8)
    ends = np.flatnonzero(data == NEWLINE)
    return block * text.BLOCK + int(ends[line - int(counts[block]) - 1]) + 1
