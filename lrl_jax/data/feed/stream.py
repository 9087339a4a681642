"""Reads batches of packed rows in the order of the plan, on any number of hosts.

    stream = Stream(folders, plan, batch_size=256, host_rows=mesh.rows_here(m, 256))
    with stream.prefetch(start_row) as batches:
        for g, batch in batches: ...

A batch depends on its first global row alone, so a stream has no state, and reading can begin at
any row at once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import functools
import itertools
import os
import time
from typing import Protocol, Self

from array_record.python.array_record_module import ArrayRecordReader
from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.data.feed.cache import LIMIT_GIB, ShardCache
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack import rows
from lrl_jax.text import DataError

Batch = dict[str, np.ndarray]
OPEN = 256  # most files open at a time; systems often allow 1024 of all kinds
AGAIN = "run `lrl data` again"
AHEAD = 1024  # rows of the plan computed at once
LOOKS = 32  # files checked, or copied, at the same time


class Stream:
    """Reads batches of packed rows.

    Args:
      folders: dataset name -> folder of its packed rows, as `packing.folders` gives them.
      plan: which rows to read, in which order.
      batch_size: global rows in a batch.
      host_rows: places in a batch of the rows this host reads, ascending; None reads all.
      cache_gib: limit of the copies of remote shards on this machine.

    Raises:
      ValueError: a dataset that does not fit the plan or the other datasets, or a file that is
        missing or damaged.
    """

    def __init__(
        self,
        folders: Mapping[str, epath.PathLike],
        plan: Plan,
        batch_size: int,
        host_rows: Sequence[int] | np.ndarray | None = None,
        cache_gib: float = LIMIT_GIB,
    ):
        if missing := [name for name in plan.names if name not in folders]:
            raise DataError(
                f"the plan reads {', '.join(missing)}, which has no folder of rows; run `lrl data`"
            )
        self.plan = plan
        self.batch_size = batch_size
        self.manifests = {name: rows.read_manifest(folders[name]) for name in plan.names}
        _check_agreement(self.manifests, plan)
        cache = ShardCache(cache_gib)
        opener = _opener(cache)
        self._files = [Files(folders[name], m, opener) for name, m in self.manifests.items()]
        _check_files(self._files, cache)
        self._planned = functools.lru_cache(8)(self._plan_ahead)
        every_row = np.arange(batch_size)
        self._host_rows = every_row if host_rows is None else np.asarray(host_rows, np.int64)
        first = next(iter(self.manifests.values()))
        self.sequence_length = first.sequence_length
        self._ids = first.bos_id, first.pad_id

    def batch_at(self, g: int) -> Batch:
        """Reads this host's rows of the batch of global rows g to g + batch_size.

        Returns:
          Five arrays [B, T], as `rows.features` makes them; B is how many rows this host reads.
        """
        datasets, places = (array[self._host_rows] for array in self._rows(g, self.batch_size))
        by_place: dict[int, rows.PackedRow] = {}
        for dataset in np.unique(datasets):
            at = np.flatnonzero(datasets == dataset)
            files = self._files[dataset]
            by_place |= zip(at.tolist(), files.read(files.ids(places[at])), strict=True)
        batch = [by_place[i] for i in range(len(self._host_rows))]
        return rows.features(batch, self.sequence_length, *self._ids)

    def dataset_ids(self, g: int) -> np.ndarray:
        """Returns the dataset id (place in plan.names) of each row of the global batch at `g`."""
        return self._rows(g, self.batch_size)[0]

    def where(self, g: int) -> tuple[str, str, int]:
        """Returns the stage of global row `g`, its dataset, and which row of the dataset it is."""
        (dataset,), (place,) = self.plan(np.array([g]))
        stage = self.plan.stages[int(self.plan.stage_at(g))].name
        return stage, self.plan.names[dataset], int(self._files[dataset].ids(np.array([place]))[0])

    def prefetch(self, start_row: int, depth: int = 2, threads: int = 2) -> "Prefetch":
        """Reads batches from `start_row` to the end of the plan, ahead, on `threads` threads."""
        return Prefetch(self, start_row, depth, threads)

    def _rows(self, g: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what the plan says of `count` rows from `g` on, from blocks that are kept."""
        if g < 0 or g + count > self.plan.total:
            return self.plan(np.arange(g, g + count))  # raises an error that says what is wrong
        numbers = range(g // AHEAD, (g + count - 1) // AHEAD + 1)
        datasets, places = zip(*map(self._planned, numbers), strict=True)
        here = slice(g - numbers[0] * AHEAD, g - numbers[0] * AHEAD + count)
        return np.concatenate(datasets)[here], np.concatenate(places)[here]

    def _plan_ahead(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return self.plan(np.arange(number * AHEAD, min((number + 1) * AHEAD, self.plan.total)))


class Batches(Protocol):
    """Describes what `Prefetch` reads from: a `Stream`, or anything that has batches by row."""

    batch_size: int
    plan: Plan

    def batch_at(self, g: int) -> Batch: ...


class Prefetch:
    """Iterates over (first global row, batch), in order, and keeps up to `depth` of them ready.

    Attributes:
      waited: how many seconds the last `next` had to wait; above 0, data is slower than training.
    """

    def __init__(self, stream: Batches, start_row: int, depth: int, threads: int = 1):
        self.waited = 0.0
        last = stream.plan.total - stream.batch_size
        self._starts = iter(range(start_row, last + 1, stream.batch_size))
        self._read = stream.batch_at
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "prefetch")
        self._coming: deque[tuple[int, concurrent.futures.Future[Batch]]] = deque()
        for _ in range(depth + threads):
            self._ask()

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        return self

    def __next__(self) -> tuple[int, Batch]:
        if not self._coming:
            raise StopIteration
        start = time.perf_counter()
        g, coming = self._coming[0]
        batch = coming.result()  # raises what reading raised, at every further call too
        self.waited = time.perf_counter() - start
        self._coming.popleft()
        self._ask()
        return g, batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _ask(self) -> None:
        for g in itertools.islice(self._starts, 1):
            self._coming.append((g, self._pool.submit(self._read, g)))


Open = Callable[[epath.Path, rows.Shard], ArrayRecordReader]


class Files:
    """Reads the shards of one packed dataset, each opened when it is first needed.

    Args:
      opener: opens a shard, or returns the reader that it opened before.

    Raises:
      ValueError: a file is missing, cut short or damaged.
    """

    def __init__(self, folder: epath.PathLike, manifest: rows.Manifest, opener: Open | None = None):
        self.folder, self.shards = epath.Path(folder), manifest.shards
        self._open = opener or _opener(ShardCache())
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        self._order = rows.read_order(folder, manifest)

    def ids(self, places: np.ndarray) -> np.ndarray:
        """Returns the ids of the rows at these places in the order of reading."""
        return places if self._order is None else self._order[places]

    def read(self, ids: np.ndarray) -> list[rows.PackedRow]:
        """Reads the rows with these ids, in this order."""
        shards = np.searchsorted(self._starts, ids, side="right") - 1
        places = (ids - self._starts[shards]).tolist()
        return [
            self._row(self.shards[shard], at)
            for shard, at in zip(shards.tolist(), places, strict=True)
        ]

    def _row(self, shard: rows.Shard, at: int) -> rows.PackedRow:
        path = self.folder / shard.file
        reader = self._open(path, shard)
        try:
            (record,) = reader.read([at])  # single reads are faster than one of many rows
            return rows.decode(record)
        except (RuntimeError, ValueError) as e:
            raise _damaged(path, e) from None


def _opener(cache: ShardCache) -> Open:
    """Returns a function that opens a shard, or returns the reader that it opened before."""
    return functools.lru_cache(OPEN)(functools.partial(_open, cache))


def _open(cache: ShardCache, path: epath.Path, shard: rows.Shard) -> ArrayRecordReader:
    local = _local(cache, path, shard)
    try:  # no read-ahead: rows are read in random order
        reader = ArrayRecordReader(local, options="readahead_buffer_size:0")
    except (RuntimeError, ValueError) as e:
        raise _damaged(path, e) from None
    if (count := reader.num_records()) != shard.rows:
        raise DataError(f"{path}: has {count} rows, its manifest says {shard.rows}; {AGAIN}")
    return reader


def _local(cache: ShardCache, path: epath.Path, shard: rows.Shard) -> str:
    """Returns a local file of the same bytes, as array_record cannot read from gs://."""
    if storage.is_remote(path) and (copied := cache.find(shard)):
        return copied
    _check_file(path, shard)
    return cache.copy(path, shard) if storage.is_remote(path) else os.fspath(path)


def _damaged(path: epath.Path, why: Exception) -> DataError:
    return DataError(f"{path}: damaged ({why}); delete it and {AGAIN}")


def _check_file(path: epath.Path, shard: rows.Shard) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file, but its manifest names it; {AGAIN}")
    if (size := path.stat().length) != shard.bytes:
        raise DataError(f"{path}: has {size} bytes, its manifest says {shard.bytes}; {AGAIN}")


def _check_files(datasets: Iterable[Files], cache: ShardCache) -> None:
    """Checks that every file is there and has its size; copies those that are not local."""
    wanted = [(files.folder / shard.file, shard) for files in datasets for shard in files.shards]
    cache.hold(shard for path, shard in wanted if storage.is_remote(path))
    with concurrent.futures.ThreadPoolExecutor(LOOKS) as pool:
        for check in [pool.submit(_local, cache, path, shard) for path, shard in wanted]:
            check.result()


def _check_agreement(manifests: Mapping[str, rows.Manifest], plan: Plan) -> None:
    for name, manifest in manifests.items():
        if manifest.rows != plan.sizes[name]:
            raise DataError(
                f"dataset {name!r} has {manifest.rows} rows, the plan says {plan.sizes[name]}; "
                "make the plan again"
            )
        if manifest.fingerprint != plan.fingerprints.get(name, manifest.fingerprint):
            raise DataError(
                f"dataset {name!r} was packed anew since the plan was made; make the plan again"
            )
    first = next(iter(manifests.values()))
    for field in ("sequence_length", "tokenizer", "bos_id", "eos_id", "pad_id"):
        for name, manifest in manifests.items():
            got, want = getattr(manifest, field), getattr(first, field)
            if got != want:
                raise DataError(
                    f"dataset {name!r} was packed with {field} {got}, {first.name!r} with {want}; "
                    "run `lrl data` again"
                )
