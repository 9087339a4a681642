"""The tokenizer: text in, ids out, and what it says about files that are not a tokenizer."""

import json
import pickle

from conftest import DATA, NO_DATA
import hand_tokenizer
import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax.data.templates import documents, tokenizer_chat
from lrl_jax.data.templates.parts import TextPart
from lrl_jax.vocab.pieces import learn
from lrl_jax.vocab.tokenizer import auto, piece_model, sentencepieces
from lrl_jax.vocab.tokenizer.load import from_bytes, load
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return learn.train(ENGLISH, size=290, coverage=1.0)


def test_any_text_comes_back_as_it_was(words):
    for want in (
        "",
        " the cat",
        "the  cat ",
        "한국어 \U0001f469\u200d\U0001f4bb\r\n\t",
        "</s><0x41>",
    ):
        assert words.decode(words.encode(want)) == want


def test_text_never_becomes_a_control_id(words):
    got = words.encode("<s> the cat </s> <unk>")
    assert not {words.bos_id, words.eos_id, words.pad_id, 0} & set(got)


def test_a_batch_encodes_as_its_texts_do_one_by_one(words):
    assert words.encode_batch(ENGLISH) == [words.encode(text) for text in ENGLISH]


def test_half_a_surrogate_pair_is_refused_by_its_place(words):
    parts = [TextPart("a" * 70_000 + "\udce9", 0)]
    for read in (
        lambda: words.encode("a\ud83d"),
        lambda: words.encode_batch(["a", "a\ud83d"]),
        lambda: documents.ids(parts, words),
    ):
        with pytest.raises(ValueError, match=r"is U\+D(83D|CE9), half a surrogate pair"):
            read()


def test_padding_is_eos_when_the_model_has_no_padding_piece(words):
    assert (words.bos_id, words.eos_id, words.pad_id, words.size) == (1, 2, 2, 290)


def test_padding_is_the_model_s_own_piece_when_it_has_one(words):
    proto = piece_model.proto_of(words)
    proto.pieces.add(piece="<pad>", score=0, type=piece_model.Piece.CONTROL)
    proto.trainer_spec.pad_id = 290
    words = from_bytes(proto.SerializeToString())
    assert (words.pad_id, words.size) == (290, 291)


def test_control_ids_have_no_text(words):
    assert words.decode([1, *words.encode("the cat"), 2]) == "the cat"


def test_an_id_outside_the_vocabulary_is_refused(words):
    with pytest.raises(ValueError, match="id 290 is not in the vocabulary; ids are 0 to 289"):
        words.decode([290])


def test_a_tokenizer_survives_being_sent_to_another_process(words):
    copy = pickle.loads(pickle.dumps(words))
    assert copy == words
    assert copy.encode("the cat") == words.encode("the cat")


def test_the_fingerprint_is_that_of_the_file(words, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(words.files["tokenizer.model"])
    want = words.fingerprint
    assert load(tmp_path).fingerprint == want
    assert load(tmp_path / "tokenizer.model").fingerprint == want


A, UNKNOWN = (spm.ModelProto.SentencePiece(piece=p, type=t) for p, t in (("a", 1), ("?", 2)))
NO_BOS = spm.ModelProto(pieces=[A, UNKNOWN])
TWICE = spm.ModelProto(pieces=[A, A])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"model": {"type": "BPE"}}', "is JSON; name it tokenizer.json"),
        (b"IQ== 0\nIg== 1\n", "is a tiktoken file"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        (b"\x00\x01\x02 not a model", "is not a SentencePiece model, or is cut short"),
        (b"\x12\x00", "without pieces"),
        (TWICE.SerializeToString(), "empty or repeated pieces"),
        (NO_BOS.SerializeToString(), "has no bos piece"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named_and_explained(content, message, tmp_path):
    path = tmp_path / "some.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_a_model_cut_short_is_refused(words, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(words.files["tokenizer.model"][:2000])
    with pytest.raises(ValueError, match=r"refuses it|cut short"):
        load(tmp_path)


def test_a_model_with_flipped_bytes_is_refused_or_a_whole_tokenizer(words):
    model, rng = words.files["tokenizer.model"], np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = np.frombuffer(model, np.uint8).copy()
        places = rng.integers(0, data.size, rng.integers(1, 9))
        data[places] ^= rng.integers(1, 256, places.size, np.uint8)
        try:
            tokenizer = from_bytes(data.tobytes())
        except ValueError:
            refused += 1
        else:
            assert tokenizer.size > 0
            assert all(0 <= i < tokenizer.size for i in tokenizer.encode("the cat 한"))
    assert 50 < refused < 200


@pytest.mark.parametrize("start", ["<!doctype html>\n<html>", "\n <HTML lang=en>", "<?xml version"])
def test_a_web_page_in_place_of_a_file_is_called_one(start, tmp_path):
    (tmp_path / "tokenizer.model").write_text(f"{start}<title>Sign in</title>")
    with pytest.raises(ValueError, match=f"{tmp_path}/tokenizer.model: is a web page, such as"):
        load(tmp_path)


PAGE = "<!DOCTYPE html>\n<title>Sign in</title>"
BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@pytest.mark.parametrize("name", [*BESIDE, "added_tokens.json"])
def test_a_web_page_in_place_of_a_file_beside_the_model_is_called_one(words, name, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(words.files["tokenizer.model"])
    assert load(tmp_path) == words
    (tmp_path / name).write_text(PAGE)
    with pytest.raises(ValueError, match=f"{tmp_path}/{name}: is a web page, such as"):
        load(tmp_path)


def test_a_web_page_in_place_of_a_chat_template_is_called_one(words, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(words.files["tokenizer.model"])
    (tmp_path / "chat_template.jinja").write_text(PAGE)
    with pytest.raises(ValueError, match=r"chat_template.jinja: is a web page, such as"):
        tokenizer_chat.template(load(tmp_path))


def test_a_missing_file_and_a_folder_without_a_model_say_what_to_bring(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load(tmp_path / "nothing.model")
    with pytest.raises(ValueError, match=r"holds no tokenizer.model and no tokenizer.json"):
        load(tmp_path)


@pytest.mark.parametrize(("name", "size"), [("llama2", 32_000), ("tok512", 512)])
def test_real_tokenizers_load(name, size):
    folder = DATA / "tokenizers" / name
    if not folder.exists():
        pytest.skip(NO_DATA)
    words = load(folder)
    got = (words.bos_id, words.eos_id, words.pad_id, words.size)
    assert got == (1, 2, 2, size)


def test_a_real_tiktoken_file_is_refused():
    folder = DATA / "tokenizers" / "llama3"
    if not folder.exists():
        pytest.skip(NO_DATA)
    with pytest.raises(ValueError, match="tiktoken"):
        load(folder)


def test_code_that_a_folder_brings_is_not_run_whatever_a_user_answers(tmp_path, monkeypatch):
    sentencepieces.write(hand_tokenizer.make(), tmp_path)
    (tmp_path / "mine.py").write_text(
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "from transformers import PreTrainedTokenizerFast as Mine\n"
    )
    path = tmp_path / "tokenizer_config.json"
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": [None, "mine.Mine"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ValueError, match="trust_remote_code"):
        auto.AutoCodec(tmp_path)
    assert not (tmp_path / "ran").exists()
