"""Computes digests of arrays, which are equal on every mesh and change with any flipped bit."""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from lrl_jax.hf.shards import AS_IT_IS

Tree = Any
Starts = Sequence[jax.Array | int]
Of = Callable[[jax.Array, jax.Array], jax.Array]  # elements and their positions -> uint32
# Elements of a shard that a CPU takes at a time. Accelerators compute the bits, the indices and
# their hash while they add them up; XLA's CPU compiler keeps each as a copy of the whole array.
BLOCK = 1 << 20


def describe(tree: Tree) -> dict[str, dict]:
    """Returns path -> shape, dtype and digest of every array; the same on any mesh.

    A digest is two sums of integers modulo 2**32, so neither the order of addition nor the sharding
    changes it. The first sum multiplies the bits of each element by an odd number, so that any
    single flipped bit changes it; the second hashes the bits together with their position.

    >>> describe({"a": jnp.array([1.0, 2.0])})
    {'a': {'shape': [2], 'dtype': 'float32', 'digest': 'ff80000082b7f0a1'}}
    """
    leaves = [jnp.asarray(leaf) for leaf in _paths(tree).values()]
    sums = _each(leaves, _digest)
    return {
        path: {**about, "digest": f"{a:08x}{b:08x}"}
        for (path, about), (a, b) in zip(leaf_table(tree).items(), sums, strict=True)
    }


def not_finite(tree: Tree) -> list[str]:
    """Returns the paths of the arrays that hold a NaN or an infinity.

    >>> not_finite({"a": jnp.array([1.0, jnp.inf]), "b": jnp.array([2])})
    ['a']
    """
    leaves = {k: v for k, v in _paths(tree).items() if jnp.issubdtype(v.dtype, jnp.inexact)}
    return [path for path, bad in zip(leaves, _each([*leaves.values()], _odd), strict=True) if bad]


def leaf_table(tree: Tree) -> dict[str, dict]:
    """Returns path -> shape and dtype of every array or ShapeDtypeStruct."""
    return {
        path: {"shape": list(leaf.shape), "dtype": jnp.dtype(leaf.dtype).name}
        for path, leaf in _paths(tree).items()
    }


def _paths(tree: Tree) -> dict[str, Any]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def _near(leaf: jax.Array) -> jax.sharding.Sharding | None:
    """Returns the device sharding to copy an array to; None unless it is in the host's memory."""
    place = leaf.sharding
    return place.with_memory_kind("device") if place.memory_kind == "pinned_host" else None


def _large(leaf: jax.Array) -> jax.sharding.Sharding | None:
    """Returns the sharding of an array that is taken block by block; None for any other."""
    place = leaf.sharding
    size = math.prod(place.shard_shape(leaf.shape))
    if next(iter(place.device_set)).platform != "cpu" or size <= BLOCK or leaf.dtype.itemsize > 4:
        return None
    by_blocks = isinstance(place, NamedSharding | jax.sharding.SingleDeviceSharding)
    return place if by_blocks else None


def _each(leaves: Sequence[jax.Array], of: Of) -> np.ndarray:
    """Returns what `of` gives for each array, added up over its elements modulo 2**32."""
    if not leaves:
        return np.zeros(0, np.uint32)
    places = [leaf.sharding for leaf in leaves if isinstance(leaf.sharding, NamedSharding)]
    everywhere = NamedSharding(places[0].mesh, P()) if places else None
    near, large = tuple(map(_near, leaves)), tuple(map(_large, leaves))
    return jax.device_get(_program(of, everywhere, near, large)(leaves))


@functools.cache
def _program(
    of: Of,
    place: jax.sharding.Sharding | None,
    near: tuple[jax.sharding.Sharding | None, ...],
    large: tuple[jax.sharding.Sharding | None, ...],
) -> Callable[[Sequence[jax.Array]], jax.Array]:
    def all_of(leaves: Sequence[jax.Array]) -> jax.Array:
        every = zip(leaves, near, large, strict=True)
        return jnp.stack(
            [_total(jax.device_put(x, to) if to else x, by, of) for x, to, by in every]
        )

    options = AS_IT_IS if any(large) else None  # bits are moved, and integers are added
    return jax.jit(all_of, out_shardings=place, compiler_options=options)


def _total(x: jax.Array, place: jax.sharding.Sharding | None, of: Of) -> jax.Array:
    """Returns what `of` gives for an array; block by block where `place` is its sharding."""
    if place is None:
        shape = _bits(x).shape
        return of(x, _index(shape, [0] * len(shape), _strides(shape)))
    strides = _strides(x.shape)
    if not isinstance(place, NamedSharding):
        return _by_blocks(x, [0] * x.ndim, strides, of)
    axes = [(names,) if isinstance(names, str) else names or () for names in place.spec]
    axes += [()] * (x.ndim - len(axes))

    def of_shard(shard: jax.Array) -> jax.Array:
        starts = [
            jax.lax.axis_index(names).astype(jnp.uint32) * jnp.uint32(size) if names else 0
            for names, size in zip(axes, shard.shape, strict=True)
        ]
        total = _by_blocks(shard, starts, strides, of)
        over = tuple(name for names in axes for name in names)
        return jax.lax.psum(total, over) if over else total

    return jax.shard_map(
        of_shard, mesh=place.mesh, in_specs=place.spec, out_specs=P(), check_vma=False
    )(x)


def _by_blocks(x: jax.Array, starts: Starts, strides: Sequence[int], of: Of) -> jax.Array:
    """Returns what `of` gives for a shard, which begins at `starts` in its array.

    A block is some of the rows that the leading axes make together.
    """
    cut = next(n for n in range(1, x.ndim + 1) if math.prod(x.shape[n:]) <= BLOCK)
    rows, per = math.prod(x.shape[:cut]), BLOCK // math.prod(x.shape[cut:])
    merged = x.reshape(rows, *x.shape[cut:])

    def block(start: jax.Array | int, count: int) -> jax.Array:
        row = jnp.arange(count, dtype=jnp.uint32) + jnp.asarray(start, jnp.uint32)
        first = jnp.zeros(count, jnp.uint32)
        for axis in reversed(range(cut)):
            size = jnp.uint32(x.shape[axis])
            first += (row % size + jnp.uint32(starts[axis])) * jnp.uint32(strides[axis] % 2**32)
            row //= size
        inside = _index(x.shape[cut:], starts[cut:], strides[cut:])
        index = jnp.expand_dims(first, [*range(1, merged.ndim)]) + inside[None]
        return of(jax.lax.dynamic_slice_in_dim(merged, start, count), index)

    total = jnp.zeros(jax.eval_shape(lambda: block(0, 1)).shape, jnp.uint32)
    total = jax.lax.fori_loop(0, rows // per, lambda i, total: total + block(i * per, per), total)
    rest = rows % per
    return total + block(rows - rest, rest) if rest else total


def _bits(x: jax.Array) -> jax.Array:
    """Returns the bits of each element as uint32; 64-bit elements become pairs."""
    if x.dtype in (jnp.bool_, jnp.int4):  # smaller than a byte
        x = x.astype(jnp.int8)
    width = min(x.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(x, f"uint{8 * width}").astype(jnp.uint32)


def _strides(shape: Sequence[int]) -> list[int]:
    """Returns by how much the position of an element grows along each axis."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _index(shape: Sequence[int], starts: Starts, strides: Sequence[int]) -> jax.Array:
    """Returns the position of each element; by iota, for ravel would gather a sharded array."""
    index = jnp.zeros(shape, jnp.uint32)
    for axis, (start, stride) in enumerate(zip(starts, strides, strict=True)):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis) + jnp.uint32(start)
        index += along * jnp.uint32(stride % 2**32)
    return index


def _digest(x: jax.Array, index: jax.Array) -> jax.Array:
    """Returns both sums of a digest over some elements and their positions, uint32 [2]."""
    bits = _bits(x)
    odd = jnp.sum(bits * (index * jnp.uint32(2) + jnp.uint32(1)), dtype=jnp.uint32)
    return jnp.stack([odd, jnp.sum(_mix(bits ^ _mix(index)), dtype=jnp.uint32)])


def _odd(x: jax.Array, index: jax.Array) -> jax.Array:
    """Returns 1 if an element is a NaN or an infinity, uint32, else 0.

    The exponent of these is all ones. So nothing becomes float32, in which a CPU asks for them.
    """
    if x.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        return (~jnp.isfinite(x).all()).astype(jnp.uint32)
    about = jnp.finfo(x.dtype)
    ones = jnp.uint32(((1 << about.nexp) - 1) << about.nmant)
    return jnp.any(_bits(x) & ones == ones).astype(jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """Returns the bits of each element, mixed by MurmurHash3's 32-bit finaliser."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))
