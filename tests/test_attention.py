"""Attention: one meaning by every implementation, that of a float64 reference."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax.devices import mesh
from lrl_jax.model import attention, blockwise, kernels
from lrl_jax.recipe import train as recipe_train

# Every implementation is held to every case it can do.
IMPLEMENTATIONS = {
    "einsum": attention.IMPLEMENTATIONS["einsum"],
    "blockwise": functools.partial(blockwise.blockwise, block=16),
    "splash": functools.partial(kernels.splash, interpret=True),
    "triton": functools.partial(kernels.triton, interpret=True),
}
PLAIN = dict(length=128, heads=2, kv=2, width=8, window=None, softcap=None, scale=0.3)
CASES = {
    "plain": {},
    "groups of queries": dict(heads=6, kv=2),
    "one head of keys": dict(heads=4, kv=1),
    "window": dict(window=21),
    "window of a block": dict(window=16),
    "window of one": dict(window=1),
    "soft cap": dict(softcap=2.0, scale=1.5),
    "all of it": dict(heads=4, kv=2, window=37, softcap=1.5, scale=1.1),
    "odd length": dict(length=77, heads=4, kv=2),
    "odd length, window, soft cap": dict(length=53, window=7, softcap=2.5),
    "shorter than a block": dict(length=5),
}
ALLOWED = {  # what each cannot do it refuses, which other tests check
    "splash": lambda case: case["length"] % 128 == 0,
    "triton": lambda case: (
        case["length"] % 128 == 0 and case["window"] is None and case["softcap"] is None
    ),
}
TABLE = [
    pytest.param(name, PLAIN | case, id=f"{name}: {title}")
    for name, (title, case) in itertools.product(IMPLEMENTATIONS, CASES.items())
    if ALLOWED.get(name, lambda case: True)(PLAIN | case)
]


def inputs(case, dtype=np.float32):
    """q, k, v, and segments: two documents and padding in one row, one document in the other."""
    rng = np.random.default_rng(0)
    T, N, K, H = (case[name] for name in ("length", "heads", "kv", "width"))
    q, k, v = (rng.normal(size=(2, T, n, H)).astype(dtype) for n in (N, K, K))
    segments = np.ones((2, T), np.int32)
    segments[0, T // 3 :] = 2
    segments[0, T - T // 5 :] = 0
    return q, k, v, segments


def reference(q, k, v, segments, *, window, softcap, scale, d_out):
    """The result and the gradients of sum(result * d_out), one query at a time in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out, d_q, d_k, d_v = (np.zeros_like(x) for x in (q, q, k, v))
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(q.shape[:3]):
        first = 0 if window is None else max(0, t - window + 1)
        seen = [s for s in range(first, t + 1) if segments[b, s] == segments[b, t]]
        scores, slope = scale * k[b, seen, n // group] @ q[b, t, n], 1.0
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
            slope = 1 - (scores / softcap) ** 2
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        out[b, t, n] = weights @ v[b, seen, n // group]
        d_weights = v[b, seen, n // group] @ d_out[b, t, n]
        d_scores = scale * slope * weights * (d_weights - weights @ d_weights)
        d_q[b, t, n] = d_scores @ k[b, seen, n // group]
        d_k[b, seen, n // group] += np.outer(d_scores, q[b, t, n])
        d_v[b, seen, n // group] += np.outer(weights, d_out[b, t, n])
    return out, d_q, d_k, d_v


def form_of(case):
    return {name: case[name] for name in ("window", "softcap", "scale")}


def measured(name, case, q, k, v, segments, d_out):
    form = kernels.Form(**form_of(case))

    def run(q, k, v):
        return IMPLEMENTATIONS[name](q, k, v, segments, form)

    out, back = jax.vjp(jax.jit(run), q, k, v)
    return out, *back(jnp.asarray(d_out, out.dtype))


@pytest.mark.parametrize(("name", "case"), TABLE)
def test_results_and_gradients_equal_float64(name, case):
    q, k, v, segments = inputs(case)
    d_out = np.random.default_rng(1).normal(size=q.shape)
    got = measured(name, case, q, k, v, segments, d_out)
    want = reference(q, k, v, segments, **form_of(case), d_out=d_out)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_bfloat16_is_as_near_as_its_eight_bits_allow(name):
    case = PLAIN | dict(heads=4)
    q, k, v, segments = inputs(case, jnp.bfloat16)
    d_out = np.random.default_rng(1).normal(size=q.shape).astype(jnp.bfloat16)
    got = measured(name, case, q, k, v, segments, d_out)
    want = reference(q, k, v, segments, **form_of(case), d_out=d_out.astype(np.float64))
    for one, other in zip(got, want, strict=True):
        assert one.dtype == jnp.bfloat16
        error = np.abs(np.asarray(one, np.float64) - other)
        assert error.max() <= 2**-6 * np.abs(other).max()  # two bits more than one rounding
        assert error.mean() <= 2**-8 * np.abs(other).mean() * 2


def test_by_default_scores_are_divided_by_the_root_of_the_width():
    q, k, v, segments = inputs(PLAIN)
    got = attention.attention(q, k, v, segments)
    want = attention.attention(q, k, v, segments, scale=8**-0.5)
    np.testing.assert_array_equal(got, want)


def test_long_rows_are_cut_into_blocks_where_no_kernel_is(monkeypatch):
    monkeypatch.setattr(attention, "SHORT", 4)
    q, k, v, segments = inputs(PLAIN | dict(length=5))
    assert "while" in str(jax.make_jaxpr(attention.attention)(q, k, v, segments))
    got = attention.attention(q, k, v, segments)
    want = attention.attention(q, k, v, segments, "einsum")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_blocks_never_hold_the_scores_of_a_row():
    def total(q, segments):
        return jnp.sum(attention.attention(q, q, q, segments, "blockwise"))

    q = jax.ShapeDtypeStruct((1, 4096, 2, 8), jnp.float32)
    segments = jax.ShapeDtypeStruct((1, 4096), jnp.int32)
    used = jax.jit(jax.grad(total)).lower(q, segments).compile().memory_analysis()
    assert used.temp_size_in_bytes < 4096 * 4096  # a quarter of one head's scores in float32


def test_blocks_no_query_may_see_are_not_computed():
    """What is skipped may be anything, even what would spoil all it touches."""
    q, k, v, segments = inputs(PLAIN)
    segments = np.repeat(np.arange(1, 9, dtype=np.int32), 16)[None].repeat(2, 0)
    want = attention.attention(q, k, v, segments, "einsum")
    k[:, :16] = v[:, :16] = np.nan
    got = IMPLEMENTATIONS["blockwise"](q, k, v, segments, kernels.Form(**form_of(PLAIN)))
    assert np.isnan(got[:, :16]).all()
    assert np.isfinite(got[:, 16:]).all()
    window = kernels.Form(window=5, softcap=None, scale=1.0)
    got = IMPLEMENTATIONS["blockwise"](q, k, v, np.ones_like(segments), window)
    assert np.isfinite(got[:, 32:]).all()
    assert want.shape == got.shape


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (dict(implementation="flash"), "attention='flash'; want one of auto, einsum"),
        (dict(implementation="triton", window=3), "cannot: window=3.*use attention='blockwise'"),
        (dict(implementation="triton", softcap=3.0), "cannot: softcap=3.0"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(wrong, match):
    with pytest.raises(ValueError, match=match):
        attention.attention(*inputs(PLAIN), **wrong)


def lower(platform, length, shape, width=128, **form):
    """StableHLO of forward and backward, lowered for a machine that is not here."""
    implementation = attention.BY_BACKEND[platform]
    q = jax.ShapeDtypeStruct((8, length, 4, width), jnp.bfloat16)
    k = jax.ShapeDtypeStruct((8, length, 2, width), jnp.bfloat16)
    segments = jax.ShapeDtypeStruct((8, length), jnp.int32)

    def loss(q, k, v, segments):
        out = attention.attention(q, k, v, segments, implementation, **form)
        return jnp.sum(out.astype(jnp.float32))

    machine = mesh.make(shape).abstract_mesh
    if platform == "gpu":  # the kernel asks which one it is lowered for
        card = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
        machine = machine.update(abstract_device=card)
    with jax.sharding.use_abstract_mesh(machine):
        grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        export = jax.export.export(
            grad,
            platforms=["cuda" if platform == "gpu" else platform],
            disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")],
        )
        return export(q, k, k, segments).mlir_module()


EVERYWHERE = recipe_train.Mesh(data=2, fsdp=2, tensor=2)


@pytest.mark.parametrize("form", [{}, dict(window=100), dict(softcap=50.0, scale=0.1)])
def test_the_tpu_kernel_lowers_with_segments_on_a_mesh(form):
    text = lower("tpu", 256, EVERYWHERE, **form)
    assert text.count("tpu_custom_call") >= 2  # forward, and backward
    assert "tensor<2x256x256x" not in text  # scores of all heads of a device


def test_the_gpu_kernel_lowers_with_segments_on_a_mesh():
    text = lower("gpu", 256, EVERYWHERE, width=64)
    assert text.count("triton") >= 2
    assert "tensor<2x256x256x" not in text


def test_the_tpu_kernel_cuts_a_row_into_the_first_blocks_that_divide_it(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCKS", (256, 128))
    assert kernels.block_for(512) == 256
    assert kernels.block_for(384) == 128
    assert lower("tpu", 512, EVERYWHERE).count("tpu_custom_call") == 3


def test_the_tpu_kernel_refuses_rows_it_cannot_cut_into_blocks():
    with pytest.raises(ValueError, match=r"rows of 100 tokens.*multiple of 128"):
        lower("tpu", 100, EVERYWHERE)
