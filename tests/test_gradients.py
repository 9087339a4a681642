"""A batch in parts is the batch; z-loss is what it says; rows and tokens are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.model import llama
from lrl_jax.train import loss
from lrl_jax.train.gradients import gradients, split

PARAMS = llama.init(tiny.CFG, jax.random.key(1))
BATCH = tiny.stream(tiny.settings()).batch_at(0)
WEIGHTS = np.zeros((8, tiny.LENGTH), np.int32)  # parts of very different weight, and one of none
WEIGHTS[0], WEIGHTS[1, :5], WEIGHTS[4, :2] = 1, 1, 1


def found(weights=WEIGHTS, batch=BATCH, **fields):
    """Value, gradients and counts on one device."""
    settings = tiny.settings(**fields)
    mesh = tiny.mesh()
    placed = {name: jax.sharding.NamedSharding(mesh, jax.P()) for name in PARAMS}
    frozen = {"embed_VD": PARAMS["embed_VD"]}
    trained = {name: w for name, w in PARAMS.items() if name not in frozen}
    batch = {**batch, "decoder_loss_weights": weights}
    with jax.set_mesh(mesh):
        one = jax.jit(lambda *a: gradients(tiny.CFG, settings, *a, placed))
        return one(trained, frozen, batch)


@pytest.mark.parametrize("fields", [{}, {"z_loss": 0.3}], ids=str)
@pytest.mark.parametrize("parts", [2, 8])
def test_a_batch_in_parts_gives_the_gradients_of_the_batch(parts, fields):
    value, grads, counts = found(accumulate=parts, **fields)
    want_value, want, want_counts = found(**fields)
    np.testing.assert_allclose(value, want_value, rtol=1e-6)
    assert {*grads} == {*want}
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, want[name], rtol=1e-5, atol=1e-7, err_msg=name)
    for name, count in counts.items():
        np.testing.assert_allclose(count, want_counts[name], rtol=1e-6, err_msg=name)


def test_nothing_counts_gives_zero_not_nan():
    value, grads, counts = found(np.zeros_like(WEIGHTS), accumulate=4)
    assert float(value) == 0.0
    assert not any(np.any(grad) for grad in jax.tree.leaves(grads))
    assert float(counts["weight_B"].sum()) == 0.0


def test_z_loss_is_the_weighed_mean_square_of_log_z_and_no_part_of_the_loss_shown():
    value, _, counts = found(z_loss=0.3)
    plain, _, _ = found()
    model = llama.bind(tiny.CFG, PARAMS)
    names = ("decoder_input_tokens", "decoder_segment_ids", "decoder_positions")
    hidden = model.hidden(*[jnp.asarray(BATCH[name]) for name in names])
    targets = jnp.asarray(BATCH["decoder_target_tokens"])
    _, log_z = loss.token_loss(hidden, model.unembedding(), targets, 50)
    want = 0.3 * (np.asarray(log_z) ** 2 * WEIGHTS).sum() / WEIGHTS.sum()
    np.testing.assert_allclose(value - plain, want, rtol=1e-4)
    np.testing.assert_allclose(counts["loss"], plain, rtol=1e-6)


def test_rows_come_back_in_their_order():
    parts = split({"x": jnp.arange(12).reshape(6, 2)}, 3)["x"]
    assert parts.shape == (3, 2, 2)
    np.testing.assert_array_equal(parts[1], [[2, 3], [8, 9]])
    _, _, counts = found(accumulate=4)
    np.testing.assert_array_equal(counts["weight_B"], WEIGHTS.sum(axis=1))
    assert [bool(x) for x in counts["nll_B"] > 0] == [True, True, False, False, True] + [False] * 3
