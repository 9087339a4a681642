"""Writes files whole on any store, adds lines to them, and computes their digests.

    sha256(path)                                  hex digest of a file's content
    write(path, data), write_json(path, value)    whole or not at all
    read_json(path)                               JSON of bounded size, or an error with the path
    lines = Lines(path); lines.add("...\\n")       adds lines, also where a store cannot append

A path is local or on an object store (`gs://`, through epath). An object store writes a file whole
and lists whatever was written before. It can neither append to a file nor rename a folder.
"""

from collections.abc import Iterator, Mapping
import concurrent.futures
import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from typing import Any
import uuid

from etils import epath

log = logging.getLogger(__name__)

Json = Mapping[str, Any]
GIB = 2**30
BLOCK = 1 << 20
READERS = 32  # objects that are read at the same time
PARTIAL = ".part"  # the suffix of unfinished files
STORE = "gs"  # the scheme of addresses that are read
# A word, a colon and slashes; `gs:/bucket` with one slash too, which is meant as an address.
ADDRESS = re.compile(r"\s*((?i:gs|s3)(?=:/)|[A-Za-z][A-Za-z0-9+.-]*(?=://)):(/+)(.*)", re.DOTALL)
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*")
SLASHES = re.compile("//+")
CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
# Bounds of a JSON file that is read as a whole. A value of a byte or two takes some 60 bytes in
# memory, so that values are bounded beside bytes.
JSON_BYTES, JSON_VALUES = 64 << 20, 1 << 22
PAGE_BYTES = 1 << 10  # in which a web page begins, if only after empty lines
PAGE_BEGINS = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|!--)", re.IGNORECASE)
WEB_PAGE = "is a web page, such as a login form (fetch the file while logged in)"


def refuse_odd(name: str, writes: bool = False) -> None:
    """Refuses an address that a store would not take for what was meant, and `~`, which only shells
    read as a home folder; passes other local paths.

    A bucket alone, a slash at the end, spaces and brackets are fine: `gs://bucket/a b[1].txt`.

    Args:
      writes: whether files will be written and removed below it; clients of stores then read marks
        of globs as patterns, and would remove what matches.

    Raises:
      ValueError: another scheme, no bucket, two slashes in a row, `..`, or control characters.
    """
    if (home := os.path.expanduser(name)) != name:
        raise ValueError(f"{name!r}: `~` is not read as your home folder here; write {home}")
    if not (match := ADDRESS.match(name)):
        return
    scheme, slashes, rest = match.groups()
    lower, (bucket, _, key) = scheme.lower(), rest.partition("/")
    web = lower in ("http", "https") and bucket == "huggingface.co"
    problems = [
        (web, f"is a web page; a model on the hub is named by its id: {key.strip('/ ')}"),
        (
            lower == "hf",
            "hf:// cannot be read; a dataset of the hub is named by `hub: {dataset: ORG/NAME}`, a "
            "model by its id",
        ),
        (
            lower != STORE,
            f"{scheme}:// cannot be read; want a local path or gs://BUCKET/NAME",
        ),
        (
            name != name.strip() or CONTROL.search(name),
            "has a space at an end, or a line break or another control character",
        ),
        (scheme != lower or slashes != "//", f"want {lower}://{rest}"),
        (
            not BUCKET.fullmatch(bucket),
            f"{bucket!r} is not the name of a bucket; want gs://BUCKET/NAME",
        ),
        ("//" in rest, f"has two slashes in a row; want {lower}://{SLASHES.sub('/', rest)}"),
        (".." in key.split("/"), "`..` names no folder on an object store; write it without"),
        (
            writes and set(key) & set("*?["),
            "a folder that is written to may not have *, ? or [ in its name",
        ),
    ]
    if problem := next((words for is_odd, words in problems if is_odd), ""):
        raise ValueError(f"{name!r}: {problem}")


def is_remote(path: epath.PathLike) -> bool:
    """Tells whether the path is on an object store."""
    return "://" in os.fspath(path)


def sha256(path: epath.PathLike) -> str:
    """Returns the SHA-256 of a file in hex, read in blocks; no such file is a ValueError."""
    path = epath.Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def refuse_endless(path: epath.PathLike) -> None:
    """Raises ValueError for a folder, a pipe or a device, such as never end; not for nothing."""
    if not is_remote(path) and os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{os.fspath(path)}: is a folder, pipe or device; want a plain file")


def read_bytes(path: epath.PathLike, most: int) -> bytes:
    """Returns the content of a plain file of at most `most` bytes; ValueError for any other.

    A file that is absent raises FileNotFoundError. A pipe or a device never ends, and is refused.
    """
    path = epath.Path(path)
    refuse_endless(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path}: more than {most:,} bytes; want a smaller file, or the right one")
    return data


def read_json(path: epath.PathLike, most: int = JSON_BYTES, values: int = JSON_VALUES) -> Any:
    """Reads a JSON file as a whole, in bounded time and memory; other files are a ValueError.

    A file that is absent raises FileNotFoundError. See `parse_json`.
    """
    return parse_json(read_bytes(path, most), os.fspath(path), values)


def parse_json(data: bytes, where: str, values: int = JSON_VALUES) -> Any:
    """Reads JSON of at most `values` values; `where` names it in errors, which are ValueErrors.

    >>> parse_json(b"[1, 2", "a.json")
    Traceback (most recent call last):
        ...
    ValueError: a.json: not JSON (Expecting ',' delimiter: line 1 column 6 (char 5))
    """
    if is_web_page(data):
        raise ValueError(f"{where}: {WEB_PAGE}")
    count = sum(data.count(mark) for mark in (b",", b"[", b"{"))  # commas of strings count too
    if count > values:
        raise ValueError(f"{where}: some {count:,} values; want at most {values:,}")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError(f"{where}: its JSON is nested too deep") from None
    except ValueError as e:
        raise ValueError(f"{where}: not JSON ({e})") from None


def is_web_page(data: bytes) -> bool:
    """Tells whether a file that should be another looks like HTML, as a site's login form does."""
    return bool(PAGE_BEGINS.match(data[:PAGE_BYTES]))


def within(folder: epath.PathLike, name: str) -> epath.Path:
    """Returns the path of a file of a folder; ValueError if it is a link that leads out of it.

    A folder from anyone could otherwise make us copy any file of this machine. Snapshots of the
    hub's cache hold links to the blobs beside them; those are followed.
    """
    folder = epath.Path(folder)
    path = folder / name
    if is_remote(folder):
        return path
    home, target = os.path.realpath(folder), os.path.realpath(path)
    snapshots = os.path.dirname(home)
    homes = [home]
    if os.path.basename(snapshots) == "snapshots":
        homes.append(os.path.join(os.path.dirname(snapshots), "blobs"))
    if not any(target.startswith(os.path.join(inside, "")) for inside in homes):
        raise ValueError(
            f"{path}: is a link that leads out of its folder, to {target}; put the file itself "
            "there if you trust it"
        )
    return path


def refuse_links_out(folder: epath.PathLike) -> None:
    """Raises ValueError if a file of the folder is a link that leads out of it."""
    if not is_remote(folder) and os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            within(folder, name)


def check_writable(folder: epath.PathLike) -> None:
    """Tries to write where `folder` is or will be; leaves nothing there. Raises OSError."""
    path = epath.Path(folder)
    if not is_remote(path):
        while not os.path.lexists(path):
            path = path.parent
    trial = path / f".{uuid.uuid4().hex}{PARTIAL}"
    try:
        trial.write_bytes(b"x")
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


def move(path: epath.Path, target: epath.Path) -> None:
    """Gives a file or folder another name, which must be free.

    An object store has neither folders nor names to change: each object is copied, and only when
    all of them are is the first one removed.
    """
    if not is_remote(path):
        path.rename(target)
        return
    objects = [*_objects(path)]
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        moved = (target if it == path else target / it.relative_to(path) for it in objects)
        for _ in pool.map(lambda source, to: source.copy(to, overwrite=True), objects, moved):
            pass
    path.rmtree() if path.is_dir() else path.unlink()


def _objects(path: epath.Path) -> Iterator[epath.Path]:
    """Yields every object whose name begins with that of a folder."""
    if not path.is_dir():
        yield path
        return
    for below in path.iterdir():
        yield from _objects(below)


def partial(path: epath.Path) -> epath.Path:
    """Returns a new name beside `path`, for a file that is renamed to `path` once it is whole."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")


def write(path: epath.PathLike, data: bytes | str) -> None:
    """Writes a file whole or not at all: under another name first, or as a single object."""
    path = epath.Path(path)
    content = data.encode() if isinstance(data, str) else data
    if is_remote(path):
        path.write_bytes(content)
        return
    unfinished = partial(path)
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes JSON whole or not at all, indented by a space a level."""
    write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def is_full(error: BaseException) -> bool:
    """Tells whether an error says that a disk, or the quota on it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: epath.PathLike) -> int | None:
    """Returns the free bytes of the disk where `folder` is or will be; None on an object store."""
    if is_remote(folder):
        return None
    path = os.path.abspath(folder)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


# ---------------------------------------------------------------------------- lines that are added
class Lines:
    """Adds lines to a file; on an object store each addition is an object of its own, a part.

        metrics.jsonl                   the whole content; where it exists, parts are ignored
        metrics.parts/00000012.jsonl    else the parts are: this was added after parts 0 to 11

    Killing a process loses no line: `join` writes the file before it removes the parts, and `add`
    copies the content of the file into part 0 before it removes the file. Every byte is written
    once when it is added and once more when parts are joined.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        self._folder = _parts_folder(self.path)
        self._next: int | None = None  # number of the next part; None until it is looked up

    def add(self, text: str) -> None:
        """Adds whole lines; they are stored by the time this returns."""
        if not is_remote(self.path):
            if self._next is None:
                self.join()  # a folder copied from an object store has parts
                self._next = 0
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text)
            return
        content, whole = text.encode(), self._next is None and self.path.exists()
        if whole:
            self._remove_parts()  # left by a process that was killed while it joined them
            content = _ended(self.path.read_bytes()) + content
        if self._next is None:
            self._next = max(_part_numbers(self.path), default=-1) + 1
        self._folder.mkdir(parents=True, exist_ok=True)
        _part(self.path, self._next).write_bytes(content)
        self._next += 1
        if whole:
            self.path.unlink()

    def replace(self, content: bytes | str) -> None:
        """Replaces the whole content of the file."""
        write(self.path, content)
        self._remove_parts()
        self._next = None

    def join(self) -> None:
        """Joins all parts into the file; does nothing where there are none."""
        if not self.path.exists() and (contents := read_parts(self.path)):
            self.replace(b"".join(map(_ended, contents)))

    def _remove_parts(self) -> None:
        if self._folder.is_dir():
            self._folder.rmtree(missing_ok=True)


def read_parts(path: epath.PathLike) -> list[bytes]:
    """Returns the content of a file that `Lines` wrote: the file, or its parts in order.

    Each item begins with a new line, and ends within a line if its writing was cut short. Logs a
    warning if a part is missing.
    """
    path = epath.Path(path)
    if path.exists():
        return [path.read_bytes()]
    numbers = _part_numbers(path)
    if lost := sorted({*range(max(numbers, default=-1) + 1)}.difference(numbers)):
        names = [_part(path, number).name for number in lost[:8]] + ["..."] * (len(lost) > 8)
        message = "%s: %d of its parts are missing (%s); the lines in them are lost"
        log.warning(message, _parts_folder(path), len(lost), ", ".join(names))
    try:
        with concurrent.futures.ThreadPoolExecutor(READERS, "parts") as pool:
            return [*pool.map(lambda number: _part(path, number).read_bytes(), numbers)]
    except FileNotFoundError:
        if path.exists():  # a run joined the parts meanwhile
            return [path.read_bytes()]
        raise


def _parts_folder(path: epath.Path) -> epath.Path:
    return path.with_suffix(".parts")


def _part(path: epath.Path, number: int) -> epath.Path:
    return _parts_folder(path) / f"{number:08}{path.suffix}"


def _part_numbers(path: epath.Path) -> list[int]:
    folder = _parts_folder(path)
    if not folder.is_dir():
        return []
    names = [name for name in folder.iterdir() if name.suffix == path.suffix]
    return sorted(int(name.stem) for name in names if name.stem.isdigit())


def _ended(content: bytes) -> bytes:
    """Returns the content with its last line ended."""
    return content if not content or content.endswith(b"\n") else content + b"\n"
