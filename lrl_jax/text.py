"""Reads text, one line at a time, from wherever a recipe points: files, globs, gs://, the sample.

    for line in lines("corpus/*.txt.gz"): ...

UTF-8 is checked, a byte-order mark dropped, CRLF read as LF. What cannot be read is an error
that names file and line; nothing is skipped or replaced in silence.
"""

from collections.abc import Iterable, Iterator
import gzip
import hashlib
import io

from etils import epath

SAMPLE = "sample:"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
BLOCK = 1 << 20


def lines(uri: str) -> Iterator[str]:
    """Yields the lines of `uri` without their newline.

    Args:
      uri: a path, a glob, a gs:// address, or `sample:NAME` (lrl_jax.sample.world.NAMES).

    Raises:
      ValueError: missing or empty file, a git-lfs pointer, bytes that are not UTF-8, a NUL.
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
      ValueError: nothing there, a folder, or an empty file.
    """
    path = epath.Path(uri)
    if any(c in uri for c in "*?["):
        parts = uri.split("/")
        first = next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))
        found = sorted(epath.Path("/".join(parts[:first]) or ".").glob("/".join(parts[first:])))
        if not found:
            raise ValueError(f"{uri}: no file matches")
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
        raise ValueError(f"{uri}: no such sample; there are {', '.join(world.NAMES)}")
    yield from world.lines(name)


def _check(path: epath.Path) -> None:
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file, or a glob such as {path}/*.txt")
    with path.open("rb") as f:
        head = f.read(len(LFS_POINTER))
    if not head:
        raise ValueError(f"{path}: is empty")
    if head == LFS_POINTER:
        raise ValueError(f"{path}: is a git-lfs pointer, not the file; run `git lfs pull`")


def _file_lines(path: epath.Path) -> Iterator[str]:
    with path.open("rb") as raw:
        stream = gzip.open(raw) if path.suffix == ".gz" else raw
        for number, data in enumerate(io.BufferedReader(stream), start=1):  # type: ignore
            if number == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            try:
                line = data.decode("utf-8")
            except UnicodeDecodeError as e:
                raise ValueError(
                    f"{path}:{number}: not UTF-8 at byte {e.start} of the line "
                    f"(0x{data[e.start]:02x}); convert the file, "
                    "such as `iconv -f cp949 -t utf-8`"
                ) from None
            if "\0" in line:
                raise ValueError(f"{path}:{number}: holds a NUL; this is not a text file")
            yield line.removesuffix("\n").removesuffix("\r")
