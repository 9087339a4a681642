"""Rounds float32 to fewer bits, up or down at random, so that the mean stays exact.

Rounding to nearest loses every change smaller than half the gap between two numbers: weights in
bfloat16 stop moving, and running averages stop decaying. Choosing between the two neighbours at
random, the nearer one with the higher probability, loses nothing on average.

`noise` depends on step, name and position alone and not on how an array is split, so results are
the same on any number of devices. All rounding is integer arithmetic on the bits of a float32.
"""

import math
import zlib

import jax
import jax.numpy as jnp

BLOCK = 64  # elements that share a scale: a row of D = 4,096 split over 64 devices has 64 each
LOWEST = -14  # exponent (of 2) below which codes are evenly spaced; that of the largest code is 0

Stored = jax.Array | dict[str, jax.Array]


def noise(step: jax.Array, name: str, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Returns two arrays with sixteen random bits for every element, as uint32."""
    key = jax.random.fold_in(jax.random.key(zlib.crc32(name.encode())), step)
    bits = jax.random.bits(key, shape, jnp.uint32)
    return bits & jnp.uint32(0xFFFF), bits >> jnp.uint32(16)


def bfloat16(x: jax.Array, noise: jax.Array) -> jax.Array:
    """Rounds float32 to bfloat16, up or down with the probabilities that keep the mean.

    Numbers that bfloat16 can hold are returned unchanged, whatever the noise.

    >>> x = jnp.full(4, 1 + 1 / 512)  # a quarter of the way from 1 to the next, 1 + 1 / 128
    >>> bfloat16(x, jnp.array([0, 2**14, 3 * 2**14 - 1, 3 * 2**14], jnp.uint32))
    Array([1, 1, 1, 1.00781], dtype=bfloat16)
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
    kept = bits & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(kept, jnp.float32).astype(jnp.bfloat16)


def encode(x: jax.Array, noise: jax.Array, signed: bool) -> dict[str, jax.Array]:
    """Encodes float32 as one byte per element and a float32 scale per block of the last axis.

    A byte is a small float: signed, it has four bits of exponent and three of mantissa; unsigned,
    four and four. A value becomes one of the two codes next to it, at random so that the mean is
    exact. The error is at most 1/8 of the value (unsigned: 1/16). Below about 2**-15 of the largest
    value in the block, codes are evenly spaced by 2**-18 (unsigned: 2**-19) of that largest value.
    An unsigned value above 0 is never stored as 0, because the optimizer divides by it. For x
    [..., n], the size of a block is the largest power of two, up to 64, that divides n.

    Returns:
      codes: int8 or uint8, in the shape of x; scales: float32 [..., blocks].
    """
    blocks = x.reshape(*x.shape[:-1], -1, math.gcd(BLOCK, x.shape[-1]))
    mantissa = 3 if signed else 4
    scales = jnp.max(jnp.abs(blocks), axis=-1) / (2.0 - 2.0**-mantissa)
    share = jnp.abs(blocks) / jnp.where(scales > 0, scales, 1.0)[..., None]
    codes = _code(share, noise.reshape(blocks.shape), mantissa)
    if signed:
        codes = jnp.where(blocks < 0, -codes, codes).astype(jnp.int8)
    else:
        codes = jnp.maximum(codes, (share > 0).astype(jnp.int32)).astype(jnp.uint8)
    return dict(codes=codes.reshape(x.shape), scales=scales)


def decode(stored: dict[str, jax.Array]) -> jax.Array:
    """Returns the float32 values of what `encode` returned.

    >>> x = jnp.array([1.875, -1.0, 0.25, 0.0])
    >>> decode(encode(x, jnp.zeros(4, jnp.uint32), signed=True))
    Array([ 1.875, -1.   ,  0.25 ,  0.   ], dtype=float32)
    """
    codes, scales = stored["codes"], stored["scales"]
    mantissa = 3 if codes.dtype == jnp.int8 else 4
    blocks = codes.reshape(*scales.shape, -1).astype(jnp.int32)
    levels = jnp.abs(blocks)
    bits = (levels + _offset(mantissa)).astype(jnp.uint32) << jnp.uint32(23 - mantissa)
    normal = jax.lax.bitcast_convert_type(bits, jnp.float32)
    even = levels.astype(jnp.float32) * 2.0 ** (LOWEST - mantissa)
    share = jnp.where(levels < 2**mantissa, even, normal)
    x = jnp.where(blocks < 0, -share, share) * scales[..., None]
    return x.reshape(codes.shape)


def _code(share: jax.Array, noise: jax.Array, mantissa: int) -> jax.Array:
    """Returns codes (int32 below 2**(4 + mantissa)) of values from 0 to 2 - 2**-mantissa."""
    dropped = 23 - mantissa
    bits = jax.lax.bitcast_convert_type(share, jnp.uint32) + (noise << jnp.uint32(dropped - 16))
    normal = (bits >> jnp.uint32(dropped)).astype(jnp.int32) - _offset(mantissa)
    even = jnp.floor(share * 2.0 ** (mantissa - LOWEST) + noise.astype(jnp.float32) / 2.0**16)
    codes = jnp.where(share < 2.0**LOWEST, even.astype(jnp.int32), normal)
    return jnp.minimum(codes, 2 ** (4 + mantissa) - 1)


def _offset(mantissa: int) -> int:
    """Returns the number that turns a code into the high bits of its float32 when added to it."""
    return (LOWEST - 1 + 127) << mantissa
