"""Adapters: what they are called, how they start, and that merging them changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
from tiny_llama import CFG, logits

from lrl_jax.model import llama, lora, quantize, sharding
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import adapt, learn

EVERY = lora.matching(".*", [*llama.abstract(CFG)])
ADAPTED = dataclasses.replace(CFG, lora=lora.LoraConfig(names=EVERY, rank=5, alpha=7.0))
TOKENS_BT = np.random.default_rng(3).integers(0, 97, (2, 12))


def test_every_weight_of_a_layer_has_two_factors_of_the_rank():
    names = [name for name in llama.abstract(ADAPTED) if "lora" in name]
    assert names == [
        "layers/q_lora_DR", "layers/q_lora_RNH", "layers/k_lora_DR", "layers/k_lora_RKH",
        "layers/v_lora_DR", "layers/v_lora_RKH", "layers/o_lora_NHR", "layers/o_lora_RD",
        "layers/gate_lora_DR", "layers/gate_lora_RF", "layers/up_lora_DR", "layers/up_lora_RF",
        "layers/down_lora_FR", "layers/down_lora_RD",
    ]  # fmt: skip
    assert llama.abstract(ADAPTED)["layers/o_lora_NHR"].shape == (3, 4, 8, 5)


def test_adapters_are_float32_beside_weights_of_bfloat16():
    dtypes = {name: a.dtype.name for name, a in llama.abstract(ADAPTED, "bfloat16").items()}
    assert dtypes["layers/q_DNH"] == "bfloat16"
    assert dtypes["layers/q_lora_DR"] == "float32"


def test_the_first_factor_starts_uniform_as_in_peft_and_the_second_as_nothing():
    """kaiming_uniform_(a=sqrt(5)) is uniform up to fan_in ** -0.5."""
    first = lora.init("layers/o_lora_NHR", (3, 4, 100, 64), jax.random.key(0))
    assert not lora.init("layers/o_lora_RD", (3, 64, 32), jax.random.key(0)).any()
    assert 0.049 < float(jnp.abs(first).max()) <= 0.05
    np.testing.assert_allclose(first.std(), 0.05 / 3**0.5, rtol=0.01)


def test_a_new_adapter_changes_no_logit():
    params = tiny_llama.params(ADAPTED)
    params |= {name: jnp.zeros_like(w) for name, w in params.items() if "lora_R" in name}
    plain = {name: w for name, w in params.items() if "lora" not in name}
    want = logits(plain, TOKENS_BT)
    np.testing.assert_array_equal(logits(params, TOKENS_BT, cfg=ADAPTED), want)


@pytest.mark.parametrize("stabilised", [False, True])
def test_merged_logits_equal_unmerged_ones(stabilised):
    few = dataclasses.replace(ADAPTED.lora, names=EVERY[1:], rank_stabilised=stabilised)
    cfg = dataclasses.replace(CFG, lora=few)
    params = {name: 0.2 * w if "lora" in name else w for name, w in tiny_llama.params(cfg).items()}
    want = logits(params, TOKENS_BT, cfg=cfg)
    merged = lora.merge(params, few)
    assert [*merged] == [*llama.abstract(CFG)]
    assert merged["layers/q_DNH"] is params["layers/q_DNH"]  # it has no adapter here
    got = logits(merged, TOKENS_BT)
    assert np.abs(got - logits({n: params[n] for n in merged}, TOKENS_BT)).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_merging_by_hand():
    names = ("layers/q_DNH",)
    params = {
        "layers/q_DNH": jnp.zeros((1, 2, 1, 2), jnp.bfloat16),
        "layers/q_lora_DR": jnp.array([[[1.0, 0.0], [2.0, 1.0]]]),
        "layers/q_lora_RNH": jnp.array([[[[1.0, 3.0]], [[0.0, 5.0]]]]),
    }
    got = lora.merge(params, lora.LoraConfig(names=names, rank=2, alpha=4.0))
    want = 2.0 * np.array([[[[1.0, 3.0]], [[2.0, 11.0]]]])
    assert got["layers/q_DNH"].dtype == jnp.float32
    np.testing.assert_array_equal(got["layers/q_DNH"], want)


def test_merged_weights_lie_where_they_lay():
    devices = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("fsdp", "tensor"))
    axes = {"data": 1, **devices.shape}
    params = {
        name: jax.device_put(w, jax.NamedSharding(devices, sharding.resting(name, w.shape, axes)))
        for name, w in tiny_llama.params(ADAPTED).items()
    }
    for name, w in lora.merge(params, ADAPTED.lora).items():
        assert w.sharding == params[name].sharding, name


def test_scales_by_rank_or_by_its_root():
    assert lora.LoraConfig(names=(), rank=16, alpha=8.0).scale == 0.5
    assert lora.LoraConfig(names=(), rank=16, alpha=8.0, rank_stabilised=True).scale == 2.0


# ---------------------------------------------------------------------------- of a recipe
def rule(match, **schedule):
    return recipe_train.Rule(match=match, schedule=schedule or "frozen")


def settings(*stages, **fields):
    return recipe_train.Train(
        batch_size=1,
        stages=[
            {"name": f"s{i}", "steps": 2, "mixture": {"a": 1.0}, "learn": learn}
            for i, learn in enumerate(stages)
        ],
        **fields,
    )


LORA = (rule("lora", peak=1.0), rule(".*"))
ROWS = (rule("embed", peak=1.0), rule(".*"))


def test_what_no_stage_trains_is_stored_in_codes():
    cfg = adapt.adapted(CFG, settings(LORA, ROWS, lora={"rank": 2}, frozen_dtype="int8"))
    assert cfg.lora.rank == 2
    assert len(cfg.lora.names) == 7
    dtypes = {name: a.dtype.name for name, a in llama.abstract(cfg).items()}
    assert dtypes["layers/q_DNH"] == "int8"
    assert dtypes["layers/q_scale_NH"] == "float32"
    assert dtypes["embed_VD"] == dtypes["norm_D"] == dtypes["layers/q_lora_DR"] == "float32"
    none = adapt.adapted(CFG, settings(LORA, lora={"rank": 2}, frozen_dtype="bfloat16"))
    dtypes = {name: a.dtype.name for name, a in llama.abstract(none).items()}
    assert dtypes["layers/q_DNH"] == dtypes["embed_VD"] == "bfloat16"
    assert dtypes["norm_D"] == dtypes["layers/q_lora_DR"] == "float32"


def test_scales_are_nothing_a_learn_table_decides():
    cfg = adapt.adapted(CFG, settings(ROWS, frozen_dtype="nf4"))
    table = (rule("layers/q_DNH"), rule(".*", peak=1.0))
    learning = learn.trainable(learn.groups(table, [*llama.abstract(cfg)]))
    assert "layers/q_scale_DNh" in llama.abstract(cfg)
    assert {*learning} == {*llama.abstract(CFG)} - {"layers/q_DNH"}


@pytest.mark.parametrize(
    ("stages", "fields", "message"),
    [
        ([LORA], {"lora": {"match": "attention"}}, "finds no weight .* layers/q_DNH, layers/k_DKH"),
        ([LORA], {"lora": {"match": "q_("}}, "not a regular expression"),
        ([ROWS], {"lora": {"match": "q_"}}, "no stage trains: layers/q_lora_DR"),
        ([[rule(".*", peak=1.0)]], {"frozen_dtype": "nf4"}, "the stages train every weight"),
        ([LORA], {}, "decide no parameter: 'lora'"),
    ],
)
def test_what_cannot_be_adapted_is_refused(stages, fields, message):
    given = settings(*stages, **fields)
    with pytest.raises(ValueError, match=message):
        adapt.frozen(adapt.adapted(CFG, given), given.stages)


def test_adapters_whose_new_rows_would_never_learn_are_refused():
    both = settings(LORA, ROWS, lora={"rank": 2})
    adapt.refuse_idle_rows(adapt.adapted(CFG, both), both)
    alone = settings(LORA, lora={"rank": 2})
    with pytest.raises(ValueError, match=r"no stage trains embed_VD or unembed_DV"):
        adapt.refuse_idle_rows(adapt.adapted(CFG, alone), alone)


# ---------------------------------------------------------------------------- codes
@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.02), ("nf4", 0.3)])
@pytest.mark.parametrize("remat", ["nothing", "full"])
def test_a_coded_base_gives_the_logits_of_its_decoded_weights(kind, bound, remat):
    storage = quantize.Storage(kind=kind, names=EVERY)
    cfg = dataclasses.replace(CFG, frozen=storage, remat=remat)
    params = tiny_llama.params()
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    places = dict.fromkeys(llama.abstract(cfg), place)
    coded = {}
    for name, w in params.items():
        coded |= storage.stored(name, w, places) if name in EVERY else {name: w}
    coded = {name: coded[name] for name in llama.abstract(cfg)}
    for name, want in llama.abstract(cfg).items():
        assert (coded[name].shape, coded[name].dtype) == (want.shape, want.dtype), name
    decoded = dict(params)
    for name, scale in storage.scales.items():
        letters = scale.rpartition("_")[2]
        layers = zip(coded[name], coded[scale], strict=True)
        decoded[name] = jnp.stack([quantize.decode(*both, letters, kind) for both in layers])
        error = np.abs(decoded[name] - params[name]).mean() / np.abs(params[name]).mean()
        assert 0.001 < error < bound / 2, name
    got = logits(coded, TOKENS_BT, cfg=cfg)
    np.testing.assert_allclose(got, logits(decoded, TOKENS_BT), rtol=0, atol=1e-5)
