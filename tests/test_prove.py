"""The proof holds for a sound tokenizer and names what is wrong with an unsound one."""

import base64
import json

import hand_byte_level
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax.vocab.pieces import choose, learn, prove, splice
from lrl_jax.vocab.tokenizer import byte_level, sentencepieces
from lrl_jax.vocab.tokenizer.auto import AutoCodec
from lrl_jax.vocab.tokenizer.load import from_bytes
from lrl_jax.vocab.tokenizer.piece_model import proto_of
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3
KOREAN = ["고양이가 집에 갑니다", "강아지가 집에 옵니다", "고양이와 강아지가 갑니다"] * 3


@pytest.fixture(autouse=True)
def short(request, monkeypatch):
    """A megabyte takes seconds; one test reads it whole."""
    if "megabyte" not in request.node.name:
        monkeypatch.setattr(prove, "LONG", "a" * 1000)


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return learn.train(ENGLISH, size=290, coverage=1.0)


@pytest.fixture(scope="module")
def extended(base) -> Tokenizer:
    new = splice.prune(base, learn.pieces(KOREAN, 60, ("Hang",), 1.0, base), KOREAN, 3)
    return splice.splice(base, new)[0]


def proof_of(model: Tokenizer, base: Tokenizer, folder, new_texts=KOREAN) -> prove.Proof:
    sentencepieces.write(model, folder)
    return prove.prove(folder, base, iter(ENGLISH), iter(new_texts))


def changed(model: Tokenizer, change) -> Tokenizer:
    proto = proto_of(model)
    change(proto)
    return from_bytes(proto.SerializeToString())


def test_a_spliced_tokenizer_is_proved(base, extended, tmp_path):
    proof = proof_of(extended, base, tmp_path)
    assert proof.broken == {}
    assert proof.ok
    assert (proof.base_texts, proof.new_texts) == (9, 9)
    assert proof.new_pieces == extended.size - 290
    assert proof.tokens_after * 5 < proof.tokens_before
    assert 0 < proof.utilisation < 1
    assert proof.summary.startswith("proved on 9 base and 9 new texts")


def test_a_tokenizer_kept_as_it_is_is_proved(base, tmp_path):
    proof = proof_of(base, base, tmp_path)
    assert (proof.ok, proof.new_pieces, proof.utilisation) == (True, 0, 1.0)
    assert proof.tokens_after == proof.tokens_before


def test_a_megabyte_of_one_letter_is_read_too(base, tmp_path):
    assert len(prove.LONG) == 1_000_000
    assert proof_of(base, base, tmp_path).ok


def test_a_piece_the_base_language_uses_is_caught(base, tmp_path):
    model, _ = splice.splice(base, ["▁the▁cat"])
    proof = proof_of(model, base, tmp_path)
    assert not proof.ok
    assert proof.base_moved.count == 6
    assert proof.base_moved.examples[0] == "the cat sat on the mat"
    assert "base_moved: 6, such as 'the cat sat on the mat'" in proof.summary


def test_a_piece_no_text_reaches_is_caught(base, tmp_path):
    model, _ = splice.splice(base, ["고", "양", "이", "고양이"])  # no 고양, no 양이
    proof = proof_of(model, base, tmp_path)
    assert proof.unreachable == prove.Finding(1, ("고양이",))


def test_a_piece_that_is_never_emitted_is_counted_but_breaks_nothing(base, tmp_path):
    model, _ = splice.splice(base, ["고", "힣"])
    proof = proof_of(model, base, tmp_path)
    assert (proof.silent.examples, proof.utilisation, proof.ok) == (("힣",), 0.5, True)


def test_a_moved_base_piece_is_caught(base, extended, tmp_path):
    def lift(proto):
        proto.pieces[270].score += 5

    proof = proof_of(changed(extended, lift), base, tmp_path)
    assert proof.base_pieces.count == 1


def test_another_normaliser_is_caught(base, extended, tmp_path):
    def squeeze(proto):
        proto.normalizer_spec.remove_extra_whitespaces = True

    proof = proof_of(changed(extended, squeeze), base, tmp_path)
    assert proof.base_pieces.examples == ("(normaliser)",)


def test_forms_that_disagree_are_caught(base, extended, tmp_path):
    sentencepieces.write(extended, tmp_path)
    form = json.loads((tmp_path / "tokenizer.json").read_text())
    form["model"]["merges"] = form["model"]["merges"][:5]
    (tmp_path / "tokenizer.json").write_text(json.dumps(form))
    proof = prove.prove(tmp_path, base, ENGLISH, KOREAN)
    assert proof.form_ids.count > 5
    assert len(proof.form_ids.examples) == prove.SHOWN


@pytest.mark.parametrize("byte", [0xBE, 0x82, 0xC4, 0xF1])
def test_a_byte_renamed_in_a_form_is_caught_though_no_text_has_it(base, extended, tmp_path, byte):
    sentencepieces.write(extended, tmp_path)
    form, name = (tmp_path / "tokenizer.json").read_text(), f"<0x{byte:02X}>"
    texts = ["the cat", "the mat"]
    assert not any(byte in text.encode() for text in texts)
    (tmp_path / "tokenizer.json").write_text(form.replace(name, name.replace("x", "p")))
    proof = prove.prove(tmp_path, base, texts, texts)
    assert (proof.ok, proof.form_pieces) == (False, prove.Finding(1, (name,)))
    assert f"form_pieces: 1, such as '{name}'" in proof.summary


def test_a_piece_renamed_in_ranks_is_caught_though_no_text_has_it(tmp_path):
    base = hand_byte_level.make("gpt2")
    byte_level.write(base, tmp_path)
    path, texts = tmp_path / "tokenizer.tiktoken", ["xyz"]
    lines = path.read_bytes()
    assert prove.prove(tmp_path, base, texts, texts).ok
    path.write_bytes(lines.replace(b"%s 256" % base64.b64encode(b"ab"), b"enp6 256"))
    proof = prove.prove(tmp_path, base, texts, texts)
    assert (proof.ok, proof.form_pieces) == (False, prove.Finding(1, ("ab",)))
    path.write_bytes(lines.replace(b"%s 190" % base64.b64encode(b"\xbe"), b"enp6 190"))
    with pytest.raises(ValueError, match=r"tokenizer.tiktoken: has no piece for 1 bytes, .* 0xBE"):
        prove.prove(tmp_path, base, texts, texts)


def test_forms_that_decode_differently_are_caught(base, extended, tmp_path):
    sentencepieces.write(extended, tmp_path)
    form = json.loads((tmp_path / "tokenizer.json").read_text())
    form["decoder"]["decoders"].pop()  # the one that takes the first space off
    (tmp_path / "tokenizer.json").write_text(json.dumps(form))
    proof = prove.prove(tmp_path, base, ENGLISH, KOREAN)
    assert set(proof.broken) == {"form_texts", "round_trip", "base_pieces"}
    assert proof.base_pieces.examples == ("(form)",)


def test_text_that_does_not_come_back_is_caught(tmp_path):
    proto = spm.ModelProto()
    proto.trainer_spec.model_type = spm.TrainerSpec.BPE  # no byte fallback: 한 is unknown
    proto.normalizer_spec.MergeFrom(spm.NormalizerSpec(remove_extra_whitespaces=False))
    for piece, kind in (("<unk>", 2), ("<s>", 3), ("</s>", 3), ("▁", 1), ("a", 1)):
        proto.pieces.add(piece=piece, type=kind)
    model = from_bytes(proto.SerializeToString())
    sentencepieces.write(model, tmp_path)
    proof = prove.prove(tmp_path, model, ["a a"], ["한"])
    assert "한" not in model.decode([0])
    assert proof.round_trip.count > 0


def test_what_is_proved_is_what_transformers_gives_when_it_is_called(extended, tmp_path):
    sentencepieces.write(extended, tmp_path)
    codec, texts = AutoCodec(tmp_path), [*prove.ADVERSARIAL, *ENGLISH, *KOREAN]
    want = codec.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert codec.encode_batch(texts) == want
    assert codec.decode_batch(want) == codec.tokenizer.batch_decode(want, skip_special_tokens=True)


def test_a_class_of_transformers_that_brings_its_own_cuts_is_caught(tmp_path):
    """Beside a config.json of Qwen 2, transformers cuts at marks whatever tokenizer.json says."""
    base = hand_byte_level.make("qwen2")
    start = byte_level.mark_aware(base)
    found = choose.continued(["काम की काम"] * 9, 30, ("Deva",), 1.0, start)
    new, _ = splice.splice(start, found)
    byte_level.write(new, tmp_path)
    for kind, ok in (("llama", True), ("qwen2", False)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        proof = prove.prove(tmp_path, base, ["abc"], ["काम की"], start=start)
        assert proof.ok == ok, kind


def test_a_proof_is_written_as_json(base, extended, tmp_path):
    proof = proof_of(extended, base, tmp_path)
    proof.write(tmp_path / "proof.json")
    got = json.loads((tmp_path / "proof.json").read_text())
    assert got["ok"] is True
    assert got["form_ids"] == {"count": 0, "examples": []}


def test_long_offenders_are_shown_in_part():
    got = prove.Finding().plus("x" * 1000 for _ in range(9))
    assert got.count == 9
    assert got.examples == ("x" * prove.SHOWN_CHARS,) * prove.SHOWN


def test_a_folder_without_the_json_form_is_refused(base, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(base.files["tokenizer.model"])
    with pytest.raises(ValueError, match=r"holds no tokenizer.json"):
        prove.prove(tmp_path, base, ENGLISH, KOREAN)


def test_a_damaged_json_form_is_named(base, tmp_path):
    sentencepieces.write(base, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json: cannot be read"):
        prove.prove(tmp_path, base, ENGLISH, KOREAN)
