"""GGUF files in llama.cpp itself: its logits, what it writes, and how it cuts text.

It needs the package llama_cpp (`pip install llama_cpp_python`, which builds llama.cpp).
"""

from pathlib import Path

from conftest import data_file
import gguf_folders as folders
import hand_byte_level
import hand_tokenizer
import jax
import numpy as np
import pytest
from tiny_llama import logits

from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate import generate
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.hf import families, load
from lrl_jax.hf.gguf import cut, file, tensors, vocabulary
from lrl_jax.recipe import train as recipe_train
from lrl_jax.vocab.tokenizer import load as tokenizers

llama_cpp = pytest.importorskip("llama_cpp", reason="not run: llama_cpp is not installed")

STEPS = 32
# At q8_0 llama.cpp rounds weights and what they are multiplied with: of two tokens whose logits are
# closer than this, the other may win. Prompts are chosen so that no choice is so close.
CLEAR = 0.02
PROMPTS = {
    "random": ("the b b", "x x a", "x b a", "b c the", "b the c"),
    "stories": ("Once upon a time", "Lily and Tom", "One day, a little", "The dog was", "She said"),
}
TEXTS = ("a b c", "Hello, \uc138\uacc4!\n\tx", "abc ab  a", "a<unk></s>", "don't 12345 \u00e9", "")


def ours(folder: Path) -> MeasuredModel:
    """The model of a folder in float32, as `lrl generate` has it."""
    config = load.read_config(folder)
    cfg = families.config_from_hf(config, "float32")
    mesh = meshes.make(recipe_train.Mesh(fsdp=1), jax.devices()[:1])
    params = load.load(folder, cfg, meshes.param_shardings(cfg, mesh), "float32")
    context = families.positions(config)
    return MeasuredModel(cfg, params, tokenizers.load(folder), mesh, 0, 1, context=context)


def theirs(path: Path, **settings) -> llama_cpp.Llama:
    """The file in llama.cpp; the numbers that it keeps of texts are float32."""
    one = dict(n_threads=1, n_threads_batch=1, type_k=0, type_v=0)
    return llama_cpp.Llama(str(path), n_ctx=256, verbose=False, **one, **settings)


@pytest.fixture(scope="module", params=PROMPTS)
def greedy(request, tmp_path_factory):
    """(folder, prompts, the 32 greedy tokens after each, the least lead of a token over others)."""
    if request.param == "stories":
        folder = data_file("models/stories260K-hf")
    else:
        folder = folders.write(tmp_path_factory.mktemp("random") / "x", hand_tokenizer.make())
    model = ours(folder)
    bos = model.tokenizer.bos_id
    prompts = [[bos, *model.tokenizer.encode(text)] for text in PROMPTS[request.param]]
    settings = generate.Settings(STEPS, ends=())
    answers = dict(generate.generate(model, prompts, settings, len(prompts)))
    written = [[*answers[i].ids] for i in range(len(prompts))]
    leads = []
    for prompt, ids in zip(prompts, written, strict=True):
        row = logits(model.params, [prompt + ids], cfg=model.cfg)[0, :, : model.cfg.vocab_size]
        best = np.sort(row[len(prompt) - 1 : -1], axis=-1)
        leads.append((best[:, -1] - best[:, -2]).min())
    return folder, prompts, written, min(leads)


@pytest.mark.parametrize("kind", tensors.TYPES)
def test_llama_cpp_writes_the_32_tokens_of_our_greedy_generation(kind, greedy, tmp_path):
    folder, prompts, want, lead = greedy
    assert lead > CLEAR, "another token is as good: choose another prompt"
    file.write(folder, tmp_path / "x.gguf", kind, ["a"])
    model = theirs(tmp_path / "x.gguf")
    for prompt, ids in zip(prompts, want, strict=True):
        tokens = model.generate(prompt, temp=0.0)
        assert [next(tokens) for _ in ids] == ids
        assert len(ids) == STEPS


@pytest.mark.parametrize("name", folders.SHAPES)
def test_llama_cpps_logits_of_every_family_are_ours(name, tmp_path):
    folder = folders.write_shape(name, tmp_path)
    file.write(folder, tmp_path / "x.gguf", "f32", ["a"])
    model = ours(folder)
    ids = np.random.default_rng(0).integers(3, 200, 16).tolist()  # no more than Mistral's window
    want = logits(model.params, [ids], cfg=model.cfg)[0, :, : model.cfg.vocab_size]
    run = theirs(tmp_path / "x.gguf", logits_all=True)
    run.eval(ids)
    # It looks GELU up in a table of float16, which Gemma has.
    atol = 1e-2 if name.startswith("gemma") else 1e-4
    np.testing.assert_allclose(run.scores[: len(ids)], want, rtol=0, atol=atol)
    assert want.std() > 0.3


# ---------------------------------------------------------------------------- its tokenizer
@pytest.mark.parametrize("which", ["sentencepiece", "llama3", "qwen2", "gpt2", "gemma", "stories"])
def test_llama_cpp_cuts_text_as_the_export_and_as_our_rules_say(which, tmp_path):
    if which == "stories":
        folder = data_file("models/stories260K-hf")
    else:
        others = {"sentencepiece": hand_tokenizer.make, "gemma": folders.as_gemma}
        make = others.get(which, lambda: hand_byte_level.make(which))
        folder = folders.write(tmp_path / "x", make())
    file.write(folder, tmp_path / "x.gguf", "f16", ["a"])
    tokenizer = tokenizers.load(folder)
    rules = cut.reader(vocabulary.of(folder, tokenizer.size, tokenizer))
    run = theirs(tmp_path / "x.gguf", vocab_only=True)
    for text in TEXTS:
        got = run.tokenize(text.encode(), add_bos=False, special=False)
        assert got == tokenizer.encode(text) == rules(text), text
        got = run.tokenize(text.encode(), add_bos=False, special=True)
        assert got == rules(text, controls=True), text


def test_llama_cpp_would_put_a_space_before_text_that_has_none_if_it_were_not_told(tmp_path):
    folder = folders.write(tmp_path / "x", folders.as_gemma())
    file.write(folder, tmp_path / "x.gguf", "f16", ["a"])
    data = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "y.gguf").write_bytes(
        data.replace(b"ggml.add_space_prefix", b"ggml.not_space_prefix")
    )
    got = [theirs(tmp_path / name, vocab_only=True) for name in ("x.gguf", "y.gguf")]
    a, spaced = 260, 263  # a and \u2581a
    assert [run.tokenize(b"a", add_bos=False) for run in got] == [[a], [spaced]]
