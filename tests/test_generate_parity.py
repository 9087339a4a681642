"""Greedy answers in a batch equal those of transformers to each prompt, token for token."""

import hand_tokenizer
import jax
import numpy as np
import pytest

from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import generate
from lrl_jax.evaluate.generate import Settings
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.recipe import train as recipe_train

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
parity = pytest.importorskip("test_hf_parity")

STEPS = 24
LENGTHS = (1, 3, 20, 40, 70)  # of prompts with bos: within, at and beyond windows of 17


def prompts():
    rng = np.random.default_rng(0)
    return [[1, *rng.integers(3, 97, length - 1).tolist()] for length in LENGTHS]


def theirs(model, prompt, **settings):
    ids = torch.tensor([prompt])
    settings = dict(max_new_tokens=STEPS, do_sample=False, pad_token_id=2) | settings
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    new = out[0, len(prompt) :].tolist()
    return new[: new.index(2)] if 2 in new else new


@pytest.mark.parametrize("variant", ["llama3.1", "llama3.2", "qwen2", "qwen3", "gemma3"])
def test_greedy_answers_equal_those_of_transformers(variant, tmp_path):
    model, _, cfg, params = parity.loaded(parity.model_of(variant), tmp_path)
    grid = meshes.make(recipe_train.Mesh(fsdp=1), jax.devices()[:1])
    ours = MeasuredModel(cfg, params, hand_tokenizer.make(), grid, 0, 1)
    for settings in ({}, {"repetition_penalty": 1.3}):
        asked = Settings(max_new_tokens=STEPS, ends=(2,), **settings)
        got = dict(generate.generate(ours, prompts(), asked, batch_size=4))
        want = [theirs(model, prompt, **settings) for prompt in prompts()]
        assert [[*got[i].ids] for i in range(len(want))] == want
        assert max(map(len, want)) > 4
