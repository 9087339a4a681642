"""An object store for tests behind gs://: whole objects in a local folder, writes counted."""

from collections.abc import Iterator
import contextlib
import glob
import io
import os
from pathlib import Path
import shutil
from unittest import mock
import uuid

from etils.epath import backend, gpath, stat_utils


class Object(io.BytesIO):
    """What is written to an object; it is there, whole, once this is closed."""

    def __init__(self, store: "ObjectStore", path: Path):
        super().__init__()
        self._store, self._path = store, path

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            self._store.written += len(content)
            self._store.objects += 1
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._store.unfinished / uuid.uuid4().hex
            unfinished.write_bytes(content)
            unfinished.replace(self._path)
        super().close()


class ObjectStore(backend.Backend):
    """Holds objects; has no folders but by the names of what is in them, and cannot append.

    Attributes:
      written: bytes of all objects that were written.
      objects: how many were written.
    """

    def __init__(self, root: Path):
        self.root, self.unfinished = root / "objects", root / "unfinished"
        self.unfinished.mkdir(parents=True, exist_ok=True)
        self.written = self.objects = 0

    def local(self, path) -> Path:
        return self.root / os.fspath(path).removeprefix("gs://")

    def open(self, path, mode):
        if "r" in mode:
            return open(self.local(path), mode, encoding=None if "b" in mode else "utf-8")
        assert "w" in mode, "an object store cannot append"
        content = Object(self, self.local(path))
        return content if "b" in mode else io.TextIOWrapper(content, encoding="utf-8")

    def exists(self, path):
        return self.local(path).is_file() or self.isdir(path)

    def isdir(self, path):
        return any(files for _, _, files in os.walk(self.local(path)))

    def listdir(self, path):
        names = sorted(os.listdir(self.local(path))) if self.local(path).is_dir() else []
        return [name for name in names if self.exists(f"{os.fspath(path)}/{name}")]

    def glob(self, path):
        return [f"gs://{Path(p).relative_to(self.root)}" for p in glob.glob(str(self.local(path)))]

    def walk(self, top, *, top_down=True, on_error=None):
        raise NotImplementedError("the package walks no store")

    def makedirs(self, path, *, exist_ok=False, mode=None):
        pass

    def mkdir(self, path, *, exist_ok=False, mode=None):
        pass

    def rmtree(self, path):
        shutil.rmtree(self.local(path))

    def remove(self, path):
        self.local(path).unlink()

    def rename(self, path, dst):
        raise AssertionError("an object store copies whole objects to rename one")

    replace = rename

    def copy(self, path, dst, overwrite):
        with self.open(dst, "wb") as out:
            source = self.local(path) if "://" in os.fspath(path) else Path(path)
            out.write(source.read_bytes())

    def stat(self, path):
        size = self.local(path).stat().st_size
        return stat_utils.StatResult(is_directory=self.isdir(path), length=size, mtime=0)


@contextlib.contextmanager
def mounted(root: Path) -> Iterator[ObjectStore]:
    """Puts a store behind every gs:// path of this process."""
    store = ObjectStore(root)

    def of(path):
        return store if path._uri_scheme else backend._OsPathBackend()

    with mock.patch.object(gpath._GPath, "_backend", property(of)):
        yield store
