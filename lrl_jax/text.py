"""Reads text, one line at a time, from wherever a recipe points: files, globs, gs://, the sample.

    for line in lines("corpus/*.txt.gz"): ...

UTF-8 is checked, a byte-order mark dropped, CRLF read as LF. What cannot be read is an error
that names file and line; nothing is skipped or replaced in silence.
"""

from collections.abc import Iterable, Iterator
import contextlib
import gzip
import hashlib

from etils import epath

SAMPLE = "sample:"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
BOM = b"\xef\xbb\xbf"
BLOCK = 1 << 20


class DataError(ValueError):
    """Input data that cannot be used; the message names file and line."""

    exit_code = 3


def lines(uri: str) -> Iterator[str]:
    """Yields the lines of `uri` without their newline.

    Args:
      uri: a path, a glob, a gs:// address, or `sample:NAME` (lrl_jax.sample.world.NAMES).

    Raises:
      DataError: missing or empty file, a git-lfs pointer, bytes that are not UTF-8, a NUL.
    """
    if uri.startswith(SAMPLE):
        yield from _sample(uri)
        return
    for path in paths(uri):
        yield from _file_lines(path)


def read_many(uris: Iterable[str]) -> Iterator[str]:
    """The lines of several uris, one after another."""
    for uri in uris:
        yield from lines(uri)


def paths(uri: str) -> list[epath.Path]:
    """The files `uri` names, sorted; a glob matches at least one.

    Raises:
      DataError: nothing there, a folder, or an empty file.
    """
    path = epath.Path(uri)
    if any(c in uri for c in "*?["):
        parts = uri.split("/")
        first = next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))
        found = sorted(epath.Path("/".join(parts[:first]) or ".").glob("/".join(parts[first:])))
        if not found:
            raise DataError(f"{uri}: no file matches")
    else:
        found = [path]
    for one in found:
        _check(one)
    return found


def fingerprint(uri: str) -> str:
    """SHA-256 of the content `uri` names: changes when the text does, not when it moves."""
    digest = hashlib.sha256()
    if uri.startswith(SAMPLE):
        for line in lines(uri):
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()
    for path in paths(uri):
        with path.open("rb") as f:
            while block := f.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _sample(uri: str) -> Iterator[str]:
    from lrl_jax.sample import world

    name = uri.removeprefix(SAMPLE)
    if name not in world.NAMES:
        raise DataError(f"{uri}: no such sample; there are {', '.join(world.NAMES)}")
    yield from world.lines(name)


def _check(path: epath.Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file, or a glob such as {path}/*.txt")
    with path.open("rb") as f:
        head = f.read(len(LFS_POINTER))
    if not head:
        raise DataError(f"{path}: is empty")
    if head == LFS_POINTER:
        raise DataError(f"{path}: is a git-lfs pointer, not the file; run `git lfs pull`")


def _file_lines(path: epath.Path) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            stream = stack.enter_context(gzip.open(stream))
        for number, data in enumerate(stream, start=1):
            yield _decode(data, number, path)


def _decode(data: bytes, number: int, path: epath.Path) -> str:
    if number == 1:
        data = data.removeprefix(BOM)
    try:
        line = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise DataError(
            f"{path}:{number}: not UTF-8 at byte {e.start} of the line (0x{data[e.start]:02x}); "
            "convert the file, such as `iconv -f cp949 -t utf-8`"
        ) from None
    if "\0" in line:
        raise DataError(f"{path}:{number}: holds a NUL; this is not a text file")
    return line.removesuffix("\n").removesuffix("\r")
