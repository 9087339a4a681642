"""The loss equals a float64 log-softmax, in blocks or not, and padding gets no probability."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from lrl_jax.devices import mesh
from lrl_jax.model import sharding
from lrl_jax.recipe import train as recipe_train
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


def reference(hidden_BTD, unembed_DV, targets_BT, softcap=None, z_loss=0.0):
    """Losses, log Z, and gradients of the sum of losses and of z_loss * log Z**2, in float64."""
    h, w = hidden_BTD.astype(np.float64), unembed_DV.astype(np.float64)[:, :REAL]
    logits, slope = h @ w, 1.0
    if softcap is not None:
        logits = softcap * np.tanh(logits / softcap)
        slope = 1 - (logits / softcap) ** 2
    log_z = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    p = np.exp(logits - log_z[..., None])
    hot = np.eye(REAL)[targets_BT]
    d_logits = slope * (p - hot + 2 * z_loss * log_z[..., None] * p)
    d_w = np.zeros_like(unembed_DV, np.float64)
    d_w[:, :REAL] = np.einsum("btd,btv->dv", h, d_logits)
    return log_z - (logits * hot).sum(-1), log_z, d_logits @ w.T, d_w


EXTRAS = [{}, dict(softcap=2.5), dict(z_loss=0.1), dict(softcap=2.5, z_loss=0.1)]


def measured(inputs, blocks, softcap=None, z_loss=0.0):
    hidden_BTD, unembed_DV, targets_BT = inputs

    def total(h, w):
        nll_BT, log_z_BT = loss.token_loss(h, w, targets_BT, REAL, blocks, softcap)
        return jnp.sum(nll_BT) + z_loss * jnp.sum(log_z_BT**2), (nll_BT, log_z_BT)

    grad = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    (got_h, got_w), got = grad(hidden_BTD, unembed_DV)
    return *got, got_h, got_w


@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
def test_losses_and_gradients_equal_float64(inputs, blocks, extras):
    got = measured(inputs, blocks, **extras)
    assert {part.dtype for part in got} == {jnp.dtype("float32")}
    for one, other in zip(got, reference(*inputs, **extras), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [dict(fsdp=8), dict(data=2, fsdp=2, tensor=2), dict(tensor=8)])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_vocabulary_split_over_devices_gives_the_same_numbers(inputs, blocks, shape):
    hidden_BTD, unembed_DV, targets_BT = (
        np.tile(inputs[0], (4, 1, 2)), np.tile(inputs[1], (2, 1)), np.tile(inputs[2], (4, 1))
    )  # fmt: skip
    many = mesh.make(recipe_train.Mesh(**dict(data=1, fsdp=1, tensor=1) | shape))
    rows, head = P(sharding.BATCH), sharding.spec("unembed_DV")
    with jax.set_mesh(many):
        placed = [
            jax.device_put(array, jax.NamedSharding(many, spec))
            for array, spec in ((hidden_BTD, rows), (unembed_DV, head), (targets_BT, rows))
        ]
        got = measured(placed, blocks, softcap=2.5, z_loss=0.1)
    want = reference(hidden_BTD, unembed_DV, targets_BT, softcap=2.5, z_loss=0.1)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("blocks", [1, 3])
def test_bfloat16_is_as_near_as_its_eight_bits_allow(inputs, blocks):
    hidden_BTD, unembed_DV = (np.asarray(x, jnp.bfloat16) for x in inputs[:2])
    got = measured((hidden_BTD, unembed_DV, inputs[2]), blocks, z_loss=0.1)
    assert [part.dtype for part in got] == [jnp.float32] * 2 + [jnp.bfloat16] * 2
    wide = (x.astype(np.float32) for x in (hidden_BTD, unembed_DV))
    for one, other in zip(got, reference(*wide, inputs[2], z_loss=0.1), strict=True):
        error = np.abs(np.asarray(one, np.float64) - other)
        assert error.max() <= 2**-7 * np.abs(other).max()


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


@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_the_greedy_reading_has_the_same_losses_and_says_what_is_most_probable(
    inputs, blocks, softcap
):
    hidden_BTD, unembed_DV, targets_BT = inputs
    logits = np.einsum("btd,dv->btv", hidden_BTD, unembed_DV)[..., :REAL]
    targets_BT = np.where(np.arange(T) % 2 == 0, logits.argmax(-1), targets_BT).astype(np.int32)
    nll_BT, greedy_BT = loss.greedy_loss(
        hidden_BTD, unembed_DV, targets_BT, REAL, blocks, softcap
    )  # fmt: skip
    want = reference(hidden_BTD, unembed_DV, targets_BT, softcap)[0]
    np.testing.assert_allclose(nll_BT, want, atol=1e-5)
    np.testing.assert_array_equal(greedy_BT, logits.argmax(-1) == targets_BT)
    assert 2 <= np.asarray(greedy_BT).sum() < B * T


@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
def test_of_equal_logits_the_lowest_id_is_the_most_probable(blocks):
    """New pieces that begin with the same row have equal logits; argmax takes the first."""
    hidden_BTD = np.ones((1, 3, 1), np.float32)
    unembed_DV = np.zeros((1, 8), np.float32)
    unembed_DV[0, [2, 5, 6]] = 1.0
    _, greedy_BT = loss.greedy_loss(hidden_BTD, unembed_DV, np.array([[2, 5, 6]]), 7, blocks)
    assert greedy_BT.tolist() == [[True, False, False]]
    _, greedy_BT = loss.greedy_loss(-hidden_BTD, unembed_DV, np.array([[0, 1, 7]]), 7, blocks)
    assert greedy_BT.tolist() == [[True, False, False]]
