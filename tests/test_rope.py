"""Rotary positions: both ways to turn a head give the same bits."""

import jax
import jax.numpy as jnp
import pytest

from lrl_jax.model import rope, sharding


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", [16, 8])
def test_a_tpu_turns_heads_by_a_product_to_the_same_bits(monkeypatch, dtype, width):
    x_BTNH = jax.random.normal(jax.random.key(0), (2, 9, 3, 16)).astype(dtype)
    positions_BT = jnp.arange(18).reshape(2, 9) * 131
    by = rope.table(positions_BT, rope.Rope(theta=7.0, width=width), 9)

    def program():
        return str(jax.make_jaxpr(lambda x_BTNH: rope.rotate(x_BTNH, by))(x_BTNH))

    want = rope.rotate(x_BTNH, by)
    assert "dot_general" not in program()
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    assert "dot_general" in program()
    assert (rope.rotate(x_BTNH, by) == want).all()


def test_a_table_is_the_same_to_the_bit_on_a_cpu(monkeypatch):
    by = rope.Rope(theta=1e4, width=16, scaling=rope.Linear(factor=3.0))
    positions_BT = jnp.array([[0, 1, 255, 2047, 8191, 131071]])
    made_once = rope.table(positions_BT, by, 131072)
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    assert all(
        (a == b).all() for a, b in zip(made_once, rope.table(positions_BT, by, 131072), strict=True)
    )


def test_a_cpu_makes_sines_once_for_all_that_turns():
    def twice(x_BTNH, positions_BT):
        by = rope.table(positions_BT, rope.Rope(theta=1e4, width=16), 256)
        return rope.rotate(jnp.square(rope.rotate(x_BTNH, by)), by)

    x_BTNH, positions_BT = jnp.ones((2, 256, 4, 16), jnp.bfloat16), jnp.zeros((2, 256), jnp.int32)
    program = jax.jit(twice).lower(x_BTNH, positions_BT).compile().as_text()
    assert (program.count(" sine("), program.count(" cosine(")) == (1, 1)
