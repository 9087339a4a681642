"""Computes rotary positions: the angle by which each pair of dimensions turns at each position.

table = table(positions_BT, Rope(theta=1e4, width=128), length=2048)
q_BTNH = rotate(q_BTNH, table)
"""

import dataclasses

import jax
import jax.numpy as jnp

from lrl_jax.model import sharding

Table = tuple[jax.Array, jax.Array]  # sines and cosines, [B, T, H // 2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
    """Describes positions whose frequencies are all divided by `factor` (arXiv 2306.15595)."""

    factor: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3:
    """Describes Llama 3.1's scaling: low frequencies are divided by `factor`, high ones are kept.

    Those whose wavelengths lie between the two bounds are interpolated.
    """

    factor: float
    low_freq_factor: float  # longer wavelengths than original_length / this are scaled
    high_freq_factor: float  # shorter wavelengths than original_length / this are kept
    original_length: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRope:
    """Holds a divisor for each frequency (LongRoPE, arXiv 2402.13753)."""

    short: tuple[float, ...]  # divisors in rows of up to `original_length`
    long: tuple[float, ...]  # divisors in longer rows
    magnitude: float  # the factor of sines and cosines, in rows of any length
    original_length: int


Scaling = Linear | Llama3 | LongRope


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPositions:
    """Describes a layer without positions: all frequencies are zero (arXiv 2305.19466)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """Describes how queries and keys are rotated by their position."""

    theta: float
    width: int  # how many dimensions of a head are rotated, counted from the first
    scaling: Scaling | NoPositions | None = None


def table(positions_BT: jax.Array, rope: Rope, length: int) -> Table:
    """Returns the sines and cosines of all positions, [B, T, width // 2], of rows up to `length`.

    They are computed in float32, because bfloat16 cannot tell position 256 from 257.
    """
    freqs_H, magnitude = frequencies(rope, length)
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * freqs_H[None, None]
    sin_BTH, cos_BTH = jnp.sin(angles_BTH) * magnitude, jnp.cos(angles_BTH) * magnitude
    if sharding.platform() == "cpu":
        return _made_once(sin_BTH), _made_once(cos_BTH)
    return sin_BTH, cos_BTH


def _made_once(x_BTH: jax.Array) -> jax.Array:
    """Returns x times the identity matrix, so that XLA's CPU compiler computes x only once.

    That compiler would fuse the sines into every use and compute them again for each head of each
    layer; it cannot fuse them through a matrix product (docs/log.md).
    """
    identity_HH = jnp.eye(x_BTH.shape[-1], dtype=x_BTH.dtype)
    return jnp.matmul(x_BTH, identity_HH, precision=jax.lax.Precision.HIGHEST)


def frequencies(rope: Rope, length: int) -> tuple[jax.Array, float]:
    """Returns radians per position, [width // 2], and the factor for sines and cosines."""
    exponents_H = jnp.arange(0, rope.width, 2, dtype=jnp.float32) / rope.width
    freqs_H = rope.theta**-exponents_H
    match rope.scaling:
        case Linear() as s:
            return freqs_H / s.factor, 1.0
        case Llama3() as s:
            wavelengths_H = 2 * jnp.pi / freqs_H
            ramp_H = s.original_length / wavelengths_H - s.low_freq_factor
            keep_H = jnp.clip(ramp_H / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0)
            return freqs_H * (keep_H + (1 - keep_H) / s.factor), 1.0
        case LongRope() as s:
            factors_H = jnp.array(s.long if length > s.original_length else s.short, jnp.float32)
            return freqs_H / factors_H, s.magnitude
        case NoPositions():
            return jnp.zeros_like(freqs_H), 1.0  # sine 0 and cosine 1 leave vectors unchanged
    return freqs_H, 1.0


def rotate(x_BTNH: jax.Array, by: Table) -> jax.Array:
    """Rotates the first `width` dimensions of each head, its halves as pairs (HF's layout).

    The rotation is computed in float32.
    """
    width = 2 * by[0].shape[-1]
    turn = _by_product if sharding.platform() == "tpu" else _by_halves
    turned_BTNH = turn(x_BTNH[..., :width], *(t_BTH[:, :, None] for t_BTH in by))
    if turned_BTNH.shape == x_BTNH.shape:
        return turned_BTNH
    return jnp.concatenate([turned_BTNH, x_BTNH[..., width:]], axis=-1)


def _by_halves(x_BTNH: jax.Array, sin_BT1H: jax.Array, cos_BT1H: jax.Array) -> jax.Array:
    a_BTNH, b_BTNH = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    rotated = (a_BTNH * cos_BT1H - b_BTNH * sin_BT1H, b_BTNH * cos_BT1H + a_BTNH * sin_BT1H)
    return jnp.concatenate(rotated, axis=-1).astype(x_BTNH.dtype)


def _by_product(x_BTNH: jax.Array, sin_BT1H: jax.Array, cos_BT1H: jax.Array) -> jax.Array:
    """Returns the same numbers as `_by_halves`, by a matrix product that is faster on a TPU.

    A TPU has to move the halves of a head through memory to swap them, while a product with a
    matrix of ones fuses with the operations before and after it (docs/performance.md).
    """
    half = sin_BT1H.shape[-1]
    swap_HH = jnp.roll(jnp.eye(2 * half, dtype=x_BTNH.dtype), half, axis=1)
    partner_BTNH = jnp.matmul(x_BTNH, swap_HH, precision=jax.lax.Precision.HIGHEST)
    cos_BT1H = jnp.concatenate([cos_BT1H, cos_BT1H], axis=-1)
    sin_BT1H = jnp.concatenate([-sin_BT1H, sin_BT1H], axis=-1)
    rotated_BTNH = x_BTNH.astype(jnp.float32) * cos_BT1H
    return (rotated_BTNH + partner_BTNH.astype(jnp.float32) * sin_BT1H).astype(x_BTNH.dtype)
