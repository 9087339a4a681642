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
