"""Computes digests of arrays, which are equal on every mesh and change with any flipped bit."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

Tree = Any


def describe(tree: Tree) -> dict[str, dict]:
    """Returns path -> shape, dtype and digest of every array; the same on any mesh.

    A digest is two sums of integers modulo 2**32, so neither the order of addition nor the sharding
    changes it. The first sum multiplies the bits of each element by an odd number, so that any
    single flipped bit changes it; the second hashes the bits together with their position.

    >>> describe({"a": jnp.array([1.0, 2.0])})
    {'a': {'shape': [2], 'dtype': 'float32', 'digest': 'ff80000082b7f0a1'}}
    """
    leaves = [jnp.asarray(leaf) for leaf in _paths(tree).values()]
    near = tuple(_near(leaf) for leaf in leaves)
    places = [leaf.sharding for leaf in leaves if isinstance(leaf.sharding, NamedSharding)]
    everywhere = NamedSharding(places[0].mesh, P()) if places else None
    sums = jax.device_get(_digests(everywhere, near)(leaves))
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


@functools.cache
def _digests(
    place: jax.sharding.Sharding | None, near: tuple[jax.sharding.Sharding | None, ...]
) -> Callable[[list[jax.Array]], jax.Array]:
    def all_of(leaves: list[jax.Array]) -> jax.Array:
        pairs = zip(leaves, near, strict=True)
        return jnp.stack([_digest(jax.device_put(leaf, to) if to else leaf) for leaf, to in pairs])

    return jax.jit(all_of, out_shardings=place)


def _digest(x: jax.Array) -> jax.Array:
    """Returns the digest of one array, uint32 [2]."""
    if x.dtype in (jnp.bool_, jnp.int4):  # smaller than a byte
        x = x.astype(jnp.int8)
    width = min(x.dtype.itemsize, 4)  # 64-bit elements become pairs
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * width}").astype(jnp.uint32)
    index = jnp.zeros(bits.shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(bits.ndim)):  # by iota, because ravel would gather a sharded array
        step = jnp.uint32(stride % 2**32)
        index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * step
        stride *= bits.shape[axis]
    odd = jnp.sum(bits * (index * jnp.uint32(2) + jnp.uint32(1)), dtype=jnp.uint32)
    return jnp.stack([odd, jnp.sum(_mix(bits ^ _mix(index)), dtype=jnp.uint32)])


def _mix(x: jax.Array) -> jax.Array:
    """Returns the bits of each element, mixed by MurmurHash3's 32-bit finaliser."""
    x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> jnp.uint32(16))
