"""Rotary positions: how far each pair of a head's dimensions turns at each position.

    table = table(positions_BT, Rope(theta=1e4, width=128), length=2048)
    q_BTNH = rotate(q_BTNH, table)
"""

import dataclasses

import jax
import jax.numpy as jnp

Table = tuple[jax.Array, jax.Array]  # sines and cosines, [B, T, H // 2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear:
    """All frequencies `factor` times slower (arXiv 2306.15595)."""

    factor: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Llama3:
    """Long wavelengths `factor` times slower, short ones as they are, a blend between (Llama 3.1).

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
    """A factor for each frequency (arXiv 2402.13753): `long` in rows longer than original_length.

    Attributes:
      magnitude: what sines and cosines are multiplied by, in short rows too.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int
    magnitude: float


Scaling = Linear | Llama3 | LongRope


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
    """How positions turn queries and keys.

    Attributes:
      width: how many of a head's dimensions turn, from the first on.
    """

    theta: float
    width: int
    scaling: Scaling | None = None


def table(positions_BT: jax.Array, rope: Rope, length: int) -> Table:
    """Sines and cosines, [B, T, width // 2]; float32, as bfloat16 cannot tell 256 from 257.

    Args:
      length: how long the rows are, or with a cache may become.
    """
    freqs_H, magnitude = frequencies(rope, length)
    angles_BTH = positions_BT[..., None].astype(jnp.float32) * freqs_H[None, None]
    return jnp.sin(angles_BTH) * magnitude, jnp.cos(angles_BTH) * magnitude


def frequencies(rope: Rope, length: int) -> tuple[jax.Array, float]:
    """Radians a position, [width // 2], and the magnitude of the rotation."""
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
    return freqs_H, 1.0


def rotate(x_BTNH: jax.Array, by: Table) -> jax.Array:
    """Rotates the two halves of each head's turning part, HF's layout; float32 inside."""
    sin_BT1H, cos_BT1H = (t_BTH[:, :, None] for t_BTH in by)
    half = sin_BT1H.shape[-1]
    x32_BTNH = x_BTNH[..., : 2 * half].astype(jnp.float32)
    a_BTNH, b_BTNH = jnp.split(x32_BTNH, 2, axis=-1)
    rotated = (a_BTNH * cos_BT1H - b_BTNH * sin_BT1H, b_BTNH * cos_BT1H + a_BTNH * sin_BT1H)
    turned_BTNH = jnp.concatenate(rotated, axis=-1).astype(x_BTNH.dtype)
    if turned_BTNH.shape == x_BTNH.shape:
        return turned_BTNH
    return jnp.concatenate([turned_BTNH, x_BTNH[..., 2 * half :]], axis=-1)
