"""Keeps the finished items of a task, a line each, so that work that was cut short goes on.

    items = ItemFile("evaluate/items/after/xcopa_ta.jsonl", keys)
    items.done                          key -> item that an earlier try has finished
    items.add({"key": ..., ...})        stored by the time this returns
    items.finish(all_items)             in the order of the documents, and no others

A key names everything that a result depends on, so that an item counts only for the same question,
asked in the same words of the same weights. One process, the lead, reads and writes.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import hashlib
import json
import time
from typing import Any

from etils import epath

from lrl_jax import storage
from lrl_jax.devices import mesh, peers
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.train import digest

EVERY = 10.0  # seconds between two additions on an object store, where each makes a new object

Item = dict[str, Any]


def with_digest(model: MeasuredModel) -> MeasuredModel:
    """Returns the model with the digest of its weights, as they are on the devices.

    It is that of the numbers themselves: the same on every mesh, and for a checkpoint and the
    folder that was exported from it. Names, sizes and times of files would take one fine-tuned
    model for another, or miss that a folder was only copied.
    """
    facts = {"config": repr(model.cfg), "params": digest.describe(model.params)}
    sha256 = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return dataclasses.replace(model, digest=sha256)


def key(model: MeasuredModel, **asked: Any) -> str:
    """Returns the key of an item: SHA-256 of what is asked, the tokenizer and the weights."""
    facts = {
        "weights": model.digest,
        "tokenizer": model.tokenizer.fingerprint,
        "length": [model.length, model.context],
        **asked,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class KeptLines:
    """Keeps JSON values, a line each; a value that was added is in the file when `add` returns.

    On an object store values are sent together, every EVERY seconds.
    """

    def __init__(self, path: epath.PathLike):
        self._lines = storage.Lines(path)
        self._remote = storage.is_remote(self._lines.path)
        self._waiting: list[str] = []
        self._sent = time.monotonic()

    def read(self) -> list[Any]:
        """Reads the values; a line that was cut short when it was written is removed."""
        path = self._lines.path
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = storage.read_parts(path)
        lines = [line for part in parts for line in part.splitlines()]
        values = [value for line in lines if (value := _parsed(line)) is not None]
        if parts and not (parts[-1].endswith(b"\n") and len(values) == len(lines)):
            self.replace(values)  # else the next value would continue the line
        return values

    def add(self, value: Any) -> None:
        """Adds a value."""
        self._waiting.append(_line(value))
        if not self._remote or time.monotonic() - self._sent > EVERY:
            self.flush()

    def flush(self) -> None:
        """Writes the values that wait to be sent."""
        if self._waiting:
            self._lines.add("".join(self._waiting))
        self._waiting, self._sent = [], time.monotonic()

    def replace(self, values: Iterable[Any]) -> None:
        """Writes these values in place of all others."""
        self._lines.replace("".join(map(_line, values)))
        self._waiting = []


def lines_of(folder: epath.PathLike, kind: str, name: str) -> epath.Path:
    """Returns the file with what was measured of each line of an entry."""
    return epath.Path(folder) / kind / f"{name}.jsonl"


def keep_lines(model: MeasuredModel, kind: str, lines: Iterable[Item]) -> None:
    """Writes what was measured of each line of the entry, so that runs can be compared by them."""
    if model.lines and mesh.lead():
        path = lines_of(model.lines, kind, model.entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        KeptLines(path).replace(lines)


class ItemFile:
    """Holds the file of a task's items; `done` has those that are finished already.

    Only the lead has the items themselves; on other processes `done` has their keys.
    """

    def __init__(self, path: str, keys: Sequence[str]):
        """Reads what is there of these keys; with an empty path nothing is kept."""
        self._kept = KeptLines(path) if path and mesh.lead() else None
        values = self._kept.read() if self._kept is not None else ()
        items = {
            value["key"]: value for value in values if isinstance(value, dict) and "key" in value
        }
        marks = "".join("1" if each in items else "0" for each in keys)
        agreed = peers.exchange(marks)[0]  # what the lead has read is what counts
        self.done: Mapping[str, Item] = {
            each: items.get(each, {})
            for each, mark in zip(keys, agreed, strict=True)
            if mark == "1"
        }

    def add(self, item: Item) -> None:
        """Adds a finished item."""
        if self._kept is not None:
            self._kept.add(item)

    def finish(self, items: Iterable[Item]) -> None:
        """Writes all items anew, so that the file does not tell in what order they were scored."""
        if self._kept is not None:
            self._kept.replace(items)


def _parsed(line: bytes) -> Any:
    """Returns the value of a line; None for a line that was cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
