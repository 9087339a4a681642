"""What Python code imports from `lrl_jax` itself: recipes, models, what they generate."""

import dataclasses
import subprocess
import sys

import hand_tokenizer
import jax
import numpy as np
import pytest
import tiny_llama

import lrl_jax
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import generate as decoding
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.recipe import train as recipe_train

TOKENIZER = hand_tokenizer.make()
CFG = dataclasses.replace(tiny_llama.CFG, vocab_size=TOKENIZER.size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama.write(tmp_path_factory.mktemp("model"), CFG, TOKENIZER)


def test_importing_the_package_loads_no_library():
    code = "import sys, lrl_jax; print(sorted({'jax', 'numpy', 'pydantic'} & {*sys.modules}))"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout == "[]\n"


def test_every_public_name_is_there_and_others_are_refused_with_the_list():
    assert all(callable(getattr(lrl_jax, name)) for name in lrl_jax.__all__)
    assert {*lrl_jax.__all__} <= {*dir(lrl_jax)}
    with pytest.raises(AttributeError, match=r"no attribute .load_modle.; it has .*load_model"):
        getattr(lrl_jax, "load_" + "modle")


def test_a_shipped_recipe_is_read_by_its_name_with_overrides():
    assert lrl_jax.load_recipe("quickstart", "train.batch_size=8").train.batch_size == 8
    with pytest.raises(ValueError, match=r"quikstart: no such recipe.*did you mean 'quickstart'"):
        lrl_jax.load_recipe("quikstart")


def test_a_model_of_a_folder_generates_what_its_parameters_give(folder):
    mesh = recipe_train.Mesh(data=1, fsdp=2, tensor=1)
    devices = jax.devices()[:2]
    model = lrl_jax.load_model(str(folder), mesh=mesh, devices=devices)
    assert model.tokenizer.fingerprint == lrl_jax.load_tokenizer(str(folder)).fingerprint
    alone = meshes.make(recipe_train.Mesh(fsdp=1), devices[:1])
    params = jax.device_put({name: np.asarray(x) for name, x in model.params.items()}, devices[0])
    plain = MeasuredModel(CFG, params, TOKENIZER, alone, 0, 1)
    settings = decoding.Settings(max_new_tokens=5, ends=(TOKENIZER.eos_id,), continues=True)
    ((_, got),) = decoding.generate(plain, [TOKENIZER.encode("ab abc")], settings, 1)
    assert lrl_jax.generate(model, ["ab abc"], max_new_tokens=5) == [got.text]
    drawn = lrl_jax.generate(model, ["ab abc"], max_new_tokens=5, temperature=5.0, seed=3)
    assert drawn == lrl_jax.generate(model, ["ab abc"], 5, temperature=5.0, seed=3) != [got.text]
    whole = TOKENIZER.decode([*TOKENIZER.encode("ab abc"), *got.ids])
    assert whole.startswith(f"ab abc{got.text}")
    assert lrl_jax.generate(model, (text for text in ["ab abc"]), 5) == [got.text]
    for prompts, want in (
        ("ab", r"prompts='ab'; want a list"),
        ([5], r"prompts\[0\]: 5 is no conversation"),
        ([{"role": "user", "content": "a"}], r"prompts\[0\]: {.* is no conversation"),
        ([[{"role": "assistant", "content": "a"}]], r"prompts\[0\]: the last turn .* the user's"),
    ):
        with pytest.raises(ValueError, match=want):
            lrl_jax.generate(model, prompts)


def test_conversations_want_a_chat_template_and_no_texts_beside_them(folder):
    model = lrl_jax.load_model(str(folder), devices=jax.devices()[:1])
    talk = [{"role": "user", "content": "ab"}]
    with pytest.raises(ValueError, match="got both, so call it twice"):
        lrl_jax.generate(model, ["ab", talk])
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        lrl_jax.generate(model, [talk])
    source = b"{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
    source += b"{% endfor %}"
    files = {**TOKENIZER.files, "chat_template.jinja": source}
    model = dataclasses.replace(model, tokenizer=dataclasses.replace(TOKENIZER, files=files))
    want = [text.removeprefix(" ") for text in lrl_jax.generate(model, ["ab"], max_new_tokens=5)]
    assert lrl_jax.generate(model, [talk], max_new_tokens=5) == want
