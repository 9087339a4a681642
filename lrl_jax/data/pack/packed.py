"""Writes and reads the files of a packed shard: its rows, and beside them what they came from.

    rows-00003-of-00007.array_record   the rows
    rows-00003-of-00007.digests.npy    digests of its texts, ascending
    rows-00003-of-00007.keys.npy       the keys by which its rows are put in order
    rows-00003-of-00007.json           counts and samples; written last, so the shard is done

Arrays are read one at a time: a dataset may have more shards than a process may open files.
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import io
import json
import os

from etils import epath
import numpy as np

from lrl_jax import storage, text
from lrl_jax.data.pack import packing, rows
from lrl_jax.data.pack.packing import Count, Packed, ShardJob

SIDECAR, DIGESTS, KEYS = ".json", ".digests.npy", ".keys.npy"
SURVEY, COPIES = ".survey.npy", ".copies.npy"  # files of a shard until its dataset is finished
JOINED = "joined" + SURVEY  # the surveys of all shards, one after another
BUCKET = 1 << 24  # digests compared at once


@dataclasses.dataclass(frozen=True)
class Note:
    """Describes a packed shard, as the JSON file beside its rows does.

    Attributes:
      source: the `identities` of the files it was read from.
      shard: its file of rows; None if it has no document.
      samples: reason -> some of the records left out for it.
    """

    source: dict[str, list[int]]
    shard: rows.Shard | None
    count: Count
    samples: dict[str, list[str]]


# ---------------------------------------------------------------------------- one shard
def identities(job: ShardJob) -> dict[str, list[int]]:
    """Returns the identity of each file a shard is read from; it changes when the file does.

    A source that is not a file (of a catalogue) is left out.
    """
    uris = dict.fromkeys(span.uri for span in job.shard)
    return {uri: list(text.identity(uri)) for uri in uris if epath.Path(uri).exists()}


def write(job: ShardJob, done: Packed, source: dict[str, list[int]]) -> None:
    """Writes beside the rows of a shard what they were packed from; this marks it as done.

    Args:
      source: its `identities` before it was read.
    """
    save(beside(job, DIGESTS), done.digests)
    save(beside(job, KEYS), done.keys)
    facts = {
        "source": source,
        "shard": done.shard and vars(done.shard),
        "count": vars(done.count),
        "samples": done.samples,
    }
    note = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    storage.write(beside(job, SIDECAR), note.encode())


def read(job: ShardJob) -> Note:
    """Reads the note that `write` wrote."""
    facts = json.loads(beside(job, SIDECAR).read_text())
    count = Count(**facts["count"])
    count = dataclasses.replace(
        count, left_out=Counter(count.left_out), scripts=Counter(count.scripts)
    )
    shard = facts["shard"] and rows.Shard(**facts["shard"])
    return Note(facts["source"], shard, count, facts["samples"])


def whole(job: ShardJob) -> bool:
    """Tells whether a shard is packed, with its files undamaged and its source unchanged."""
    try:
        note = read(job)
        digests, keys = load(beside(job, DIGESTS)), load(beside(job, KEYS))
    except (OSError, ValueError, TypeError, KeyError, EOFError):
        return False  # a file is missing or damaged: the shard is packed again
    if note.source != identities(job) or len(digests) > note.count.docs:
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


def beside(job: ShardJob, suffix: str) -> epath.Path:
    """Returns the path of the file with this suffix beside a shard's rows."""
    return epath.Path(job.folder) / job.file.replace(packing.SUFFIX, suffix)


# ---------------------------------------------------------------------------- all shards
def order(jobs: Sequence[ShardJob], count: int) -> np.ndarray:
    """Returns row ids in reading order: by key, ascending; as stored where there are no keys."""
    keys = np.concatenate([load(beside(job, KEYS)) for job in jobs])
    return np.argsort(keys, kind="stable") if len(keys) else np.arange(count)


def distinct(jobs: Sequence[ShardJob]) -> int:
    """Counts the different texts of all shards, one range of digests at a time."""
    paths = [beside(job, DIGESTS) for job in jobs]
    ranges = sum(len(load(path)) for path in paths) // BUCKET + 1
    edges = np.array([i * 2**64 // ranges for i in range(1, ranges)], np.uint64)
    total = 0
    for i in range(ranges):
        in_range = []
        for path in paths:
            digests = load(path)
            cuts = [0, *np.searchsorted(digests, edges).tolist(), len(digests)]
            in_range.append(np.array(digests[cuts[i] : cuts[i + 1]]))
        total += len(np.unique(np.concatenate(in_range)))
    return total


def surveys(jobs: Sequence[ShardJob], folder: epath.Path) -> list[np.ndarray]:
    """Loads the surveys of all shards.

    Local ones are joined into one file and mapped from it, so they need not fit in memory.
    """
    paths = [beside(job, SURVEY) for job in jobs]
    if len(paths) == 1 or "://" in os.fspath(folder):
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


# ---------------------------------------------------------------------------- arrays
def save(path: epath.Path, array: np.ndarray) -> None:
    """Writes an array whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    storage.write(path, buffer.getvalue())


def load(path: epath.Path) -> np.ndarray:
    """Loads an array that `save` wrote; a local file is mapped, and read only where it is used."""
    if "://" in os.fspath(path):
        return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    return np.load(os.fspath(path), mmap_mode="r", allow_pickle=False)
