"""Computes rotary positions: how far each pair of a head's dimensions turns at each position.

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
    """Slows all frequencies by `factor` (arXiv 2306.15595)."""

    factor: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3:
    """Slows long wavelengths by `factor`, keeps short ones, blends between (Llama 3.1).

    Attributes:
      low_freq_factor, high_freq_factor: "long" is original_length / low and more, "short"
        original_length / high and less.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRope:
    """Holds a factor for each frequency (arXiv 2402.13753); `long` is for rows over
    original_length.

    Attributes:
      magnitude: what sines and cosines are multiplied by, in short rows too.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int
    magnitude: float


Scaling = Linear | Llama3 | LongRope


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPositions:
    """Describes a layer in which nothing turns: all frequencies are zero (arXiv 2305.19466)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """Describes how positions turn queries and keys.

    Attributes:
      width: how many of a head's dimensions turn, from the first on.
    """

    theta: float
    width: int
    scaling: Scaling | NoPositions | None = None


def table(positions_BT: jax.Array, rope: Rope, length: int) -> Table:
    """Returns sines and cosines, [B, T, width // 2]; float32, as bfloat16 cannot tell 256 from 257.

    Args:
      length: how long the rows are, or with a cache may become.
    """
    freqs_H, magnitude = frequencies(rope, length)
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * freqs_H[None, None]
    sin_BTH, cos_BTH = jnp.sin(angles_BTH) * magnitude, jnp.cos(angles_BTH) * magnitude
    if sharding.platform() == "cpu":
        return _made_once(sin_BTH), _made_once(cos_BTH)
    return sin_BTH, cos_BTH


def _made_once(x_BTH: jax.Array) -> jax.Array:
    """Multiplies by the identity, so that XLA's CPU compiler makes the numbers only once.

    XLA's CPU compiler makes sines again wherever they are used, for every head of every layer,
    unless a product lies between, which it cannot fuse (docs/log.md).
    """
    identity_HH = jnp.eye(x_BTH.shape[-1], dtype=x_BTH.dtype)
    return jnp.matmul(x_BTH, identity_HH, precision=jax.lax.Precision.HIGHEST)


def frequencies(rope: Rope, length: int) -> tuple[jax.Array, float]:
    """Returns radians a position, [width // 2], and the magnitude of the rotation."""
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
            return jnp.zeros_like(freqs_H), 1.0  # sine 0, cosine 1: what is rotated stays exact
    return freqs_H, 1.0


def rotate(x_BTNH: jax.Array, by: Table) -> jax.Array:
    """Rotates the two halves of each head's turning part, HF's layout; float32 inside."""
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
    """Returns the same numbers, for a TPU: halves of a head are halves of a lane, which it has to
    move through memory; a product with a matrix of ones fuses with what is before and after it
    (docs/performance.md).
    """
    half = sin_BT1H.shape[-1]
    swap_HH = jnp.roll(jnp.eye(2 * half, dtype=x_BTNH.dtype), half, axis=1)
    partner_BTNH = jnp.matmul(x_BTNH, swap_HH, precision=jax.lax.Precision.HIGHEST)
    cos_BT1H = jnp.concatenate([cos_BT1H, cos_BT1H], axis=-1)
    sin_BT1H = jnp.concatenate([-sin_BT1H, sin_BT1H], axis=-1)
    rotated_BTNH = x_BTNH.astype(jnp.float32) * cos_BT1H
    return (rotated_BTNH + partner_BTNH.astype(jnp.float32) * sin_BT1H).astype(x_BTNH.dtype)
