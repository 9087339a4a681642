"""Reads batches of packed rows in the order of the plan, on any number of hosts.

    stream = Stream(folders, plan, batch_size=256, host_rows=mesh.rows_here(m, 256))
    with stream.prefetch(start_row) as batches:
        for g, batch in batches: ...

A batch depends on its global rows alone, so a stream has no state, and reading can begin at any
row at once.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import functools
import itertools
import time
from typing import Self

from array_record.python.array_record_module import ArrayRecordReader
from etils import epath
import numpy as np

from lrl_jax import storage
from lrl_jax.data.feed import batches
from lrl_jax.data.feed.cache import AGAIN, LIMIT_GIB, ShardCache
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack import rows
from lrl_jax.text import DataError

Batch = dict[str, np.ndarray]
OPEN = 256  # most files open at a time; systems often allow 1024 of all kinds
AHEAD = 1024  # rows of the plan computed at once
READY = 2  # batches read ahead, beside the one that each thread is reading
LOOKS = 32  # files checked, or copied, at the same time
NO_ROW = rows.PackedRow(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64))


class Stream:
    """Reads batches of packed rows.

    Args:
      folders: dataset name -> folder of its packed rows, as `packing.folders` gives them.
      batch_size: global rows in a batch.
      host_rows: places in a batch of the rows this host reads, ascending; None reads all.

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
        self.plan, self.batch_size = plan, batch_size
        self.manifests = {name: rows.read_manifest(folders[name]) for name in plan.names}
        _check_agreement(self.manifests, plan)
        cache = ShardCache(cache_gib)
        opener = _opener(cache)
        self._files = [Files(folders[name], m, opener) for name, m in self.manifests.items()]
        wanted = [pair for files in self._files for pair in files.shards]
        cache.hold(shard for path, shard in wanted if storage.is_remote(path))
        with concurrent.futures.ThreadPoolExecutor(LOOKS) as pool:
            list(pool.map(lambda pair: cache.local(*pair), wanted))  # raises what one of them does
        self._planned = functools.lru_cache(8)(self._plan_ahead)
        self._host_rows = np.asarray(range(batch_size) if host_rows is None else host_rows, int)
        first = next(iter(self.manifests.values()))
        self.sequence_length = first.sequence_length
        self._ids = first.bos_id, first.pad_id

    def batch_at(self, g: int, count: int | None = None) -> Batch:
        """Reads this host's rows of the batch at global row `g`: the arrays of `rows.features`.

        A batch of `count` rows, fewer than `batch_size`, has as many rows as any other; those after
        them are padding alone.
        """
        planned = self._rows(g, self.batch_size if count is None else count)
        host_rows = self._host_rows[self._host_rows < len(planned[0])]
        datasets, places = (array[host_rows] for array in planned)
        batch = np.empty(len(host_rows), object)
        for dataset in np.unique(datasets):
            at, files = datasets == dataset, self._files[dataset]
            batch[at] = files.read(files.ids(places[at]))
        padded = [*batch.tolist(), *[NO_ROW] * (len(self._host_rows) - len(host_rows))]
        return rows.features(padded, self.sequence_length, *self._ids)

    def dataset_ids(self, g: int, count: int | None = None) -> np.ndarray:
        """Returns the dataset id (place in plan.names) of each row of the global batch at `g`."""
        return self._rows(g, self.batch_size if count is None else count)[0]

    def prefetch(self, start_row: int, ends: Sequence[int] = (), threads: int = 2) -> "Prefetch":
        """Reads batches from `start_row` to the end, ahead, on `threads` threads.

        Args:
          ends: global rows after which a new batch begins, the last of them the end of the run; by
            default the end of the plan alone.
        """
        spans = batches.spans(start_row, ends or [self.plan.total], self.batch_size)
        return Prefetch(self.batch_at, spans, threads)

    def _rows(self, g: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what the plan says of `count` rows from `g` on, from blocks that are kept."""
        end = g + count
        if g < 0 or end > self.plan.total:
            return self.plan(np.arange(g, end))  # raises an error that says what is wrong
        numbers = range(g // AHEAD, (end - 1) // AHEAD + 1)
        planned = np.concatenate([self._planned(number) for number in numbers], axis=1)
        datasets, places = planned[:, g - numbers[0] * AHEAD : end - numbers[0] * AHEAD]
        return datasets, places

    def _plan_ahead(self, number: int) -> np.ndarray:
        end = min((number + 1) * AHEAD, self.plan.total)
        return np.stack(self.plan(np.arange(number * AHEAD, end)))


class Prefetch(Iterator[tuple[int, Batch]]):
    """Iterates over (first global row, batch) in the order of `spans`, and reads a few ahead.

    Attributes:
      waited: how many seconds the last `next` had to wait; above 0, data is slower than training.
    """

    def __init__(self, read: Callable[[int, int], Batch], spans: Iterable[range], threads: int = 1):
        self.waited = 0.0
        self._read, self._spans = read, iter(spans)
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "prefetch")
        self._coming: deque[tuple[int, concurrent.futures.Future[Batch]]] = deque()
        for _ in range(READY + threads):
            self._ask()

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
        for span in itertools.islice(self._spans, 1):
            coming = self._pool.submit(self._read, span.start, len(span))
            self._coming.append((span.start, coming))


Open = Callable[[epath.Path, rows.Shard], ArrayRecordReader]


class Files:
    """Reads the shards of one packed dataset, each opened when it is first needed."""

    def __init__(self, folder: epath.PathLike, manifest: rows.Manifest, opener: Open | None = None):
        self.manifest = manifest
        self.shards = [(epath.Path(folder) / shard.file, shard) for shard in manifest.shards]
        self._open = opener or _opener(ShardCache())
        self._starts = [*itertools.accumulate((s.rows for s in manifest.shards), initial=0)]
        self._order = rows.read_order(folder, manifest)

    def ids(self, places: np.ndarray) -> np.ndarray:
        """Returns the ids of the rows at these places in the order of reading."""
        return places if self._order is None else self._order[places]

    def read(self, ids: np.ndarray) -> list[rows.PackedRow]:
        """Reads the rows with these ids, in this order."""
        return [self._row(i) for i in ids.tolist()]

    def _row(self, i: int) -> rows.PackedRow:
        number = bisect.bisect_right(self._starts, i) - 1
        path, shard = self.shards[number]
        reader = self._open(path, shard)
        try:
            (record,) = reader.read([i - self._starts[number]])  # faster than many in one read
            return rows.decode(record)
        except (RuntimeError, ValueError) as e:
            raise _damaged(path, e) from None


def _opener(cache: ShardCache) -> Open:
    """Returns a function that opens a shard, or returns the reader that it opened before."""
    return functools.lru_cache(OPEN)(functools.partial(_open, cache))


def _open(cache: ShardCache, path: epath.Path, shard: rows.Shard) -> ArrayRecordReader:
    local = cache.local(path, shard)  # array_record cannot read from gs://
    try:  # no read-ahead: rows are read in random order
        reader = ArrayRecordReader(local, options="readahead_buffer_size:0")
    except (RuntimeError, ValueError) as e:
        raise _damaged(path, e) from None
    if (count := reader.num_records()) != shard.rows:
        raise DataError(f"{path}: has {count} rows, its manifest says {shard.rows}; {AGAIN}")
    return reader


def _damaged(path: epath.Path, why: Exception) -> DataError:
    return DataError(f"{path}: damaged ({why}); delete it and {AGAIN}")


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
                    f"{AGAIN}"
                )
