"""The step: the same on every mesh, frozen means frozen, and nothing not finite gets in."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_trainer import Trainer
import worker_train as tiny

from lrl_jax import mesh as meshes
from lrl_jax import recipe_train

FROZEN = recipe_train.Rule(match=".*", schedule="frozen")
FAST = recipe_train.Schedule(peak=0.05, kind="constant")


@pytest.fixture(scope="module")
def one_device():
    return [m["loss"] for m in Trainer(tiny.mesh()).run(4)]


def test_the_loss_falls(one_device):
    losses = [m["loss"] for m in Trainer(tiny.mesh(fsdp=2), steps=40).run(40)]
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((2, 1, 1), 1), ((1, 2, 1), 4), ((1, 1, 2), 4), ((1, 4, 1), 1), ((2, 1, 2), 4),
        ((8, 1, 1), 4), ((1, 8, 1), 1), ((2, 2, 2), 4),
    ],
)  # fmt: skip
def test_losses_are_the_same_on_every_mesh(one_device, shape, blocks):
    got = [m["loss"] for m in Trainer(tiny.mesh(*shape), loss_blocks=blocks).run(4)]
    np.testing.assert_allclose(got, one_device, rtol=1e-5)


def test_the_loss_is_the_mean_over_tokens_and_rows_add_up_to_it():
    (metrics,) = Trainer(tiny.mesh(fsdp=2)).run(1)
    assert metrics["nll_B"].shape == (8,)
    np.testing.assert_allclose(metrics["weight_B"], np.full(8, tiny.LENGTH - 2))
    want = metrics["nll_B"].sum() / metrics["weight_B"].sum()
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-6)
    assert metrics["tokens"] == 8 * (tiny.LENGTH - 2)


def test_moments_lie_where_their_parameters_do():
    trainer = Trainer(tiny.mesh(1, 2, 2))
    for moments in (trainer.state["opt"].mu, trainer.state["opt"].nu):
        for path, moment in moments.items():
            assert moment.sharding == trainer.state["params"][path].sharding, path
    q = trainer.state["opt"].mu["layers/q_DNH"]
    assert q.sharding.shard_shape(q.shape) == (2, 8, 2, 4)


def test_frozen_parameters_keep_their_bits_and_have_no_moments():
    learn = (recipe_train.Rule(match="^layers/.*_D[NKF]", schedule=FAST), FROZEN)
    trainer = Trainer(tiny.mesh(fsdp=2), learn, steps=100)
    trainer.run(100)
    learning = {f"layers/{n}" for n in ("q_DNH", "k_DKH", "v_DKH", "gate_DF", "up_DF")}
    assert set(trainer.state["opt"].mu) == learning
    for path, old in trainer.before.items():
        same = np.array_equal(old, trainer.state["params"][path])
        assert same == (path not in learning), path


def test_old_rows_keep_their_bits_after_a_hundred_steps_of_weight_decay():
    new_rows = np.zeros(128, bool)
    new_rows[30:50] = True
    learn = (
        recipe_train.Rule(match="embed", schedule=FAST, rows="new"),
        recipe_train.Rule(match=".*", schedule=FAST),
    )
    trainer = Trainer(tiny.mesh(1, 2, 2), learn, new_rows, steps=100)
    trainer.run(100)
    for path, axis in {"embed_VD": 0, "unembed_DV": 1}.items():
        old, new = trainer.before[path], np.asarray(trainer.state["params"][path])
        same = np.moveaxis(old == new, axis, 0).all(axis=1)
        np.testing.assert_array_equal(same, ~new_rows)
        moments = np.moveaxis(np.asarray(trainer.state["opt"].nu[path]), axis, 0)
        np.testing.assert_array_equal(moments.any(axis=1), new_rows)


def test_a_step_that_is_not_finite_changes_nothing_but_the_count():
    trainer = Trainer(tiny.mesh(fsdp=2), bad=range(8, 24))
    trainer.run(1)
    before = jax.device_get({k: trainer.state[k] for k in ("params", "opt")})
    first, second = trainer.run(2)
    after = jax.device_get({k: trainer.state[k] for k in ("params", "opt")})
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert [bool(m["applied"]) for m in (first, second)] == [False, False]
    assert [int(m["skipped"]) for m in (first, second)] == [1, 2]
    (third,) = trainer.run(1)
    assert (bool(third["applied"]), int(third["skipped"])) == (True, 0)
    assert int(trainer.state["step"]) == 4


def test_one_bad_row_on_one_device_is_seen_by_all():
    (metrics,) = Trainer(tiny.mesh(fsdp=8), bad=[5]).run(1)
    assert not metrics["applied"]
    np.testing.assert_array_equal(np.isfinite(metrics["nll_B"]), np.arange(8) != 5)


def test_tied_embeddings_train():
    tied = dataclasses.replace(tiny.CFG, tie_embeddings=True)
    losses = [
        m["loss"] for m in Trainer(tiny.mesh(1, 2, 2), cfg=tied, loss_blocks=2, steps=20).run(20)
    ]
    assert losses[-1] < losses[0]


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=6 .* 4 devices; use a multiple of 4"):
        meshes.check_batch(tiny.mesh(2, 2), 6)
