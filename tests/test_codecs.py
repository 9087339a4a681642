"""Words remembered: the ids of a text are the library's, whatever stands between its words."""

import pickle

from conftest import DATA, needs_data
import hand_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax import text
from lrl_jax.vocab.tokenizer import codecs
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.codecs import SentencePieceCodec, WordCodec

HAND = hand_tokenizer.make()
MODEL = HAND.files["tokenizer.model"]
LIBRARY = SentencePieceCodec(MODEL)


@pytest.fixture(autouse=True)
def _one_core(monkeypatch):
    monkeypatch.setattr(SentencePieceCodec, "threads", 1)


def changed(change) -> spm.ModelProto:
    proto = spm.ModelProto.FromString(MODEL)
    change(proto)
    return proto


def test_words_come_out_by_hand():
    # "_a" "b" | "_c" | "_" "_a" | "_": two spaces are one of the cut and one of the word
    assert WordCodec(MODEL).encode_batch(["ab c  a "]) == [[263, 261, 265, 259, 263, 259]]


@given(st.lists(st.text("ab \u2581\n\t한é<0>", max_size=12), max_size=6))
@example(["", " ", "  ", " a", "a ", "  a  b  ", "\u2581 \u2581\u2581a", "</s> <s>", "a\u00a0b"])
@settings(max_examples=300, deadline=None)
def test_ids_are_those_of_the_library(texts):
    codec = WordCodec(MODEL)
    want = LIBRARY.encode_batch(texts)
    assert codec.encode_batch(texts) == want
    assert codec.encode_batch(texts) == want  # now remembered
    assert codec.decode_batch(want) == LIBRARY.decode_batch(want)


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr(codecs, "KEPT", 3)
    codec = WordCodec(MODEL)
    texts = [f"{'a' * n} b" for n in range(1, 9)]
    for _ in range(3):
        assert codec.encode_batch(texts) == LIBRARY.encode_batch(texts)
        assert len(codec._known) == 0
    codec.encode_batch(["a" * (codecs.LONGEST + 1)])
    assert len(codec._known) == 0


def test_words_that_come_again_are_kept(monkeypatch):
    monkeypatch.setattr(codecs, "KEPT", 2)
    codec, worked_out = WordCodec(MODEL), []
    encode = codec._known._encode

    def counted(words, **options):
        worked_out.append(sorted(words))
        return encode(words, **options)

    monkeypatch.setattr(codec._known, "_encode", counted)
    for lines in (["a b", "c b"], ["a b"], ["a b ab"], ["a b bc", "b"], ["a b"]):
        assert codec.encode_batch(lines) == LIBRARY.encode_batch(lines)
    assert worked_out == [["a", "b", "c"], [], ["ab"], ["bc"], []]  # each batch in one call


def test_the_way_that_takes_less_time_is_taken_and_the_other_tried_again(monkeypatch):
    monkeypatch.setattr(codecs, "TIMED", 1)
    clock, taken = [0.0], []
    monkeypatch.setattr(codecs.time, "process_time", lambda: clock[0])

    def way(name, seconds):
        def encode(texts):
            taken.append(f"{name} {len(texts)}")
            clock[0] += seconds() * len(texts)
            return [[len(text)] for text in texts]

        return encode

    slow = [3.0]
    ways = codecs._Ways(way("words", lambda: slow[0]), way("library", lambda: 2.0))
    chunk = ["ab"] * 8 + ["abc"]
    for _ in range(5):
        assert ways.encode(chunk) == [[2]] * 8 + [[3]]
    assert taken == ["words 9", "library 9", "library 9", "words 2", "library 7", "library 9"]
    slow[0], taken[:] = 1.0, []  # words are known by now
    for _ in range(4):
        ways.encode(chunk)
    assert taken == ["library 9", "library 9", "words 2", "library 7", "words 9"]


def test_many_texts_are_encoded_in_chunks_in_their_order(monkeypatch):
    monkeypatch.setattr(codecs, "CHUNK", 4)
    monkeypatch.setattr(codecs, "TIMED", 1)
    texts = ["a b", "", "c", "aaaaaaaa b", "a", "b c"]
    assert [*codecs._chunks(texts)] == [["a b", "", "c"], ["aaaaaaaa b"], ["a", "b c"]]
    codec = WordCodec(MODEL)
    for _ in range(20):
        assert codec.encode_batch(texts) == LIBRARY.encode_batch(texts)
    assert codec.encode_batch([]) == []


def test_on_many_cores_the_library_shares_the_work(monkeypatch):
    monkeypatch.setattr(SentencePieceCodec, "threads", -1)
    monkeypatch.setattr(codecs.os, "cpu_count", lambda: codecs.CORES)
    codec = WordCodec(MODEL)
    assert codec.encode_batch(["a b", "c"]) == LIBRARY.encode_batch(["a b", "c"])
    assert len(codec._known) == 0


def test_it_can_be_sent_to_another_process():
    sent = pickle.loads(pickle.dumps(WordCodec(MODEL)))
    assert sent.encode_batch(["a b"]) == [[263, 264]]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pieces.add(piece="a\u2581b", score=-99, type=1),
        lambda m: m.pieces.add(piece="\u2581a\u2581", score=-99, type=1),
        lambda m: m.pieces.add(piece="<x>", score=0, type=4),
        lambda m: setattr(m.trainer_spec, "byte_fallback", False),
        lambda m: setattr(m.trainer_spec, "model_type", spm.TrainerSpec.UNIGRAM),
        lambda m: setattr(m.trainer_spec, "treat_whitespace_as_suffix", True),
        lambda m: setattr(m.normalizer_spec, "add_dummy_prefix", False),
        lambda m: setattr(m.normalizer_spec, "escape_whitespaces", False),
        lambda m: setattr(m.normalizer_spec, "remove_extra_whitespaces", True),
        lambda m: setattr(m.normalizer_spec, "precompiled_charsmap", b"x"),
        lambda m: setattr(m.pieces[259], "piece", "\u2581\u2581"),
    ],
    ids=["inside", "behind", "own", "unknowns", "unigram", "suffix", "no prefix", "bare", "extra",
         "normalised", "no space"],
)  # fmt: skip
def test_words_that_may_be_joined_are_not_taken_apart(change):
    assert codecs.apart(changed(lambda m: None))
    assert not codecs.apart(changed(change))


@needs_data
def test_llama_2_spells_real_text_the_same_either_way():
    real = tokenizers.load(DATA / "tokenizers" / "llama2")
    assert isinstance(real.codec, WordCodec)
    library = SentencePieceCodec(real.files["tokenizer.model"])
    files = sorted((DATA / "parallel" / "ntrex128").glob("*.txt"))
    lines = [*text.lines(*map(str, files))]
    lines += text.lines(str(DATA / "mono" / "en" / "tinystories_sample.txt"))
    assert real.encode_batch(lines) == library.encode_batch(lines)
