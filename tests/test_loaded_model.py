"""A model that Python code has loaded: what it says, saves and refuses."""

import dataclasses
import json
import sys

from fsspec.implementations.local import LocalFileSystem
import hand_tokenizer
import jax
import numpy as np
import object_store
import pytest
import tiny_llama

import lrl_jax as lrl
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import bits_per_byte, likelihood, states
from lrl_jax.evaluate import generate as decoding
from lrl_jax.evaluate.benchmark import choices
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.hf import gate, peft_write
from lrl_jax.model import lora
from lrl_jax.pipeline.api import saving
from lrl_jax.pipeline.run import Run
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train.checkpoint import VerificationError

TOKENIZER = hand_tokenizer.make()
CFG = dataclasses.replace(tiny_llama.CFG, vocab_size=TOKENIZER.size)
TEXTS = ["ab abc", "c", "cab " * 40]  # the last one is longer than a row


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama.write(tmp_path_factory.mktemp("model"), CFG, TOKENIZER)


@pytest.fixture(scope="module")
def model(folder):
    return lrl.load(folder, devices=jax.devices()[:1])


@pytest.fixture
def line(tmp_path):
    """A file of one line, which is quick to compare."""
    (tmp_path / "line.txt").write_text("ab abc\n")
    return [str(tmp_path / "line.txt")]


def by_hand(model, ids):
    """Natural logarithms of each token's probability after bos and those before it."""
    params = {name: np.asarray(x) for name, x in model.params.items()}
    logits_TV = tiny_llama.logits(params, [[1, *ids]], cfg=CFG)[0, :-1].astype(np.float64)
    logits_TV = logits_TV[:, : TOKENIZER.size]
    all_TV = logits_TV - np.log(np.exp(logits_TV).sum(-1, keepdims=True))
    return np.array([all_TV[t, i] for t, i in enumerate(ids)])


# ---------------------------------------------------------------------------- writing
def test_a_model_of_a_folder_generates_what_its_parameters_give(folder):
    mesh = recipe_train.Mesh(data=1, fsdp=2, tensor=1)
    devices = jax.devices()[:2]
    model = lrl.load(folder, mesh=mesh, devices=devices)
    assert model.tokenizer.fingerprint == lrl.load_tokenizer(folder).fingerprint
    alone = meshes.make(recipe_train.Mesh(fsdp=1), devices[:1])
    params = jax.device_put({name: np.asarray(x) for name, x in model.params.items()}, devices[0])
    plain = MeasuredModel(CFG, params, TOKENIZER, alone, 0, 1)
    settings = decoding.Settings(max_new_tokens=5, ends=(TOKENIZER.eos_id,), continues=True)
    ((_, got),) = decoding.generate(plain, [TOKENIZER.encode("ab abc")], settings, 1)
    assert model.generate(["ab abc"], max_new_tokens=5) == [got.text]
    drawn = model.generate(["ab abc"], max_new_tokens=5, temperature=5.0, seed=3)
    assert drawn == model.generate(["ab abc"], 5, temperature=5.0, seed=3) != [got.text]
    whole = TOKENIZER.decode([*TOKENIZER.encode("ab abc"), *got.ids])
    assert whole.startswith(f"ab abc{got.text}")
    assert model.generate((text for text in ["ab abc"]), 5) == [got.text]
    with pytest.raises(ValueError, match="no setting 'temprature'; did you mean 'temperature'"):
        model.generate(["ab abc"], temprature=1.0)


@pytest.mark.parametrize(
    ("prompts", "want"),
    [
        ("ab", r"prompts='ab'; want a list of texts or of conversations"),
        ([5], r"prompts\[0\]: 5 is no conversation"),
        ([{"role": "user", "content": "a"}], r"prompts\[0\]: {.* is no conversation"),
        ([[{"role": "assistant", "content": "a"}]], r"prompts\[0\]: the last turn .* the user's"),
        (["ab", [{"role": "user", "content": "ab"}]], "got both, so call it twice"),
        ([[{"role": "user", "content": "ab"}]], "the tokenizer has no chat template"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused(model, prompts, want):
    with pytest.raises(ValueError, match=want):
        model.generate(prompts)


@pytest.mark.parametrize("begins", ["{{ bos_token }}", ""])
def test_a_conversation_is_asked_by_the_chat_template_of_the_folder(model, tmp_path, begins):
    folder = tiny_llama.write(tmp_path / "chat", CFG, TOKENIZER)
    source = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
    (folder / "chat_template.jinja").write_text(begins + source + "{% endfor %}")
    chat = lrl.load(folder, devices=jax.devices()[:1])
    settings = decoding.Settings(5, (TOKENIZER.eos_id,), bos=bool(begins))
    ((_, want),) = decoding.generate(model.measured, [TOKENIZER.encode("ab")], settings, 1)
    assert chat.generate([[{"role": "user", "content": "ab"}]], max_new_tokens=5) == [want.text]


# ---------------------------------------------------------------------------- scoring
def test_the_logarithm_of_a_probability_is_that_of_the_logits_after_bos(model):
    short = TEXTS[:2]
    want = [by_hand(model, TOKENIZER.encode(text)) for text in short]
    got = model.token_logprobs(short)
    for text, scored, values in zip(short, got, want, strict=True):
        assert scored.text == text
        assert scored.ids.tolist() == TOKENIZER.encode(text)
        np.testing.assert_allclose(scored.logprobs, values, atol=1e-4)
    assert got[1].pieces == ("\u2581c",)
    np.testing.assert_allclose(model.logprob(short), [x.sum() for x in want], atol=1e-4)
    assert model.logprob(short).dtype == np.float64
    assert str(got[1]).splitlines()[-1].split() == ["total", f"{got[1].total:.4f}"]


def test_a_long_text_is_read_in_the_windows_of_bits_per_byte(model):
    lines = bits_per_byte.line_scores(TEXTS, model.measured, 8)
    assert len(lines[2].windows) > 1
    want = [-sum(line.windows) for line in lines]
    np.testing.assert_allclose(model.logprob(TEXTS), want, rtol=1e-6)


def test_a_text_after_another_has_the_probability_of_a_choice(model):
    pairs = choices.continuation_pairs(TOKENIZER, [("ab ", "abc"), ("ab ", "c c")])
    want = dict(likelihood.continuations(model.measured, pairs, 8))
    got = model.logprob(["abc", "c c"], after="ab ")
    np.testing.assert_allclose(got, [-want[0].nats, -want[1].nats], rtol=1e-6)
    whole = model.logprob(["ab abc"])
    first = model.token_logprobs(["ab"])[0].total
    np.testing.assert_allclose(first + got[0], whole[0], rtol=1e-5)
    np.testing.assert_array_equal(model.logprob(["abc", "c c"], after=["ab ", "ab "]), got)


def test_bits_per_byte_are_those_of_the_kind_and_follow_from_the_probabilities(model):
    want = bits_per_byte.score(TEXTS, model.measured, 8).bits_per_byte
    assert model.bits_per_byte(TEXTS) == want
    size = sum(len(text.encode()) for text in TEXTS)
    assert -model.logprob(TEXTS).sum() / np.log(2) / size == pytest.approx(want, rel=1e-6)


def test_texts_that_cannot_be_scored_are_refused(model):
    for call, want in (
        (lambda: model.logprob("ab"), "texts='ab'; want a list of texts"),
        (lambda: model.logprob([b"ab"]), r"texts\[0\]: b'ab' is no text"),
        (lambda: model.logprob(["ab"], after=["a", "b"]), "after: 2 texts for 1"),
        (lambda: model.logprob([""], after="ab"), r"texts\[0\] is empty; it has nothing"),
        (lambda: model.logprob(["c" * 99], after="ab"), r"texts\[0\] has \d+ tokens; want 1 to"),
        (lambda: model.bits_per_byte([" "]), "no text to score"),
        (lambda: model.embed(["c" * 99]), r"texts\[0\] has \d+ tokens with bos; want 64 at most"),
        (lambda: model.embed(["c"], pooling="max"), "pooling='max'; want one of weighted"),
        (lambda: model.embed(["c"], layer=4), "layer=4; want 0, the embeddings, to 3"),
    ):
        with pytest.raises(ValueError, match=want):
            call()
    assert model.logprob([""]).tolist() == [0.0]
    assert model.logprob([]).tolist() == model.embed([], layer=1).tolist() == []


def test_vectors_are_the_states_that_alignment_compares(model):
    texts = TEXTS[:2]
    want = states.pool(model.measured, states.sentence_ids(texts, model.measured), 8)
    np.testing.assert_array_equal(model.embed(texts), want["mean"][-1])
    np.testing.assert_array_equal(model.embed(texts, 1, "weighted"), want["weighted"][1])
    assert model.embed(texts, layer=None, pooling="last").shape == (CFG.depth + 1, 2, CFG.width)


# ---------------------------------------------------------------------------- saving
def equal(got, want):
    assert {*got.params} == {*want.params}
    for name, x in want.params.items():
        np.testing.assert_array_equal(np.asarray(got.params[name]), np.asarray(x))


def test_what_is_saved_is_what_is_loaded(model, folder, line, tmp_path):
    out = model.save(tmp_path / "saved", texts=line)
    equal(lrl.load(out, devices=jax.devices()[:1]), model)
    assert (out / "tokenizer.model").read_bytes() == (folder / "tokenizer.model").read_bytes()
    assert json.loads((out / "gate.json").read_text())["passed"]
    files = json.loads((out / "manifest.json").read_text())["files"]
    assert {*files, "manifest.json"} == {path.name for path in out.iterdir()}
    with pytest.raises(ValueError, match="is there already; name another folder"):
        model.save(out)
    with pytest.raises(ValueError, match="texts: no line in nothing to compare"):
        model.save(tmp_path / "other", texts=[])


def test_a_model_is_rounded_once_on_its_way_out(model, line, tmp_path):
    out = model.save(tmp_path / "half", dtype="bfloat16", texts=line)
    again = lrl.load(out, devices=jax.devices()[:1])
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    for name, x in model.params.items():
        want = np.asarray(x.astype("bfloat16").astype("float32"))
        np.testing.assert_array_equal(np.asarray(again.params[name]), want)
    twice = again.save(tmp_path / "again", texts=line)  # it came in bfloat16
    assert (twice / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_a_folder_that_fails_its_gate_never_gets_its_name(model, line, tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "TOLERANCE", -1.0)
    with pytest.raises(VerificationError, match="the folder is not the model: reloaded logits"):
        model.save(tmp_path / "saved", texts=line)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["saved.unproved"]


def test_what_is_interrupted_leaves_no_folder(model, line, tmp_path, monkeypatch):
    monkeypatch.setattr("lrl_jax.hf.save.finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "saved", texts=line)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_checkpoint_is_written_beside_no_other_folder_by_the_texts_of_its_recipe(
    tmp_path, monkeypatch
):
    def cut_short(run):
        final = run.at("export")
        final.with_name(f"{final.name}.unproved").mkdir()
        raise KeyboardInterrupt

    (tmp_path / "export.unproved").mkdir()  # of another run
    monkeypatch.setattr(saving.export, "run", cut_short)
    of = None, Run(lrl.Recipe.from_yaml("quickstart")), str(tmp_path / "saved"), "auto"
    with pytest.raises(KeyboardInterrupt):
        saving.save(*of, saving.TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["export.unproved"]
    with pytest.raises(
        ValueError, match=r"compared on the texts of its recipe, which export\.gate"
    ):
        saving.save(*of, ["other.txt"])


def interrupted(*args):
    raise KeyboardInterrupt


class Bucket(LocalFileSystem):
    """What fsspec reads of the store, for tensors."""

    protocol, root, cachable = "gs", "", False

    @classmethod
    def _strip_protocol(cls, path):
        return f"{cls.root}/{path.removeprefix('gs://')}" if path.startswith("gs:") else path


def test_a_model_on_an_object_store_is_loaded_and_saved(model, line, tmp_path, monkeypatch):
    monkeypatch.setattr(Bucket, "root", str(tmp_path / "store/objects"))
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "gs", Bucket)
    with object_store.mounted(tmp_path / "store"):
        model.save("gs://bucket/saved", texts=line)
        equal(lrl.load("gs://bucket/saved/", devices=jax.devices()[:1]), model)


def test_an_adapter_is_put_on_the_model_that_it_names(model, folder, line, tmp_path):
    adapted = lora.LoraConfig(names=("layers/q_DNH",), rank=2, alpha=4.0, rank_stabilised=False)
    cfg = dataclasses.replace(CFG, lora=adapted)
    peft_write.save(tmp_path / "lora", tiny_llama.params(cfg), cfg, (), str(folder), "float32")
    got = lrl.load(tmp_path / "lora", devices=jax.devices()[:1])
    equal(lrl.load(folder, adapter=tmp_path / "lora", devices=jax.devices()[:1]), got)
    changed = [n for n, x in got.params.items() if not np.array_equal(x, model.params[n])]
    assert changed == ["layers/q_DNH"]
    equal(lrl.load(got.save(tmp_path / "merged", texts=line), devices=jax.devices()[:1]), got)


def test_a_place_that_is_no_model_is_refused_as_by_the_verbs(tmp_path):
    with pytest.raises(ValueError, match="no such folder; want a folder, gs:// or a hub id"):
        lrl.load(tmp_path / "nothing")
    (tmp_path / "r.yaml").write_text("")
    with pytest.raises(ValueError, match=r"is a recipe; name the folder of its run"):
        lrl.load(tmp_path / "r.yaml")


def test_a_model_says_in_a_line_what_it_is(model, folder):
    count = sum(x.size for x in model.params.values())
    assert repr(model) == (
        f"Model({str(folder)!r}: {count:,} parameters in float32, 3 layers of 32, 266 pieces, "
        "reads 64 tokens, on 1 x cpu)"
    )


def test_the_names_of_the_first_version_do_what_the_new_ones_do(model, folder):
    older = lrl.load_model(str(folder), devices=jax.devices()[:1])
    assert isinstance(older, lrl.Model)
    assert lrl.generate(older, ["ab"], 4) == model.generate(["ab"], 4)
