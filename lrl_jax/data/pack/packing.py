"""Packs one shard of a dataset: records -> documents -> rows of tokens -> an ArrayRecord file.

    packed = pack_shard(job, tokenizer)

A pure function of text, tokenizer and settings: the same bytes in any process, on any machine.
`jobs` has whole datasets.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import errno
import itertools
import json
import os
import tempfile
from typing import NamedTuple

from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.data import dataset as datasets
from lrl_jax.data.pack import bins, rows
from lrl_jax.data.read import filters, records
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer.types import Tokenizer

VERSION = 2  # of the packing; a new one makes every dataset be packed again
BATCH = 1024  # documents tokenised at once, or fewer, of
BATCH_CHARS = 1 << 20  # so many characters
SUFFIX = ".array_record"
DATASETS = "datasets.json"  # name -> folder of its rows, beside those folders
TOO_LONG = "longer than a row"  # why a document is left out by `long_documents: drop`
Tick = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """One shard of a dataset to pack, with all that its rows depend on but text and tokenizer.

    Attributes:
      data: of the recipe, with this dataset alone.
      shard: what of its text is read, as `dataset.shards` gives it.
      number: which of the dataset's `count` shards this is.
      folder: where its rows go; `tokenizer`: the folder the tokenizer lies in.
      take: records at most; 0: all that pass the filters.
    """

    data: recipe_data.Data
    name: str
    shard: records.Shard
    number: int
    count: int
    folder: str
    tokenizer: str
    take: int = 0

    @property
    def dataset(self) -> recipe_data.Dataset:
        return self.data.datasets[self.name].model_copy(update={"take": self.take})

    @property
    def file(self) -> str:
        """The name of the shard's rows."""
        return f"rows-{self.number:05}-of-{self.count:05}{SUFFIX}"


@dataclasses.dataclass(frozen=True)
class Count:
    """What was packed; counts add. The attributes are those of `rows.Manifest`."""

    records: int = 0
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    docs: int = 0
    scripts: Counter[str] = dataclasses.field(default_factory=Counter)
    bytes: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    cut: int = 0

    def __add__(self, other: "Count") -> "Count":
        names = [field.name for field in dataclasses.fields(self)]
        return Count(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclasses.dataclass(frozen=True)
class Packed:
    """A packed shard.

    Attributes:
      shard: its file; none, if it has no document.
      samples: reason -> some of the records left out for it.
      digests: uint64, of the different texts in it, ascending.
      keys: int32, of each row the tokens of its longest document, by which rows of all shards
        are put in order; none where the order is theirs already.
    """

    shard: rows.Shard | None
    count: Count
    samples: dict[str, list[str]]
    digests: np.ndarray
    keys: np.ndarray


class Piece(NamedTuple):
    """A document, or a part of one: int32 tokens, float32 loss weights, tokens of the document."""

    tokens: np.ndarray
    weights: np.ndarray
    whole: int


def pack_shard(
    job: ShardJob,
    tokenizer: Tokenizer,
    repeated: Iterable[int] = (),
    tick: Tick = lambda docs: None,
) -> Packed:
    """Packs one shard into one file.

    Args:
      repeated: ordinals of records to leave out, as `duplicates.repeated` gives them.
      tick: called with the number of documents in a batch when they are tokenised.

    Raises:
      ValueError: a bad source, a template that does not fit; as file:line where there is a line.
      OSError: the disk is full.
    """
    data, dataset, length = job.data, job.dataset, job.data.sequence_length
    sieve = filters.Sieve(dataset)
    write = templates.writer(dataset, tokenizer)
    kept = sieve.sift(datasets.read(dataset, job.shard), frozenset(repeated))
    cutter = Cutter(tokenizer, data, tick)
    pieces = cutter.pieces(write(record) for record in kept)
    if dataset.order == "length":
        pieces = iter(sorted(pieces, key=lambda piece: piece.whole))
    keys: list[int] = []
    path = epath.Path(job.folder) / job.file
    shard = _write(path, _encoded(arrange(pieces, data, dataset.order), length, keys))
    count = cutter.count + Count(sieve.read, Counter(sieve.counts), scripts=sieve.scripts)
    return Packed(
        shard=shard,
        count=count,
        samples=sieve.samples | cutter.samples,
        digests=np.unique(np.delete(np.array(sieve.digests, np.uint64), cutter.dropped)),
        keys=np.array(keys if dataset.order == "length" else [], np.int32),
    )


def folders(data_folder: epath.PathLike) -> dict[str, epath.Path]:
    """The folder of each dataset's rows in a run's `data` folder, as the last preparation left it.

    Raises:
      ValueError: nothing was prepared there.
    """
    data_folder = epath.Path(data_folder)
    path = data_folder / DATASETS
    if not path.exists():
        raise DataError(f"{path}: no such file; run `lrl data` to pack the datasets")
    try:
        return {name: data_folder / place for name, place in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as e:
        raise DataError(f"{path}: is damaged ({e}); run `lrl data` again") from None


# ---------------------------------------------------------------------------- documents
class Cutter:
    """Makes pieces that fit a row of documents, and counts.

    Attributes:
      count: of the documents so far.
      dropped: ordinals of documents left out for their length; `samples` of them.
    """

    def __init__(self, tokenizer: Tokenizer, data: recipe_data.Data, tick: Tick):
        self._tokenizer = tokenizer
        self._length = data.sequence_length
        self._long = data.long_documents
        # a stream of documents is cut where a row ends, and nowhere else
        self._whole = data.packing == "concatenate" and self._long == "split"
        self._tick = tick
        self._seen = 0
        self.count = Count()
        self.dropped: list[int] = []
        self.samples: dict[str, list[str]] = {}

    def pieces(self, examples: Iterable[Sequence[templates.TextPart]]) -> Iterator[Piece]:
        """The pieces of every example, in order."""
        for batch in _batches(examples):
            yield from self._of(batch)
            self._tick(len(batch))

    def _of(self, batch: list[Sequence[templates.TextPart]]) -> Iterator[Piece]:
        found = documents.encode(batch, self._tokenizer)
        tokens = np.concatenate([document.tokens for document in found], dtype=np.int32)
        weights = np.concatenate([document.weights for document in found], dtype=np.float32)
        documents.check(tokens, self._tokenizer.size)
        self.count += Count(
            docs=len(found),
            bytes=sum(document.bytes for document in found),
            tokens=len(tokens),
            loss_tokens=int(np.count_nonzero(weights)),
        )
        end = 0
        for document, parts in zip(found, batch, strict=True):
            start, end = end, end + len(document.tokens)
            if end - start <= self._length or self._whole:
                yield Piece(tokens[start:end], weights[start:end], end - start)
            else:
                one = Piece(tokens[start:end], weights[start:end], end - start)
                yield from self._cut(one, document.bytes, parts)
            self._seen += 1

    def _cut(self, one: Piece, size: int, parts: Sequence[templates.TextPart]) -> Iterator[Piece]:
        length = self._length
        if self._long == "split":
            for at in range(0, one.whole, length):
                yield Piece(one.tokens[at : at + length], one.weights[at : at + length], one.whole)
            return
        keep = length if self._long == "truncate" else 0
        before, after = (int(np.count_nonzero(one.weights[:n])) for n in (None, keep))
        lost = size - round(size * after / before) if before else 0  # bytes go with their tokens
        cut = one.whole - keep
        change = Count(bytes=-lost, tokens=-cut, loss_tokens=after - before, cut=cut)
        if keep:
            yield Piece(one.tokens[:keep], one.weights[:keep], keep)
        else:
            change += Count(docs=-1, left_out=Counter({TOO_LONG: 1}))
            self.dropped.append(self._seen)
            some = self.samples.setdefault(TOO_LONG, [])
            if len(some) < filters.SAMPLES:
                learnt = "".join(part.text for part in parts if part.trained)
                some.append(filters.shortened(learnt))
        self.count += change


def _batches(examples: Iterable[Sequence[templates.TextPart]]) -> Iterator[list]:
    batch, chars = [], 0
    for parts in examples:
        batch.append(parts)
        for part in parts:
            chars += len(part.text)
        if len(batch) == BATCH or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


# ---------------------------------------------------------------------------- rows
def arrange(pieces: Iterable[Piece], data: recipe_data.Data, order: str) -> Iterator[list[Piece]]:
    """Puts pieces into rows; `file` order is that of documents, others only of windows of them."""
    if data.packing == "none":
        return ([piece] for piece in pieces)
    if data.packing == "concatenate":
        return _concatenated(pieces, data.sequence_length)
    if order == "file":
        return _in_order(pieces, data.sequence_length)
    return _best_fit(pieces, data.sequence_length, data.pack_window)


def _best_fit(pieces: Iterable[Piece], length: int, window: int) -> Iterator[list[Piece]]:
    held: list[Piece] = []
    for piece in pieces:
        if len(piece.tokens) == length:
            yield [piece]
            continue
        held.append(piece)
        if len(held) >= window:
            sizes = [len(one.tokens) for one in held]
            full, waiting = bins.settle(sizes, length, most=window // 2)
            yield from ([held[i] for i in members] for members in full)
            held = [held[i] for i in waiting]
    sizes = [len(one.tokens) for one in held]
    yield from ([held[i] for i in members] for members in bins.fill(sizes, length))


def _in_order(pieces: Iterable[Piece], length: int) -> Iterator[list[Piece]]:
    """As many as fit, one after another: no other rows keep order and documents whole."""
    row: list[Piece] = []
    room = length
    for piece in pieces:
        if len(piece.tokens) > room:
            yield row
            row, room = [], length
        row.append(piece)
        room -= len(piece.tokens)
    if row:
        yield row


def _concatenated(pieces: Iterable[Piece], length: int) -> Iterator[list[Piece]]:
    row: list[Piece] = []
    room = length
    for piece in pieces:
        at, size = 0, len(piece.tokens)
        while at < size:
            end = min(at + room, size)
            row.append(Piece(piece.tokens[at:end], piece.weights[at:end], piece.whole))
            room -= end - at
            at = end
            if not room:
                yield row
                row, room = [], length
    if row:
        yield row


def _encoded(found: Iterable[list[Piece]], length: int, keys: list[int]) -> Iterator[bytes]:
    for row in found:
        assert 0 < sum(len(piece.tokens) for piece in row) <= length
        keys.append(max(piece.whole for piece in row))
        yield rows.encode([(piece.tokens, piece.weights) for piece in row])


# ---------------------------------------------------------------------------- files
def _write(path: epath.Path, found: Iterable[bytes]) -> rows.Shard | None:
    """Writes an ArrayRecord file under a name of its own, then gives it the one it should have.

    Others may write the same file at the same time: it has the same bytes.
    """
    remote = storage.is_remote(path)  # array_record writes local files only
    with tempfile.TemporaryDirectory() as scratch:
        local = storage.partial(epath.Path(scratch) / path.name if remote else path)
        try:
            count = write_rows(local, found)
            if not count:
                return None
            shard = rows.Shard(path.name, count, local.stat().length, storage.sha256(local))
            if remote:
                local.copy(path, overwrite=True)
            else:
                local.replace(path)
            return shard
        finally:
            local.unlink(missing_ok=True)


def write_rows(path: epath.Path, found: Iterable[bytes]) -> int:
    from array_record.python.array_record_module import ArrayRecordWriter

    iterator = iter(found)
    first = next(iterator, None)
    if first is None:
        return 0
    count = 0
    try:
        writer = ArrayRecordWriter(os.fspath(path), "group_size:1")
        for record in itertools.chain([first], iterator):
            writer.write(record)
            count += 1
        writer.close()
    except RuntimeError as e:  # what array_record raises for any failure of the disk
        full = "No space left" in str(e) or "quota" in str(e)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(e), os.fspath(path)) from None
    return count
