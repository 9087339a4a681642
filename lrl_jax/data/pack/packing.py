"""Packs one shard of a dataset: records -> documents -> rows of tokens -> an ArrayRecord file.

    packed = pack_shard(job, tokenizer)

The result depends on text, tokenizer and settings alone: the bytes are the same in any process, on
any machine. `jobs` packs whole datasets.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import errno
import os
import tempfile
from typing import NamedTuple

from etils import epath
import numpy as np

from lrl_jax import storage, text
from lrl_jax.data import dataset as datasets
from lrl_jax.data.pack import bins, encoders, rows, shared
from lrl_jax.data.pack.rows import Count
from lrl_jax.data.read import filters
from lrl_jax.data.read.makers import NOTHING
from lrl_jax.data.read.tally import Tally
from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer.types import Tokenizer

VERSION = 2  # of the packing; when it changes, every dataset is packed again
BATCH = 1024  # most documents tokenised at once
BATCH_CHARS = 1 << 20  # characters from which a batch is tokenised with fewer documents
SUFFIX = ".array_record"
DATASETS = "datasets.json"  # name -> folder of its rows, beside those folders
TOO_LONG = "longer than a row"  # why `long_documents: drop` leaves a document out
BEYOND = "its answer lies beyond the row"  # why `truncate` leaves a document out
Tick = Callable[[int], None]  # called with a number of documents that are done


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """Describes one shard of a dataset to pack into `folder`; a worker process can be given it.

    Attributes:
      data: the recipe's data settings, with this dataset alone.
      shard: the spans of text to read, as `dataset.shards` gives them.
      number: which of the dataset's `count` shards this is.
      tokenizer: the folder to load the tokenizer from.
      take: the most records to pack; 0 packs all that pass the filters.
      encoders: how many processes may tokenise its documents; the rows do not depend on it.
      held_out: the folder of test texts that no record may share; '' if there are none.
    """

    data: recipe_data.Data
    name: str
    shard: datasets.Shard
    number: int
    count: int
    folder: str
    tokenizer: str
    take: int = 0
    encoders: int = 1
    held_out: str = ""

    @property
    def dataset(self) -> recipe_data.Dataset:
        """Returns the settings of the shard's dataset, with this shard's `take`."""
        return self.data.datasets[self.name].model_copy(update={"take": self.take})

    def path(self, suffix: str = SUFFIX) -> epath.Path:
        """Returns the path of its file of rows, or of the file with another suffix beside it."""
        return epath.Path(self.folder) / f"rows-{self.number:05}-of-{self.count:05}{suffix}"


@dataclasses.dataclass(frozen=True)
class Note:
    """Says what was packed of a shard, as the JSON file beside its rows does.

    Attributes:
      source: the `identities` of the files it was read from, from before they were read.
      shard: its file of rows; None if it has no document.
      samples: reason -> some of the records left out for it.
    """

    source: dict[str, list[int]]
    shard: rows.Shard | None
    count: Count
    samples: dict[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Packed(Note):
    """Adds the arrays of a shard to its note.

    Attributes:
      digests: uint64, one of each different text, ascending.
      keys: int32, the tokens of the longest document of each row, by which the rows of all shards
        are put in order; empty unless the dataset's order is `length`.
    """

    digests: np.ndarray
    keys: np.ndarray


class Piece(NamedTuple):
    """Holds a document, or a part of one that is too long for a row, of `whole` tokens in all.

    `tokens` are int32; `weights`, float32, are those of each token in the loss.
    """

    tokens: np.ndarray
    weights: np.ndarray
    whole: int

    def cut(self, start: int, end: int) -> "Piece":
        """Returns the tokens from `start` to `end` as a piece of the same document."""
        return Piece(self.tokens[start:end], self.weights[start:end], self.whole)


def pack_shard(
    job: ShardJob,
    tokenizer: Tokenizer,
    repeated: Iterable[int] = (),
    tick: Tick = lambda docs: None,
) -> Packed:
    """Packs one shard into one file.

    Args:
      repeated: ordinals of records to leave out, as `duplicates.repeated` gives them.
      tick: called with the number of documents of each batch once it is tokenised.

    Raises:
      ValueError: a bad source, or a template that does not fit; names file:line where it can.
      OSError: the disk is full.
    """
    data, dataset, length = job.data, job.dataset, job.data.sequence_length
    source = identities(job)
    sieve = filters.Sieve(dataset, shared.open_held_out(job.held_out))
    write = templates.writer(dataset, tokenizer)
    tally = Tally()
    kept = sieve.sift(datasets.read(dataset, job.shard, tally), repeated)
    cutter = Cutter(tokenizer, data, tick, encoders=(job.tokenizer, job.encoders))
    pieces = cutter.pieces(write(record) for record in kept)
    if dataset.order == "length":
        pieces = iter(sorted(pieces, key=lambda piece: piece.whole))
    keys: list[int] = []
    arranged = cutter.learnt(arrange(pieces, data, dataset.order))
    shard = _write(job.path(), _encoded(arranged, length, keys))
    count = cutter.count + counted(sieve, tally)
    return Packed(
        source=source,
        shard=shard,
        count=count,
        samples=sieve.samples | cutter.samples,
        digests=np.unique(np.delete(np.array(sieve.digests, np.uint64), cutter.dropped)),
        keys=np.array(keys if dataset.order == "length" else [], np.int32),
    )


def counted(sieve: filters.Sieve, tally: Tally) -> Count:
    """Returns what was counted of records before they were packed."""
    return Count(
        records=sieve.read,
        left_out=Counter(sieve.counts),
        scripts=sieve.scripts,
        source_rows=tally.rows,
        unread=tally.unread,
        absent=tally.absent,
        in_tests=sieve.in_tests,
    )


def identities(job: ShardJob) -> dict[str, list[int]]:
    """Returns the identity of each file a shard is read from; it changes when the file does.

    A source that is not a file (of a catalogue) is left out.
    """
    uris = dict.fromkeys(span.uri for span in job.shard)
    return {uri: list(text.identity(uri)) for uri in uris if epath.Path(uri).exists()}


def folders(data_folder: epath.PathLike) -> dict[str, epath.Path]:
    """Returns the folder of each dataset's rows in a run's `data`; ValueError if it has none."""
    data_folder = epath.Path(data_folder)
    path = data_folder / DATASETS
    if not path.exists():
        raise DataError(f"{path}: no such file; run `lrl data` to pack the datasets")
    try:
        return {name: data_folder / place for name, place in storage.read_json(path).items()}
    except (ValueError, TypeError, AttributeError) as e:
        raise DataError(f"{path}: is damaged ({e}); run `lrl data` again") from None


# ---------------------------------------------------------------------------- documents
@dataclasses.dataclass
class Cutter:
    """Cuts documents into pieces that fit a row, and counts them."""

    tokenizer: Tokenizer
    data: recipe_data.Data
    tick: Tick
    seen: int = 0
    count: Count = dataclasses.field(default_factory=Count)
    dropped: list[int] = dataclasses.field(default_factory=list)  # ordinals of left out documents
    samples: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # of those, by reason
    encoders: tuple[str, int] = ("", 1)  # folder of the tokenizer, how many processes may use it

    def pieces(self, examples: Iterable[Sequence[templates.TextPart]]) -> Iterator[Piece]:
        """Yields the pieces of every example, in order."""
        # a stream of documents is cut where a row ends, and nowhere else
        joined = self.data.packing == "concatenate" and self.data.long_documents == "split"
        for batch, encoded in encoders.encoded(_batches(examples), self.tokenizer, *self.encoders):
            tokens = np.concatenate([document.tokens for document in encoded], dtype=np.int32)
            weights = np.concatenate([document.weights for document in encoded], dtype=np.float32)
            documents.check(tokens, self.tokenizer.size)
            self.count += Count(
                docs=len(encoded),
                bytes=sum(document.bytes for document in encoded),
                tokens=len(tokens),
                loss_tokens=int(np.count_nonzero(weights)),
            )
            end = 0
            for document, text_parts in zip(encoded, batch, strict=True):
                start, end = end, end + len(document.tokens)
                piece = Piece(tokens[start:end], weights[start:end], end - start)
                self.count += Count(beyond=_answers_beyond(piece, self.data.sequence_length))
                if not piece.weights.any():
                    self._leave_out(piece, 0, NOTHING, text_parts)
                elif piece.whole <= self.data.sequence_length or joined:
                    yield piece
                else:
                    yield from self._cut(piece, document.bytes, text_parts)
                self.seen += 1
            self.tick(len(batch))

    def _cut(
        self, document: Piece, size: int, text_parts: Sequence[templates.TextPart]
    ) -> Iterator[Piece]:
        """Splits, truncates or drops a document of `size` bytes that is longer than a row."""
        length, long = self.data.sequence_length, self.data.long_documents
        if long == "split" and not document.weights.all():
            long = self.data.long_answers
        if long == "split":
            pieces = [document.cut(at, at + length) for at in range(0, document.whole, length)]
            for piece in pieces:
                if piece.weights.any():
                    yield piece
                else:
                    self._lose(piece)
            return
        keep = length if long == "truncate" else 0
        if not document.weights[:keep].any():
            self._leave_out(document, size, BEYOND if keep else TOO_LONG, text_parts)
            return
        before, after = (int(np.count_nonzero(document.weights[:n])) for n in (None, keep))
        # an estimate: each token that is trained on has the same share of the bytes
        lost = size - round(size * after / before)
        self._lose(document.cut(keep, document.whole), lost)
        yield document.cut(0, keep)._replace(whole=keep)

    def learnt(self, packed_rows: Iterable[list[Piece]]) -> Iterator[list[Piece]]:
        """Yields the rows that have a token to learn; a stream cut at row ends may have others."""
        for row in packed_rows:
            if any(piece.weights.any() for piece in row):
                yield row
            else:
                for piece in row:
                    self._lose(piece)

    def _lose(self, piece: Piece, size: int = 0) -> None:
        """Counts tokens that are in no row, of which `size` bytes are learnt."""
        learnt, tokens = int(np.count_nonzero(piece.weights)), len(piece.tokens)
        self.count += Count(bytes=-size, tokens=-tokens, loss_tokens=-learnt, cut=tokens)

    def _leave_out(
        self, document: Piece, size: int, why: str, text_parts: Sequence[templates.TextPart]
    ) -> None:
        """Counts a whole document that is in no row."""
        self._lose(document, size)
        self.count += Count(docs=-1, left_out=Counter({why: 1}))
        self.dropped.append(self.seen)
        learnt = "".join(text_part.text for text_part in text_parts if text_part.trained)
        filters.add_sample(self.samples, why, learnt or "".join(p.text for p in text_parts))


def _answers_beyond(document: Piece, length: int) -> bool:
    """Tells whether a document with a prompt has something to learn beyond its first row."""
    return bool(
        document.whole > length and document.weights[length:].any() and not document.weights.all()
    )


def _batches(examples: Iterable[Sequence[templates.TextPart]]) -> Iterator[list]:
    batch, chars = [], 0
    for text_parts in examples:
        batch.append(text_parts)
        chars += sum(len(text_part.text) for text_part in text_parts)
        if len(batch) == BATCH or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


# ---------------------------------------------------------------------------- rows
def arrange(pieces: Iterable[Piece], data: recipe_data.Data, order: str) -> Iterator[list[Piece]]:
    """Puts pieces into rows, as the recipe's `packing` says.

    Where `order` is `file`, documents keep their order; otherwise they are rearranged within a
    window of `pack_window` pieces.
    """
    if data.packing == "none":
        return ([piece] for piece in pieces)
    if data.packing == "concatenate" or order == "file":
        return _in_order(pieces, data.sequence_length, data.packing == "concatenate")
    return _best_fit(pieces, data.sequence_length, data.pack_window)


def _best_fit(pieces: Iterable[Piece], length: int, window: int) -> Iterator[list[Piece]]:
    waiting: list[Piece] = []
    for piece in pieces:
        if len(piece.tokens) == length:
            yield [piece]
            continue
        waiting.append(piece)
        if len(waiting) >= window:
            sizes = [len(piece.tokens) for piece in waiting]
            full, unpacked = bins.settle(sizes, length, most=window // 2)
            yield from ([waiting[i] for i in members] for members in full)
            waiting = [waiting[i] for i in unpacked]
    sizes = [len(piece.tokens) for piece in waiting]
    yield from ([waiting[i] for i in members] for members in bins.fill(sizes, length))


def _in_order(pieces: Iterable[Piece], length: int, cut: bool) -> Iterator[list[Piece]]:
    """Fills rows with pieces in their order; one that does not fit is cut, or begins a new row."""
    row: list[Piece] = []
    room = length
    for piece in pieces:
        at, size = 0, len(piece.tokens)
        while at < size:
            if not room or (size > room and not cut):
                yield row
                row, room = [], length
            row.append(piece.cut(at, at + room))
            at += len(row[-1].tokens)
            room -= len(row[-1].tokens)
    if row:
        yield row


def _encoded(packed_rows: Iterable[list[Piece]], length: int, keys: list[int]) -> Iterator[bytes]:
    """Yields the bytes of each row, and appends to `keys` the tokens of its longest document."""
    for row in packed_rows:
        assert 0 < sum(len(piece.tokens) for piece in row) <= length
        keys.append(max(piece.whole for piece in row))
        yield rows.encode([(piece.tokens, piece.weights) for piece in row])


# ---------------------------------------------------------------------------- files
def _write(path: epath.Path, encoded_rows: Iterable[bytes]) -> rows.Shard | None:
    """Writes an ArrayRecord file whole or not at all; returns None, and no file, for no rows.

    Another process may write the same file at the same time: both write the same bytes.
    """
    remote = storage.is_remote(path)  # array_record writes local files only
    with tempfile.TemporaryDirectory() as scratch:
        local = storage.partial(epath.Path(scratch) / path.name if remote else path)
        try:
            count = write_rows(local, encoded_rows)
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


def write_rows(path: epath.Path, encoded_rows: Iterable[bytes]) -> int:
    """Writes rows to a local ArrayRecord file and counts them; OSError if the disk is full."""
    from array_record.python.array_record_module import ArrayRecordWriter

    count = 0
    try:
        writer = ArrayRecordWriter(os.fspath(path), "group_size:1")
        for record in encoded_rows:
            writer.write(record)
            count += 1
        writer.close()
    except RuntimeError as e:  # array_record raises it for any failure of the disk
        full = "No space left" in str(e) or "quota" in str(e)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(e), os.fspath(path)) from None
    return count
