"""Computes the matrix products, norms, activations and soft caps of a decoder."""

from collections.abc import Callable
import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from lrl_jax.model import sharding

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}


def product(x_BTX: jax.Array, w_XY: jax.Array, *, to_stream: bool = False) -> jax.Array:
    """Returns x times w, summed over the dimensions at the end of x that w begins with.

    Set `to_stream` when w ends in D, the dimension that is split over fsdp. It changes how the
    gradient of w is computed, not the result.

    >>> product(jnp.ones((1, 2, 3)), jnp.ones((3, 4, 5))).shape
    (1, 2, 4, 5)
    >>> product(jnp.ones((1, 2, 4, 5)), jnp.ones((4, 5, 3))).shape
    (1, 2, 3)
    """
    if sharding.platform() != "cpu":
        return _to_stream(x_BTX, w_XY) if to_stream else jnp.tensordot(x_BTX, w_XY, x_BTX.ndim - 2)
    # Reshaped to matrices first: XLA's CPU compiler needs 1.5 times as long for a weight's gradient
    # otherwise. A TPU's compiler would copy the reshaped arrays (docs/log.md).
    rows, inner = x_BTX.shape[:2], x_BTX.shape[2:]
    size = math.prod(inner)
    times = _times_on_cpu if x_BTX.dtype == jnp.bfloat16 else jnp.matmul
    out = times(x_BTX.reshape(-1, size), w_XY.reshape(size, -1))
    return out.reshape(*rows, *w_XY.shape[len(inner) :])


def _keeping_both(function: Callable[[jax.Array, jax.Array], jax.Array]):
    """Returns the forward pass of a function whose gradient reads both of its arguments."""
    return lambda a, b: (function(a, b), (a, b))


# The TPU compiler can reduce-scatter only along the first dimension of an array. Where D is the
# last dimension of a weight, it would sum the whole gradient on every device, so the gradient is
# computed transposed, with D first.
@jax.custom_vjp
def _to_stream(x_BTX: jax.Array, w_XD: jax.Array) -> jax.Array:
    return jnp.tensordot(x_BTX, w_XD, x_BTX.ndim - 2)


def _to_stream_backward(kept, d_out_BTD):
    x_BTX, w_XD = kept
    d_w_DX = sharding.constrain(
        jnp.tensordot(d_out_BTD, x_BTX, ((0, 1), (0, 1))),
        P("fsdp", "tensor", *[None] * (x_BTX.ndim - 3)),
    )
    return jnp.tensordot(d_out_BTD, w_XD, ((2,), (w_XD.ndim - 1,))), jnp.moveaxis(d_w_DX, 0, -1)


_to_stream.defvjp(_keeping_both(_to_stream), _to_stream_backward)


def input_gradient(d_out_BTY: jax.Array, w_XY: jax.Array) -> jax.Array:
    """Returns the gradient of x in x times w, [B, T, X], accumulated and returned in float32."""
    over_Y = (((d_out_BTY.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(d_out_BTY, w_XY, over_Y, preferred_element_type=jnp.float32)


def weight_gradient(x_BTX: jax.Array, d_out_BTY: jax.Array) -> jax.Array:
    """Returns the gradient of w in x times w, [X, Y], accumulated and returned in float32."""
    if sharding.platform() != "cpu":
        return jnp.einsum("btx,bty->xy", x_BTX, d_out_BTY, preferred_element_type=jnp.float32)
    x_TX, d_out_TY = (x.reshape(-1, x.shape[-1]) for x in (x_BTX, d_out_BTY))
    return _weight_gradient_on_cpu(x_TX, d_out_TY)


# XLA's CPU compiler has a bfloat16 product that is twice as fast as the float32 one, but uses it
# only when both factors are bfloat16, the result is float32 and the first factor is not transposed
# (jaxlib 0.10 to 0.12). The numbers are the same either way: a float32 sum, rounded once.
@jax.custom_vjp
def _times_on_cpu(x_TX: jax.Array, w_XY: jax.Array) -> jax.Array:
    return jnp.matmul(x_TX, w_XY, preferred_element_type=jnp.float32).astype(x_TX.dtype)


def _times_backward(kept, d_out_TY):
    x_TX, w_XY = kept
    d_x_TX = input_gradient(d_out_TY, w_XY).astype(x_TX.dtype)
    return d_x_TX, _weight_gradient_on_cpu(x_TX, d_out_TY).astype(w_XY.dtype)


_times_on_cpu.defvjp(_keeping_both(_times_on_cpu), _times_backward)


def _weight_gradient_on_cpu(x_TX: jax.Array, d_out_TY: jax.Array) -> jax.Array:
    half = x_TX.shape[1] // 2
    if x_TX.dtype == jnp.bfloat16 and half:
        # Transposed in two halves: the compiler would undo a single transposition.
        x_XT = jnp.concatenate([x_TX[:, :half].T, x_TX[:, half:].T])
    else:
        x_XT = x_TX.T
    return jnp.matmul(x_XT, d_out_TY, preferred_element_type=jnp.float32)


def rms_norm(x: jax.Array, scale: jax.Array, eps: float, centred: bool = False) -> jax.Array:
    """Scales x to unit mean square over its last dimensions, as many as `scale` has.

    The squares are summed in float32, because bfloat16 would lose small ones. With `centred`, x is
    multiplied by 1 + scale, also in float32 (Gemma).

    >>> x = jnp.array([[[3.0], [3.0]], [[0.0], [8.0]]])
    >>> rms_norm(x, jnp.ones((2, 1)), eps=0.0).round(2)[..., 0]
    Array([[1.  , 1.  ],
           [0.  , 1.41]], dtype=float32)
    """
    x32 = x.astype(jnp.float32)
    over = tuple(range(-scale.ndim, 0))
    x32 *= jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=over, keepdims=True) + eps)
    scale = scale.reshape((1,) * (x.ndim - scale.ndim) + scale.shape)
    times = _scaled if sharding.platform() == "cpu" else jnp.multiply
    if centred:
        return times(1 + scale.astype(jnp.float32), x32).astype(x.dtype)
    return times(scale.astype(x.dtype), x32.astype(x.dtype))


# The gradient of a scale is a sum over rows. XLA's CPU compiler needs 4 ms for that sum and less
# than 1 ms for a product with a vector of ones, so the gradient is computed as a product
# (docs/log.md).
@jax.custom_vjp
def _scaled(scale: jax.Array, x: jax.Array) -> jax.Array:
    return scale * x


def _scaled_backward(kept, d_out):
    scale, x = kept
    d_scale_TD = (d_out * x).reshape(-1, scale.size)
    one_1T = jnp.ones((1, len(d_scale_TD)), x.dtype)
    d_scale_1D = jnp.matmul(one_1T, d_scale_TD, preferred_element_type=jnp.float32)
    return d_scale_1D.astype(scale.dtype).reshape(scale.shape), scale * d_out


_scaled.defvjp(_keeping_both(_scaled), _scaled_backward)


def take_rows(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """Returns a row of the table for each token, [B, T, D]; it has no gradient.

    XLA's CPU compiler would widen a whole bfloat16 table to read some rows of it; it reads the
    bits of a number as they are.
    """
    if sharding.platform() != "cpu" or table_VD.dtype != jnp.bfloat16:
        return table_VD[tokens_BT]
    bits_VD = jax.lax.bitcast_convert_type(table_VD, jnp.uint16)
    return jax.lax.bitcast_convert_type(bits_VD[tokens_BT], jnp.bfloat16)


def softcap(x: jax.Array, cap: float | None) -> jax.Array:
    """Returns cap * tanh(x / cap), which lies within +-cap; x unchanged when `cap` is None.

    Source: Gemma 2, arXiv 2408.00118, section 2.

    >>> softcap(jnp.array([-90.0, 0.0, 90.0]), 30.0).astype(int)
    Array([-29,   0,  29], dtype=int32)
    """
    return x if cap is None else cap * jnp.tanh(x / cap)
