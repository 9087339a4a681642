"""Pieces of third-party vocabularies, and what is wrong with a tokenizer."""

import json
from pathlib import Path

import byte_tokenizer
from conftest import DATA, NO_DATA
import hand_tokenizer
import pytest
from sentencepiece import sentencepiece_model_pb2 as spm

from lrl_jax.vocab.pieces import donor, learn, splice
from lrl_jax.vocab.tokenizer import piece_model
from lrl_jax.vocab.tokenizer.load import family, from_bytes, load
from lrl_jax.vocab.tokenizer.types import Tokenizer

TOKENIZERS = DATA / "tokenizers"
ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3
KOREAN = ["고양이가 집에 갑니다", "강아지가 집에 옵니다", "고양이와 강아지가 갑니다"] * 3
HANGUL, LATIN = ("Hang",), ("Latn",)


def model(*pieces: str, **normaliser: object) -> bytes:
    """A unigram model without bos and eos, as people publish them: <unk>, then `pieces`."""
    proto = spm.ModelProto()
    proto.trainer_spec.model_type = spm.TrainerSpec.UNIGRAM
    proto.normalizer_spec.MergeFrom(spm.NormalizerSpec(name="identity", **normaliser))
    proto.pieces.add(piece="<unk>", type=2)
    for rank, piece in enumerate(pieces):
        proto.pieces.add(piece=piece, score=-float(rank))
    return proto.SerializeToString()


def form(kind: str, vocab: object, **more: object) -> str:
    return json.dumps({"model": {"type": kind, "vocab": vocab}, **more})


@pytest.fixture
def give(tmp_path):
    """Writes a donor and takes its pieces."""

    def taken(content: bytes | str, base: Tokenizer, scripts=LATIN) -> donor.Donated:
        path = tmp_path / ("d.json" if isinstance(content, str) else "d.model")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return donor.pieces(path, base, scripts)

    return taken


# ---------------------------------------------------------------------------- pieces
def test_the_donor_order_is_kept_and_what_is_left_out_is_counted(give):
    pieces = ("▁bc", "12", "한", "a", "cab", "b▁", "<0xE0>a", "▁a", "ab")
    got = give(model(*pieces), hand_tokenizer.make())
    assert got.pieces == ["▁bc", "cab", "ab"]
    assert got.left_out == {
        "are not in the scripts": 2,
        "the base has": 2,
        "hold a space that is not in front": 1,
        "spell bytes by name": 1,
    }
    assert got.summary == (
        "donor: 3 pieces; left out: 2 are not in the scripts, 2 the base has, "
        "1 hold a space that is not in front, 1 spell bytes by name"
    )


def test_control_and_byte_pieces_are_never_taken(give):
    proto = spm.ModelProto.FromString(model("ab"))
    proto.pieces.add(piece="cc", type=3)
    proto.pieces.add(piece="bb", type=4)
    got = give(proto.SerializeToString(), hand_tokenizer.make())
    assert got.pieces == ["ab"]


def test_pieces_the_base_normaliser_rewrites_are_dropped(give):
    nfkc = spm.ModelProto.FromString(_trained("nfkc").files["tokenizer.model"])
    got = give(model("▁ab", "ﬁ", "cab"), from_bytes(nfkc.SerializeToString()))
    assert got.pieces == ["▁ab", "cab"]
    assert got.left_out == {"are rewritten by the base's normaliser": 1}


def test_another_normalisation_of_the_donor_is_said(give):
    theirs = _trained("nmt_nfkc").files["tokenizer.model"]
    got = give(theirs, hand_tokenizer.make())
    assert got.normalisers == ("nmt_nfkc", "")
    assert "text normalised by nmt_nfkc, the base normalises by nothing" in got.summary


def test_a_sentencepiece_donor_gives_a_byte_level_base_pieces_it_can_join(give):
    base = byte_tokenizer.learn(ENGLISH, size=290)
    got = give(model("▁cats", "zz", "zzzz", "qxq", "▁cat"), base)
    assert got.pieces == ["Ġcats", "zz", "zzzz"]
    assert got.left_out == {"the base has": 1, "need steps the donor has not": 1}


def test_parts_come_before_what_is_joined_from_them_in_a_byte_level_base(give):
    base = byte_tokenizer.learn(ENGLISH, size=290)
    assert give(model("zzzz", "qz", "zz"), base).pieces == ["zz", "zzzz", "qz"]


def test_halves_of_characters_come_along_where_they_are_steps(give):
    base = byte_tokenizer.learn(ENGLISH, size=290)
    theirs = byte_tokenizer.learn(KOREAN, size=400)
    got = give(theirs.files["tokenizer.json"].decode(), base, HANGUL)
    texts = [family(base).surface(piece).decode(errors="replace") for piece in got.pieces]
    assert " 집에" in texts
    assert any("\ufffd" in text for text in texts)
    assert len(got.pieces) + sum(got.left_out.values()) == theirs.size - 2  # bos and eos
    new, plan = splice.splice(base, got.pieces)
    emitted = {i for ids in new.encode_batch(KOREAN) for i in ids}
    assert len(emitted & set(plan.added)) > 3
    assert new.encode_batch(ENGLISH) == base.encode_batch(ENGLISH)


def test_a_byte_level_donor_gives_a_sentencepiece_base_whole_characters(give):
    theirs = byte_tokenizer.learn(KOREAN, size=400).files["tokenizer.json"].decode()
    base = learn.train(ENGLISH, size=290, coverage=1.0)
    got = give(theirs, base, HANGUL)
    assert "▁집에" in got.pieces
    assert got.left_out["are parts of characters"] > 9


def test_a_unigram_tokenizer_json_is_read_too(give):
    vocab = [["unk", 0], ["▁bc", -1.0], ["<0x41>", -2.0], ["cab", -3.0]]
    added = [{"id": 0, "content": "unk"}]
    got = give(form("Unigram", vocab, added_tokens=added), hand_tokenizer.make())
    assert got.pieces == ["▁bc", "cab"]


# ---------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            form("WordPiece", {"ab": 0}),
            "is a WordPiece vocabulary, which cuts words by the longest",
        ),
        (form("WordLevel", {"ab": 0}), "is a WordLevel vocabulary, which knows whole words"),
        ("{", "is not a tokenizer.json"),
        ("[]", "is not a tokenizer.json"),
        ("[" * 99_999, "is not a tokenizer.json"),
        (form("BPE", {"ab": 0}, normalizer=[3]), "is not a tokenizer.json"),
        (form("BPE", {"ab": 0, "cd": "1"}), "is not a tokenizer.json"),
        (form("Unigram", {"ab": 0, "c": 1}), "is not a tokenizer.json"),
        ("", "is empty"),
        (b"\x1f\x8b123", "is compressed with gzip"),
        (b"IQ== 0\nIg== 1\n", "is a tiktoken file.*tokenizer.json"),
        (model("한국"), "gives no piece written in Latn that the base lacks .1 are not in"),
    ],
)
def test_what_cannot_donate_is_refused_with_a_reason(content, error, give):
    with pytest.raises(ValueError, match=error):
        give(content, hand_tokenizer.make())


def test_a_bpe_that_marks_the_ends_of_words_is_refused(give):
    tree = {"model": {"type": "BPE", "vocab": {"ab</w>": 0}, "end_of_word_suffix": "</w>"}}
    with pytest.raises(ValueError, match="marks where words end"):
        give(json.dumps(tree), hand_tokenizer.make())


# ---------------------------------------------------------------------------- flaws
def test_flaws_are_found_by_kind():
    proto = piece_model.proto_of(hand_tokenizer.make())
    for piece in ("<0xE0>a", "ab▁", "a▁b", "a\x06", "xa", "▁▁"):
        proto.pieces.add(piece=piece, score=-99)
    assert donor.flaws(from_bytes(proto.SerializeToString())) == [
        "pieces that spell bytes by name: 1, such as '<0xE0>a'",
        "pieces that end in ▁: 1, such as 'ab▁'",
        "pieces that have ▁ inside: 1, such as 'a▁b'",
        "pieces that hold control characters: 1, such as 'a\\x06'",
        "pieces that have characters without a piece: 3, such as '<0xE0>a', 'a\\x06', 'xa'",
    ]


def test_learnt_tokenizers_have_no_flaws():
    assert donor.flaws(learn.train(ENGLISH, size=290, coverage=1.0)) == []
    assert donor.flaws(byte_tokenizer.learn(ENGLISH, size=290)) == []


# ---------------------------------------------------------------------------- published ones
def published(name: str) -> Path:
    if not TOKENIZERS.exists():
        pytest.skip(NO_DATA)
    return TOKENIZERS / name


def test_the_flaws_of_a_published_extension_are_found():
    got = "\n".join(donor.flaws(load(published("llama2_hindi_plus1k"))))
    assert "pieces that spell bytes by name: 88, such as" in got
    assert "pieces that end in ▁: 336, such as" in got


@pytest.mark.parametrize("name", ["llama2", "tok512"])
def test_other_published_tokenizers_have_none(name):
    assert donor.flaws(load(published(name))) == []


def test_the_chinese_vocabulary_gives_llama_2_its_han_pieces():
    got = donor.pieces(
        published("chinese_sp_20k/chinese_sp.model"), load(TOKENIZERS / "llama2"), ("Hani",)
    )
    assert sum(not piece.startswith("▁") for piece in got.pieces) == 16_992
    assert got.left_out == {"are not in the scripts": 2_125, "the base has": 713}
    assert got.normalisers == ("nmt_nfkc", "")


def _trained(rule: str) -> Tokenizer:
    """The letters a to c, normalised by one of sentencepiece's rules."""
    import io

    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abc cab bca"] * 9),
        model_writer=out,
        model_type="bpe",
        vocab_size=12,
        normalization_rule_name=rule,
        minloglevel=2,
    )
    return from_bytes(out.getvalue())
