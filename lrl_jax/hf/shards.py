"""Puts parameters together on the devices from pieces; the host never holds a whole tensor.

params = fill(cfg, shardings, "float32", lambda row: tensors.read, readers=4)
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import concurrent.futures
import contextlib
import ctypes
import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from lrl_jax.hf import layout
from lrl_jax.hf.safetensors_ranges import Read
from lrl_jax.model import llama

PIECE = 8 << 20  # bytes that are read at a time
# XLA's CPU compiler turns bfloat16 into float32 and back, an element at a time, for arithmetic that
# a program which only moves it has not: 20 times slower (jaxlib 0.10).
AS_IT_IS = {"xla_disable_hlo_passes": "float-normalization-bf16"}


def fill(
    cfg: llama.LlamaConfig,
    shardings: Mapping[str, jax.sharding.Sharding],
    dtype: str,
    source: Callable[[layout.LayoutRow], Read],
    readers: int,
    rows: Sequence[layout.LayoutRow] | None = None,
) -> llama.Params:
    """Returns every parameter, in `dtype`, where `shardings` place it.

    Args:
      source: what reads the HF tensors of a row, cut as `layout.hf_region` says; called in order,
        once a row.
      readers: pieces that are read at the same time.
      rows: of these parameters only.
    """
    made: dict[str, _Shards] = {}

    def jobs() -> Iterator[Callable[[], tuple[_Shards, np.ndarray, jax.Array]]]:
        for row in layout.rows(cfg) if rows is None else rows:
            shards = _Shards(row, cfg, shardings[row.ours], dtype)
            read = source(row)
            made[row.ours] = shards
            for l in range(cfg.depth if row.stacked else 1):
                for piece in shards.pieces():
                    yield functools.partial(shards.fetch, l, piece, read)

    with concurrent.futures.ThreadPoolExecutor(readers, "weights") as pool:
        coming: collections.deque[concurrent.futures.Future] = collections.deque()
        try:
            for job in itertools.chain(jobs(), [None] * readers):
                if job is not None:
                    coming.append(pool.submit(job))
                if coming and (job is None or len(coming) > readers):
                    shards, at, piece = coming.popleft().result()
                    shards.write(at, piece)
        finally:
            pool.shutdown(cancel_futures=True)
    _return_memory()
    return {name: shards.array() for name, shards in made.items()}


def _return_memory() -> None:
    """Gives freed memory back to the system, where the C library is one that can (glibc).

    glibc keeps what each reading thread has freed: with 400 million parameters a quarter of the
    bytes of the arrays, to which saving would add its own.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Shards:
    """Holds the shards of one parameter on the devices of this host, written piece by piece.

    The shards follow one another in one array over these devices alone. So one small program writes
    a piece to all of them, and nothing is sent from one device to another.
    """

    def __init__(self, row: layout.LayoutRow, cfg: llama.LlamaConfig, sharding, dtype: str):
        self._row, self._cfg, self._sharding = row, cfg, sharding
        self._shape = llama.shape(row.ours, cfg)
        indices = sharding.addressable_devices_indices_map(self._shape)
        self._regions = {
            device: tuple(
                slice(*s.indices(n)[:2]) for s, n in zip(index, self._shape, strict=True)
            )[row.stacked :]
            for device, index in indices.items()
        }
        self._alike: dict[int, list[jax.Device]] = {}  # first row of a region -> who holds it
        for device, region in self._regions.items():
            self._alike.setdefault(region[row.outer].start, []).append(device)
        size = sharding.shard_shape(self._shape)
        assert not row.stacked or size[0] == cfg.depth, "layers are not split"
        self._layer = size[row.stacked :]
        mesh = jax.sharding.Mesh(np.array([*indices]), ("local",))
        self._place = NamedSharding(mesh, P("local"))
        whole = (len(indices) * size[0], *size[1:])
        self._array = jnp.zeros(whole, dtype, device=self._place)

    def pieces(self) -> Iterator[slice]:
        """Yields ranges of a shard's outer dimension, each PIECE bytes of HF's tensor or less."""
        rows = self._layer[self._row.outer]
        others = [s for i, s in enumerate(self._box(self._regions)) if i != self._row.outer]
        width = math.prod(s.stop - s.start for s in others) * len(self._alike)
        most = max(1, PIECE // (width * jnp.dtype(self._array.dtype).itemsize))
        for start in range(0, rows, most):
            yield slice(start, min(start + most, rows))

    def fetch(self, l: int, of: slice, read: Read) -> tuple["_Shards", np.ndarray, jax.Array]:
        """Reads a piece of every shard to its device; devices with the same rows share a read."""
        outer, pieces = self._row.outer, []
        for first, devices in self._alike.items():
            rows = slice(first + of.start, first + of.stop)
            box = _with(self._box(devices), outer, rows)
            block = self._read(l, box, read)
            for device in devices:
                want = _with(self._regions[device], outer, rows)
                cut = (
                    slice(w.start - b.start, w.stop - b.start)
                    for w, b in zip(want, box, strict=True)
                )
                pieces.append(jax.device_put(block[tuple(cut)], device))
        shape = (len(pieces) * pieces[0].shape[0], *pieces[0].shape[1:])
        at = [0] * len(self._layer)
        at[outer] = of.start
        piece = jax.make_array_from_single_device_arrays(shape, self._place, pieces)
        at = np.array([l, *at] if self._row.stacked else at, np.int32)
        return self, at, jax.block_until_ready(piece)  # only now may the host forget its copy

    def write(self, at: np.ndarray, piece: jax.Array) -> None:
        """Puts what `fetch` gave in its place."""
        jax.block_until_ready(self._array)  # pieces that wait to be written are memory too
        self._array = _writer(self._place, self._row.stacked)(self._array, piece, at)

    def array(self) -> jax.Array:
        """Returns the parameter, made of all hosts' shards."""
        shards = [shard.data for shard in self._array.addressable_shards]
        return jax.make_array_from_single_device_arrays(self._shape, self._sharding, shards)

    def _box(self, devices: Iterable) -> layout.Index:
        """Returns the smallest region of a layer that contains these devices' regions."""
        columns = zip(*(self._regions[device] for device in devices), strict=True)
        return tuple(slice(min(s.start for s in c), max(s.stop for s in c)) for c in columns)

    def _read(self, l: int, box: layout.Index, read: Read) -> np.ndarray:
        """Reads a region of a layer; the vocabulary's padding is zero."""
        size = self._cfg.vocab_size
        stored = tuple(
            slice(min(s.start, size), min(s.stop, size)) if letter == "V" else s
            for letter, s in zip(self._row.letters, box, strict=True)
        )
        shape = tuple(s.stop - s.start for s in stored)
        name, region = self._row.hf.format(l=l), layout.hf_region(self._row, stored, self._cfg)
        block = layout.to_ours(read(name, region), self._row, shape)
        if stored == box:
            return block
        out = np.zeros(tuple(s.stop - s.start for s in box), block.dtype)
        out[tuple(slice(0, n) for n in shape)] = block
        return out


@functools.lru_cache
def _writer(place: NamedSharding, stacked: bool):
    """Returns what writes a piece into each shard, in place."""

    def write(shard, piece, at):
        piece = piece.astype(shard.dtype)
        piece = piece[None] if stacked else piece
        return jax.lax.dynamic_update_slice(shard, piece, tuple(at))

    spec = place.spec
    local = jax.shard_map(write, mesh=place.mesh, in_specs=(spec, spec, P()), out_specs=spec)
    on_cpu = place.mesh.devices.flat[0].platform == "cpu"
    return jax.jit(local, donate_argnums=0, compiler_options=AS_IT_IS if on_cpu else None)


def _with(index: layout.Index, axis: int, rows: slice) -> layout.Index:
    return (*index[:axis], rows, *index[axis + 1 :])
