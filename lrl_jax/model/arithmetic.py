"""What a decoder computes with: products, norms, activations, soft caps."""

from collections.abc import Callable
import functools
import math

import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}


def product(x_BTX: jax.Array, w_XY: jax.Array) -> jax.Array:
    """x times w over all dimensions of x that w begins with, as one two-dimensional product.

    An einsum says the same; but with two row dimensions XLA's CPU compiler makes a weight's
    gradient 1.5 times slower (docs/log.md).

    >>> product(jnp.ones((1, 2, 3)), jnp.ones((3, 4, 5))).shape
    (1, 2, 4, 5)
    >>> product(jnp.ones((1, 2, 4, 5)), jnp.ones((4, 5, 3))).shape
    (1, 2, 3)
    """
    rows, inner = x_BTX.shape[:2], x_BTX.shape[2:]
    size = math.prod(inner)
    out = x_BTX.reshape(-1, size) @ w_XY.reshape(size, -1)
    return out.reshape(*rows, *w_XY.shape[len(inner) :])


def rms_norm(x: jax.Array, scale: jax.Array, eps: float, centred: bool = False) -> jax.Array:
    """Scales the last dimension to unit mean square; float32 inside, as bfloat16 squares lose the
    small ones.

    `centred`: the parameter is how much more than 1 the scale is, and multiplies in float32 too
    (Gemma).
    """
    x32 = x.astype(jnp.float32)
    x32 *= jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    scale = scale.reshape((1,) * (x.ndim - 1) + scale.shape)
    if centred:
        return (x32 * (1 + scale.astype(jnp.float32))).astype(x.dtype)
    return scale.astype(x.dtype) * x32.astype(x.dtype)


def softcap(x: jax.Array, cap: float | None) -> jax.Array:
    """Values kept within +-cap, smoothly (Gemma 2, arXiv 2408.00118, 2); None: as they are.

    >>> softcap(jnp.array([-90.0, 0.3, 90.0]), 30.0).round(2)
    Array([-29.85,   0.3 ,  29.85], dtype=float32)
    """
    return x if cap is None else cap * jnp.tanh(x / cap)
