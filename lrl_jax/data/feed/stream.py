"""The stream of batches: reads packed rows where the plan says, on any number of hosts.

    stream = Stream(folders, plan, batch_size=256, mine=mesh.rows_here(m, 256))
    with stream.prefetch(start_row) as batches:
        for g, batch in batches: ...

A batch is a pure function of its first global row, so seeking is free and there is no state.
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
from lrl_jax.data.feed.cache import LIMIT_GIB, Cache
from lrl_jax.data.feed.plan import Plan
from lrl_jax.data.pack import rows
from lrl_jax.text import DataError

Batch = dict[str, np.ndarray]
OPEN = 256  # files that are open at a time; systems allow 1024 of all kinds
AGAIN = "run `lrl data` again"
AHEAD = 1024  # rows of the plan worked out at once
LOOKS = 32  # files looked at, or fetched, at the same time


class Stream:
    """Batches of packed rows.

    Args:
      folders: dataset name -> folder that `pack` wrote.
      plan: which rows, in which order.
      batch_size: global rows a batch.
      mine: places in a batch of the rows this host reads, ascending; None: all of them.
      cache_gib: limit of the copies of remote shards on this machine.

    Raises:
      ValueError: data that does not fit the plan or one another, a missing or damaged file.
    """

    def __init__(
        self,
        folders: Mapping[str, epath.PathLike],
        plan: Plan,
        batch_size: int,
        mine: Sequence[int] | np.ndarray | None = None,
        cache_gib: float = LIMIT_GIB,
    ):
        if missing := [name for name in plan.names if name not in folders]:
            raise DataError(f"the plan reads {', '.join(missing)}, which has no folder of rows")
        self.plan = plan
        self.batch_size = batch_size
        self.manifests = {name: rows.read_manifest(folders[name]) for name in plan.names}
        _check_agreement(self.manifests, plan)
        cache = Cache(cache_gib)
        opened = _opener(cache)
        self._files = [Files(folders[name], m, opened) for name, m in self.manifests.items()]
        _check_files(self._files, cache)
        self._planned = functools.lru_cache(8)(self._plan_ahead)
        self._mine = np.arange(batch_size) if mine is None else np.asarray(mine, np.int64)
        first = next(iter(self.manifests.values()))
        self.sequence_length = first.sequence_length
        self._ids = first.bos_id, first.pad_id

    def batch_at(self, g: int) -> Batch:
        """This host's rows of the batch of global rows g to g + batch_size.

        Returns:
          Five arrays [B, T], as `rows.features`; B is how many of them are this host's.
        """
        datasets, places = (of_all[self._mine] for of_all in self._rows(g, self.batch_size))
        found: dict[int, rows.PackedRow] = {}
        for dataset in np.unique(datasets):
            at = np.flatnonzero(datasets == dataset)
            files = self._files[dataset]
            found |= zip(at.tolist(), files.read(files.ids(places[at])), strict=True)
        batch = [found[i] for i in range(len(self._mine))]
        return rows.features(batch, self.sequence_length, *self._ids)

    def dataset_ids(self, g: int) -> np.ndarray:
        """Which dataset (place in plan.names) each row of the global batch at `g` is from."""
        return self._rows(g, self.batch_size)[0]

    def where(self, g: int) -> tuple[str, str, int]:
        """The stage of global row `g`, the dataset it is from, and which row of that it is."""
        (dataset,), (place,) = self.plan(np.array([g]))
        stage = self.plan.stages[int(self.plan.stage_at(g))].name
        return stage, self.plan.names[dataset], int(self._files[dataset].ids(np.array([place]))[0])

    def prefetch(self, start_row: int, depth: int = 2, threads: int = 2) -> "Prefetch":
        """Batches from `start_row` to the end of the plan, read ahead on `threads` threads."""
        return Prefetch(self, start_row, depth, threads)

    def _rows(self, g: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`plan` of `count` rows from `g` on."""
        if g < 0 or g + count > self.plan.total:
            return self.plan(np.arange(g, g + count))  # says what is wrong
        numbers = range(g // AHEAD, (g + count - 1) // AHEAD + 1)
        datasets, places = zip(*map(self._planned, numbers), strict=True)
        here = slice(g - numbers[0] * AHEAD, g - numbers[0] * AHEAD + count)
        return np.concatenate(datasets)[here], np.concatenate(places)[here]

    def _plan_ahead(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return self.plan(np.arange(number * AHEAD, min((number + 1) * AHEAD, self.plan.total)))


class Batches(Protocol):
    """What is read ahead: `Stream`, or whatever makes batches by position."""

    batch_size: int
    plan: Plan

    def batch_at(self, g: int) -> Batch: ...


class Prefetch:
    """Iterator of (first global row, batch), in order; up to `depth` of them are kept ready.

    Attributes:
      waited: seconds the last `next` had to wait: above 0, data is slower than training.
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
        batch = coming.result()  # raises what reading raised, however often it is asked
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
    """The shards of one packed dataset; each is opened when it is first read.

    Args:
      opened: opens a shard, or knows it open.

    Raises:
      ValueError: a file is missing, cut short or damaged.
    """

    def __init__(self, folder: epath.PathLike, manifest: rows.Manifest, opened: Open | None = None):
        self.folder, self.shards = epath.Path(folder), manifest.shards
        self._open = opened or _opener(Cache())
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        self._order = rows.read_order(folder, manifest)

    def ids(self, places: np.ndarray) -> np.ndarray:
        """The rows at these places in the order of reading."""
        return places if self._order is None else self._order[places]

    def read(self, ids: np.ndarray) -> list[rows.PackedRow]:
        """These rows, in this order."""
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
            (record,) = reader.read([at])  # one by one is faster than many at a time
            return rows.decode(record)
        except (RuntimeError, ValueError) as e:
            raise _damaged(path, e) from None


def _opener(cache: Cache) -> Open:
    """Returns a function that opens a shard, or knows it open."""
    return functools.lru_cache(OPEN)(functools.partial(_open, cache))


def _open(cache: Cache, path: epath.Path, shard: rows.Shard) -> ArrayRecordReader:
    local = _local(cache, path, shard)
    try:  # no read-ahead: rows are read in random order
        reader = ArrayRecordReader(local, options="readahead_buffer_size:0")
    except (RuntimeError, ValueError) as e:
        raise _damaged(path, e) from None
    if (count := reader.num_records()) != shard.rows:
        raise DataError(f"{path}: has {count} rows, its manifest says {shard.rows}; {AGAIN}")
    return reader


def _local(cache: Cache, path: epath.Path, shard: rows.Shard) -> str:
    """Returns a local file of the same bytes: array_record reads no gs://."""
    if storage.is_remote(path) and (copied := cache.find(shard)):
        return copied
    _look(path, shard)
    return cache.copy(path, shard) if storage.is_remote(path) else os.fspath(path)


def _damaged(path: epath.Path, why: Exception) -> DataError:
    return DataError(f"{path}: damaged ({why}); delete it and {AGAIN}")


def _look(path: epath.Path, shard: rows.Shard) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file, but its manifest names it; {AGAIN}")
    if (size := path.stat().length) != shard.bytes:
        raise DataError(f"{path}: has {size} bytes, its manifest says {shard.bytes}; {AGAIN}")


def _check_files(datasets: Iterable[Files], cache: Cache) -> None:
    """Looks that every file is there and whole; fetches those that are not local."""
    wanted = [(one.folder / shard.file, shard) for one in datasets for shard in one.shards]
    cache.hold(shard for path, shard in wanted if storage.is_remote(path))
    with concurrent.futures.ThreadPoolExecutor(LOOKS) as pool:
        for done in [pool.submit(_local, cache, *each) for each in wanted]:
            done.result()


def _check_agreement(manifests: Mapping[str, rows.Manifest], plan: Plan) -> None:
    for name, manifest in manifests.items():
        if manifest.rows != plan.sizes[name]:
            raise DataError(
                f"dataset {name!r} has {manifest.rows} rows, the plan says {plan.sizes[name]}; "
                "make the plan again"
            )
        if manifest.fingerprint != plan.fingerprints.get(name, manifest.fingerprint):
            raise DataError(f"dataset {name!r} was packed anew since the plan was made")
    first = next(iter(manifests.values()))
    for field in ("sequence_length", "tokenizer", "bos_id", "eos_id", "pad_id"):
        for name, manifest in manifests.items():
            got, want = getattr(manifest, field), getattr(first, field)
            if got != want:
                raise DataError(
                    f"dataset {name!r} was packed with {field} {got}, {first.name!r} with {want}; "
                    "run `lrl data` again"
                )
