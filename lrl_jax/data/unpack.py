"""Unpacks files: .gz, .bz2, .xz and .zst, of one stream or of several that were joined.

    stream = unpacked(path.open("rb"), ".bz2")     a binary file; a broken one raises as it is read

pbzip2 and Wikipedia write many streams into a file. Python's bz2 and lzma end without a word at
the first later one whose beginning is damaged, which would lose the rest of a corpus.
"""

import bz2
import gzip
import io
import lzma
import re
from typing import Any

BLOCK = 1 << 16
# What wget leaves of an address in the name of a file.
QUERY = re.compile(r"(?<=\w)\?[\w.~%+-]+=[^/]*\Z")


class Streams(io.RawIOBase):
    """Unpacks the streams of a file one after another; only zeros may stand between and after them.

    Whatever else follows a stream is read as the next one, and refused as such: OSError, LZMAError,
    or EOFError where it ends too early.
    """

    def __init__(self, packed: Any, kind: type[bz2.BZ2Decompressor] | type[lzma.LZMADecompressor]):
        self._packed, self._kind, self._stream = packed, kind, kind()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer with what comes next; returns the bytes of it, 0 at the end."""
        data = b""
        while not data:
            packed = b""
            if self._stream.eof:
                if not (packed := self._rest()):
                    return 0
                self._stream = self._kind()
            elif self._stream.needs_input and not (packed := self._packed.read(BLOCK)):
                raise EOFError("the file ends within a stream")
            data = self._stream.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _rest(self) -> bytes:
        """Returns what follows the stream that ended, without the zeros that fill blocks."""
        rest = self._stream.unused_data.lstrip(b"\0")
        while not rest and (more := self._packed.read(BLOCK)):
            rest = more.lstrip(b"\0")
        return rest


def without_query(name: str) -> str:
    """Returns the name of a file without what an address had after it.

    >>> without_query("a/train.csv.gz?download=true"), without_query("a?.csv")
    ('a/train.csv.gz', 'a?.csv')
    """
    return QUERY.sub("", name)


def unpacked(packed: Any, suffix: str) -> Any:
    """Returns a binary file of what a packed one holds; the suffix says how it is packed."""
    if suffix == ".gz":
        return gzip.open(packed)
    if suffix == ".zst":
        import pyarrow

        return pyarrow.CompressedInputStream(pyarrow.PythonFile(packed, mode="r"), "zstd")
    kind = {".bz2": bz2.BZ2Decompressor, ".xz": lzma.LZMADecompressor}[suffix]
    return io.BufferedReader(Streams(packed, kind))
