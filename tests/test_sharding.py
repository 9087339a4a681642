"""The same numbers on any number of devices and any shape of the mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import tiny_llama
from tiny_llama import CFG

from lrl_jax.devices import mesh as meshes
from lrl_jax.model import cache as caches
from lrl_jax.model import llama, lora, sharding
from lrl_jax.model.arithmetic import product
from lrl_jax.recipe import train as recipe_train

SHAPES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 4, 1), (2, 1, 2), (2, 2, 2), (1, 8, 1)]
BATCH = tuple(
    np.asarray(x, np.int32)
    for x in (
        np.random.default_rng(0).integers(0, 97, (8, 12)),
        [[1] * 5 + [2] * 6 + [0]] * 8,
        [[*range(5), *range(6), 0]] * 8,
    )
)


def loss(params, tokens_BT, segments_BT, positions_BT, cfg=CFG):
    logits_BTV = llama.bind(cfg, params)(tokens_BT, segments_BT, positions_BT)
    logp_BTV = jax.nn.log_softmax(logits_BTV)
    return -jnp.mean(jnp.take_along_axis(logp_BTV, tokens_BT[..., None], axis=-1))


def placed(shape, cfg=CFG):
    data, fsdp, tensor = shape
    mesh = meshes.make(
        recipe_train.Mesh(data=data, fsdp=fsdp, tensor=tensor),
        jax.devices()[: data * fsdp * tensor],
    )
    params = jax.device_put(tiny_llama.params(cfg), meshes.param_shardings(cfg, mesh))
    return mesh, params, [jax.device_put(x, meshes.batch_sharding(mesh)) for x in BATCH]


@pytest.fixture(scope="module")
def alone():
    _, params, batch = placed((1, 1, 1))
    return jax.jit(jax.value_and_grad(loss))(params, *batch)  # and without any mesh set


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradients_do_not_depend_on_the_mesh(alone, shape):
    mesh, params, batch = placed(shape)
    with jax.set_mesh(mesh):
        got, grads = jax.jit(jax.value_and_grad(loss))(params, *batch)
    want, want_grads = alone
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for name in want_grads:
        np.testing.assert_allclose(
            grads[name], want_grads[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 2, 2)], ids=str)
def test_norms_over_all_heads_and_layers_without_positions_do_not_depend_on_the_mesh(shape):
    cfg = dataclasses.replace(
        CFG, norms="after", qk_norm="all heads", unrotated_layers=(False, True, False)
    )
    compiled = jax.jit(jax.value_and_grad(functools.partial(loss, cfg=cfg)))
    _, params, batch = placed((1, 1, 1), cfg)
    want, want_grads = compiled(params, *batch)
    mesh, params, batch = placed(shape, cfg)
    with jax.set_mesh(mesh):
        got, grads = compiled(params, *batch)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for name in want_grads:
        np.testing.assert_allclose(
            grads[name], want_grads[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_a_stream_split_along_the_sequence_gives_the_same_gradients(alone):
    split = dataclasses.replace(CFG, sequence_parallel=True)
    mesh, params, batch = placed((2, 2, 2))
    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.value_and_grad(functools.partial(loss, cfg=split)))
        got, grads = compiled(params, *batch)
    want, want_grads = alone
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for name in want_grads:
        np.testing.assert_allclose(
            grads[name], want_grads[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("length", "sequence", "want"), [(12, True, "tensor"), (12, False, None), (1, True, None)]
)
def test_the_stream_is_split_along_the_sequence_where_it_divides(length, sequence, want):
    mesh, _, _ = placed((2, 2, 2))
    with jax.set_mesh(mesh):
        made = jax.make_jaxpr(lambda x_BTD: sharding.stream(x_BTD, sequence))
        (constraint,) = made(jnp.ones((8, length, 4))).eqns
    assert constraint.params["sharding"].spec == P(sharding.BATCH, want, None)


def test_rows_that_do_not_divide_over_the_mesh_still_give_their_logits():
    want = tiny_llama.logits(tiny_llama.params(), BATCH[0][:3])
    mesh, params, _ = placed((2, 2, 2))
    with jax.set_mesh(mesh):
        got = tiny_llama.logits(params, BATCH[0][:3])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_decoding_does_not_depend_on_the_mesh():
    @jax.jit
    def decode(params, tokens_BT, positions_BT):
        cache = caches.empty(CFG, 8, 16)
        return llama.bind(CFG, params).decode(tokens_BT, positions_BT, cache)

    tokens_BT, positions_BT = BATCH[0], np.broadcast_to(np.arange(12), (8, 12))
    _, params, _ = placed((1, 1, 1))
    want, _ = decode(params, tokens_BT, positions_BT)
    mesh, params, _ = placed((2, 2, 2))
    with jax.set_mesh(mesh):
        got, cache = decode(params, tokens_BT, positions_BT)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    split = jax.NamedSharding(mesh, P(None, sharding.BATCH, "tensor"))
    assert cache.k_LBKSH.sharding.is_equivalent_to(split, 5)


def test_the_table_covers_every_parameter():
    got = {name: tuple(sharding.spec(name)) for name in llama.abstract(CFG)}
    want = {
        "embed_VD": ("tensor", "fsdp"),
        "norm_D": (),
        "unembed_DV": ("fsdp", "tensor"),
        "layers/attn_norm_D": (),
        "layers/q_DNH": (None, "fsdp", "tensor", None),
        "layers/k_DKH": (None, "fsdp", "tensor", None),
        "layers/v_DKH": (None, "fsdp", "tensor", None),
        "layers/o_NHD": (None, "tensor", None, "fsdp"),
        "layers/mlp_norm_D": (),
        "layers/gate_DF": (None, "fsdp", "tensor"),
        "layers/up_DF": (None, "fsdp", "tensor"),
        "layers/down_FD": (None, "tensor", "fsdp"),
    }
    assert got == want


def test_copies_of_the_model_share_what_rests_where_they_divide_it():
    mesh = meshes.make(recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    got = {name: place.spec for name, place in meshes.param_shardings(CFG, mesh).items()}
    assert got["embed_VD"] == P("tensor", ("fsdp", "data"))
    assert got["layers/o_NHD"] == P(None, "tensor", None, ("fsdp", "data"))
    assert got["norm_D"] == P()
    odd = dataclasses.replace(CFG, width=10, head_width=4)  # 10 over fsdp=2, not over 4
    assert meshes.param_shardings(odd, mesh)["embed_VD"].spec == P("tensor", "fsdp")


@pytest.mark.parametrize(("rank", "split"), [(8, ("fsdp", "data")), (6, "fsdp"), (3, None)])
def test_no_factor_of_an_adapter_is_whole_on_each_device_where_its_rank_divides(rank, split):
    mesh = meshes.make(recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    adapters = lora.LoraConfig(names=("layers/q_DNH", "layers/down_FD"), rank=rank, alpha=1.0)
    got = meshes.param_shardings(dataclasses.replace(CFG, lora=adapters), mesh)
    assert got["layers/q_lora_DR"].spec == P(None, ("fsdp", "data"), None)
    assert got["layers/q_lora_RNH"].spec == P(None, split, "tensor", None)
    assert got["layers/down_lora_FR"].spec == P(None, "tensor", split)
    assert got["layers/down_lora_RD"].spec == P(None, None, ("fsdp", "data"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_gradients_of_what_maps_to_the_stream_are_the_same_made_the_other_way(shape, monkeypatch):
    rng = np.random.default_rng(1)
    x_BTNH, w_NHD, d_BTD = (
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in ((8, 3, 4, 2), (4, 2, 16), (8, 3, 16))
    )

    def value(x_BTNH, w_NHD):
        return jnp.sum(d_BTD * product(x_BTNH, w_NHD, to_stream=True))

    want = jax.value_and_grad(value, (0, 1))(x_BTNH, w_NHD)
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    mesh, _, _ = placed(shape)
    place = jax.NamedSharding(mesh, sharding.spec("o_NHD"))
    with jax.set_mesh(mesh):
        made = jax.jit(jax.value_and_grad(value, (0, 1)))
        got = made(x_BTNH, jax.device_put(w_NHD, place))
        assert "sharding_constraint" in str(jax.make_jaxpr(made)(x_BTNH, w_NHD))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "said"), [((2, 2, 1), True), ((1, 4, 1), False)], ids=str)
def test_gradients_are_scattered_over_one_copy_first_where_there_are_several(shape, said):
    mesh, params, _ = placed(shape)
    w = params["unembed_DV"]
    with jax.set_mesh(mesh):
        made = jax.make_jaxpr(jax.grad(lambda w: sharding.scattered(w, "unembed_DV").sum()))(w)
    assert ("sharding_constraint" in str(made)) == said


@pytest.mark.parametrize("platform", ["tpu", "gpu", "cpu"])
def test_the_stream_keeps_one_layout_on_a_tpu(platform, monkeypatch):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    made = jax.make_jaxpr(lambda x_BTD: sharding.stream(x_BTD))(jnp.ones((2, 3, 4)))
    assert ("layout_constraint" in str(made)) == (platform == "tpu")


def test_random_parameters_do_not_depend_on_the_mesh():
    want = jax.jit(lambda key: llama.init(CFG, key))(jax.random.key(7))
    mesh = meshes.make(recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    make = jax.jit(
        lambda key: llama.init(CFG, key), out_shardings=meshes.param_shardings(CFG, mesh)
    )
    for name, got in make(jax.random.key(7)).items():
        np.testing.assert_array_equal(got, want[name], err_msg=name)
