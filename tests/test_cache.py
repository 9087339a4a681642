"""Decoding with a cache gives the logits of reading everything at once."""

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


def test_what_padding_wrote_is_never_seen(params):
    rows = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14]]
    tokens_BT = np.full((2, 7), 96, np.int32)  # the second prompt is padded with token 96
    for row_T, row in zip(tokens_BT, rows, strict=True):
        row_T[: len(row)] = row
    positions_BT = np.broadcast_to(np.arange(7), (2, 7))
    _, cache = decode(params, tokens_BT, positions_BT, caches.empty(CFG, 2, 16))
    new_B1, lengths_B1 = np.array([[20], [21]], np.int32), np.array([[7], [3]], np.int32)
    got, cache = decode(params, new_B1, lengths_B1, cache)
    got, _ = decode(params, new_B1 + 5, lengths_B1 + 1, cache)
    for b, row in enumerate(rows):
        want = logits(params, np.array([[*row, 20 + b, 25 + b]], np.int32))[0, -1]
        np.testing.assert_allclose(got[b, 0], want, rtol=1e-5, atol=1e-5)


def test_a_token_sees_slots_up_to_its_own():
    got = caches.empty(CFG, 2, 5).visible(jnp.array([[0, 1], [3, 4]]), 5)
    want = [
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]],
        [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
    ]
    np.testing.assert_array_equal(got, np.array(want, bool))


def test_a_token_sees_no_more_slots_than_its_window():
    got = caches.empty(CFG, 1, 5).visible(jnp.array([[1, 4]]), 2)
    np.testing.assert_array_equal(got, np.array([[[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]], bool))
