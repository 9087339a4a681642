"""Which mesh a machine gets, worked out by hand."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import pytest

from lrl_jax.devices import presets
from lrl_jax.devices.chips import GIB
from lrl_jax.model import llama

V5E, V4 = 15.75 * GIB, 30.75 * GIB


def cfg(width, depth, mlp_width, heads, kv_heads, vocab_size):
    return llama.LlamaConfig(
        vocab_size=vocab_size, width=width, depth=depth, mlp_width=mlp_width, num_heads=heads,
        num_kv_heads=kv_heads, head_width=width // heads, norm_eps=1e-5, rope_theta=1e4,
    )  # fmt: skip


SMALL = cfg(4096, 32, 11008, 32, 32, 42_000)  # Llama-2-7B
GROUPED = cfg(4096, 32, 14336, 32, 8, 142_000)  # Llama-3.1-8B
LARGE = cfg(6656, 60, 17920, 52, 52, 32_000)  # LLaMA-33B


@pytest.mark.parametrize(
    ("model", "chips", "rows", "memory", "slices", "want"),
    [
        (SMALL, 64, 64, V5E, 1, (2, 32, 1)),
        (SMALL, 16, 128, V5E, 1, (2, 8, 1)),  # 4.7 GiB a chip, as with one copy
        (SMALL, 64, 16, V5E, 1, (2, 8, 4)),  # a row for four chips
        (SMALL, 128, 128, V5E, 2, (4, 32, 1)),
        (LARGE, 64, 64, V4, 1, (2, 32, 1)),
        (SMALL, 1, 1, 99 * GIB, 1, (1, 1, 1)),
        (SMALL, 2, 2, 99 * GIB, 1, (1, 2, 1)),  # two copies would leave nothing to scatter
        (GROUPED, 8, 1, 99 * GIB, 1, (1, 1, 8)),
    ],
)
def test_a_machine_gets_its_mesh(model, chips, rows, memory, slices, want):
    got = presets.preset(chips, rows, model, memory, slices)
    assert (got.data, got.fsdp, got.tensor, got.slices) == (*want, slices)
    assert got.sequence == (got.tensor > 1)


def test_copies_share_their_state_only_where_they_divide_the_width():
    assert presets.preset(64, 64, SMALL, V5E, state=900 * GIB).data == 2  # 14 GiB a chip
    odd = dataclasses.replace(SMALL, width=4128)  # 32 x 129: over 32 chips, not over 64
    assert presets.preset(64, 64, odd, V5E, state=450 * GIB).data == 2
    with pytest.raises(ValueError, match="does not divide over 64 chips"):
        presets.preset(64, 64, odd, V5E, state=900 * GIB)


@pytest.mark.parametrize(
    ("model", "chips", "rows", "words"),
    [
        (LARGE, 16, 16, r"363.5 GiB, 16 chips .* hold 252.0 GiB; take 24 chips or more"),
        (GROUPED, 64, 2, r"2 rows .* 8 kv heads.*\(1, 2, 4, 8\); use a multiple of 64 rows, .* 8"),
    ],
)
def test_what_no_mesh_can_hold_is_refused_with_numbers(model, chips, rows, words):
    with pytest.raises(ValueError, match=words):
        presets.preset(chips, rows, model, V5E)


@given(st.sampled_from([1, 2, 4, 8, 16, 64, 256]), st.integers(0, 9), st.sampled_from([1, 2]))
def test_a_preset_divides_model_and_batch(chips, power, slices):
    try:
        got = presets.preset(chips, 2**power, GROUPED, 1e15, slices)
    except ValueError:
        return
    assert got.data * got.fsdp * got.tensor == chips
    assert (2**power) % (got.data * got.fsdp) == 0
    assert got.data % slices == 0
    assert not presets.undivided(GROUPED, got.tensor)
