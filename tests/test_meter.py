"""Seconds of text are those of running a model, not of compiling it."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax.evaluate.meter import Meter


def test_seconds_are_those_of_the_blocks_for_the_characters_added():
    meter = Meter()
    assert meter.seconds_per_1000_characters is None
    for _ in range(2):
        with meter.timed():
            time.sleep(0.02)
    time.sleep(0.05)
    meter.add(["abc", "나"])
    assert meter.characters == 4
    assert 0.04 <= meter.seconds < 0.09
    assert meter.seconds_per_1000_characters == pytest.approx(250 * meter.seconds)


def test_seconds_in_which_jax_compiles_are_not_counted():
    def chain(x):
        for _ in range(300):
            x = jnp.sin(x) @ x
        return x

    meter, whole, x = Meter(), time.perf_counter(), jax.device_put(np.eye(2, dtype=np.float32))
    with meter.timed():
        jax.block_until_ready(jax.jit(chain)(x))
    whole = time.perf_counter() - whole
    assert meter.seconds < whole / 2
