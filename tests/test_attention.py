"""Attention: hand-computed rows, and one meaning by every implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax import mesh, recipe_train
from lrl_jax.model import attention

SEGMENTS_BT = jnp.array([[1] * 5 + [2] * 8 + [0] * 3, [1] * 16])


def heads(seed, length=16, count=2, width=8):
    return jax.random.normal(jax.random.key(seed), (2, length, count, width))


def by_hand(q_BTNH, k_BSKH, v_BSKH, segments_BT):
    """One query at a time, in plain numpy."""
    q, k, v, segments = map(np.asarray, (q_BTNH, k_BSKH, v_BSKH, segments_BT))
    out = np.zeros_like(q)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(q.shape[:3]):
        seen = [s for s in range(t + 1) if segments[b, s] == segments[b, t]]
        scores = k[b, seen, n // group] @ q[b, t, n] / np.sqrt(q.shape[3])
        weights = np.exp(scores - scores.max())
        out[b, t, n] = weights @ v[b, seen, n // group] / weights.sum()
    return out


@pytest.mark.parametrize("implementation", ["auto", "einsum", "xla"])
def test_each_token_attends_to_earlier_ones_of_its_segment(implementation):
    q, k, v = heads(0, count=4), heads(1), heads(2)
    got = attention.attention(q, k, v, SEGMENTS_BT, implementation)
    np.testing.assert_allclose(got, by_hand(q, k, v, SEGMENTS_BT), rtol=1e-5, atol=1e-5)


def test_gradients_agree_between_implementations():
    q, k, v = heads(0, count=4), heads(1), heads(2)

    def loss(q, k, v, implementation):
        return jnp.sum(jnp.sin(attention.attention(q, k, v, SEGMENTS_BT, implementation)))

    grad = jax.grad(loss, argnums=(0, 1, 2))
    for got, want in zip(grad(q, k, v, "einsum"), grad(q, k, v, "xla"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_an_unknown_implementation_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="attention='flash'; want one of auto, einsum"):
        attention.attention(heads(0), heads(1), heads(2), SEGMENTS_BT, "flash")


def lower_for_tpu(length, shape):
    """StableHLO of forward and backward, lowered for a TPU that is not here."""
    q = jax.ShapeDtypeStruct((8, length, 4, 128), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((8, length, 2, 128), jnp.bfloat16)
    segments = jax.ShapeDtypeStruct((8, length), jnp.int32)

    def loss(q, k, v, segments):
        out = attention.attention(q, k, v, segments, "splash")
        return jnp.sum(out.astype(jnp.float32))

    with jax.set_mesh(mesh.make(shape)):
        grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        return jax.export.export(grad, platforms=["tpu"])(q, k, k, segments).mlir_module()


def test_the_tpu_kernel_lowers_with_segments_on_a_mesh():
    text = lower_for_tpu(256, recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    assert text.count("tpu_custom_call") >= 2  # forward, and backward


def test_the_tpu_kernel_refuses_rows_it_cannot_cut_into_blocks():
    with pytest.raises(ValueError, match=r"rows of 100 tokens.*multiple of 128"):
        lower_for_tpu(100, recipe_train.Mesh(data=2, fsdp=2, tensor=2))
