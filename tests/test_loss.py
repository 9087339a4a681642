"""The loss equals a float64 log-softmax, in blocks or not, and padding gets no probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax.train import loss

B, T, D, V, REAL = 2, 3, 4, 24, 20


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    hidden_BTD = rng.normal(size=(B, T, D)).astype(np.float32)
    unembed_DV = (3 * rng.normal(size=(D, V))).astype(np.float32)
    targets_BT = rng.integers(0, REAL, (B, T)).astype(np.int32)
    targets_BT[0, :2] = 0, REAL - 1
    return hidden_BTD, unembed_DV, targets_BT


def reference(hidden_BTD, unembed_DV, targets_BT):
    """Losses, and gradients of their sum, in float64."""
    h, w = hidden_BTD.astype(np.float64), unembed_DV.astype(np.float64)[:, :REAL]
    logits = h @ w
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    hot = np.eye(REAL)[targets_BT]
    d_logits = p - hot
    d_w = np.zeros_like(unembed_DV, np.float64)
    d_w[:, :REAL] = np.einsum("btd,btv->dv", h, d_logits)
    return -np.log((p * hot).sum(-1)), d_logits @ w.T, d_w


@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
def test_losses_and_gradients_equal_float64(inputs, blocks):
    hidden_BTD, unembed_DV, targets_BT = inputs

    def total(h, w):
        return jnp.sum(loss.token_loss(h, w, targets_BT, REAL, blocks)[0])

    got, _ = loss.token_loss(hidden_BTD, unembed_DV, targets_BT, REAL, blocks)
    got_h, got_w = jax.jit(jax.grad(total, argnums=(0, 1)))(hidden_BTD, unembed_DV)
    want, want_h, want_w = reference(*inputs)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got_h, want_h, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got_w, want_w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 4])
def test_padded_columns_get_no_probability_and_no_gradient(inputs, blocks):
    hidden_BTD, unembed_DV, targets_BT = inputs
    loud_DV = unembed_DV.copy()
    loud_DV[:, REAL:] = 1e4
    got, _ = loss.token_loss(hidden_BTD, loud_DV, targets_BT, REAL, blocks)
    want, _ = loss.token_loss(hidden_BTD, unembed_DV, targets_BT, REAL, blocks)
    np.testing.assert_array_equal(got, want)
    grad_DV = jax.grad(
        lambda w: jnp.sum(loss.token_loss(hidden_BTD, w, targets_BT, REAL, blocks)[0])
    )(loud_DV)
    np.testing.assert_array_equal(grad_DV[:, REAL:], 0.0)


@pytest.mark.parametrize("blocks", [1, 4])
def test_huge_logits_do_not_overflow(inputs, blocks):
    _, _, targets_BT = inputs
    hidden_BTD = np.full((B, T, D), 1e3, np.float32)
    unembed_DV = np.ones((D, V), np.float32)
    got, _ = loss.token_loss(hidden_BTD, unembed_DV, targets_BT, REAL, blocks)
    np.testing.assert_allclose(got, np.full((B, T), np.log(REAL)), rtol=1e-3)


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_target_that_is_no_piece_gives_an_infinite_loss(inputs, blocks):
    hidden_BTD, unembed_DV, _ = inputs
    targets_BT = np.array([[-1, REAL, V], [V + 5, 0, 1]], np.int32)
    got = np.isinf(loss.token_loss(hidden_BTD, unembed_DV, targets_BT, REAL, blocks)[0])
    want = [[True, True, True], [True, False, False]]
    np.testing.assert_array_equal(got, want)


def test_blocks_never_hold_all_logits(inputs):
    hidden_BTD, unembed_DV, targets_BT = inputs

    def total(h, w, blocks):
        return jnp.sum(loss.token_loss(h, w, targets_BT, REAL, blocks)[0])

    def text(blocks):
        grad = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=2)
        return grad.lower(hidden_BTD, unembed_DV, blocks).as_text()

    assert f"tensor<{B}x{T}x{V}xf32>" in text(1)
    assert f"tensor<{B}x{T}x{V}xf32>" not in text(4)
    assert f"tensor<4x{B}x{T}x{V // 4}xf32>" not in text(4)  # all of them, stacked by the scan


def test_blocks_that_do_not_divide_are_refused_with_ones_that_do(inputs):
    with pytest.raises(ValueError, match=r"loss_blocks=5 must divide .* 24 pieces; use .*1, 2, 4"):
        loss.token_loss(*inputs, REAL, 5)


def test_the_mean_is_over_tokens_of_the_whole_batch_not_over_rows():
    nll_BT = jnp.array([[1.0, 1.0, 1.0], [5.0, 7.0, 9.0]])
    weights_BT = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert loss.mean(nll_BT, weights_BT) == 2.0


def test_a_batch_without_a_loss_token_costs_nothing():
    got = loss.mean(jnp.full((1, 2), jnp.inf), jnp.zeros((1, 2)))
    assert got == 0.0
