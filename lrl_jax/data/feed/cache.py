"""Copies shards of rows from an object store to this machine, and removes the least used ones.

    cache = ShardCache(limit_gib=100)
    cache.hold(shards)                # fails where they do not fit, before anything is copied
    file = cache.local(path, shard)   # a local file of the same bytes

Copies are named by their content, so runs share them. The limit is for all processes of a user
together: each lists the copies it holds in a file that it keeps locked, and no process removes
what another one holds.
"""

from collections.abc import Iterable
import contextlib
import fcntl
import json
import os
from pathlib import Path
import shutil
import threading
import uuid

from etils import epath

from lrl_jax import storage
from lrl_jax.data.pack import rows
from lrl_jax.text import DataError

FOLDER = Path("~/.cache/lrl_jax/rows")
LIMIT_GIB = 100.0
AGAIN = "run `lrl data` again"
NOTES = "in_use"  # folder with a file for each process: the digests of the copies it holds


class ShardCache:
    """Copies remote shards to this machine, and keeps those in use from being removed."""

    def __init__(self, limit_gib: float = LIMIT_GIB, folder: Path | None = None):
        self._limit = limit_gib * storage.GIB
        self._folder = (folder or FOLDER).expanduser()
        self._in_use: dict[str, int] = {}  # digest -> bytes
        self._note: int | None = None  # descriptor of our note; locked for as long as we live
        self._lock = threading.Lock()

    def __del__(self):
        if self._note is not None:
            os.close(self._note)

    def hold(self, shards: Iterable[rows.Shard]) -> None:
        """Keeps copies of these shards from being removed, and makes room for those to come.

        Raises:
          ValueError: the limit is too low for what is in use.
        """
        with self._lock:
            new = {shard.sha256: shard.bytes for shard in shards}
            if new.keys() <= self._in_use.keys():
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                descriptor = os.open(self._folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # one process at a time reads and changes it
                stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
                self._make_room(self._in_use | new)
                self._in_use |= new
                if self._note is None:
                    notes = self._folder / NOTES
                    notes.mkdir(exist_ok=True)
                    self._note = os.open(notes / uuid.uuid4().hex, os.O_RDWR | os.O_CREAT)
                    fcntl.flock(self._note, fcntl.LOCK_EX)
                os.ftruncate(self._note, 0)
                os.pwrite(self._note, json.dumps(sorted(self._in_use)).encode(), 0)

    def local(self, path: epath.Path, shard: rows.Shard) -> str:
        """Returns a local file of a shard: its own, or a copy that is held, made if there is none.

        Raises:
          ValueError: the file is missing, or is not the one that its manifest describes.
        """
        if not storage.is_remote(path):
            _check(path, shard)
            return os.fspath(path)
        self.hold([shard])
        local = self._folder / f"{shard.sha256}.array_record"
        if local.exists():
            os.utime(local)  # marks it as used now
            return os.fspath(local)
        _check(path, shard)
        unfinished = storage.partial(epath.Path(local))
        try:
            with path.open("rb") as source, open(unfinished, "wb") as out:
                shutil.copyfileobj(source, out)
            if storage.sha256(unfinished) != shard.sha256:
                raise DataError(f"{path}: other bytes than its manifest says; {AGAIN}")
            unfinished.replace(local)
        finally:
            unfinished.unlink(missing_ok=True)
        return os.fspath(local)

    def _make_room(self, wanted: dict[str, int]) -> None:
        """Removes files that nobody holds, longest unused first, until the wanted ones fit."""
        kept = wanted.keys() | self._in_use_by_others()
        files = {path: path.stat() for path in self._folder.iterdir() if path.is_file()}
        copied = {path.stem for path in files if path.suffix == ".array_record"}
        total = sum(stat.st_size for stat in files.values())
        total += sum(size for name, size in wanted.items() if name not in copied)
        removable = [path for path in files if path.name.split(".")[0] not in kept]
        removed = []
        for path in sorted(removable, key=lambda path: files[path].st_mtime_ns):
            if total <= self._limit:
                break
            removed.append(path)
            total -= files[path].st_size
        if total > self._limit:
            own = sum(wanted.values())
            sizes_gib = [f"{size / storage.GIB:.2f}" for size in (own, total - own, self._limit)]
            raise DataError(
                f"{self._folder}: copies of this run's rows take {sizes_gib[0]} GiB, and those "
                f"that other runs use {sizes_gib[1]} GiB; data.cache_gib allows {sizes_gib[2]}: "
                "raise it, or wait for the other runs"
            )
        for path in removed:
            path.unlink(missing_ok=True)

    def _in_use_by_others(self) -> set[str]:
        """Returns the digests that living processes hold; removes the notes of dead ones."""
        names: set[str] = set()
        notes = self._folder / NOTES
        for path in notes.iterdir() if notes.is_dir() else []:
            with path.open() as note:
                try:
                    fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    names |= {*json.load(note)}
                    continue
            path.unlink()
        return names


def _check(path: epath.Path, shard: rows.Shard) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file, but its manifest names it; {AGAIN}")
    if (size := path.stat().length) != shard.bytes:
        raise DataError(f"{path}: has {size} bytes, its manifest says {shard.bytes}; {AGAIN}")
