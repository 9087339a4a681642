"""Writes and reads the files beside the rows of a packed shard, which say what they came from.

    rows-00003-of-00007.array_record   the rows
    rows-00003-of-00007.digests.npy    digests of its texts, ascending
    rows-00003-of-00007.keys.npy       the keys by which its rows are put in order
    rows-00003-of-00007.json           counts and samples; written last, so the shard is done

Arrays are read one at a time: a dataset may have more shards than a process may open files.
"""

from collections.abc import Sequence
import os

from etils import epath
import numpy as np
import pydantic

from lrl_jax import storage
from lrl_jax.data.arrays import load, save
from lrl_jax.data.pack import packing, rows
from lrl_jax.data.pack.packing import Note, Packed, ShardJob

SIDECAR, DIGESTS, KEYS = ".json", ".digests.npy", ".keys.npy"
SURVEY, COPIES = ".survey.npy", ".copies.npy"  # files of a shard until its dataset is finished
JOINED = "joined" + SURVEY  # the surveys of all shards, one after another
BUCKET = 1 << 24  # digests compared at once
NOTE = pydantic.TypeAdapter(Note)


def write(job: ShardJob, done: Packed) -> None:
    """Writes beside the rows of a shard what was packed; this marks it as done."""
    save(job.path(DIGESTS), done.digests)
    save(job.path(KEYS), done.keys)
    note = NOTE.dump_python(done, mode="json")
    if not done.count.in_tests:  # as it was before records were compared
        del note["count"]["in_tests"]
    storage.write_json(job.path(SIDECAR), note)


def read(job: ShardJob) -> Note:
    """Reads the note that `write` wrote."""
    return NOTE.validate_json(storage.read_bytes(job.path(SIDECAR), storage.JSON_BYTES))


def whole(job: ShardJob) -> bool:
    """Tells whether a shard is packed, with its files undamaged and its source unchanged."""
    try:
        note = read(job)
        digests, keys = load(job.path(DIGESTS)), load(job.path(KEYS))
    except (OSError, ValueError, EOFError, MemoryError):
        return False  # a file is missing or damaged: the shard is packed again
    if note.source != packing.identities(job) or len(digests) > note.count.docs:
        return False
    if not note.shard:
        return True
    ordered = len(keys) == (note.shard.rows if job.dataset.order == "length" else 0)
    return ordered and same(epath.Path(job.folder), note.shard)


def same(folder: epath.Path, shard: rows.Shard) -> bool:
    """Tells whether a file of rows has the size and the digest that its manifest gives."""
    path = folder / shard.file
    whole = path.exists() and path.stat().length == shard.bytes
    return whole and storage.sha256(path) == shard.sha256


def order(jobs: Sequence[ShardJob], count: int) -> np.ndarray:
    """Returns row ids in reading order: by key, ascending; as stored where there are no keys."""
    keys = np.concatenate([load(job.path(KEYS)) for job in jobs])
    return np.argsort(keys, kind="stable") if len(keys) else np.arange(count)


def distinct(jobs: Sequence[ShardJob]) -> int:
    """Counts the different texts of all shards, one range of digests at a time."""
    paths = [job.path(DIGESTS) for job in jobs]
    ranges = sum(len(load(path)) for path in paths) // BUCKET + 1
    edges = np.array([i * 2**64 // ranges for i in range(1, ranges)], np.uint64)

    def in_range(path: epath.Path, i: int) -> np.ndarray:
        digests = load(path)
        return np.array(np.split(digests, np.searchsorted(digests, edges))[i])

    every = (np.concatenate([in_range(path, i) for path in paths]) for i in range(ranges))
    return sum(len(np.unique(digests)) for digests in every)


def surveys(jobs: Sequence[ShardJob], folder: epath.Path) -> list[np.ndarray]:
    """Loads the surveys of all shards.

    Local ones are joined into one file and mapped from it, so they need not fit in memory.
    """
    paths = [job.path(SURVEY) for job in jobs]
    if len(paths) == 1 or storage.is_remote(folder):
        return [load(path) for path in paths]
    sizes, kind = [], np.dtype(np.uint8)
    with (folder / JOINED).open("wb") as f:
        for path in paths:
            survey = load(path)
            sizes.append(len(survey))
            kind = survey.dtype
            f.write(np.ascontiguousarray(survey).view(np.uint8).data)
    if not sum(sizes):
        return [np.empty(0, kind) for _ in paths]
    joined = np.memmap(os.fspath(folder / JOINED), kind, "r")
    return np.split(joined, np.cumsum(sizes)[:-1])
