"""Computes digests of arrays, which are equal on every mesh and change with any flipped bit."""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lrl_jax.hf.shards import AS_IT_IS

Tree = Any
Starts = Sequence[jax.Array | int]
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
    near, large = tuple(map(_near, leaves)), tuple(map(_large, leaves))
    places = [leaf.sharding for leaf in leaves if isinstance(leaf.sharding, NamedSharding)]
    everywhere = NamedSharding(places[0].mesh, P()) if places else None
    sums = jax.device_get(_digests(everywhere, near, large)(leaves))
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
    near = tuple(_near(leaf) for leaf in leaves.values())
    fine = jax.device_get(_finite(near)([*leaves.values()]))
    return [path for path, good in zip(leaves, fine, strict=True) if not good]


@functools.cache
def _finite(near: tuple[jax.sharding.Sharding | None, ...]) -> Callable[..., list[jax.Array]]:
    def all_of(leaves: list[jax.Array]) -> list[jax.Array]:
        moved = [
            leaf if place is None else jax.device_put(leaf, place)
            for leaf, place in zip(leaves, near, strict=True)
        ]
        return [jnp.isfinite(leaf).all() for leaf in moved]

    return jax.jit(all_of)


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


@functools.cache
def _digests(
    place: jax.sharding.Sharding | None,
    near: tuple[jax.sharding.Sharding | None, ...],
    large: tuple[jax.sharding.Sharding | None, ...],
) -> Callable[[list[jax.Array]], jax.Array]:
    def all_of(leaves: list[jax.Array]) -> jax.Array:
        every = zip(leaves, near, large, strict=True)
        return jnp.stack([_digest(jax.device_put(x, to) if to else x, by) for x, to, by in every])

    options = AS_IT_IS if any(large) else None  # bits are moved, and integers are added
    return jax.jit(all_of, out_shardings=place, compiler_options=options)


def _digest(x: jax.Array, place: jax.sharding.Sharding | None) -> jax.Array:
    """Returns the digest of an array, uint32 [2]; block by block where `place` is its sharding."""
    if place is None:
        bits = _bits(x)
        return _sums(bits, _index(bits.shape, [0] * bits.ndim, _strides(bits.shape)))
    strides = _strides(x.shape)
    if not isinstance(place, NamedSharding):
        return _by_blocks(x, [0] * x.ndim, strides)
    axes = [(names,) if isinstance(names, str) else names or () for names in place.spec]
    axes += [()] * (x.ndim - len(axes))

    def of_shard(shard: jax.Array) -> jax.Array:
        starts = [
            jax.lax.axis_index(names).astype(jnp.uint32) * jnp.uint32(size) if names else 0
            for names, size in zip(axes, shard.shape, strict=True)
        ]
        sums = _by_blocks(shard, starts, strides)
        over = tuple(name for names in axes for name in names)
        return jax.lax.psum(sums, over) if over else sums

    return jax.shard_map(
        of_shard, mesh=place.mesh, in_specs=place.spec, out_specs=P(), check_vma=False
    )(x)


def _by_blocks(x: jax.Array, starts: Starts, strides: Sequence[int]) -> jax.Array:
    """Returns the digest of a shard: `starts` says where it begins in its array, along each axis.

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
        return _sums(_bits(jax.lax.dynamic_slice_in_dim(merged, start, count)), index)

    sums = jax.lax.fori_loop(
        0, rows // per, lambda i, sums: sums + block(i * per, per), jnp.zeros(2, jnp.uint32)
    )
    return sums + block(rows - rows % per, rows % per) if rows % per else sums


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


def _sums(bits: jax.Array, index: jax.Array) -> jax.Array:
    """Returns both sums of a digest over some of an array's elements, uint32 [2]."""
    odd = jnp.sum(bits * (index * jnp.uint32(2) + jnp.uint32(1)), dtype=jnp.uint32)
    return jnp.stack([odd, jnp.sum(_mix(bits ^ _mix(index)), dtype=jnp.uint32)])


def _mix(x: jax.Array) -> jax.Array:
    """Returns the bits of each element, mixed by MurmurHash3's 32-bit finaliser."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))
