"""The stream of batches: reads packed rows where the plan says, on any number of hosts.

    stream = Stream(folders, plan, batch_size=256, process_index=0, process_count=4)
    with stream.prefetch(start_row) as batches:
        for g, batch in batches: ...

A batch is a pure function of its first global row, so seeking is free and there is no state.
"""

from collections.abc import Iterator, Mapping
import hashlib
import os
from pathlib import Path
import queue
import shutil
import threading
import time
from typing import Self

from array_record.python.array_record_module import ArrayRecordReader
from etils import epath
import numpy as np

from lrl_jax.data import rows
from lrl_jax.data.plan import Plan
from lrl_jax.text import DataError

Batch = dict[str, np.ndarray]
CACHE = Path("~/.cache/lrl_jax/rows")  # copies of remote shards, by digest


class Stream:
    """Batches of packed rows.

    Args:
      folders: dataset name -> folder that `pack` wrote.
      plan: which rows, in which order.
      batch_size: global rows a batch; this host reads its contiguous share of them.

    Raises:
      ValueError: data that does not fit the plan or one another, a missing or damaged file.
    """

    def __init__(
        self,
        folders: Mapping[str, epath.PathLike],
        plan: Plan,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if batch_size < 1 or batch_size % process_count:
            raise DataError(
                f"batch_size {batch_size} does not divide among {process_count} hosts; "
                f"take a multiple of {process_count}"
            )
        if missing := [name for name in plan.names if name not in folders]:
            raise DataError(f"the plan reads {', '.join(missing)}, which has no folder of rows")
        self.plan = plan
        self.batch_size = batch_size
        self.manifests = {name: rows.read_manifest(folders[name]) for name in plan.names}
        _check_agreement(self.manifests, plan)
        self._files = [Files(folders[n], m) for n, m in self.manifests.items()]
        share = batch_size // process_count
        self._mine = process_index * share + np.arange(share)
        first = next(iter(self.manifests.values()))
        self.sequence_length = first.sequence_length
        self._ids = first.bos_id, first.pad_id

    def batch_at(self, g: int) -> Batch:
        """This host's rows of the batch of global rows g to g + batch_size.

        Returns:
          Five int32 arrays [B, T], as `rows.features`; B is batch_size / process_count.
        """
        datasets, row_ids = self.plan(g + self._mine)
        found: dict[int, rows.Row] = {}
        for dataset in np.unique(datasets):
            at = np.flatnonzero(datasets == dataset)
            found |= zip(at.tolist(), self._files[dataset].read(row_ids[at]), strict=True)
        batch = [found[i] for i in range(len(datasets))]
        return rows.features(batch, self.sequence_length, *self._ids)

    def dataset_ids(self, g: int) -> np.ndarray:
        """Which dataset (place in plan.names) each row of the global batch at `g` is from."""
        return self.plan.order(g + np.arange(self.batch_size))[0]

    def prefetch(self, start_row: int, depth: int = 2) -> "Prefetch":
        """Batches from `start_row` to the end of the plan, read ahead on a thread."""
        return Prefetch(self, start_row, depth)


class Prefetch:
    """Iterator of (first global row, batch); a thread keeps up to `depth` of them ready.

    Attributes:
      waited: seconds the last `next` had to wait: above 0, data is slower than training.
    """

    def __init__(self, stream: Stream, start_row: int, depth: int):
        self.waited = 0.0
        self._ready: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(stream, start_row), daemon=True, name="prefetch"
        )
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        return self

    def __next__(self) -> tuple[int, Batch]:
        start = time.perf_counter()
        item = self._ready.get()
        self.waited = time.perf_counter() - start
        if isinstance(item, BaseException):
            self._ready.put(item)  # asked again, it ends again
            raise item
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the thread."""
        self._stop.set()
        self._thread.join()

    def _work(self, stream: Stream, start_row: int) -> None:
        end: BaseException = StopIteration()
        try:
            for g in range(start_row, stream.plan.total - stream.batch_size + 1, stream.batch_size):
                if not self._put((g, stream.batch_at(g))):
                    return
        except Exception as e:  # it belongs to whoever waits for the batch
            end = e
        self._put(end)

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


class Files:
    """The shards of one packed dataset, open.

    Raises:
      ValueError: a file is missing, cut short or damaged.
    """

    def __init__(self, folder: epath.PathLike, manifest: rows.Manifest):
        folder = epath.Path(folder)
        self.paths = [folder / shard.file for shard in manifest.shards]
        self.readers = [
            _open(path, shard) for path, shard in zip(self.paths, manifest.shards, strict=True)
        ]
        self.ends = np.cumsum([shard.rows for shard in manifest.shards])

    def read(self, row_ids: np.ndarray) -> list[rows.Row]:
        """The rows of these places, in this order."""
        found: dict[int, rows.Row] = {}
        shards = np.searchsorted(self.ends, row_ids, side="right")
        for shard in np.unique(shards):
            at = np.flatnonzero(shards == shard)
            start = self.ends[shard - 1] if shard else 0
            try:
                records = self.readers[shard].read((row_ids[at] - start).tolist())
                found |= zip(at.tolist(), map(rows.decode, records), strict=True)
            except (RuntimeError, ValueError) as e:
                raise DataError(
                    f"{self.paths[shard]}: damaged ({e}); delete it and run `lrl data` again"
                ) from None
        return [found[i] for i in range(len(row_ids))]


def _open(path: epath.Path, shard: rows.Shard) -> ArrayRecordReader:
    again = "run `lrl data` again"
    if not path.exists():
        raise DataError(f"{path}: no such file, but its manifest names it; {again}")
    if (size := path.stat().length) != shard.bytes:
        raise DataError(f"{path}: has {size} bytes, its manifest says {shard.bytes}; {again}")
    # no read-ahead: rows are read in random order
    reader = ArrayRecordReader(_local(path, shard.sha256), options="readahead_buffer_size:0")
    if (count := reader.num_records()) != shard.rows:
        raise DataError(f"{path}: has {count} rows, its manifest says {shard.rows}; {again}")
    return reader


def _local(path: epath.Path, sha256: str) -> str:
    """A local file of the same bytes: array_record reads no gs://."""
    if "://" not in os.fspath(path):
        return os.fspath(path)
    cached = CACHE.expanduser() / f"{sha256}.array_record"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        part = cached.with_suffix(f".{os.getpid()}.tmp")
        with path.open("rb") as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        with part.open("rb") as copy:
            if hashlib.file_digest(copy, "sha256").hexdigest() != sha256:
                raise DataError(f"{path}: other bytes than its manifest says; run `lrl data` again")
        part.replace(cached)
    return os.fspath(cached)


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
