"""Unpacks files: .gz, .bz2, .xz and .zst, of one stream or of several that were joined.

Names those that are packed in another way, and others that only programs read.

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
TAR = "is an archive (tar); unpack it, and name the files that are in it"
HEAD = 512  # bytes of a file from which these are known
# How files begin that are no text whatever their names say, and what to do with them.
PACKINGS = {
    rb"\x1f\x8b": "is compressed with gzip; let its name end in .gz",
    rb"BZh[1-9]1AY&SY": "is compressed with bzip2; let its name end in .bz2",
    rb"\xfd7zXZ\x00": "is compressed with xz; let its name end in .xz",
    rb"\x28\xb5\x2f\xfd": "is compressed with zstd; let its name end in .zst",
    rb"\x04\x22\x4d\x18": "is compressed with lz4; unpack it, or pack it with gzip or zstd",
    rb"\x5d\x00\x00": "is compressed with lzma; unpack it, or pack it with xz",
    rb"PK\x03\x04": "is a zip archive or an Office document; unpack it, or save the table as .csv "
    "and the document as a text file",
    rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an Office document (.doc, .xls); save the table as "
    ".csv and the document as a text file",
    rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07": "is an archive (.7z, .rar); unpack it",
    rb"[\s\S]{257}ustar": TAR,
    rb"ARROW1|FEA1|\xff{4}[\s\S]{2}\x00\x00": "is an Arrow file; save it as Parquet",
    rb"\x80[\x02-\x05]": "is a pickle, which is never read, for it may run anything; save its rows "
    "as Parquet or JSON lines",
    rb"%PDF-\d": "is a PDF; give its text as a text file",
}


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


def packing(head: bytes) -> str:
    """Describes a compressed file, an archive or a PDF by how it begins; '' for any other file.

    >>> packing(b"BZh91AY&SY"), packing(b"BZh")
    ('is compressed with bzip2; let its name end in .bz2', '')
    """
    return next((said for start, said in PACKINGS.items() if re.match(start, head)), "")


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
