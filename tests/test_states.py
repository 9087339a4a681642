"""States of every layer are those of transformers, whatever a sentence is packed with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_llama

from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import states
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train

DEPTH, WIDTH = tiny_llama.CFG.depth, tiny_llama.CFG.width


@dataclasses.dataclass(frozen=True)
class Ids:
    """What pooling asks of a tokenizer."""

    bos_id = 1
    pad_id = 0


def model(cfg=tiny_llama.CFG, params=None, length=128, context=0, **axes):
    shape = recipe_train.Mesh(**{"data": 1, "fsdp": 1, **axes})
    grid = meshes.make(shape, jax.devices()[: shape.data * shape.fsdp * shape.tensor])
    params = params or tiny_llama.params(cfg)
    placed = jax.device_put(params, meshes.param_shardings(cfg, grid))
    return MeasuredModel(cfg, placed, Ids(), grid, length, 1, context=context)


def sentences(*lengths):
    rng = np.random.default_rng(0)
    return [[1, *rng.integers(3, 97, length - 1).tolist()] for length in lengths]


def by_hand(states_LTD):
    """The poolings of one sentence's states, in float64."""
    weights_T1 = np.arange(1.0, 1 + states_LTD.shape[1])[:, None]
    return {
        "weighted": (states_LTD * weights_T1[None]).sum(1) / weights_T1.sum(),
        "mean": states_LTD.mean(1),
        "last": states_LTD[:, -1],
    }


# ---------------------------------------------------------------------------- transformers
@pytest.mark.parametrize("variant", ["gemma3", "phi3_long", "olmo2"])
def test_pooled_states_are_those_of_transformers_for_each_sentence_alone(variant, tmp_path):
    """Scaled embeddings, windows, two kinds of layers; angles by length; norms at other places."""
    torch = pytest.importorskip("torch")
    parity = pytest.importorskip("test_hf_parity")
    hf, _, cfg, params = parity.loaded(parity.model_of(variant), tmp_path)
    asked = sentences(3, 40, 64, 70, 5)  # LongRope's angles change beyond 64, windows are 17
    got = states.pool(model(cfg, params, length=256), asked, batch_size=2)
    for n, ids in enumerate(asked):
        with torch.no_grad():
            hidden = hf(torch.tensor([ids]), output_hidden_states=True).hidden_states
        want = by_hand(np.stack([h[0].numpy() for h in hidden]).astype(np.float64))
        for name in states.POOLINGS:
            assert np.abs(want[name]).max() > 0.1
            np.testing.assert_allclose(got[name][:, n], want[name], rtol=0, atol=1e-4)


# ---------------------------------------------------------------------------- packing
@pytest.fixture(scope="module")
def alone():
    asked = sentences(2, 9, 30, 31, 100, 7, 7, 60)
    pooled = [states.pool(model(), [ids], 1) for ids in asked]
    return asked, {name: np.concatenate([x[name] for x in pooled], 1) for name in states.POOLINGS}


@pytest.mark.parametrize(
    ("batch_size", "length", "axes"),
    [(1, 128, {}), (8, 512, {}), (3, 128, {"data": 2, "fsdp": 2, "tensor": 2})],
)
def test_rows_batches_and_meshes_do_not_change_them(alone, batch_size, length, axes):
    asked, want = alone
    got = states.pool(model(length=length, **axes), asked, batch_size)
    for name in states.POOLINGS:
        assert got[name].shape == (DEPTH + 1, len(asked), WIDTH)
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=2e-6)


def test_many_sentences_go_in_several_batches(monkeypatch, alone):
    asked, want = alone
    monkeypatch.setattr(states, "SENTENCES", 3)
    states.state_sums.clear_cache()
    seen = []
    this = dataclasses.replace(model(), tick=lambda *done: seen.append(done))
    got = states.pool(this, asked, batch_size=4)
    states.state_sums.clear_cache()  # compiled for three
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert (seen[0], seen[-1]) == ((0, 8), (8, 8))
    assert len(seen) >= 4
    np.testing.assert_allclose(got["weighted"], want["weighted"], rtol=0, atol=2e-6)


def test_equal_sentences_have_equal_states_to_the_bit(alone):
    asked, _ = alone
    seen = []
    this = dataclasses.replace(model(), tick=lambda *done: seen.append(done))
    got = states.pool(this, [asked[3], *asked, asked[3]], 2)["mean"]
    assert seen[-1] == (8, 8)  # each is computed once
    assert np.array_equal(got[:, 0], got[:, 4])
    assert np.array_equal(got[:, 0], got[:, -1])


def test_a_batch_has_no_more_sentences_and_tokens_than_it_may():
    this = model(length=512)
    rng = np.random.default_rng(1)
    for sizes in (
        [2] * 700,
        [40] * 100,
        [500] + [2] * 700,
        rng.integers(2, 500, 200).tolist(),
        [600, 3, 3],
    ):
        length, rows, batches = states.lay_out(sizes, this, batch_size=4)
        assert sorted(i for batch in batches for row in batch for i in row) == [*range(len(sizes))]
        for batch in batches:
            assert len(batch) <= rows
            assert sum(map(len, batch)) <= states.SENTENCES
            assert all(sum(sizes[i] for i in row) <= length for row in batch)
        assert rows * length <= max(4 * 512, length)


def test_what_a_sentence_has_at_most_is_what_the_model_reads():
    assert states.longest(model()) == states.LONGEST == 2048
    assert states.longest(model(context=64)) == 64
    assert states.longest(model(context=10_000)) == 2048


# ---------------------------------------------------------------------------- in the model
def test_layers_that_are_apart_have_the_states_of_stacked_ones():
    tokens_BT = np.array(sentences(6, 6), np.int32)
    rows = tokens_BT, np.ones_like(tokens_BT), np.broadcast_to(np.arange(6), (2, 6))

    @jax.jit
    def states_of(params):
        return llama.bind(tiny_llama.CFG, params).states(*rows, lambda x_BTD: {"x": x_BTD})["x"]

    got, want = map(states_of, (llama.apart(tiny_llama.params()), tiny_llama.params()))
    assert got.shape == want.shape == (DEPTH + 1, 2, 6, WIDTH)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_the_states_of_all_tokens_are_never_kept():
    B, T = 2, 128
    batch = {
        name: jax.ShapeDtypeStruct((B, T), jnp.int32)
        for name in ("tokens", "segments", "positions", "sentences", "lasts")
    }
    params = llama.abstract(tiny_llama.CFG)
    traced = jax.make_jaxpr(states.state_sums, static_argnums=0)(tiny_llama.CFG, params, batch)

    def shapes(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (out.aval.shape for out in eqn.outvars)
            for value in eqn.params.values():
                inner = getattr(value, "jaxpr", value)  # closed or not
                yield from shapes(inner) if hasattr(inner, "eqns") else ()

    every = [*shapes(traced.jaxpr)]
    assert (DEPTH + 1, 3, states.SENTENCES, WIDTH) in every
    assert (B, T, WIDTH) in every
    assert [shape for shape in every if len(shape) > 3 and shape[-3:] == (B, T, WIDTH)] == []
