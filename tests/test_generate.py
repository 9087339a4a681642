"""Greedy generation, by the slow definition and by the released model's own words."""

import json

from conftest import DATA, NO_DATA, data_file
import hand_tokenizer
import jax
import numpy as np
import pytest
import tiny_llama
from tiny_llama import CFG, logits

from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import generate
from lrl_jax.hf import families, load
from lrl_jax.recipe import train as recipe_train
from lrl_jax.vocab.tokenizer import load as tokenizers

BOS, EOS = 1, 2
PROMPTS = [[5, 6, 7], [], [8] * 40, [9, 10], [11, 12, 13, 14]]


@pytest.fixture(scope="module")
def params():
    return tiny_llama.params()


def slowly(params, prompt, count, eos=EOS):
    """Reads everything again for every token."""
    ids = np.zeros((1, 64), np.int32)
    ids[0, : len(prompt) + 1] = [BOS, *prompt]
    out = []
    for end in range(len(prompt) + 1, len(prompt) + 1 + count):
        token = int(np.argmax(logits(params, ids)[0, end - 1]))
        if token == eos:
            break
        out.append(token)
        ids[0, end] = token
    return out


def generated(params, prompts, count, **options):
    options = {"bos_id": BOS, "eos_id": EOS, "batch_size": 2} | options
    return generate.generate_ids(CFG, params, prompts, count, **options)


def test_prompts_of_any_length_go_on_as_if_they_were_alone(params):
    want = [slowly(params, prompt, 6) for prompt in PROMPTS]
    assert generated(params, PROMPTS, 6) == want
    assert generated(params, PROMPTS, 6, batch_size=8) == want


def test_a_row_ends_at_eos_and_others_go_on(params):
    free = [slowly(params, prompt, 6, eos=-1) for prompt in PROMPTS]
    eos = free[0][2]  # make a token that the first prompt reaches the end of document
    want = [slowly(params, prompt, 6, eos=eos) for prompt in PROMPTS]
    assert len(want[0]) <= 2
    assert max(map(len, want)) == 6
    assert generated(params, PROMPTS, 6, eos_id=eos) == want


def test_a_row_that_has_ended_stays_ended_so_that_the_loop_can_stop(params):
    ending, other = [80, 81, 82], [30, 31, 32]
    eos, following = slowly(params, ending, 2, eos=-1)
    assert following != eos
    going_on = slowly(params, other, 6, eos=-1)
    assert eos not in going_on
    tokens_BT = np.zeros((2, 32), np.int32)
    tokens_BT[:, :4] = [BOS, *ending], [BOS, *other]
    got = generate._decode(CFG, params, tokens_BT, np.array([4, 4]), 6, eos)
    np.testing.assert_array_equal(got, [[eos] * 6, going_on])


def test_bos_is_put_in_front_once(params):
    want = generated(params, PROMPTS, 12)
    assert generated(params, [[BOS, *prompt] for prompt in PROMPTS], 12) == want
    assert want == [slowly(params, prompt, 12) for prompt in PROMPTS]


def test_no_prompts_give_no_text(params):
    assert generated(params, [], 4) == []


def test_no_tokens_are_refused(params):
    with pytest.raises(ValueError, match="max_new_tokens=0; want 1 or more"):
        generated(params, [[5]], 0)


def test_the_mesh_changes_no_token(params):
    want = generated(params, PROMPTS, 6)
    mesh = meshes.make(recipe_train.Mesh(data=2, fsdp=2, tensor=2))
    placed = jax.device_put(params, meshes.param_shardings(CFG, mesh))
    assert generated(placed, PROMPTS, 6, mesh=mesh) == want


# ---------------------------------------------------------------------------- stories260K
@pytest.fixture(scope="module")
def stories():
    folder = DATA / "models" / "stories260K-hf"
    if not folder.exists():
        pytest.skip(NO_DATA)
    cfg = families.config_from_hf(load.read_config(folder), "float32")
    mesh = meshes.make(recipe_train.Mesh(fsdp=1), jax.devices()[:1])
    params = load.load(folder, cfg, meshes.param_shardings(cfg, mesh), "float32")
    return folder, cfg, params, tokenizers.load(folder)


def test_a_released_model_tells_its_released_story(stories):
    _, cfg, params, own = stories
    (ids,) = generate.generate_ids(
        cfg, params, [[]], 200, bos_id=own.bos_id, eos_id=own.eos_id, batch_size=1
    )
    want = (DATA / "models" / "stories260K-raw" / "expected_greedy_200.txt").read_text()
    assert own.decode(ids) == want
    golden = json.loads(data_file("models/stories260K-hf/golden.json").read_text())
    assert [own.bos_id, *ids] == golden["greedy_ids_200"]


def test_a_released_models_logits_are_ours(stories):
    _, cfg, params, _ = stories
    golden = np.load(data_file("models/stories260K-hf/golden_logits_greedy64.npz"))
    got = logits(params, golden["input_ids"][None], cfg=cfg)[0]
    np.testing.assert_allclose(got, golden["logits"], rtol=0, atol=1e-4)


def test_a_released_models_loss_is_the_published_one(stories):
    _, cfg, params, own = stories
    text = (DATA / "mono" / "en" / "tinystories_sample.txt").read_text()
    windows_BT = np.reshape(own.encode(text)[: 40 * 256], (40, 256))
    inputs_BT = np.insert(windows_BT, 0, own.bos_id, axis=1)[:, :-1]
    logp_BTV = jax.nn.log_softmax(logits(params, inputs_BT, cfg=cfg))
    got = -np.take_along_axis(np.asarray(logp_BTV), windows_BT[..., None], axis=-1).mean()
    np.testing.assert_allclose(got, 1.5547, atol=1e-3)


def test_an_answer_in_a_chat_ends_where_its_turn_does(monkeypatch):
    tokenizer = hand_tokenizer.make(controls=("<|im_start|>", "<|im_end|>"))
    seen = {}

    def decode(cfg, params, prompts, count, **ends):
        seen.update(ends, prompt=prompts[0])
        return [[263]]

    monkeypatch.setattr(generate, "generate_ids", decode)
    asked = [{"instruction": "a b"}]
    assert generate.answers(CFG, {}, tokenizer, "chatml", asked, 4) == ["a"]
    assert seen["eos_id"] == tokenizer.control("<|im_end|>")
    assert seen["prompt"][0] == tokenizer.control("<|im_start|>")
    generate.answers(CFG, {}, tokenizer, "alpaca", asked, 4)
    assert seen["eos_id"] == tokenizer.eos_id
