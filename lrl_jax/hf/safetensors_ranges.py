"""Reads tensors of a safetensors checkpoint by ranges: only the bytes that are asked for.

    with contextlib.ExitStack() as stack:
        tensors = open_folder(folder, stack)
        rows = tensors.read("model.norm.weight", (slice(0, 16),))

Local files or an object store; any number of threads may read at a time. The header of a file is
checked as strictly as the library of the format does: nothing in it is taken on trust.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
from typing import Any

from etils import epath
import jax.numpy as jnp
import numpy as np

from lrl_jax import storage

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Of a file's header. The format allows 100 MB; a decoder of 126 layers has 1,138 tensors, and a
# header of 150 kB. Headers are read before anything else is known of a file.
MAX_HEADER, MAX_TENSORS = 16 << 20, 100_000
MAX_CONFIG, CONFIG_VALUES = 16 << 20, 1 << 18  # bytes and values of config.json and the index
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "U64": 8,
    "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
WEIGHT_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Index = tuple[slice, ...]
Read = Callable[[str, Index], np.ndarray]  # reads the region of a tensor, by its name


class DamagedError(ValueError):
    """Says that a file is no whole safetensors file."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Describes where a tensor lies in its file, in bytes from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class Local:
    """Reads a file of this machine, unmapped: pages of a map count as memory of the process."""

    exact = True  # many small reads cost little more than one large one

    def __init__(self, path: epath.PathLike, stack: contextlib.ExitStack):
        self._path = os.fspath(path)
        storage.refuse_endless(path)
        self._file = os.open(self._path, os.O_RDONLY)
        stack.callback(os.close, self._file)
        self.size = os.fstat(self._file).st_size

    def fill(self, start: int, out: np.ndarray) -> None:
        """Reads bytes from `start` on into `out`, which is contiguous."""
        view = out.reshape(-1).view(np.uint8).data
        while view:
            count = os.preadv(self._file, [view], start)
            if not count:
                raise DamagedError(f"{self._path}: ends at byte {start}; fetch it again")
            view, start = view[count:], start + count


class Remote:
    """Reads a file of an object store, with one request a read; used like `Local`."""

    exact = False

    def __init__(self, path: epath.PathLike):
        from fsspec import core

        self._files, self._path = core.url_to_fs(os.fspath(path))
        self.size = self._files.info(self._path)["size"]

    def fill(self, start: int, out: np.ndarray) -> None:
        data = self._files.cat_file(self._path, start=start, end=start + out.nbytes)
        if len(data) != out.nbytes:
            raise DamagedError(f"{self._path}: ends at byte {start + len(data)}; fetch it again")
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)


Source = Local | Remote


class File:
    """Reads regions of the tensors of one safetensors file; raises DamagedError if it is none."""

    def __init__(self, source: Source):
        self._source = source
        self.places = _places(source)

    def read(self, name: str, index: Index) -> np.ndarray:
        """Reads the region `index` of a tensor; one slice a dimension.

        A range of rows is one read. Of a range of columns too, a local file gives exactly those
        bytes; an object store gives whole rows, which are cut here.
        """
        place = self.places[name]
        if place.dtype not in WEIGHT_DTYPES:
            raise ValueError(f"{name} is stored as {place.dtype}; want one of {[*WEIGHT_DTYPES]}")
        bounds = [s.indices(n)[:2] for s, n in zip(index, place.shape, strict=True)]
        dtype = jnp.dtype(WEIGHT_DTYPES[place.dtype])
        if not bounds:
            return self._filled((), dtype, place.start)
        (first, last), inner = bounds[0], tuple(slice(*b) for b in bounds[1:])
        row_bytes = math.prod(place.shape[1:]) * dtype.itemsize
        start = place.start + first * row_bytes
        whole = all(b == (0, n) for b, n in zip(bounds[1:], place.shape[1:], strict=True))
        if whole or not self._source.exact or len(inner) > 1:
            return self._filled((last - first, *place.shape[1:]), dtype, start)[:, *inner]
        (left, right), width = bounds[1], dtype.itemsize
        out = np.empty((last - first, right - left), dtype)
        if out.size:
            for row, into in enumerate(out):
                self._source.fill(start + row * row_bytes + left * width, into)
        return out

    def _filled(self, shape: tuple[int, ...], dtype: Any, start: int) -> np.ndarray:
        out = np.empty(shape, dtype)
        if out.nbytes:
            self._source.fill(start, out)
        return out


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Reads regions of tensors by name, over all files of a checkpoint."""

    files: dict[str, File]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self.files[name].places[name].shape

    def read(self, name: str, index: Index) -> np.ndarray:
        """Reads the region `index` of a tensor; one slice a dimension."""
        return self.files[name].read(name, index)


def open_folder(folder: epath.Path, stack: contextlib.ExitStack) -> Tensors:
    """Opens every tensor of the checkpoint, by name; the index's own names are not trusted.

    Where there is one whole file, it is read and an index beside it is not, as in transformers.
    """
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        file = open_file(storage.within(folder, WEIGHTS), stack)
        return Tensors(dict.fromkeys(file.places, file))
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{folder / INDEX}: has no weight_map; copy the folder again")
    if not all(isinstance(name, str) for name in weight_map.values()):
        raise ValueError(f"{folder / INDEX}: its weight_map names no files; copy the folder again")
    files = {}
    for name in sorted(set(weight_map.values())):
        path = inside(folder, name, INDEX)
        if not path.exists():
            raise ValueError(f"{path}: missing, but {INDEX} lists it; copy the folder again")
        files[name] = open_file(path, stack)
    lost = sorted(tensor for tensor, name in weight_map.items() if tensor not in files[name].places)
    if lost:
        raise ValueError(f"{folder / INDEX}: lists {some(lost)}, which its file does not hold")
    return Tensors({tensor: file for file in files.values() for tensor in file.places})


def open_file(path: epath.PathLike, stack: contextlib.ExitStack) -> File:
    """Opens one file; it is closed with the stack."""
    source = Remote(path) if "://" in os.fspath(path) else Local(path, stack)
    try:
        return File(source)
    except DamagedError as e:
        start = np.empty(min(source.size, storage.PAGE_BYTES), np.uint8)
        if start.size:
            source.fill(0, start)
        page = storage.is_web_page(start.tobytes())
        what = storage.WEB_PAGE if page else f"damaged or cut short ({e}); fetch it again"
        raise DamagedError(f"{path}: {what}") from None


def inside(folder: epath.Path, name: Any, where: str) -> epath.Path:
    """Returns the path of a file of the folder; refuses a name that could lead outside of it."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError(f"{folder / where}: names {name!r:.80}; want plain names of its own files")
    return storage.within(folder, name)


def read_json(path: epath.Path) -> dict[str, Any]:
    """Reads a JSON object; raises ValueError if there is no such file or something else in it."""
    try:
        path = storage.within(path.parent, path.name)
        data = storage.read_json(path, MAX_CONFIG, CONFIG_VALUES)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; want a Hugging Face model folder") from None
    except ValueError as e:
        raise ValueError(f"{e}; fetch it again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: want a JSON object, got a {type(data).__name__}")
    return data


def some(names: list[str], most: int = 6) -> str:
    """Returns the first names of a list as text, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ---------------------------------------------------------------------------- headers
def _places(source: Source) -> dict[str, Place]:
    """Reads where every tensor lies; each byte of the file must belong to exactly one tensor."""
    head = np.zeros(8, np.uint8)
    _must(source.size >= 8, "no header")
    source.fill(0, head)
    length = int.from_bytes(head.tobytes(), "little")
    most = min(MAX_HEADER, source.size - 8)
    _must(length <= most, f"a header of {length:,} bytes; want at most {most:,}")
    text = np.zeros(length, np.uint8)
    if length:
        source.fill(8, text)
    content = text.tobytes()
    for mark, most in ((b"{", MAX_TENSORS), (b"[", 2 * MAX_TENSORS), (b",", 16 * MAX_TENSORS)):
        _must(content.count(mark) <= most, f"its header describes over {MAX_TENSORS:,} tensors")
    try:
        header = json.loads(content, object_pairs_hook=_unique)
    except DamagedError:
        raise
    except (ValueError, RecursionError):
        raise DamagedError("its header is not JSON") from None
    _must(isinstance(header, dict), "its header is no object")
    header.pop("__metadata__", None)
    places = {name: _place(name, entry, 8 + length) for name, entry in header.items()}
    ends = sorted((place.start, place.end) for place in places.values())
    joints = [8 + length, *itertools.chain.from_iterable(ends), source.size]
    _must(joints[::2] == joints[1::2], "its tensors leave gaps, overlap or end elsewhere")
    return places


def _place(name: str, entry: Any, data: int) -> Place:
    """Checks what a header says of a tensor; offsets in it count from the byte `data`."""
    _must(isinstance(entry, dict), f"{name} is not described")
    dtype, shape, span = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    _must(isinstance(dtype, str) and dtype in SIZES, f"{name} has data type {dtype!r:.80}")
    _must(_counts(shape), f"{name} has shape {shape!r:.80}")
    _must(_counts(span) and len(span) == 2, f"{name} lies at {span!r:.80}")
    size = math.prod(shape) * SIZES[dtype]
    _must(span[1] - span[0] == size, f"{name} has {span[1] - span[0]} bytes, needs {size}")
    return Place(dtype, tuple(shape), data + span[0], data + span[1])


def _counts(value: Any) -> bool:
    """Tells whether a value is a short list of numbers that a file offset could be."""
    few = isinstance(value, list) and len(value) <= 8
    return few and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    _must(len(out) == len(pairs), "a name twice in its header")
    return out


def _must(fine: bool, problem: str) -> None:
    if not fine:
        raise DamagedError(problem)
