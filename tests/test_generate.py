"""Generation, by the slow definition and by the released model's own words."""

import dataclasses
import functools
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
from lrl_jax.evaluate.decoding import lengths, program, sampling, stops
from lrl_jax.evaluate.generate import Counters, Settings
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.hf import families, load
from lrl_jax.recipe import train as recipe_train
from lrl_jax.vocab.tokenizer import auto, sentencepieces
from lrl_jax.vocab.tokenizer import load as tokenizers

BOS, EOS = 1, 2
PROMPTS = [[5, 6, 7], [], [8] * 40, [9, 10], [11, 12, 13, 14]]
TOKENIZER = hand_tokenizer.make()  # ids 3 to 96 are bytes


def alone(devices=1, **axes):
    return meshes.make(recipe_train.Mesh(**axes or {"fsdp": 1}), jax.devices()[:devices])


@pytest.fixture(scope="module")
def params():
    return tiny_llama.params()


def measured(params, mesh=None, **fields):
    return MeasuredModel(CFG, params, TOKENIZER, mesh or alone(), 0, 1, **fields)


def slowly(params, prompt, count, eos=EOS, penalty=1.0, before=(BOS,)):
    """Reads everything again for every token."""
    first = len(prompt) + len(before)
    ids = np.zeros((1, -(-(first + count) // 64) * 64), np.int32)
    ids[0, :first] = [*before, *prompt]
    out = []
    for end in range(first, first + count):
        scores = logits(params, ids)[0, end - 1].copy()
        seen = [*{*ids[0, :end].tolist()}]
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
        token = int(np.argmax(scores))
        if token == eos:
            break
        out.append(token)
        ids[0, end] = token
    return out


def generated(params, prompts, count, eos=EOS, batch_size=2, mesh=None, counters=None, **settings):
    model = measured(params, mesh)
    asked = Settings(max_new_tokens=count, ends=(eos,), **settings)
    out = dict(generate.generate(model, prompts, asked, batch_size, counters))
    assert sorted(out) == [*range(len(prompts))]
    return [[*out[i].ids] for i in range(len(prompts))]


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
    assert generated(params, PROMPTS, 6, eos=eos) == want


def test_any_of_several_ends_ends_an_answer_and_says_so(params):
    free = slowly(params, PROMPTS[0], 6, eos=-1)
    assert free[0] != free[1]
    settings = Settings(max_new_tokens=6, ends=(96, free[5], free[1]))
    ((_, got),) = generate.generate(measured(params), PROMPTS[:1], settings, 1)
    assert ([*got.ids], got.why, got.tokens) == (free[:1], "end", 2)


def test_decoding_stops_when_all_rows_have_ended(params):
    ending = [80, 81, 82]
    eos, following = slowly(params, ending, 2, eos=-1)
    assert following != eos
    counters = Counters()
    assert generated(params, [ending] * 2, 6, eos=eos, counters=counters) == [[], []]
    assert (counters.steps, counters.new_tokens, counters.occupancy) == (1, 2, 1.0)


def test_rows_that_ended_are_refilled_while_others_go_on(params):
    eos = slowly(params, PROMPTS[0], 3, eos=-1)[2]
    free = [slowly(params, [i, i + 1, i], 30, eos=eos) for i in range(3, 40)]
    long = next(i for i, ids in enumerate(free) if len(ids) == 30)
    prompts = [[long + 3, long + 4, long + 3]] + [PROMPTS[0]] * 6
    want = [free[long]] + [slowly(params, PROMPTS[0], 30, eos=eos)] * 6
    counters = Counters()
    assert generated(params, prompts, 30, eos=eos, counters=counters) == want
    assert counters.answers == 7
    assert counters.steps <= 30 + 3  # the long answer beside all six short ones


def test_many_refills_go_round_the_slots(params):
    prompts = [[3 + i, 4 + i % 7] for i in range(40)]
    want = [slowly(params, prompt, 6) for prompt in prompts]
    counters = Counters()
    assert generated(params, prompts, 6, counters=counters) == want
    assert counters.steps > 64  # of a cache of 32 slots


def test_a_cache_is_lengthened_when_rows_outgrow_it(params):
    prompts = [[5, 6] * 118, [7]]
    want = [slowly(params, prompt, 40) for prompt in prompts]
    assert lengths.sizes(277, 256, 32) == [256, 320]
    assert generated(params, prompts, 40) == want


def test_what_all_prompts_begin_with_is_read_once(params):
    before = [*range(3, 90)]
    prompts = [[*before, 5, 6, 7], [*before], [*before, 9], [*before, *[11] * 40]]
    want = [slowly(params, prompt, 6) for prompt in prompts]
    counters = Counters()
    assert generated(params, prompts, 6, counters=counters) == want
    assert counters.prompt_tokens == 87 + 4 + 1 + 2 + 41  # bos and 86 of them, then the rest


def test_bos_is_put_in_front_once(params):
    want = generated(params, PROMPTS, 12)
    assert generated(params, [[BOS, *prompt] for prompt in PROMPTS], 12) == want
    assert want == [slowly(params, prompt, 12) for prompt in PROMPTS]


def test_no_bos_is_put_in_front_where_a_template_has_none(params):
    prompts = [[5, 6, 7], [8] * 40, [BOS, 9]]
    got = generated(params, prompts, 12, bos=False)
    assert got == [slowly(params, prompt, 12, before=()) for prompt in prompts]
    assert got[:2] != generated(params, prompts[:2], 12)


def test_an_answer_begins_with_what_it_is_forced_to_begin_with(params):
    got = generated(params, PROMPTS, 6, prefix=(30, 31))
    assert got == [[30, 31, *slowly(params, [*prompt, 30, 31], 6)] for prompt in PROMPTS]


def test_tokens_seen_before_count_for_less(params):
    want = [slowly(params, prompt, 12, penalty=1.7) for prompt in PROMPTS]
    assert want != [slowly(params, prompt, 12) for prompt in PROMPTS]
    assert generated(params, PROMPTS, 12, repetition_penalty=1.7) == want


def test_no_prompts_give_no_text(params):
    assert generated(params, [], 4) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0; want a whole number, 1 or more"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5; want a whole number"),
        ({"max_new_tokens": True}, "max_new_tokens=True; want a whole number"),
        ({"temperature": "hot"}, "temperature='hot'; want 0"),
        ({"stops": "ab"}, "stops='ab'; want a tuple of texts"),
        ({"ends": 2}, "ends=2; want a tuple of ids"),
        ({"temperature": -1.0}, "temperature=-1.0; want 0"),
        ({"temperature": float("nan")}, "temperature=nan; want 0"),
        ({"top_p": 0.0}, "top_p=0.0; want above 0"),
        ({"min_p": 1.5}, "min_p=1.5; want 0 to 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0; want above 0"),
        ({"seed": -1}, "seed=-1; want a whole number"),
        ({"stops": ("",)}, "want a tuple of texts that are not empty"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"max_new_tokens": 4, "ends": ()} | setting)


def test_the_mesh_changes_no_token(params):
    want = generated(params, PROMPTS, 6)
    mesh = alone(8, data=2, fsdp=2, tensor=2)
    placed = jax.device_put(params, meshes.param_shardings(CFG, mesh))
    assert generated(placed, PROMPTS, 6, mesh=mesh) == want
    before = [*range(3, 90)]
    shared = [[*before, i] for i in range(6)]
    assert generated(placed, shared, 6, mesh=mesh) == generated(params, shared, 6)


def test_a_prompt_and_its_answer_are_no_longer_than_the_model_reads(params):
    counters = Counters()
    model, long = measured(params, context=32), [*range(3, 53)]
    settings = Settings(max_new_tokens=20, ends=(-2,))
    got = dict(generate.generate(model, [[5] * 12, long], settings, 2, counters))
    assert [*got[0].ids] == slowly(params, [5] * 12, 19, eos=-2)  # 13 and 19 are 32
    assert [*got[1].ids] == slowly(params, long[-15:], 16, eos=-2)  # half of it is for the answer
    assert counters.truncated == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_writes_its_slot_in_place(dtype):
    """No copy of a layer's keys, and none of another dtype: else steps cost depth squared."""
    cfg = dataclasses.replace(CFG, dtype=dtype)
    setup = program.Setup(cfg, sampling.Way(), 97, (), 1, apart=True)
    params = jax.eval_shape(program.apart, tiny_llama.params(cfg))
    rows = jax.eval_shape(functools.partial(program.new_rows, setup, 2, 40))
    number = jax.ShapeDtypeStruct((), np.float32)
    knobs = sampling.Knobs(*[number] * 4, jax.ShapeDtypeStruct((2,), np.uint32))
    live, count = jax.ShapeDtypeStruct((2,), bool), jax.ShapeDtypeStruct((), np.int32)
    lowered = program.decode.lower(setup, params, rows, knobs, live, count, count)
    lines = [line for line in lowered.compile().as_text().splitlines() if "[2,2,40,8]" in line]
    assert any("dynamic-update-slice" in line for line in lines)
    assert not [line for line in lines if " copy(" in line or " convert(" in line]


# ---------------------------------------------------------------------------- drawing
def test_an_answer_depends_on_its_prompt_and_the_seed_alone(params):
    draw = dict(temperature=1.0, top_p=0.9, min_p=0.01, seed=7)
    want = generated(params, PROMPTS, 8, **draw)
    assert generated(params, PROMPTS, 8, batch_size=8, **draw) == want
    assert generated(params, PROMPTS[::-1], 8, batch_size=1, **draw) == want[::-1]
    assert generated(params, PROMPTS, 8, **draw | {"seed": 8}) != want
    assert want != [slowly(params, prompt, 8) for prompt in PROMPTS]


def test_equal_prompts_draw_apart(params):
    got = generated(params, [[5, 6]] * 3, 8, temperature=1.0)
    assert len({*map(tuple, got)}) == 3
    assert generated(params, [[5, 6]], 8, temperature=1.0) == got[:1]


def test_tokens_are_drawn_as_often_as_they_are_probable(params):
    scores = logits(params, np.array([[BOS, 5]]))[0, 1] / 2.0
    want = np.exp(scores - scores.max())
    want /= want.sum()
    got = generated(params, [[5]] * 2000, 1, eos=-1, batch_size=500, temperature=2.0)
    shares = np.bincount([ids[0] for ids in got], minlength=97) / 2000
    assert np.abs(shares - want).max() < 4 * np.sqrt(want.max() / 2000)


def test_a_low_top_p_or_a_high_min_p_takes_the_most_probable_token(params):
    want = [slowly(params, prompt, 6) for prompt in PROMPTS]
    assert generated(params, PROMPTS, 6, temperature=3.0, top_p=1e-6) == want
    assert generated(params, PROMPTS, 6, temperature=3.0, min_p=1.0) == want


# ---------------------------------------------------------------------------- stop strings
def spelt(text):
    return [3 + byte for byte in text.encode()]


def test_a_stop_string_is_found_across_tokens_and_inside_characters():
    decode = TOKENIZER.decode
    ids = [259, *spelt("\u00e9\u00e8"), *spelt("b")]
    got = stops.find(decode, ids, ["\u00e8"], 0, 0)
    assert got == stops.Cut((259, *spelt("\u00e9")), "\u00e9", 5)
    assert stops.find(decode, ids[:4], ["\u00e8"], 0, 0) is None  # half of its bytes
    got = stops.find(decode, [261, 262, 264, 262], ["c b"], 0, 0)
    assert got == stops.Cut((261,), "b", 3)


def test_the_first_of_several_stop_strings_cuts_and_a_token_may_be_cut_in_two():
    ids = [261, 264, 265]  # "b", " b", " c"
    got = stops.find(TOKENIZER.decode, ids, [" c", "b "], 0, 0)
    assert got == stops.Cut((), "", 2)
    got = stops.find(TOKENIZER.decode, ids, ["b c"], 0, 0)
    assert got == stops.Cut((261,), "b ", 3)


def test_a_stop_string_in_what_was_forced_does_not_count():
    ids = [261, 262, 261, 262]
    assert stops.find(TOKENIZER.decode, ids, ["bc"], 2, 0) == stops.Cut((261, 262), "bc", 2)
    assert stops.find(TOKENIZER.decode, ids[:3], ["bc"], 2, 0) is None


def test_an_answer_ends_where_its_stop_string_is_complete(params):
    prompt = PROMPTS[3]
    free = slowly(params, prompt, 12, eos=-1)
    text = TOKENIZER.decode(free)
    at = next(i for i in range(2, 12) if text.find(text[i : i + 2]) == i)
    settings = Settings(max_new_tokens=12, ends=(-2,), stops=(text[at : at + 2],))
    (_, got), *_ = generate.generate(measured(params), [prompt], settings, 2)
    assert (got.text, got.why) == (text[:at], "stop")
    assert TOKENIZER.decode(free[: got.tokens]) == text[: at + 2]
    assert TOKENIZER.decode(got.ids) == text[:at]


def test_a_character_that_is_cut_short_is_left_out():
    assert stops.finished(TOKENIZER.decode([261, *spelt("\u00e9")[:1]])) == "b"
    assert stops.safe(TOKENIZER.decode([261, *spelt("\u00e9")[:1]]), ()) == "b"


def test_an_answer_is_streamed_without_what_a_stop_string_may_cut(params):
    text = TOKENIZER.decode(slowly(params, PROMPTS[3], 12, eos=-1))
    rows = generate.Engine(measured(params), 1)
    settings = Settings(max_new_tokens=12, ends=(-2,), stops=(text[6:9],))
    pieces = [*generate.stream(rows, PROMPTS[3], settings)]
    assert len(pieces) > 2
    assert "".join(pieces) == text[: text.find(text[6:9])]


def test_text_that_continues_a_prompt_is_what_it_adds_to_it():
    ids = [TOKENIZER.bos_id, *TOKENIZER.encode("b \u00e9")]  # its last character is two bytes
    space, a, b = TOKENIZER.encode("a b")[0], 260, 264  # what " a", "a" and " b" are
    after = stops.continuing(TOKENIZER.decode, ids)
    assert TOKENIZER.decode([space, a, b]) == "aa b"
    assert after([space, a, b]) == " aa b"
    assert after([a, b]) == "a b"
    assert after([]) == ""
    assert stops.find(after, [space, b], (" a",), 0, 0).text == ""


def test_text_that_continues_many_bytes_is_decoded_with_whole_characters_of_them():
    fast = auto.FastCodec(sentencepieces.fast_form(TOKENIZER))  # spoils all bytes beside odd ones
    after = stops.continuing(
        lambda ids: fast.decode_batch([ids])[0], TOKENIZER.encode("\u0b95" * 40)
    )
    assert after([263, *spelt("\u0b95")]) == " a\u0b95"
    assert after(spelt("\u0b95")) == "\u0b95"


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
    model = MeasuredModel(cfg, params, own, alone(), 0, 1, context=512)
    settings = Settings(max_new_tokens=200, ends=(own.eos_id,))
    ((_, got),) = generate.generate(model, [[]], settings, batch_size=1)
    want = (DATA / "models" / "stories260K-raw" / "expected_greedy_200.txt").read_text()
    assert got.text == own.decode(got.ids) == want
    golden = json.loads(data_file("models/stories260K-hf/golden.json").read_text())
    assert [own.bos_id, *got.ids] == golden["greedy_ids_200"]


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


def test_an_answer_in_a_chat_ends_where_its_turn_does(params):
    tokenizer = hand_tokenizer.make(controls=("<|im_start|>", "<|im_end|>"))
    cfg = dataclasses.replace(CFG, vocab_size=tokenizer.size)
    model = MeasuredModel(cfg, tiny_llama.params(cfg), tokenizer, alone(), 0, 1)
    asked = [{"instruction": "a b"}]
    ids = [tokenizer.control("<|im_start|>"), *tokenizer.encode("user\na b")]
    ids += [tokenizer.control("<|im_end|>"), *tokenizer.encode("\n")]
    ids += [tokenizer.control("<|im_start|>"), *tokenizer.encode("assistant\n")]
    free = Settings(max_new_tokens=12, ends=())
    ((_, whole),) = generate.generate(model, [ids], free, 1)
    want = Settings(max_new_tokens=12, ends=(tokenizer.control("<|im_end|>"),))
    ((_, cut),) = generate.generate(model, [ids], want, 1)
    assert generate.answers(model, "chatml", asked, 12, 1) == [cut.text]
    assert whole.ids[: len(cut.ids)] == cut.ids
