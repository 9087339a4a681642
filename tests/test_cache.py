"""Decoding with a cache gives the logits of reading everything at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama
from tiny_llama import CFG, logits

from lrl_jax.model import cache as caches
from lrl_jax.model import llama


@pytest.fixture(scope="module")
def params():
    return tiny_llama.params()


@jax.jit
def decode(params, tokens_BT, positions_BT, cache):
    return llama.bind(CFG, params).decode(tokens_BT, positions_BT, cache)


def test_a_token_at_a_time_equals_all_at_once(params):
    tokens_BT = np.random.default_rng(0).integers(0, 97, (2, 10)).astype(np.int32)
    cache, got = caches.empty(CFG, 2, 16), []
    for t in range(10):
        one, cache = decode(params, tokens_BT[:, t : t + 1], np.full((2, 1), t), cache)
        got.append(one)
    np.testing.assert_allclose(
        np.concatenate(got, axis=1), logits(params, tokens_BT), rtol=1e-5, atol=1e-5
    )


def test_a_prompt_and_then_tokens_equals_all_at_once(params):
    tokens_BT = np.random.default_rng(1).integers(0, 97, (2, 10)).astype(np.int32)
    positions_BT = np.broadcast_to(np.arange(10), (2, 10))
    first, cache = decode(params, tokens_BT[:, :7], positions_BT[:, :7], caches.empty(CFG, 2, 16))
    rest, _ = decode(params, tokens_BT[:, 7:], positions_BT[:, 7:], cache)
    np.testing.assert_allclose(
        np.concatenate([first, rest], axis=1), logits(params, tokens_BT), rtol=1e-5, atol=1e-5
    )


def keys(params, tokens_BT):
    """Keys and values of whole rows, [L, B, K, T, H]."""
    positions_BT = np.broadcast_to(np.arange(tokens_BT.shape[1]), tokens_BT.shape)
    segments_BT = np.ones_like(tokens_BT)
    run = jax.jit(lambda p, *rows: llama.bind(CFG, p).begin(*rows, 16))
    return run(params, tokens_BT, segments_BT, positions_BT)


@pytest.mark.parametrize("apart", [False, True])
def test_prompts_of_two_lengths_go_on_at_one_slot(params, apart):
    rows = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14]]
    tokens_BT = np.full((2, 7), 96, np.int32)  # the second prompt is padded with token 96
    for row_T, row in zip(tokens_BT, rows, strict=True):
        row_T[: len(row)] = row
    k_LBKTH, v_LBKTH = keys(params, tokens_BT)
    cache = dataclasses.replace(caches.empty(CFG, 2, 9, apart), head=jnp.int32(5))
    for b, row in enumerate(rows):
        prompt = k_LBKTH[:, b], v_LBKTH[:, b]
        cache = cache.place(b, len(row), *(tuple(x) if apart else x for x in prompt))
    weights = llama.apart(params) if apart else params
    positions_B1 = np.array([[7], [3]], np.int32)
    for token in (20, 25):
        tokens_B1 = np.array([[token], [token + 1]], np.int32)
        got, cache = decode(weights, tokens_B1, positions_B1 + (token > 20), cache)
    for b, row in enumerate(rows):
        want = logits(params, np.array([[*row, 20 + b, 25 + b]], np.int32))[0, -1]
        np.testing.assert_allclose(got[b, 0], want, rtol=1e-5, atol=1e-5)


def test_a_longer_cache_holds_the_same_tokens():
    cache = caches.empty(dataclasses.replace(CFG, depth=1, num_kv_heads=1, head_width=2), 1, 4)
    numbers = jnp.repeat(jnp.arange(1.0, 6.0), 2).reshape(5, 1, 1, 1, 2)
    for number in numbers:  # the fifth goes round
        cache = cache.write(0, number, number).advance(1)
    got = cache.longer(6)
    np.testing.assert_array_equal(got.k_LBKSH[..., 0].ravel(), [2, 3, 4, 5, 0, 0])
    assert (int(got.head), got.length) == (4, 6)


def test_a_row_sees_as_many_slots_as_it_has_written():
    cache = dataclasses.replace(caches.empty(CFG, 2, 5), head=jnp.int32(2))
    got = cache.visible(jnp.array([[1], [4]]), 9)
    np.testing.assert_array_equal(got, np.array([[[0, 1, 1, 0, 0]], [[1, 1, 1, 1, 1]]], bool))


def test_a_token_sees_no_more_slots_than_its_window():
    cache = dataclasses.replace(caches.empty(CFG, 1, 5), head=jnp.int32(2))
    got = cache.visible(jnp.array([[2, 3]]), 3)  # itself and two before it
    np.testing.assert_array_equal(got, np.array([[[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]]], bool))
