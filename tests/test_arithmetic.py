"""Products in bfloat16 are float32 sums rounded once, gradients too, whatever the machine does."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax.model import arithmetic


@pytest.mark.parametrize("shape", [(2, 3, 6), (1, 4, 1), (2, 5, 7)])
def test_a_product_and_its_gradients_are_rounded_once(shape):
    rng = np.random.default_rng(0)
    x, w, d_out = (
        rng.normal(size=size).astype(jnp.bfloat16)
        for size in (shape, (shape[2], 4, 2), (*shape[:2], 4, 2))
    )
    out, back = jax.vjp(arithmetic.product, jnp.asarray(x), jnp.asarray(w))
    got = (out, *back(jnp.asarray(d_out)))
    x64, w64, d64 = (array.astype(np.float64) for array in (x, w, d_out))
    want = (
        np.einsum("btd,dnh->btnh", x64, w64),
        np.einsum("btnh,dnh->btd", d64, w64),
        np.einsum("btd,btnh->dnh", x64, d64),
    )
    for one, other in zip(got, want, strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(one, np.float64), other, rtol=2**-8, atol=1e-5)


def test_no_product_of_a_step_in_bfloat16_is_turned_round_on_a_cpu():
    """A first factor that the compiler transposes is widened to float32: half the speed."""

    def total(x_BTD, w_DF, w_FD):
        y_BTF = arithmetic.product(x_BTD, w_DF)
        return jnp.sum(arithmetic.product(jnp.square(y_BTF), w_FD).astype(jnp.float32))

    shapes = ((2, 128, 64), (64, 96), (96, 64))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    step = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    products = re.findall(
        r" dot\(.*lhs_contracting_dims=\{(\d)\}", step.lower(*arrays).compile().as_text()
    )
    assert products == ["1"] * 5  # the sum's gradient needs no second forward product


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("centred", [False, True])
def test_a_norm_and_its_gradients_are_those_of_float64(dtype, centred):
    rng = np.random.default_rng(0)
    x, d_out = (rng.normal(size=(3, 4, 2, 6)).astype(dtype) for _ in range(2))
    scale = rng.normal(size=6).astype(dtype)
    out, back = jax.vjp(
        lambda x, scale: arithmetic.rms_norm(x, scale, 1e-5, centred),
        jnp.asarray(x), jnp.asarray(scale),
    )  # fmt: skip
    got = (out, *back(jnp.asarray(d_out)))
    x, d_out, scale = (array.astype(np.float64) for array in (x, d_out, scale))
    root = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5)
    times = (scale + centred) * d_out
    want = (
        (scale + centred) * x / root,
        times / root - x * np.mean(times * x, axis=-1, keepdims=True) / root**3,
        np.sum(d_out * x / root, axis=(0, 1, 2)),
    )
    close = {"float32": 2e-6, "bfloat16": 2**-6}[dtype]
    for one, other in zip(got, want, strict=True):
        assert one.dtype == jnp.dtype(dtype)
        np.testing.assert_allclose(np.asarray(one, np.float64), other, close, atol=4 * close)


def test_the_gradient_of_a_scale_is_a_product_on_a_cpu():
    """As a sum over rows, the compiler would take it in windows, many times as slow."""

    def total(x, scale):
        return jnp.sum(jnp.square(arithmetic.rms_norm(x, scale, 1e-5)))

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, 256, 64), (64,))]
    program = jax.jit(jax.grad(total, 1)).lower(*shapes).compile().as_text()
    assert " dot(" in program
    assert not re.search(r"f32\[[\d,]*64\]\S* reduce(-window)?\(", program)
