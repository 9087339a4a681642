"""Checks the files of fastText models, and reads their labels, without the library.

    labels("lid.176.bin")        ("__label__af", "__label__als", ...)

The library reads whatever bytes it is given: a file that is cut short gives wrong numbers, or is
read without end. So the file is walked first, as github.com/facebookresearch/fastText writes it
(saveModel in src/fasttext.cc, and save in src/args.cc, dictionary.cc, densematrix.cc,
quantmatrix.cc and productquantizer.cc), and has to end where its own sizes say.
"""

from collections.abc import Callable
import mmap
import os
import struct
from typing import NamedTuple, TypeVar

from lrl_jax.text import DataError

MAGIC, VERSIONS = 793712314, (11, 12)
CLASSIFIER = 3  # the kind of model that has labels; 1 and 2 are vectors of words
ARGUMENTS = struct.Struct("<12id")  # dim, ..., loss, model, bucket, minn, maxn, lrUpdateRate, t
MODEL = 7  # the place of the kind among them
COUNTS = struct.Struct("<3i2q")  # entries, words, labels, tokens, pruned
ENTRY = struct.Struct("<qb")  # how often it was seen, and whether it is a label
CENTROIDS = 256  # of each part of a vector that is quantised
WHAT_TO_USE = (
    "use a model that names languages, such as GlotLID's model.bin or lid.176.bin of fastText"
)
T = TypeVar("T")


class _Cursor(NamedTuple):
    """Reads fields of a file one after another; `at` holds the place of the next one."""

    data: mmap.mmap
    at: list[int]

    def take(self, form: struct.Struct) -> tuple:
        values = form.unpack_from(self.data, self.at[0])
        self.at[0] += form.size
        return values

    def one(self, letter: str) -> int:
        return self.take(struct.Struct(f"<{letter}"))[0]

    def skip(self, size: int) -> None:
        if size < 0 or self.at[0] + size > len(self.data):
            raise struct.error(f"{size:,} bytes are said to follow")
        self.at[0] += size


def labels(path: str) -> tuple[str, ...]:
    """Returns the labels of a classifier, in the order of the file, as it spells them.

    Raises:
      DataError: there is no such file, it is no fastText model or one of word vectors, or it is cut
        short or damaged.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            if not size:
                raise DataError(f"{path}: is empty; {WHAT_TO_USE}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _labels(path, _Cursor(data, [0]))
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror}); {WHAT_TO_USE}") from None


def _labels(path: str, cursor: _Cursor) -> tuple[str, ...]:
    size = len(cursor.data)
    if size < 8 or cursor.one("i") != MAGIC:
        raise DataError(f"{path}: is no fastText model; {WHAT_TO_USE}")
    if (version := cursor.one("i")) not in VERSIONS:
        raise DataError(f"{path}: a fastText model of version {version}; want 11 or 12")
    arguments = _whole(path, cursor, lambda: cursor.take(ARGUMENTS))
    if arguments[MODEL] != CLASSIFIER:
        raise DataError(f"{path}: holds vectors of words and has no labels; {WHAT_TO_USE}")
    spelled = _whole(path, cursor, lambda: _dictionary(cursor))
    _whole(path, cursor, lambda: _matrices(cursor))
    if cursor.at[0] != size:
        raise DataError(
            f"{path}: has {size:,} bytes, and its own sizes say {cursor.at[0]:,}; fetch it again"
        )
    return spelled


def _whole(path: str, cursor: _Cursor, read: Callable[[], T]) -> T:
    """Returns what `read` reads; DataError if the file ends before."""
    try:
        return read()
    except (struct.error, ValueError) as e:
        raise DataError(
            f"{path}: is cut short or damaged: after {cursor.at[0]:,} of its {len(cursor.data):,} "
            f"bytes, {e}; fetch it again"
        ) from None


def _dictionary(cursor: _Cursor) -> tuple[str, ...]:
    entries, _, count, _, pruned = cursor.take(COUNTS)
    spelled: list[str] = []
    for _ in range(entries):
        end = cursor.data.find(b"\0", cursor.at[0])
        if end < 0:
            raise ValueError("a word has no end")
        word = cursor.data[cursor.at[0] : end]
        cursor.at[0] = end + 1
        if cursor.take(ENTRY)[1] == 1:
            spelled.append(word.decode())
    if len(spelled) != count:
        raise ValueError(f"{len(spelled):,} labels, where {count:,} are said")
    cursor.skip(8 * max(0, pruned))
    return tuple(spelled)


def _matrices(cursor: _Cursor) -> None:
    """Walks the two matrices: of the words, and of the labels."""
    quantised = bool(cursor.one("b"))
    _quantised(cursor) if quantised else _dense(cursor)
    quantised_output = bool(cursor.one("b"))
    _quantised(cursor) if quantised and quantised_output else _dense(cursor)


def _dense(cursor: _Cursor) -> None:
    cursor.skip(4 * cursor.one("q") * cursor.one("q"))


def _quantised(cursor: _Cursor) -> None:
    norms, rows, _ = cursor.one("b"), cursor.one("q"), cursor.one("q")
    cursor.skip(cursor.one("i"))
    _quantiser(cursor)
    if norms:
        cursor.skip(rows)
        _quantiser(cursor)


def _quantiser(cursor: _Cursor) -> None:
    dim = cursor.take(struct.Struct("<4i"))[0]
    cursor.skip(4 * dim * CENTROIDS)
