"""GGUF files: everything in them equals the folder, and what cannot be said is refused by name."""

import errno
import json
from pathlib import Path
import shutil
import types

import byte_tokenizer
from conftest import data_file
import gguf_folders as folders
from gguf_folders import gguf
import hand_byte_level
import hand_tokenizer
import numpy as np
import pytest

from lrl_jax.cli import main
from lrl_jax.cli.checks import runtimes
from lrl_jax.hf import families, load
from lrl_jax.hf.gguf import architectures, contents, file, proof, tensors, vocabulary
from lrl_jax.hf.gguf.verdict import verdict
from lrl_jax.model import rope
from lrl_jax.recipe.schema import Pretrained
from lrl_jax.recipe.vocab import Extend
from lrl_jax.vocab.tokenizer import byte_level, sentencepieces
from lrl_jax.vocab.tokenizer import load as tokenizers

TEXTS = ["a b c", "  b", "Hello, 세계!\n\tx", "a<unk></s>"]
LLAMA3 = rope.Llama3(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_length=64)
LINES = ["the cat sat on the mat", "the dog, the cat: 12345", "a  b\n\nc don't"] * 4


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A folder with a SentencePiece tokenizer."""
    return folders.write(tmp_path_factory.mktemp("spm") / "small", hand_tokenizer.make())


@pytest.fixture(scope="module")
def byte_folder(tmp_path_factory):
    """A folder with a byte-level tokenizer that cuts as Llama 3 does and begins texts with bos."""
    tokenizer = hand_byte_level.make("llama3")
    return folders.write(tmp_path_factory.mktemp("bpe") / "small", tokenizer)


# ---------------------------------------------------------------------------- equal
@pytest.mark.parametrize("kind", tensors.TYPES)
def test_a_file_says_every_piece_score_kind_and_id_of_the_folder(spoken, kind, tmp_path):
    path = tmp_path / "small.gguf"
    made = file.write(spoken, path, kind, TEXTS)
    assert (made.pieces, made.spare, made.texts, made.notes) == (266, 0, 4, ())
    said, _ = folders.read(path)
    pieces = sentencepieces.proto_of(tokenizers.load(spoken)).pieces
    assert said["tokenizer.ggml.tokens"] == [piece.piece for piece in pieces]
    assert said["tokenizer.ggml.scores"] == [piece.score for piece in pieces]
    assert said["tokenizer.ggml.token_type"] == [2, 3, 3, *[6] * 256, *[1] * 7]
    assert said["tokenizer.ggml.bos_token_id"] == 1
    assert said["tokenizer.ggml.eos_token_id"] == 2
    assert said["tokenizer.ggml.add_bos_token"] is True
    assert "tokenizer.ggml.add_space_prefix" not in said  # llama.cpp puts a space by itself
    assert said["llama.context_length"] == folders.CONTEXT
    assert said["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(0.1)
    assert said["llama.vocab_size"] == 266


def test_a_byte_level_file_says_every_merge_and_how_text_is_cut(byte_folder, tmp_path):
    path = tmp_path / "small.gguf"
    made = file.write(byte_folder, path, "f16", ["abc ab b", "don't 12345 é"])
    assert (made.pieces, made.merges, made.spare) == (261, 3, 0)
    said, _ = folders.read(path)
    assert said["tokenizer.ggml.model"] == "gpt2"
    assert said["tokenizer.ggml.pre"] == "llama-bpe"
    assert said["tokenizer.ggml.merges"] == ["a b", "Ġ ab", "ab c"]
    assert said["tokenizer.ggml.token_type"] == [*[1] * 259, 3, 3]
    assert said["tokenizer.ggml.add_bos_token"] is True
    assert "tokenizer.ggml.scores" not in said


def test_tensors_are_those_of_the_folder_and_rows_of_q_pair_neighbours(spoken, tmp_path):
    file.write(spoken, tmp_path / "x.gguf", "f32", TEXTS)
    _, found = folders.read(tmp_path / "x.gguf")
    weights = _weights(spoken)
    name = "model.layers.1.{}.weight"
    np.testing.assert_array_equal(
        found["blk.1.ffn_down.weight"].data, weights[name.format("mlp.down_proj")]
    )
    q = weights[name.format("self_attn.q_proj")].reshape(4, 16, 64)  # heads of 16 rows
    got = found["blk.1.attn_q.weight"].data.reshape(4, 16, 64)
    np.testing.assert_array_equal(got[:, 0::2], q[:, :8])
    np.testing.assert_array_equal(got[:, 1::2], q[:, 8:])
    k = weights[name.format("self_attn.k_proj")].reshape(2, 16, 64)
    got = found["blk.1.attn_k.weight"].data.reshape(2, 16, 64)
    np.testing.assert_array_equal(got[:, 1::2], k[:, 8:])


def test_a_quantised_file_is_within_half_a_step_and_float16_is_float16(spoken, tmp_path):
    file.write(spoken, tmp_path / "x.gguf", "q8_0", TEXTS)
    _, found = folders.read(tmp_path / "x.gguf")
    kinds = {name: tensor.tensor_type.name for name, tensor in found.items()}
    assert kinds["blk.0.attn_v.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_down.weight"] == "F16"  # rows of 48, and blocks have 32
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    want = _weights(spoken)["model.layers.0.self_attn.v_proj.weight"]
    got = tensors.read_back(found["blk.0.attn_v.weight"].data, "q8_0")
    step = np.abs(want).reshape(-1, 32).max(1, keepdims=True) / 127
    off = np.abs(got - want).reshape(-1, 32) / step
    assert 0.2 < off.max() < 0.5 + 127 * 2**-11


def test_bfloat16_weights_come_out_bit_for_bit_in_float32(tmp_path):
    folder = folders.write(tmp_path / "small", hand_tokenizer.make(), dtype="bfloat16")
    made = file.write(folder, tmp_path / "x.gguf", "f32", TEXTS)
    assert made.exact == made.tensors == 21


def _weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / load.WEIGHTS)


def test_rows_without_a_piece_become_unused_pieces(tmp_path):
    folder = folders.write(tmp_path / "small", hand_tokenizer.make(), rows=300)
    made = file.write(folder, tmp_path / "x.gguf", "f16", TEXTS)
    assert (made.pieces, made.spare) == (266, 34)
    said, found = folders.read(tmp_path / "x.gguf")
    assert said["tokenizer.ggml.tokens"][265:268] == ["\u2581c", "[PAD266]", "[PAD267]"]
    assert said["tokenizer.ggml.token_type"][266:] == [vocabulary.UNUSED] * 34
    assert len(said["tokenizer.ggml.scores"]) == 300 == found["token_embd.weight"].shape[1]


def test_llama_3_scaling_is_written_as_divisors_of_frequencies():
    cfg = folders.config(97, rope_scaling=LLAMA3, rope_theta=500_000.0)
    factors = next(tensors.tensors(cfg, "f16"))
    assert (factors.name, factors.kind) == ("rope_freqs.weight", "f32")
    got = factors.read(lambda name, index: np.zeros(0))
    # A wave of 2 pi tokens is kept, one of 32 (2 pi theta^1/8) is between, longer ones divided.
    ramp = (64 / (2 * np.pi * 500_000 ** (1 / 8)) - 1) / 3
    want = [1, 1 / (ramp + (1 - ramp) / 8), *[8] * 6]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_file_names_its_size_licence_and_settings_and_never_phi_3(spoken, tmp_path):
    folder = shutil.copytree(spoken, tmp_path / "small")
    page = '---\nlicense: "llama3"\nlanguage: ["kor"]\n---\n# x\n'
    (folder / "README.md").write_text(page)
    (folder / "generation_config.json").write_text('{"temperature": 1, "top_k": 50}')
    file.write(folder, tmp_path / "x.gguf", "f16", TEXTS, name="Phi-3 of mine")
    said, _ = folders.read(tmp_path / "x.gguf")
    kinds = {key: field.types[0].name for key, field in folders.fields(tmp_path / "x.gguf").items()}
    assert said["general.size_label"] == "77K"
    assert said["general.sampling.temp"] == 1
    assert kinds["general.sampling.temp"] == "FLOAT32"
    assert kinds["general.sampling.top_k"] == "INT32"
    assert said["general.license"] == "llama3"
    assert said["general.languages"] == ["kor"]
    assert said["general.name"] == "phi 3 of mine"


def test_of_several_chat_templates_the_file_has_the_default(tmp_path):
    folder = folders.write(tmp_path / "small", hand_byte_level.make("llama3"))
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "{{ 1 }}"}]
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": named}))
    assert vocabulary.of(folder, 261).template == "{{ 1 }}"


# ---------------------------------------------------------------------------- not equal
@pytest.mark.parametrize(
    ("where", "says"),
    [
        (b"\xe2\x96\x81c", "tokenizer.ggml.tokens is"),  # the last piece
        (b"llama.block_count", "llama.block_count is None"),
        (b"", r"output.weight is off by up to"),  # the last tensor
    ],
)
def test_a_file_with_one_changed_bit_is_named_and_is_no_proof(where, says, spoken, tmp_path):
    path = tmp_path / "x.gguf"
    file.write(spoken, path, "f32", TEXTS)
    data = bytearray(path.read_bytes())
    at = data.rindex(where) + len(where) - 1 if where else len(data) - 2
    data[at] ^= 64 if where else 1
    path.write_bytes(data)
    with pytest.raises(proof.UnprovedError, match=says):
        proof.prove(path, contents.source(spoken), "f32", 0, 0, ())


def test_a_number_that_float16_cannot_hold_is_refused_by_tensor(tmp_path):
    folder = folders.write(tmp_path / "small", hand_tokenizer.make())
    from safetensors.numpy import save_file

    weights = _weights(folder)
    weights["model.layers.0.mlp.up_proj.weight"][3, 3] = 1e5
    save_file(weights, folder / load.WEIGHTS, {"format": "pt"})
    (folder / load.MANIFEST).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"blk.0.ffn_up.weight: has 100000, and float16 ends at"):
        file.write(folder, tmp_path / "x.gguf", "f16", TEXTS)
    assert not [*tmp_path.glob("x*")]
    assert file.write(folder, tmp_path / "x.gguf", "q8_0", TEXTS).pieces == 266


def test_a_full_disk_leaves_no_half_of_a_file(spoken, tmp_path, monkeypatch):
    def write(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", write)
    with pytest.raises(OSError, match="No space left"):
        file.write(spoken, tmp_path / "out/a.gguf", "f16", ["a"])
    assert not [*(tmp_path / "out").iterdir()]


def test_marks_kept_with_letters_are_refused_by_name_and_keep_passes(tmp_path):
    base = hand_byte_level.make("llama3")
    folder = folders.write(tmp_path / "small", byte_level.mark_aware(base))
    with pytest.raises(ValueError, match=r"keeps combining marks .* pretokenizer: keep"):
        file.write(folder, tmp_path / "x.gguf", "f16", TEXTS)
    assert verdict(folder).startswith("no, because its pre-tokenizer keeps combining marks")
    byte_level.write(base, folder)
    assert verdict(folder, ["தமிழ்", "नमस्ते"]) == "yes"


def test_a_mark_aware_qwen_has_a_name_and_says_that_text_must_be_composed(tmp_path):
    tokenizer = byte_level.mark_aware(hand_byte_level.make("qwen2"))
    folder = folders.write(tmp_path / "small", tokenizer)
    got = verdict(folder, ["தமிழ் नमस्ते", "\u095c"])
    assert got == "yes, but llama.cpp does not compose text (NFC): give it text that is"
    assert vocabulary.of(folder, tokenizer.size).pre == "qwen35"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(remove_extra_whitespaces=True), "removes extra spaces"),
        (dict(escape_whitespaces=False), "keeps spaces as they are"),
    ],
)
def test_what_llama_cpp_lacks_of_sentencepiece_is_refused_by_name(change, says, tmp_path):
    proto = sentencepieces.proto_of(hand_tokenizer.make())
    for key, value in change.items():
        setattr(proto.normalizer_spec, key, value)
    tokenizer = tokenizers.from_bytes(proto.SerializeToString())
    folder = folders.write(tmp_path / "small", tokenizer)
    got = verdict(folder)
    assert got.startswith(f"no, because it {says}"), got
    assert got.endswith("run it in transformers or vLLM")


def test_a_model_without_pieces_for_bytes_is_refused(tmp_path):
    proto = sentencepieces.proto_of(hand_tokenizer.make())
    for piece in proto.pieces:
        piece.type = 1 if piece.type == 6 else piece.type
    proto.trainer_spec.byte_fallback = False
    folder = folders.write(tmp_path / "x", tokenizers.from_bytes(proto.SerializeToString()))
    assert "no pieces for bytes (byte_fallback)" in verdict(folder)


def test_a_text_that_is_cut_otherwise_is_quoted(spoken):
    given = contents.source(spoken)
    words = given.vocabulary
    other = (*words.scores[:-3], -99.0, *words.scores[-2:])
    given = contents.GgufSource(**vars(given) | dict(vocabulary=type(words)(**vars(words) | dict(
        add_space_prefix=False, scores=other))))  # fmt: skip
    with pytest.raises(ValueError, match=r"cuts 8 of 8 texts otherwise than .* first 'a b'"):
        proof.read_alike(given, ["a b"])


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("phi3", {}, "the family phi3 are not written for llama.cpp (it takes from"),
        ("qwen2", dict(num_heads=2, num_kv_heads=2), "2 heads of 16 that are not as wide"),
        ("qwen3", dict(window=17), "does not compute a window of 17 tokens"),
        ("qwen3", dict(rope_scaling=LLAMA3), "compute the scaling llama3 of rotary positions"),
        ("olmo2", dict(tie_embeddings=True), "an OLMo-2 whose head is its embeddings"),
        ("smollm3", dict(depth=4), "layers without rotary positions other than every 4th"),
        ("gemma", dict(), "a Gemma whose head is not its embeddings"),
        ("gemma2", dict(tie_embeddings=True), "local layers other than all but every 2th"),
        (
            "gemma2",
            dict(tie_embeddings=True, query_scalar=7.0, window=8, local_layers=(True, False)),
            "query_pre_attn_scalar=7.0; it takes 16 for this depth",
        ),
    ],
)
def test_a_model_that_llama_cpp_does_not_compute_is_refused(family, changes, says):
    cfg = folders.config(97, family=family, **changes)
    with pytest.raises(ValueError, match=r".") as caught:
        architectures.of(cfg)
    assert says in str(caught.value)


def test_an_adapter_is_no_model(spoken, tmp_path):
    folder = shutil.copytree(spoken, tmp_path / "x")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds an adapter; .*form: merged"):
        contents.source(folder)


def test_every_family_of_ours_has_a_row_or_a_reason():
    assert families.FAMILIES.keys() == architectures.ARCHITECTURES.keys() | architectures.WHY.keys()


# ---------------------------------------------------------------------------- the verb
def test_the_verb_writes_a_folder_and_its_modelfile(spoken, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("a b\nc a\n")
    folder = shutil.copytree(spoken, tmp_path / "mine" / "export")
    assert main.main(["export", str(folder), "--gguf", "q8_0", "--texts", str(texts)]) == 0
    out = folder.with_name("export-gguf")
    assert sorted(path.name for path in out.iterdir()) == ["Modelfile", "mine-Q8_0.gguf"]
    assert (out / "Modelfile").read_text().splitlines() == [
        "FROM ./mine-Q8_0.gguf",
        "# No TEMPLATE: the model has no chat template. `ollama run` then gives the model bare "
        "text.",
        'PARAMETER stop "</s>"',
        f"PARAMETER num_ctx {folders.CONTEXT}",
    ]
    said = " ".join(capsys.readouterr())
    assert "266 pieces (0 rows without one)" in said
    assert "same ids on 2 texts" in said


def test_the_verb_refuses_overrides_of_a_folder(spoken, capsys):
    assert main.main(["export", str(spoken), "--gguf", "f16", "train.steps=3"]) == 2
    assert "is a folder, which is written as it is" in capsys.readouterr().err


# ---------------------------------------------------------------------------- real ones
def test_stories_260k_reads_back_equal(tmp_path):
    folder = data_file("models/stories260K-hf")
    lines = data_file("mono/en/tinystories_sample.txt").read_text().splitlines()
    texts = [line for line in lines if line.strip()][:50]
    made = file.write(folder, tmp_path / "x.gguf", "f32", texts)
    assert (made.pieces, made.spare, made.exact, made.tensors) == (512, 0, 47, 47)
    assert made.notes == ("a text that begins with a space gets one more of them in llama.cpp",)


def test_json_of_a_learnt_byte_level_vocabulary_reads_back_equal(tmp_path):
    tokenizer = byte_tokenizer.learn(LINES, 300)
    folder = folders.write(tmp_path / "small", tokenizer)
    made = file.write(folder, tmp_path / "x.gguf", "f16", LINES)
    tree = json.loads((folder / "tokenizer.json").read_text())
    said, _ = folders.read(tmp_path / "x.gguf")
    assert said["tokenizer.ggml.pre"] == "smaug-bpe"  # its words are never whole
    merges = [" ".join(pair) for pair in tree["model"]["merges"]]
    assert said["tokenizer.ggml.merges"] == merges
    assert made.merges == len(merges) > 20
    assert gguf.GGUFReader(tmp_path / "x.gguf").fields["general.type"].contents() == "model"


# ---------------------------------------------------------------------------- lrl check
@pytest.mark.parametrize(
    ("style", "pretokenizer", "wanted", "says"),
    [
        ("llama3", "mark_aware", False, "llama.cpp and Ollama will not run the export: its pre-"),
        ("llama3", "mark_aware", True, "the export if the base is byte-level (SentencePiece has"),
        ("llama3", "keep", False, ""),
        ("qwen2", "mark_aware", False, ""),
    ],
)
def test_check_says_beforehand_that_llama_cpp_will_not_run_it(
    style, pretokenizer, wanted, says, tmp_path
):
    byte_level.write(hand_byte_level.make(style), tmp_path)
    part = Extend(
        method="extend", text=("x.txt",), pieces=9, scripts=("Taml",), pretokenizer=pretokenizer,
        prove_on=("y.txt",),
    )  # fmt: skip
    base = Pretrained(model=str(tmp_path), license="unknown")
    run = types.SimpleNamespace(
        recipe=types.SimpleNamespace(vocab=part, base=base), base_tokenizer=lambda: tmp_path
    )
    got = [*runtimes.remarks(run, {base.model} if wanted else ())]
    assert len(got) == bool(says)
    assert all(says in line for line in got)
