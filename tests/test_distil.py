"""Token distillation: snippets in two readings, and input rows that learn to give equal states."""

import dataclasses

import hand_tokenizer
import jax
import numpy as np
import pytest
import tiny_llama

from lrl_jax.devices import mesh as meshes
from lrl_jax.embeddings import clues, distil
from lrl_jax.embeddings.moments import Snippets
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.recipe.schema import Distillation, Init
from lrl_jax.vocab.pieces import splice

A, B, C, _A, _B, _C = range(260, 266)  # the hand tokenizer's pieces
BASE = hand_tokenizer.make()  # 266 tokens
NEW, PLAN = splice.splice(BASE, ["\u2581ab", "bc"])
AB, BC = sorted(PLAN.added)
TEXTS = ["ab c ab", "cbc ab", "c ab a", "ac cbc bab", "a cab abcbc", "ab a c b"]
CFG = dataclasses.replace(tiny_llama.CFG, vocab_size=NEW.size)
FAST = Distillation(rate=1e-2, epochs=12, batch_size=4)


def cut(tmp_path, texts: list[str], **settings) -> Snippets:
    (tmp_path / "text.txt").write_text("\n".join(texts))
    init = Init(text=(str(tmp_path / "text.txt"),), distillation=Distillation(**settings))
    snippets = clues.build({"snippets"}, BASE, NEW, PLAN, init).snippets
    assert snippets is not None
    return snippets


def readings(snippets: Snippets) -> list[tuple[list[int], list[int]]]:
    """The old and the new reading of each snippet, without bos and padding."""
    pairs = zip(snippets.old_MT, snippets.old_M, snippets.new_MT, snippets.new_M, strict=True)
    return [(old_T[1:o].tolist(), new_T[1:n].tolist()) for old_T, o, new_T, n in pairs]


def learn(snippets, settings=FAST, cfg=CFG, dtype="float32", devices=1, seed=0):
    """The weights before and after, and what is said of them."""
    mesh = meshes.make(recipe_train.Mesh(fsdp=devices), jax.devices()[:devices])
    places = meshes.param_shardings(cfg, mesh)
    params = {
        name: jax.device_put(w.astype(dtype), places[name])
        for name, w in tiny_llama.params(cfg).items()
    }
    with jax.set_mesh(mesh):
        learnt, result = distil.learn(cfg, params, PLAN, snippets, settings, seed)
    return params, learnt, result


@pytest.fixture(scope="module")
def snippets(tmp_path_factory) -> Snippets:
    return cut(tmp_path_factory.mktemp("text"), TEXTS)


# ---------------------------------------------------------------------------- snippets
def test_a_snippet_is_the_text_as_the_base_reads_it_and_with_new_tokens(tmp_path):
    got = cut(tmp_path, ["c ab a"])
    assert readings(got) == [([_C, _A, B, _A], [_C, AB, _A])]
    assert (got.old_MT[0, 0], got.new_MT[0, 0]) == (1, 1)  # bos


def test_states_are_compared_from_the_first_new_token_on(tmp_path):
    got = cut(tmp_path, ["c ab a"])
    assert got.shared_MT[0].tolist() == [False, False, True, True, False]
    assert got.ends_MT[0].tolist() == [0, 1, 3, 4, 0]


def test_text_without_new_tokens_gives_no_snippet(tmp_path):
    assert readings(cut(tmp_path, ["c a", "ab", "a a"])) == [([_A, B], [AB])]


def test_a_long_line_is_cut_but_never_inside_of_a_new_token(tmp_path):
    got = cut(tmp_path, ["c c ab a"], length=3)
    assert readings(got) == [([_A, B, _A], [AB, _A])]  # _C _C stands alone, without a new token


def test_a_token_that_is_longer_than_a_snippet_is_passed_over(tmp_path):
    assert readings(cut(tmp_path, ["ab c", "cbc"], length=1)) == []


def test_a_snippet_counts_for_every_new_token_in_it_and_enough_is_enough(tmp_path):
    got = cut(tmp_path, ["ab", "cbc ab", "ab", "cbc"], snippets=1)
    assert got.counts == {AB: 2, BC: 1}
    assert len(readings(got)) == 2  # the second for the other token, and then both have enough


def test_of_a_long_line_only_the_windows_that_help_are_kept(tmp_path):
    got = cut(tmp_path, ["ab", "ab c cbc"], snippets=1, length=3)
    assert readings(got) == [([_A, B], [AB]), ([_C, B, C], [_C, BC])]


# ---------------------------------------------------------------------------- rows
def test_the_states_of_both_readings_come_near_each_other(snippets):
    _, _, result = learn(snippets)
    assert (result.learnt, result.scarce, result.snippets) == (2, 0, len(TEXTS))
    assert result.after < 0.7 * result.before


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_input_rows_of_new_tokens_move(snippets, dtype, tied):
    cfg = dataclasses.replace(CFG, tie_embeddings=tied)
    before, after, _ = learn(snippets, Distillation(rate=0.1, batch_size=2), cfg, dtype)
    assert before.keys() == after.keys()
    for name, w in after.items():
        assert w.dtype == dtype
        assert w.sharding == before[name].sharding
        same = np.asarray(w) == np.asarray(before[name])
        if name == "embed_VD":
            assert not same[[AB, BC]].any(-1).all()
            same = np.delete(same, [AB, BC], axis=0)
        assert same.all(), name


def test_the_error_is_that_of_the_hidden_states_computed_apart(tmp_path):
    text = cut(tmp_path, ["c ab a"])
    before, _, result = learn(text, Distillation(epochs=1))

    def hidden(ids: list[int]) -> np.ndarray:
        tokens_BT = np.array([ids], np.int32)
        positions_BT = np.arange(len(ids), dtype=np.int32)[None]
        model = llama.bind(CFG, before)
        return np.asarray(model.hidden(tokens_BT, np.ones_like(tokens_BT), positions_BT))[0]

    apart = hidden([1, _C, AB, _A])[[2, 3]] - hidden([1, _C, _A, B, _A])[[3, 4]]
    np.testing.assert_allclose(result.before, np.square(apart).mean(), rtol=1e-5)


def test_four_devices_learn_the_rows_of_one(snippets):
    one, four = (learn(snippets, devices=devices)[1]["embed_VD"] for devices in (1, 4))
    np.testing.assert_allclose(np.asarray(four), np.asarray(one), atol=1e-5)


def test_the_seed_decides_the_order_and_nothing_else_does(snippets):
    first, again, other = (np.asarray(learn(snippets, seed=s)[1]["embed_VD"]) for s in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_an_earlier_layer_can_be_compared_and_the_last_is_the_default(snippets):
    last, named, first = (
        np.asarray(learn(snippets, FAST.model_copy(update={"layer": layer}))[1]["embed_VD"])
        for layer in (None, 3, 1)
    )
    assert named.tobytes() == last.tobytes()
    assert first.tobytes() != last.tobytes()


def test_a_token_that_text_hardly_has_keeps_its_row(tmp_path):
    text = cut(tmp_path, ["ab c", "c ab", "cbc"])
    before, after, result = learn(text, FAST.model_copy(update={"fewest": 2}))
    assert (result.learnt, result.scarce) == (1, 1)
    assert np.array_equal(after["embed_VD"][BC], before["embed_VD"][BC])
    assert not np.array_equal(after["embed_VD"][AB], before["embed_VD"][AB])


def test_text_without_any_new_token_leaves_the_model_as_it_is(tmp_path):
    before, after, result = learn(cut(tmp_path, ["a c"]))
    assert after == before
    assert (result.learnt, result.scarce, result.snippets) == (0, 2, 0)


def test_what_cannot_be_learnt_is_refused(snippets):
    with pytest.raises(ValueError, match=r"distillation\.layer: 4, but the base has 3 layers"):
        learn(snippets, Distillation(layer=4))
    with pytest.raises(ValueError, match=r"distillation\.rate: 1e\+30: .* choose a lower rate"):
        learn(snippets, Distillation(rate=1e30, epochs=4, layer=1))
