"""Packs a dataset: text -> tokens -> rows filled best-fit-decreasing -> ArrayRecord files.

    manifests = prepare_all(recipe.data, tokenizer, "runs/korean/data")

The same text, tokenizer and settings give the same bytes, on any number of workers. A dataset
whose fingerprint is unchanged and whose files are whole is used again.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import dataclasses
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import tempfile

from etils import epath
import numpy as np

from lrl_jax import recipe_data
from lrl_jax.data import documents, records, rows, templates
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer import Tokenizer

VERSION = 1  # of the packing; a new one makes every dataset be packed again
BATCH = 1024  # documents tokenised at once
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Count:
    """What was packed; counts add."""

    docs: int = 0
    skipped: int = 0
    bytes: int = 0
    tokens: int = 0
    loss_tokens: int = 0

    def __add__(self, other: "Count") -> "Count":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Count(*(a + b for a, b in pairs))


Packed = tuple[rows.Shard | None, Count]  # a shard without a document has no file


# ---------------------------------------------------------------------------- whole datasets
def prepare(
    data: recipe_data.Data, name: str, tokenizer: Tokenizer, folder: epath.PathLike
) -> rows.Manifest:
    """Packs the dataset `name` into `folder`/`name`, in this process, which imports TensorFlow.

    Raises:
      ValueError: a bad source, no document, or nothing in it to train on.
    """
    mark = fingerprint(data, name, tokenizer)
    target = epath.Path(folder) / name
    if found := reusable(target, mark):
        return found
    _clear(target)
    count = len(records.shards(data.datasets[name]))
    done = [pack_shard(data, name, tokenizer, str(target), i) for i in range(count)]
    return _finish(data, name, tokenizer, target, mark, done)


def prepare_all(
    data: recipe_data.Data,
    tokenizer: Tokenizer,
    folder: epath.PathLike,
    progress: Progress = lambda name, done, total: None,
) -> dict[str, rows.Manifest]:
    """Packs every dataset in `data.workers` processes; this process stays free of TensorFlow.

    Args:
      progress: called as (dataset, shards done, shards) when a shard is done.

    Raises:
      ValueError: as `prepare`.
    """
    manifests, marks = {}, {}
    for name in data.datasets:
        marks[name] = fingerprint(data, name, tokenizer)
        if found := reusable(epath.Path(folder) / name, marks[name]):
            manifests[name] = found
    due = {
        name: len(records.shards(dataset))
        for name, dataset in data.datasets.items()
        if name not in manifests
    }
    for name in due:
        _clear(epath.Path(folder) / name)
    for name, done in _in_processes(data, tokenizer, folder, due, progress):
        target = epath.Path(folder) / name
        manifests[name] = _finish(data, name, tokenizer, target, marks[name], done)
    return {name: manifests[name] for name in data.datasets}


def fingerprint(data: recipe_data.Data, name: str, tokenizer: Tokenizer) -> str:
    """What the rows of a dataset depend on, in one digest; reads its whole text."""
    dataset = data.datasets[name]
    written = templates.fingerprint(records.template(dataset), records.specimen(dataset))
    facts = {
        "version": [VERSION, rows.VERSION],
        "dataset": dataset.model_dump(mode="json", exclude={"path", "source", "target"}),
        "text": records.fingerprints(dataset),
        "template": written,
        "tokenizer": tokenizer.fingerprint,
        "sequence_length": data.sequence_length,
        "pack_window": data.pack_window,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def reusable(folder: epath.PathLike, mark: str) -> rows.Manifest | None:
    """The manifest in `folder` if it has this fingerprint and every file is whole."""
    folder = epath.Path(folder)
    if not (folder / rows.MANIFEST).exists():
        return None
    try:
        manifest = rows.read_manifest(folder)
    except ValueError:
        return None  # another version's: pack again
    if manifest.fingerprint != mark:
        return None
    for shard in manifest.shards:
        path = folder / shard.file
        if not path.exists() or digest(path) != shard.sha256:
            return None
    return manifest


def digest(path: epath.Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            found.update(block)
    return found.hexdigest()


# ---------------------------------------------------------------------------- one shard
def pack_shard(
    data: recipe_data.Data, name: str, tokenizer: Tokenizer, folder: str, shard: int
) -> Packed:
    """Packs one source shard into one file; a pure function of its text, fit for any runner.

    Returns:
      The file (none, if the shard has no document) and what went into it.
    """
    from lrl_jax.data import tasks  # TensorFlow: only where text is read

    task = tasks.register(
        "pack", data.model_copy(update={"datasets": {name: data.datasets[name]}}), tokenizer
    )[name]
    counts: list[Count] = []
    pieces = _pieces(tasks.examples(task, shard), tokenizer, data.sequence_length, counts)
    windows = _batched(pieces, data.pack_window)
    count = len(records.shards(data.datasets[name]))
    path = epath.Path(folder) / f"rows-{shard:05}-of-{count:05}.array_record"
    written = _write(
        path, (row for window in windows for row in _rows(window, data.sequence_length))
    )
    return written, sum(counts, Count(skipped=tasks.source(task).skipped))


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Puts items into bins, longest first, each where it leaves the least room.

    >>> best_fit([3, 5, 2, 4], capacity=7)
    [[1, 2], [3, 0]]
    """
    bins: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # room left -> bins
    rooms: list[int] = []  # the keys of with_room, sorted
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = bisect.bisect_left(rooms, lengths[item])
        if at == len(rooms):
            bins.append([])
            index, room = len(bins) - 1, capacity
        else:
            room = rooms[at]
            index = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[at]
        bins[index].append(item)
        left = room - lengths[item]
        if left and left not in with_room:
            bisect.insort(rooms, left)
        if left:
            with_room.setdefault(left, []).append(index)
    return bins


Piece = tuple[np.ndarray, np.ndarray]


def _pieces(
    examples: Iterable[list[templates.Part]], tokenizer: Tokenizer, length: int, counts: list[Count]
) -> Iterator[Piece]:
    for batch in _batched(examples, BATCH):
        encoded = documents.encode(batch, tokenizer)
        counts.append(
            Count(
                docs=len(encoded),
                bytes=sum(document.bytes for document in encoded),
                tokens=sum(len(document.tokens) for document in encoded),
                loss_tokens=sum(int((document.weights > 0).sum()) for document in encoded),
            )
        )
        for document in encoded:
            yield from documents.split(document, length)


def _rows(window: list[Piece], length: int) -> Iterator[bytes]:
    for members in best_fit([len(tokens) for tokens, _ in window], length):
        yield rows.encode([window[i] for i in members])


def _batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def _write(path: epath.Path, found: Iterable[bytes]) -> rows.Shard | None:
    """Writes an ArrayRecord file under a temporary name, then gives it its own."""
    from array_record.python.array_record_module import ArrayRecordWriter

    remote = "://" in os.fspath(path)  # array_record writes local files only
    with tempfile.TemporaryDirectory() as scratch:
        local = epath.Path(scratch) / path.name if remote else path.with_name(path.name + ".tmp")
        writer = ArrayRecordWriter(os.fspath(local), "group_size:1")
        count = 0
        try:
            for record in found:
                writer.write(record)
                count += 1
        finally:
            writer.close()
        if not count:
            local.unlink()
            return None
        shard = rows.Shard(path.name, count, local.stat().length, digest(local))
        if remote:
            local.copy(path)
        else:
            local.replace(path)
        return shard


# ---------------------------------------------------------------------------- joining shards
def _in_processes(
    data: recipe_data.Data,
    tokenizer: Tokenizer,
    folder: epath.PathLike,
    due: dict[str, int],
    progress: Progress,
) -> Iterator[tuple[str, list[Packed]]]:
    """Yields each dataset with its packed shards as soon as the last of them is done."""
    jobs = [(name, shard) for name, count in due.items() for shard in range(count)]
    if not jobs:
        return
    work = functools.partial(_job, data, tokenizer, os.fspath(folder))
    done: dict[str, list[Packed]] = {name: [] for name in due}
    # spawn: a fork of a process that runs JAX or TensorFlow threads can hang
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        min(data.workers or os.cpu_count() or 1, len(jobs)), context
    ) as pool:
        try:
            for (name, _), result in zip(jobs, pool.map(work, jobs), strict=True):
                done[name].append(result)
                progress(name, len(done[name]), due[name])
                if len(done[name]) == due[name]:
                    yield name, done[name]
        except BrokenProcessPool:
            raise DataError(
                "a packing process was killed, most likely for lack of memory; "
                f"lower data.workers (now {data.workers or os.cpu_count()}) or data.pack_window"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _job(data: recipe_data.Data, tokenizer: Tokenizer, folder: str, job: tuple[str, int]) -> Packed:
    name, shard = job
    return pack_shard(data, name, tokenizer, os.fspath(epath.Path(folder) / name), shard)


def _clear(folder: epath.Path) -> None:
    """Empties a dataset's folder, its manifest first: half a dataset must not look whole."""
    (folder / rows.MANIFEST).unlink(missing_ok=True)
    if folder.exists():
        folder.rmtree()
    folder.mkdir(parents=True, exist_ok=True)


def _finish(
    data: recipe_data.Data,
    name: str,
    tokenizer: Tokenizer,
    folder: epath.Path,
    mark: str,
    done: list[Packed],
) -> rows.Manifest:
    dataset = data.datasets[name]
    count = sum((one for _, one in done), Count())
    shards = tuple(shard for shard, _ in done if shard)
    if not count.docs:
        raise DataError(
            f"dataset {name!r} has no document ({count.skipped} records with an empty half)"
        )
    if not count.bytes:
        raise DataError(
            f"dataset {name!r}: template {records.template(dataset)!r} trains on none of its text"
        )
    manifest = rows.Manifest(
        name=name,
        fingerprint=mark,
        language=records.language(dataset),
        template=records.template(dataset),
        sequence_length=data.sequence_length,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        tokenizer=tokenizer.fingerprint,
        rows=sum(shard.rows for shard in shards),
        shards=shards,
        **dataclasses.asdict(count),
    )
    rows.write_manifest(manifest, folder)
    return manifest
