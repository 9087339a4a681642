"""Rounding at random keeps the mean, knows its error, and does not see the mesh."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.train import rounding

TOP = {True: 1.875, False: 1.9375}  # the largest code without its scale: 1 + 7/8, 1 + 15/16


def draws(count, shape, step=0):
    return rounding.noise(jnp.int32(step), "w", (count, *shape))[0]


def test_the_mean_of_many_roundings_to_bfloat16_is_the_number():
    x = np.array([1 + 1 / 512, -3.0071, 1e-30, -7e20, 0.1], np.float32)
    many = np.broadcast_to(x, (20000, 5))
    got = np.asarray(rounding.bfloat16(jnp.asarray(many), draws(20000, (5,))), np.float64)
    gap = np.abs(x) / 128  # at most: eight bits of mantissa, one of them not stored
    assert (np.abs(got - x) < gap).all()
    assert ((got > x).any(axis=0) & (got < x).any(axis=0)).all()
    np.testing.assert_array_less(np.abs(got.mean(axis=0) - x), 5 * gap / 2 / np.sqrt(20000))


def test_numbers_that_bfloat16_holds_stay():
    x = jnp.array([0.0, 1.0, -1.5, 3e38, 2.0**-100], jnp.bfloat16)
    many = jnp.broadcast_to(x.astype(jnp.float32), (1000, 5))
    got = rounding.bfloat16(many, draws(1000, (5,)))
    np.testing.assert_array_equal(got, jnp.broadcast_to(x, (1000, 5)))


@pytest.mark.parametrize("signed", [True, False])
def test_every_code_is_the_number_it_stands_for(signed):
    count = 128 if signed else 256
    mantissa, ones = (3, 8) if signed else (4, 16)
    want = [c / ones * 2.0**-14 for c in range(ones)]  # no exponent: evenly spaced from zero
    want += [(1 + m / ones) * 2.0**e for e in range(-14, 1) for m in range(ones)]
    codes = jnp.arange(count).astype(jnp.int8 if signed else jnp.uint8)[None]
    got = rounding.decode(dict(codes=codes, scales=jnp.ones((1, 1))))
    np.testing.assert_array_equal(got[0], want)
    assert want[-1] == TOP[signed] == 2 - 2.0**-mantissa
    x = jnp.asarray(np.array(want, np.float32))
    for noise in (0, 2**16 - 1):
        blocks = x.reshape(-1, 64).at[:, 0].set(TOP[signed])  # so that every scale is 1
        stored = rounding.encode(blocks, jnp.full(blocks.shape, noise, jnp.uint32), signed)
        np.testing.assert_array_equal(rounding.decode(stored), blocks)


@pytest.mark.parametrize("signed", [True, False])
def test_a_byte_is_right_on_average_and_never_far_off(signed):
    x = np.array([1.0, 0.3, 1e-2, 3e-3, 2e-5, 1e-6, 0.0, 0.77], np.float32)
    x[1::2] *= -1 if signed else 1
    many = jnp.broadcast_to(jnp.asarray(x), (20000, 8))
    stored = rounding.encode(many, draws(20000, (8,)), signed)
    got = np.asarray(rounding.decode(stored), np.float64)
    gap = np.maximum(np.abs(x) / (8 if signed else 16), 2.0 ** (-18 if signed else -19) * 1.1)
    assert (np.abs(got - x) <= gap * (x != 0) * 1.001).all()
    close = 6 * gap / 2 / np.sqrt(20000) + 2.0**-17 * gap + 1e-7 * np.abs(x)
    close[5] += 0 if signed else 2.0**-19  # where nothing above zero may become zero
    np.testing.assert_array_less(np.abs(got.mean(axis=0) - x), close + 1e-12)


def test_nothing_above_zero_becomes_the_zero_that_is_divided_by():
    x = jnp.array([[1.0, 1e-20, 0.0, 1e-9]])
    got = rounding.decode(rounding.encode(x, jnp.zeros(x.shape, jnp.uint32), signed=False))
    np.testing.assert_array_equal(got > 0, [[True, True, False, True]])


def test_a_block_of_zeros_and_blocks_of_any_width():
    x = jnp.zeros((3, 6)).at[1].set(-2.5)
    stored = rounding.encode(x, jnp.zeros(x.shape, jnp.uint32), signed=True)
    assert stored["scales"].shape == (3, 3)  # the largest power of two that divides 6 is 2
    np.testing.assert_array_equal(rounding.decode(stored), x)


def test_draws_differ_by_step_name_and_element():
    a, b = rounding.noise(jnp.int32(3), "x", (4, 4))
    others = [rounding.noise(jnp.int32(4), "x", (4, 4))[0], b]
    others += [rounding.noise(jnp.int32(3), "y", (4, 4))[0]]
    for other in others:
        assert (np.asarray(a) != np.asarray(other)).mean() > 0.9
    assert len(np.unique(a)) > 14
    assert a.max() < 2**16


def test_draws_are_the_same_on_one_device_and_on_eight():
    x = np.random.default_rng(0).standard_normal((16, 128)).astype(np.float32)

    def both(x):
        first, second = rounding.noise(jnp.int32(7), "w", x.shape)
        return rounding.bfloat16(x, first), rounding.encode(x, second, signed=True)

    want = jax.jit(both)(x)
    mesh = tiny.mesh(1, 4, 2)
    split = jax.sharding.NamedSharding(mesh, P("tensor", "fsdp"))
    got = jax.jit(both)(jax.device_put(x, split))
    jax.tree.map(np.testing.assert_array_equal, got, want)
