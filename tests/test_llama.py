"""The decoder: rotary tables by hand, packing, padding, remat, and the flat dict of parameters."""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
from tiny_llama import CFG, logits

from lrl_jax.model import llama, rope
from lrl_jax.model.arithmetic import rms_norm


@pytest.fixture(scope="module")
def params():
    return tiny_llama.params()


def test_parameters_are_a_flat_dict_whose_names_end_in_their_shapes():
    cfg = dataclasses.replace(CFG, vocab_size=129)
    got = {name: leaf.shape for name, leaf in llama.abstract(cfg).items()}
    want = {
        "embed_VD": (256, 32),
        "norm_D": (32,),
        "unembed_DV": (32, 256),
        "layers/attn_norm_D": (3, 32),
        "layers/q_DNH": (3, 32, 4, 8),
        "layers/k_DKH": (3, 32, 2, 8),
        "layers/v_DKH": (3, 32, 2, 8),
        "layers/o_NHD": (3, 4, 8, 32),
        "layers/mlp_norm_D": (3, 32),
        "layers/gate_DF": (3, 32, 48),
        "layers/up_DF": (3, 32, 48),
        "layers/down_FD": (3, 48, 32),
    }
    assert got == want
    made = llama.init(cfg, jax.random.key(0), "bfloat16")
    assert {name: w.shape for name, w in made.items()} == want
    assert {str(w.dtype) for w in made.values()} == {"bfloat16"}


def test_a_tied_model_has_no_output_matrix_and_uses_the_input_one(params):
    tied = dataclasses.replace(CFG, tie_embeddings=True)
    assert "unembed_DV" not in llama.abstract(tied)
    twin = dict(params, unembed_DV=params["embed_VD"].T)
    batch = np.arange(6)[None], np.ones((1, 6), np.int32), np.arange(6)[None]
    del params["unembed_DV"]
    got = logits(params, *batch, cfg=tied)
    np.testing.assert_allclose(got, logits(twin, *batch), rtol=1e-6)
    params["unembed_DV"] = twin["unembed_DV"]


def test_fresh_parameters_are_small_norms_one_and_padding_zero():
    got = llama.init(CFG, jax.random.key(0))
    assert np.all(got["norm_D"] == 1)
    assert np.all(got["layers/attn_norm_D"] == 1)
    assert 0.018 < np.std(got["layers/gate_DF"]) < 0.022
    assert np.all(got["embed_VD"][97:] == 0)
    assert np.all(got["unembed_DV"][:, 97:] == 0)
    assert np.std(got["embed_VD"][:97]) > 0.018


def test_padding_of_the_vocabulary_changes_no_logit(params):
    batch = np.arange(6)[None], np.ones((1, 6), np.int32), np.arange(6)[None]
    want = logits(params, *batch)
    noisy = dict(params, embed_VD=params["embed_VD"].at[97:].set(9.0))
    noisy["unembed_DV"] = params["unembed_DV"].at[:, 97:].set(9.0)
    assert want.shape == (1, 6, 97)
    np.testing.assert_array_equal(logits(noisy, *batch), want)


def test_packed_documents_do_not_see_each_other(params):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 97, (1, 9)), rng.integers(0, 97, (1, 7))
    packed = np.concatenate([a, b], axis=1)
    got = logits(params, packed, [[1] * 9 + [2] * 7], [[*range(9), *range(7)]])
    want = logits(params, b, np.ones((1, 7), np.int32), np.arange(7)[None])
    np.testing.assert_allclose(got[:, 9:], want, rtol=1e-5, atol=1e-5)


def test_a_token_does_not_see_the_future(params):
    tokens = np.random.default_rng(2).integers(0, 97, (1, 12))
    other = tokens.copy()
    other[0, 8] = (other[0, 8] + 1) % 97
    ones, positions = np.ones((1, 12), np.int32), np.arange(12)[None]
    got, want = (logits(params, t, ones, positions) for t in (other, tokens))
    np.testing.assert_array_equal(got[:, :8], want[:, :8])
    assert np.abs(got[:, 8:] - want[:, 8:]).max() > 1e-3


@pytest.mark.parametrize("remat", [rung for rung in llama.LADDER if rung != CFG.remat])
def test_what_is_kept_for_the_backward_pass_changes_no_gradient(params, remat):
    tokens = np.random.default_rng(3).integers(0, 97, (2, 8)).astype(np.int32)
    ones, positions = np.ones_like(tokens), np.broadcast_to(np.arange(8), (2, 8))

    def loss(params, cfg):
        return jnp.mean(jnp.square(llama.bind(cfg, params)(tokens, ones, positions)))

    grad = jax.jit(jax.grad(loss), static_argnums=1)
    assert set(llama.LADDER) == set(get_args(llama.Remat))
    got = grad(params, dataclasses.replace(CFG, remat=remat))
    want = grad(params, CFG)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_rope_turns_the_first_pair_by_the_position_and_the_last_by_almost_nothing():
    sin_BTH, cos_BTH = rope.table(jnp.array([[3]]), CFG.whole_rope, 8)
    # theta 100, head width 8: frequencies 100 ** -(0, 1/4, 1/2, 3/4).
    want = 3 * np.array([1.0, 0.316228, 0.1, 0.0316228])
    np.testing.assert_allclose(sin_BTH[0, 0], np.sin(want), rtol=1e-5)
    np.testing.assert_allclose(cos_BTH[0, 0], np.cos(want), rtol=1e-5)


def frequencies(scaling, length=8):
    """Of four dimensions with theta 100: 1 and 1 / 10 where nothing scales them."""
    return rope.frequencies(rope.Rope(theta=100.0, width=4, scaling=scaling), length)


def test_linear_scaling_slows_every_frequency():
    got, magnitude = frequencies(rope.Linear(factor=8.0))
    np.testing.assert_allclose(got, [1 / 8, 1 / 80], rtol=1e-6)
    assert magnitude == 1


def test_llama3_scaling_slows_long_wavelengths_only():
    # Wavelengths 2 pi and 20 pi (62.8).
    scaling = rope.Llama3(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=94)
    got, _ = frequencies(scaling)
    keep = (94 / (20 * np.pi) - 1) / 3  # blended
    np.testing.assert_allclose(got, [1.0, 0.1 * (keep + (1 - keep) / 8)], rtol=1e-6)
    got, _ = frequencies(dataclasses.replace(scaling, original_length=40))
    np.testing.assert_allclose(got, [1.0, 0.1 / 8], rtol=1e-6)


def test_longrope_changes_its_factors_where_rows_are_longer_than_it_was_made_for():
    scaling = rope.LongRope(short=(2.0, 4.0), long=(5.0, 10.0), original_length=8, magnitude=1.5)
    for length, want in ((8, [0.5, 0.025]), (9, [0.2, 0.01])):
        got, magnitude = frequencies(scaling, length)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        assert magnitude == 1.5
    sin_BTH, _ = rope.table(jnp.array([[1]]), rope.Rope(theta=100.0, width=4, scaling=scaling), 8)
    np.testing.assert_allclose(sin_BTH[0, 0], 1.5 * np.sin([0.5, 0.025]), rtol=1e-5)


def test_a_part_of_a_head_turns_and_the_rest_stays():
    x_BTNH = jnp.arange(6.0).reshape(1, 1, 1, 6)
    quarter = jnp.full((1, 1, 2), 1.0), jnp.full((1, 1, 2), 0.0)  # sin, cos of 90 degrees
    got = rope.rotate(x_BTNH, quarter)
    np.testing.assert_array_equal(got[0, 0, 0], [-2, -3, 0, 1, 4, 5])


def test_bfloat16_activations_still_tell_distant_positions_apart():
    sin_BTH, _ = rope.table(jnp.array([[256, 257]]), CFG.whole_rope, 512)
    assert sin_BTH.dtype == jnp.float32
    assert abs(float(sin_BTH[0, 0, 0] - sin_BTH[0, 1, 0])) > 0.1


def test_rms_norm_by_hand():
    x_BTD = jnp.array([[[3.0, 4.0]]])  # mean square 12.5, eps 0.1
    got = rms_norm(x_BTD, jnp.array([1.0, 10.0]), 0.1)
    np.testing.assert_allclose(got, [[[3 / 12.6**0.5, 40 / 12.6**0.5]]], rtol=1e-6)
    got = rms_norm(x_BTD, jnp.array([0.0, 9.0]), 0.1, centred=True)
    np.testing.assert_allclose(got, [[[3 / 12.6**0.5, 40 / 12.6**0.5]]], rtol=1e-6)


def test_a_norm_over_all_heads_by_hand():
    x_BTNH = jnp.array([[[[1.0, 1.0], [7.0, 7.0]]]])  # mean square 25 over both heads, eps 0.1
    got = rms_norm(x_BTNH, jnp.array([[1.0, 10.0], [1.0, 2.0]]), 0.1)
    want = np.array([[[[1.0, 10.0], [7.0, 14.0]]]]) / 25.1**0.5
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_layer_without_rotary_positions_reads_the_order_of_tokens_alone(params):
    """Positions that are three times as far apart change nothing where no layer turns."""
    tokens, near = np.random.default_rng(5).integers(0, 97, (1, 12)), np.arange(12)[None]

    def far_minus_near(*unrotated):
        cfg = dataclasses.replace(CFG, unrotated_layers=unrotated)
        far, close = (logits(params, tokens, positions_BT=p, cfg=cfg) for p in (3 * near, near))
        return np.abs(far - close).max()

    assert far_minus_near(True, True, True) == 0
    assert far_minus_near(True, False, True) > 1e-3


def test_norms_stand_where_the_config_says():
    def norms(**change):
        return [n for n in llama.layer_names(dataclasses.replace(CFG, **change)) if "norm" in n]

    assert norms() == ["attn_norm_D", "mlp_norm_D"]
    assert norms(norms="after") == ["attn_out_norm_D", "mlp_out_norm_D"]
    assert norms(norms="both") == norms() + norms(norms="after")
    assert norms(qk_norm="all heads") == [*norms(), "q_norm_NH", "k_norm_KH"]


def test_layers_of_two_kinds_see_as_far_as_they_should(params):
    """Of three layers one is local; with a window that holds the row it is as if none were."""
    tokens = np.random.default_rng(5).integers(0, 97, (1, 12))
    want = logits(params, tokens)
    local = dict(local_layers=(False, True, False))
    wide = dataclasses.replace(CFG, window=12, **local)
    np.testing.assert_array_equal(logits(params, tokens, cfg=wide), want)
    narrow = logits(params, tokens, cfg=dataclasses.replace(CFG, window=4, **local))
    np.testing.assert_allclose(narrow[:, :4], want[:, :4], rtol=1e-5, atol=1e-5)
    assert np.abs(narrow[:, 4:] - want[:, 4:]).max(axis=-1).min() > 1e-3
    everywhere = logits(params, tokens, cfg=dataclasses.replace(CFG, window=4))
    assert np.abs(everywhere - narrow).max() > 1e-3


def test_what_a_token_sees_on_average_is_half_of_its_row_or_its_window():
    assert CFG.seen(100) == 3 * 50
    window = dict(window=20, local_layers=(True, False, False))
    assert dataclasses.replace(CFG, **window).seen(100) == 18 + 2 * 50  # 18 = (20 / 2 + 4 x 20) / 5
    assert dataclasses.replace(CFG, window=200).seen(100) == 3 * 50


@pytest.mark.parametrize("remat", llama.LADDER)
def test_layers_of_two_kinds_learn_alike_under_every_policy(params, remat):
    local = dict(window=3, local_layers=(True, False, True), local_rope_theta=7.0)
    tokens = np.random.default_rng(3).integers(0, 97, (1, 8)).astype(np.int32)
    ones, positions = np.ones_like(tokens), np.arange(8)[None]

    def loss(params, cfg):
        return jnp.mean(jnp.square(llama.bind(cfg, params)(tokens, ones, positions)))

    grad = jax.jit(jax.grad(loss), static_argnums=1)
    got = grad(params, dataclasses.replace(CFG, remat=remat, **local))
    want = grad(params, dataclasses.replace(CFG, remat="full", unroll=3, **local))
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_kv_heads": 3}, "multiple of num_kv_heads=3"),
        ({"head_width": 7}, "head_width=7 must be even"),
        ({"rotary_width": 10}, "rotary_width=10; a head has 8 dimensions"),
        ({"window": 0}, "window=0"),
        ({"local_layers": (True,)}, "local_layers says 1 layers, depth=3"),
        ({"unrotated_layers": (True,)}, "unrotated_layers says 1 layers, depth=3"),
        ({"norms": "none"}, "norms='none'; want one of before, after, both"),
        ({"qk_norm": "width"}, "qk_norm='width'; want one of none, head, all heads"),
        ({"activation": "relu"}, "want one of silu, gelu_tanh"),
        ({"remat": "some"}, "one of nothing, qk, qkv, projections, dots, full, offload"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(CFG, **change)
