"""Reads text a line at a time, from whatever a recipe names: files, globs, gs://, the sample.

    for line in lines("corpus/*.txt.gz"): ...                 the first bad line raises
    for number, line in numbered("a.txt", start, end): ...    a bad line is yielded as `Bad`

UTF-8 is checked; UTF-16 is read where a byte-order mark says so. Such a mark is dropped, also at
the beginning of a later line, where joined files have it. CRLF is read as LF, and CR too in a file
that ends its lines by nothing else. .gz .bz2 .xz .zst files are unpacked. What cannot be read is
reported with file and line; nothing is silently skipped.
"""

import bisect
import codecs
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import glob
import hashlib
import io
import itertools
import json
import lzma
import os
from pathlib import Path
import time
from typing import Any
import urllib.parse
import zlib

from etils import epath

from lrl_jax import storage
from lrl_jax.data import unpack

SAMPLE = "sample:"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
BOM = b"\xef\xbb\xbf"
MARK = "\ufeff"  # a byte-order mark, decoded
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # how such a file begins
LOCAL = "file://"
BLOCK = 1 << 20
LONGEST = 64 << 20  # bytes of a line; a longer one is reported and never in memory as a whole
PACKED = (".gz", ".bz2", ".xz", ".zst")
ARCHIVES = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst")  # of tar; no other name of .gz and the like
# Nanoseconds. A digest is remembered only if the file was last changed longer ago than this: two
# changes in quick succession can leave the same times.
SETTLED = 2_000_000_000


class DataError(ValueError):
    """Reports input data that cannot be used; the message names file and line."""

    exit_code = 3


@dataclasses.dataclass(frozen=True)
class Bad:
    """Describes a record that cannot be used."""

    where: str  # its place, file:line
    why: str  # what is wrong with it, for people
    reason: str = "unreadable"  # the name under which reports count it


# ---------------------------------------------------------------------------- lines
def lines(*uris: str) -> Iterator[str]:
    """Yields the lines of each uri without their newline.

    Args:
      uris: paths, globs, gs:// addresses, or `sample:NAME` (lrl_jax.data.sample.world.NAMES).

    Raises:
      DataError: a file is missing, empty, a git-lfs pointer, or compressed and cut short; a line
        has bytes that are not UTF-8 or a NUL, or is longer than LONGEST.
    """
    for file in itertools.chain.from_iterable(map(files, uris)):
        for _, line in numbered(file):
            if isinstance(line, Bad):
                raise DataError(f"{line.where}: {line.why}")
            yield line


def numbered(file: str, start: int = 0, end: int = -1) -> Iterator[tuple[int, str | Bad]]:
    """Yields (number, line or Bad) for each line of a file; numbers start at 1 in the range.

    Args:
      start, end: bytes of the file, each at the beginning of a line; -1 is the end of the file.

    Raises:
      DataError: the file as a whole cannot be read.
    """
    if file.startswith(SAMPLE):
        yield from enumerate(_sample(file), start=1)
        return
    number = 0
    for block in _blocks(epath.Path(file), start, end):
        block_lines = _texts(block, file, start, number)
        yield from enumerate(block_lines, start=number + 1)
        number += len(block_lines)


def raw(file: str, start: int = 0, end: int = -1) -> Iterator[bytes | None]:
    """Yields the lines of a file as bytes with newlines; None in place of lines over LONGEST."""
    if file.startswith(SAMPLE):
        yield from (f"{line}\n".encode() for line in _sample(file))
        return
    for block in _blocks(epath.Path(file), start, end):
        if block is None:
            yield None
        else:
            whole = io.BytesIO(block)
            yield from (line.removeprefix(BOM) for line in whole) if BOM in block else whole


def flaw(line: bytes | None) -> str:
    """Returns why a line that `raw` yielded is not text; '' if it is text."""
    if line is None:
        return f"a line longer than {LONGEST >> 20} MiB; this is not text with a document a line"
    try:
        line.decode()
    except UnicodeDecodeError as e:
        mend = (
            "convert the file from its own encoding, such as `iconv -f WINDOWS-1252 -t UTF-8`, or "
            "WINDOWS-1251 (Cyrillic), CP949 (Korean), GB18030 (Chinese)"
        )
        return f"not UTF-8 at byte {e.start} of the line (0x{line[e.start]:02x}); {mend}"
    return "holds a NUL; this is not a text file" if b"\0" in line else ""


def place(file: str, start: int, number: int) -> str:
    """Returns file:line for line `number` of a range that begins at byte `start`.

    This counts the lines before the range, so call it only for places that will be shown.
    """
    return f"{file}:{number + (_lines_before(file, start) if start else 0)}"


# ---------------------------------------------------------------------------- files
def files(uri: str, *, only_text: bool = True) -> list[str]:
    """Returns the files that `uri` names, sorted; the name of a sample is returned as it is.

    A file that is missing, empty or a folder is a DataError, and so is, where there should be
    `only_text`, an archive, a PDF, or what is compressed without saying so in its name.
    """
    if uri.startswith(SAMPLE):
        return [uri]
    storage.refuse_odd(plain(uri))
    paths = [*map(epath.Path, matching(uri) if glob.has_magic(uri) else [plain(uri)])]
    if not paths:
        raise DataError(f"{uri}: no file matches")
    for path in paths:
        head = check_file(path)
        if only_text and (packing := unpack.packing(head)) and not is_packed(path.name):
            is_archive = path.name.lower().endswith(ARCHIVES)
            raise DataError(f"{path}: {unpack.TAR if is_archive else packing}")
    return [str(path) for path in paths]


def plain(uri: str) -> str:
    """Returns the path that a file:// address names; any other name as it is.

    >>> plain("file:///data/a%20b.txt"), plain("gs://data/a.txt")
    ('/data/a b.txt', 'gs://data/a.txt')
    """
    if not uri.lower().startswith(LOCAL):
        return uri
    host, slash, path = uri[len(LOCAL) :].partition("/")
    if host not in ("", "localhost"):
        example = f"an address of a file here has three slashes, such as {LOCAL}/{host}/{path}"
        raise DataError(f"{uri}: names a file of the machine {host!r}; {example}")
    return slash + urllib.parse.unquote(path)


def matching(uri: str) -> list[str]:
    """Returns the names that match a glob; `**` stands for any number of folders.

    Brackets stand for themselves where files have them in their names.
    """
    uri = plain(uri)
    brackets = uri.replace("[", "[[]")
    if not glob.has_magic(uri.replace("[", "")) and epath.Path(uri).exists():
        return [uri]
    return _matching(uri) or (_matching(brackets) if brackets != uri else [])


def _matching(uri: str) -> list[str]:
    if "://" not in uri:
        names = glob.glob(uri, recursive=True)
        return sorted(path for path in names if "**" not in uri or not os.path.isdir(path))
    if "**" in uri:
        raise DataError(f"{uri}: `**` is for local files; name the folders, such as web/*/*.txt")
    parts = uri.split("/")
    first = next(i for i, piece in enumerate(parts) if glob.has_magic(piece))
    below = epath.Path("/".join(parts[:first])).glob("/".join(parts[first:]))
    return sorted(os.fspath(path) for path in below)


@contextlib.contextmanager
def opened(path: epath.Path) -> Iterator[Any]:
    """Opens a file for reading bytes, which are unpacked if its suffix says so.

    A packed file that is broken or cut short is a DataError, also while the caller reads it.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if not is_packed(path.name):
            yield stream
            return
        suffix = epath.Path(unpack.without_query(path.name)).suffix
        try:
            yield stack.enter_context(unpack.unpacked(stream, suffix.lower()))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as e:
            if isinstance(e, EOFError) or "runcated" in str(e):  # how pyarrow says EOFError
                raise DataError(f"{path}: is cut short; fetch it again") from None
            raise DataError(f"{path}: is not a whole {suffix} file ({e})") from None


def is_packed(name: str) -> bool:
    """Tells by the name of a file whether its content is compressed."""
    return unpack.without_query(name).lower().endswith(PACKED)


def is_utf_16(file: str) -> bool:
    """Tells whether a file, unpacked, begins as UTF-16 does."""
    with opened(epath.Path(file)) as f:
        return f.read(2) in UTF_16


def check_file(path: epath.Path) -> bytes:
    """Returns how a file begins.

    Raises:
      DataError: it is missing or empty, or is no file or a git-lfs pointer.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file, or a glob such as {path}/*.txt")
    if not (storage.is_remote(path) or os.path.isfile(path)):
        raise DataError(f"{path}: is a pipe or device; write what it gives to a file")
    with path.open("rb") as f:
        head = f.read(unpack.HEAD)
    if not head:
        raise DataError(f"{path}: is empty")
    if head.startswith(LFS_POINTER):
        raise DataError(f"{path}: is a git-lfs pointer, not the file; run `git lfs pull`")
    return head


def _sample(uri: str) -> Iterator[str]:
    from lrl_jax.data.sample import world

    name = uri.removeprefix(SAMPLE)
    if name not in world.NAMES:
        raise DataError(f"{uri}: no such sample; there are {', '.join(world.NAMES)}")
    yield from world.lines(name)


# ---------------------------------------------------------------------------- fingerprints
def fingerprint(uri: str) -> str:
    """Returns a digest of the content that `uri` names; it does not depend on the path.

    A file is not hashed again as long as its size and times stay the same.
    """
    digests = [digest(file) for file in files(uri)]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def identity(file: str) -> tuple[int, ...]:
    """Returns size, times and inode of a file, which change when it is written; () if unknown."""
    if "://" not in file:
        stat = os.stat(file)
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    stat = epath.Path(file).stat()
    return (stat.length, int(stat.mtime * 1e9)) if stat.mtime else ()


def digest(file: str) -> str:
    """Returns the SHA-256 of one file, remembered in the user's cache."""
    if file.startswith(SAMPLE):
        return hashlib.sha256("".join(f"{line}\n" for line in lines(file)).encode()).hexdigest()
    before, now = identity(file), time.time_ns()
    if not before or before[0] < BLOCK:  # hashing a small file is as fast as looking it up
        return storage.sha256(file)
    name = file if "://" in file else os.path.abspath(file)
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    memory = Path.home() / f".cache/lrl_jax/digests/{key}.json"
    # Whatever is wrong with what was remembered, or with its place, the file is hashed.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(memory.read_text())
        if note["identity"] == list(before):
            return note["sha256"]
    sha256 = storage.sha256(file)
    if before == identity(file) and now - max(before[1:3]) > SETTLED:
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            storage.write(memory, json.dumps({"file": file, "identity": before, "sha256": sha256}))
    return sha256


# ---------------------------------------------------------------------------- blocks of lines
def _blocks(path: epath.Path, start: int, end: int) -> Iterator[bytes | None]:
    """Yields blocks of whole lines; None in place of a line over LONGEST."""
    with opened(path) as f:
        if start:
            f.seek(start)
        pending: list[bytes] = []
        size, at = 0, start  # size: bytes of the line whose end was not read yet
        recoded: Callable[[bytes], bytes] | None = None
        while data := f.read(BLOCK if end < 0 else min(BLOCK, end - at)):
            if not at:
                if unpack.packing(data) == unpack.TAR:
                    raise DataError(f"{path}: {unpack.TAR}")
                recoded = _recoder(data, path)
                data, at = data.removeprefix(BOM), len(data)
            else:
                at += len(data)
            data = recoded(data) if recoded else data
            first = data.find(b"\n") + 1
            if first and size + first > LONGEST:
                yield None
                pending, size, data = [], 0, data[first:]
            whole = data.rfind(b"\n") + 1
            if whole:
                yield b"".join([*pending, data[:whole]])
                pending, size, data = [], 0, data[whole:]
            size += len(data)
            pending = [*pending, data] if size <= LONGEST else []
        if recoded:
            recoded(b"")  # says if a UTF-16 file ends in half a character
        if size and pending != [BOM]:  # of an empty file that was joined to others
            yield b"".join(pending) if size <= LONGEST else None


def _recoder(first: bytes, path: epath.Path) -> Callable[[bytes], bytes] | None:
    """Returns what makes UTF-8 lines of the blocks of a file that begins with `first`.

    None where the blocks are such lines already. An empty block is the end of the file.
    """
    new_decoder = codecs.getincrementaldecoder("utf-16")
    decoded = first.startswith(UTF_16)
    sample = _from_utf_16(new_decoder(), path, first) if decoded else first
    recoded = functools.partial(_from_utf_16, new_decoder(), path) if decoded else None
    if b"\r" not in sample[:-1] or b"\n" in sample:
        return recoded
    decode = recoded or bytes  # which returns bytes as they are
    return lambda data: decode(data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _from_utf_16(decoder: codecs.IncrementalDecoder, path: epath.Path, data: bytes) -> bytes:
    try:
        return decoder.decode(data, final=not data).encode()
    except UnicodeDecodeError as e:
        why = f"begins with the mark of UTF-16, and is not UTF-16 ({e.reason}); write it as UTF-8"
        raise DataError(f"{path}: {why}") from None


def _texts(block: bytes | None, file: str, start: int, number: int) -> Sequence[str | Bad]:
    """Returns the lines of a block; `number` lines of the range come before it."""
    with contextlib.suppress(UnicodeDecodeError):
        if block is not None and b"\0" not in block:  # nearly always: the block as a whole
            decoded = block.decode().replace("\r\n", "\n")
            if MARK in decoded:
                decoded = decoded.removeprefix(MARK).replace(f"\n{MARK}", "\n")
            texts = decoded.split("\n")
            last = texts.pop().removesuffix("\r")
            return [*texts, last] if last or not block.endswith(b"\n") else texts
    out: list[str | Bad] = []
    for at, line in enumerate([None] if block is None else io.BytesIO(block), start=number + 1):
        if line is None or flaw(line):
            out.append(Bad(place(file, start, at), flaw(line)))
        else:
            out.append(line.decode().removeprefix(MARK).removesuffix("\n").removesuffix("\r"))
    return out


def _lines_before(file: str, at: int) -> int:
    """Counts newlines before byte `at`, starting from the nearest position counted before."""
    counts = _counted(file, identity(file))
    offset, count = counts[bisect.bisect_left(counts, (at + 1, 0)) - 1]
    if offset == at:
        return count
    with epath.Path(file).open("rb") as f:
        f.seek(offset)
        while offset < at and (data := f.read(min(BLOCK, at - offset))):
            offset += len(data)
            count += data.count(b"\n")
    bisect.insort(counts, (at, count))
    return count


@functools.lru_cache(maxsize=64)
def _counted(file: str, identity: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the sorted (byte, newlines before it) of a file, a list that callers add to."""
    return [(0, 0)]
