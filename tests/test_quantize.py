"""Weights in eight and four bits: the published values, bounds of the error, and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from lrl_jax.model import quantize

# Appendix E of QLoRA (arXiv 2305.14314).
PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_the_sixteen_values_are_those_the_paper_printed():
    np.testing.assert_allclose(quantize.codebook(), PUBLISHED, rtol=0, atol=2e-7)


def test_each_code_decodes_to_its_value():
    codes = jnp.arange(-8, 8).astype(jnp.int4)[:, None]
    got = quantize.decode(codes, jnp.full((1, 1), 2.0, jnp.bfloat16), "fD", "nf4")
    np.testing.assert_array_equal(got[:, 0], 2 * quantize.codebook())


def test_values_of_the_codebook_come_back_exactly():
    w_FD = 4.0 * jnp.asarray(np.resize(quantize.codebook(), (64, 3)))
    codes, scale = quantize.encode(w_FD, "fD", "nf4")
    np.testing.assert_array_equal(quantize.decode(codes, scale, "fD", "nf4"), w_FD)
    np.testing.assert_array_equal(np.asarray(scale, np.float32), [[4.0, 4.0, 4.0]])


def test_eight_bits_err_by_half_a_step_of_their_output():
    w_DNH = normal((32, 4, 8)) * jnp.arange(1.0, 9.0)[None, None]
    codes, scale_NH = quantize.encode(w_DNH, "NH", "int8")
    got = quantize.decode(codes, scale_NH, "NH", "int8")
    np.testing.assert_allclose(scale_NH, np.abs(w_DNH).max(0) / 127, rtol=1e-6)
    assert codes.dtype == jnp.int8
    assert (np.abs(got - w_DNH) <= 0.5001 * scale_NH[None]).all()


@pytest.mark.parametrize(
    ("shape", "letters", "axis"), [((6, 128), "Df", 1), ((128, 6), "fD", 0), ((6, 3, 96), "DNh", 2)]
)
def test_four_bits_err_by_half_the_widest_gap_of_their_block(shape, letters, axis):
    w = normal(shape)
    codes, scale = quantize.encode(w, letters, "nf4")
    count = quantize.blocks(shape[axis])
    assert scale.shape == tuple(count if i == axis else n for i, n in enumerate(shape))
    block = np.repeat(np.asarray(scale, np.float32), shape[axis] // count, axis)
    error = np.abs(quantize.decode(codes, scale, letters, "nf4") - w)
    gap = np.diff(quantize.codebook()).max() / 2
    assert (error <= (gap + 2**-7) * block).all()  # and bfloat16's rounding of the scale
    assert error.max() > 0.8 * gap * block.min()  # the bound is not idle
    assert error.mean() < 0.1  # of a normal distribution; QLoRA's table is this good


def test_nothing_but_zeros_stays_zero():
    for kind, letters in (("int8", "F"), ("nf4", "Df")):
        codes, scale = quantize.encode(jnp.zeros((2, 64)), letters, kind)
        assert not np.asarray(quantize.decode(codes, scale, letters, kind)).any()


def test_blocks_never_lie_along_the_width():
    """It is split over fsdp, and 6,656 / 64 = 104 blocks of LLaMA-33B over 64 chips do not go."""
    for letters in quantize.OUTPUTS:
        name = quantize.scale_name(f"layers/x_{letters}", "nf4")
        assert name.count("D") == 1
        assert sum(c.islower() for c in name.rpartition("_")[2]) == 1
