"""Instruct vectors: trained + scale * (instruct - base), and nothing for new rows."""

import dataclasses
import shutil

import hand_tokenizer
import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_llama

from lrl_jax.devices import mesh as meshes
from lrl_jax.hf import gate, load, save, vector
from lrl_jax.recipe import train as recipe_train
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

BASE = hand_tokenizer.make()  # 266 tokens
OLD = dataclasses.replace(tiny_llama.CFG, vocab_size=BASE.size)
NEW = dataclasses.replace(OLD, vocab_size=BASE.size + 4)
CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64}


def write(folder, cfg, seed, tokenizer: Tokenizer = BASE, dtype="float32"):
    """A Hugging Face folder of random weights; the weights, as they are read again."""
    params = tiny_llama.params(cfg, seed)
    save.save(folder, params, cfg, CONFIG, dtype, 10**9)
    family(tokenizer).write(tokenizer, str(folder))
    return load.load(folder, cfg, {n: w.sharding for n, w in params.items()}, "float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An instruct model and its base, with their weights."""
    out = []
    for seed, name in ((1, "instruct"), (2, "base")):
        folder = tmp_path_factory.mktemp(name)
        out.append((folder, write(folder, OLD, seed)))
    return out


@pytest.mark.parametrize("fsdp", [1, 4])
def test_the_difference_is_added_and_new_rows_stay(folders, fsdp):
    (instruct, after), (base, before) = folders
    mesh = meshes.make(recipe_train.Mesh(fsdp=fsdp), jax.devices()[:fsdp])
    places = meshes.param_shardings(NEW, mesh)
    mine = {n: jax.device_put(w, places[n]) for n, w in tiny_llama.params(NEW, 3).items()}
    got = vector.add(mine, NEW, instruct, base, 0.5, BASE.size)
    assert [*got] == [*mine]
    for name, w in mine.items():
        want, axis = np.array(w), {"embed_VD": 0, "unembed_DV": 1}.get(name)
        moved = 0.5 * (np.asarray(after[name]) - np.asarray(before[name]))
        if axis is None:
            want += moved
        else:
            rows = np.moveaxis(want, axis, 0)  # a view
            rows[:266] += np.moveaxis(moved, axis, 0)[:266]
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-6)
        assert got[name].sharding == w.sharding


def test_what_was_not_trained_becomes_the_instruct_model(folders):
    (instruct, after), (base, before) = folders
    got = vector.add(before, OLD, instruct, base, 1.0, BASE.size)
    for name, want in after.items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-6)


def test_more_tokens_of_the_instruct_model_are_left_out(folders, tmp_path):
    _, (base, before) = folders
    chatty = hand_tokenizer.make(controls=("<|im_start|>",))
    after = write(tmp_path, dataclasses.replace(OLD, vocab_size=267), 4, chatty)
    got = vector.add(before, OLD, tmp_path, base, 1.0, BASE.size)
    np.testing.assert_allclose(got["embed_VD"][:266], after["embed_VD"][:266], atol=1e-6)
    assert np.array_equal(got["embed_VD"][266:], before["embed_VD"][266:])


def test_weights_of_bfloat16_are_added_in_float32(folders):
    (instruct, after), (base, before) = folders
    half = {n: w.astype("bfloat16") for n, w in before.items()}
    got = vector.add(half, OLD, instruct, base, 1.0, BASE.size)["norm_D"]
    want = np.asarray(half["norm_D"], np.float32) + np.asarray(after["norm_D"] - before["norm_D"])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_the_gate_compares_with_the_model_and_its_vector(folders, tmp_path):
    (instruct, _), (base, before) = folders
    got = vector.add(before, OLD, instruct, base, 1.0, BASE.size)
    save.save(tmp_path, got, OLD, CONFIG, "float32", 10**9)
    family(BASE).write(BASE, str(tmp_path))
    texts = ["a b c abc", "cab bac"]
    assert not gate.check(tmp_path, OLD, got, BASE, texts, "float32").problems
    assert gate.check(tmp_path, OLD, before, BASE, texts, "float32").problems


@pytest.mark.parametrize("whose", ["instruct", "base"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_none_in_a_row_that_no_text_reaches_is_refused(
    folders, tmp_path, whose, number
):
    (instruct, _), (base, before) = folders
    places = {"instruct": instruct, "base": base}
    shutil.copytree(places[whose], tmp_path, dirs_exist_ok=True)
    held = safetensors.numpy.load_file(tmp_path / load.WEIGHTS)
    held["model.embed_tokens.weight"][260, 3] = number
    safetensors.numpy.save_file(held, tmp_path / load.WEIGHTS)
    places[whose] = tmp_path
    with pytest.raises(ValueError, match=r"export.vector: .*embed.* are not finite"):
        vector.add(before, OLD, places["instruct"], places["base"], 1.0, BASE.size)


def test_models_of_another_shape_or_other_tokens_are_refused(folders, tmp_path):
    (instruct, _), (base, before) = folders
    write(tmp_path / "wide", dataclasses.replace(OLD, mlp_width=64), 5)
    with pytest.raises(ValueError, match=r"wide: mlp_width is 64, of this run's model 48"):
        vector.add(before, OLD, tmp_path / "wide", base, 1.0, BASE.size)
    write(tmp_path / "moved", dataclasses.replace(OLD, vocab_size=267), 5,
          hand_tokenizer.make(first=("x",)))  # fmt: skip
    with pytest.raises(ValueError, match=r"token 0 is 'x' in one and '<unk>' in the other"):
        vector.add(before, OLD, tmp_path / "moved", base, 1.0, BASE.size)
    with pytest.raises(ValueError, match=r"has 266 pieces, this run's base 270"):
        vector.add(before, OLD, instruct, tmp_path / "moved", 1.0, 270)
