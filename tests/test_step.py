"""The step: the same on every mesh, frozen means frozen, and nothing not finite gets in."""

import dataclasses
import functools
import types
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_trainer import Trainer
import worker_train as tiny

from lrl_jax.devices import mesh as meshes
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import moments
from lrl_jax.train.step import averaged

FROZEN = recipe_train.Rule(match=".*", schedule="frozen")
FAST = recipe_train.Schedule(peak=0.05, kind="constant")


# data, fsdp, tensor: one axis, and all; plain AdamW is on every mesh in test_curves.py
MESHES = [(1, 4, 1), (2, 2, 2)]
OPTIONS = {  # each is tested by being listed
    "plain": {},
    "blocks": {"loss_blocks": 4},
    "parts": {"accumulate": 2},
    "bfloat16 moments": {"optimizer": {"moments": "bfloat16"}},
    "int8 moments": {"optimizer": {"moments": "int8"}},
    "adafactor": {"optimizer": {"kind": "adafactor"}},
    "muon": {"optimizer": {"kind": "muon"}},
    "host": {"optimizer": {"moments_on": "host"}},
    "z-loss": {"z_loss": 1e-2, "ema": 0.9},
}


# A moment at the edge between two codes goes to either, by the last bit of a sum whose order the
# mesh decides; the neighbour of a byte is an eighth away, and no tolerance for float32 holds then.
TOLERANCE = {"int8 moments": 1e-4}


def test_every_optimizer_is_in_the_table():
    listed = {change.get("optimizer", {}).get("kind", "adamw") for change in OPTIONS.values()}
    assert listed == set(moments.KINDS)
    assert listed == set(get_args(recipe_train.Optimizer.model_fields["kind"].annotation))


@functools.cache
def alone(option):
    """Losses on one device."""
    return Trainer(tiny.mesh(), steps=50, **OPTIONS[option]).losses(50)


def test_the_loss_falls():
    assert alone("plain")[-1] < alone("plain")[0] - 0.2


@pytest.mark.parametrize(
    ("option", "shape"),
    [(option, shape) for option in OPTIONS for shape in MESHES if option != "plain"],
    ids=str,
)
def test_losses_are_the_same_on_every_mesh(option, shape):
    got = Trainer(tiny.mesh(*shape), steps=50, **OPTIONS[option]).losses(50)
    np.testing.assert_allclose(got, alone(option), rtol=TOLERANCE.get(option, 1e-5))


def test_a_step_in_bfloat16_has_nearly_the_losses_of_float32():
    cfg = dataclasses.replace(tiny.CFG, dtype="bfloat16")
    got = Trainer(tiny.mesh(), cfg=cfg, steps=50).losses(50)
    assert got != alone("plain")
    np.testing.assert_allclose(got, alone("plain"), rtol=0.01)  # eight bits: 1 in 256


def test_parts_change_no_loss():
    np.testing.assert_allclose(alone("parts"), alone("plain"), rtol=1e-5)


def test_where_moments_lie_changes_no_loss():
    np.testing.assert_array_equal(alone("host"), alone("plain"))


@pytest.mark.parametrize("option", ["bfloat16 moments", "int8 moments"])
def test_moments_in_fewer_bits_learn_as_well(option):
    np.testing.assert_allclose(alone(option), alone("plain"), rtol=0.01)


def test_moments_on_the_host_are_there_between_steps():
    trainer = Trainer(tiny.mesh(fsdp=2), ema=0.5, optimizer={"moments_on": "host"})
    trainer.run(1)
    state = trainer.state
    kinds = {leaf.sharding.memory_kind for leaf in jax.tree.leaves(state["opt"]) if leaf.shape}
    assert kinds == {leaf.sharding.memory_kind for leaf in state["ema"].values()} == {"pinned_host"}
    assert {leaf.sharding.memory_kind for leaf in state["params"].values()} == {"device"}


def test_memory_that_devices_do_not_reach_is_refused():
    class Device:
        device_kind = "abacus"

        def addressable_memories(self):
            return [types.SimpleNamespace(kind="beads")]

    mesh = types.SimpleNamespace(devices=np.array([Device()]))
    with pytest.raises(ValueError, match=r"pinned_host, and abacus has beads; use moments_on: dev"):
        moments.on_host({}, {}, mesh)


def test_the_average_follows_what_learns_and_no_more():
    rules = (recipe_train.Rule(match="norm", schedule=FAST), FROZEN)
    trainer = Trainer(tiny.mesh(fsdp=2), rules, ema=0.15)
    want = {path: w for path, w in trainer.before.items() if "norm" in path}
    assert {*trainer.state["ema"]} == {*want}
    for keep in (0.1, 0.15, 0.15):  # the first: (1 + 0) / (10 + 0)
        trainer.run(1)
        new = jax.device_get(trainer.state["params"])
        want = {path: keep * old + (1 - keep) * new[path] for path, old in want.items()}
    got = jax.device_get(averaged(trainer.state))
    for path, w in (new | want).items():
        np.testing.assert_allclose(got[path], w, rtol=1e-6, err_msg=path)
    assert not np.allclose(got["norm_D"], new["norm_D"], rtol=1e-5)


def compiled(rules, cfg):
    """Bytes of a step's arguments and of what it needs beside them."""
    trainer = Trainer(tiny.mesh(), rules, cfg=cfg)
    batch = {k: jnp.asarray(v) for k, v in trainer.stream.batch_at(0).items()}
    with jax.set_mesh(trainer.mesh):
        step = trainer.step.run.lower(trainer.state, batch, jnp.zeros(1, jnp.int32), jnp.float32(0))
        step = step.compile()
    memory = step.memory_analysis()
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes


def test_frozen_weights_cost_no_moments_and_no_gradient():
    cfg = dataclasses.replace(tiny.CFG, width=64, mlp_width=512)
    weights = sum(leaf.size for leaf in llama.abstract(cfg).values())
    norms = sum(leaf.size for path, leaf in llama.abstract(cfg).items() if "norm" in path)
    whole, whole_beside = compiled((tiny.ALL,), cfg)
    few, few_beside = compiled((recipe_train.Rule(match="norm", schedule=FAST), FROZEN), cfg)
    assert whole - few == 8 * (weights - norms)  # two moments of four bytes
    assert few < 4 * weights + 8 * norms + 4096  # and a batch
    assert whole_beside - few_beside > 0.6 * 4 * (weights - norms)  # XLA reuses some gradients


def test_the_loss_is_the_mean_over_tokens_and_rows_add_up_to_it():
    (metrics,) = Trainer(tiny.mesh(fsdp=2)).run(1)
    assert metrics["nll_B"].shape == (8,)
    np.testing.assert_allclose(metrics["weight_B"], np.full(8, tiny.LENGTH - 2))
    want = metrics["nll_B"].sum() / metrics["weight_B"].sum()
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-6)
    assert metrics["tokens"] == 8 * (tiny.LENGTH - 2)


def test_moments_lie_where_their_parameters_do():
    trainer = Trainer(tiny.mesh(1, 2, 2))
    for field in (trainer.state["opt"].mu, trainer.state["opt"].nu):
        for path, moment in field.items():
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
        meshes.check_batch(tiny.mesh(2, 2).shape, 6)
    with pytest.raises(ValueError, match=r"4 devices in accumulate=4 parts; use a multiple of 16"):
        meshes.check_batch(tiny.mesh(2, 2).shape, 8, accumulate=4)
