"""Learning vocabularies: a whole one, and the pieces a base lacks."""

import byte_tokenizer
import pytest

from lrl_jax.text import DataError
from lrl_jax.vocab.pieces import learn, splice
from lrl_jax.vocab.tokenizer import piece_model, sentencepieces
from lrl_jax.vocab.tokenizer.load import family
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3
KOREAN = ["고양이가 집에 갑니다", "강아지가 집에 옵니다 cat 12", "고양이와 강아지가 갑니다"] * 3
HANGUL = ("Hang",)


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return learn.train(ENGLISH, size=290, coverage=1.0)


def test_a_learnt_tokenizer_is_laid_out_as_llama_2_is(base):
    proto = piece_model.proto_of(base)
    pieces = [piece.piece for piece in proto.pieces]
    assert pieces[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert pieces[258] == "<0xFF>"
    spec = proto.normalizer_spec
    got = (spec.name, spec.add_dummy_prefix, spec.remove_extra_whitespaces)
    assert got == ("identity", True, False)
    assert len(pieces) == 290


def test_learning_twice_gives_the_same_bytes(base):
    assert learn.train(ENGLISH, size=290, coverage=1.0) == base


def test_digits_are_pieces_of_their_own():
    model = learn.train(["1234 1234 1234 ab"] * 9, size=268, coverage=1.0)
    got = [sentencepieces.pieces(model)[i] for i in model.encode("1234")]
    assert got == ["▁", "1", "2", "3", "4"]


def test_pieces_are_written_in_the_scripts_asked_for(base):
    got = learn.pieces(KOREAN, 100, HANGUL, 1.0, base)
    assert "▁고양이" in got
    assert all("가" <= c <= "힣" for piece in got for c in piece.removeprefix("▁"))


def test_pieces_leave_out_what_the_base_has(base):
    taught = learn.train(ENGLISH + KOREAN, size=360, coverage=1.0)
    known = set(sentencepieces.pieces(taught))
    got = learn.pieces(KOREAN, 100, HANGUL, 1.0, taught)
    assert not known & set(got)


def test_every_beginning_of_the_list_can_be_built_from_itself(base):
    got = learn.pieces(KOREAN, 100, HANGUL, 1.0, base)
    have = {"▁"}
    for piece in got:
        cuts = range(1, len(piece))
        assert len(piece) == 1 or any({piece[:i], piece[i:]} <= have for i in cuts)
        have.add(piece)


def test_no_more_pieces_than_asked_for_come_back(base):
    assert len(learn.pieces(KOREAN, 7, HANGUL, 1.0, base)) == 7


def test_a_long_line_is_cut_not_dropped(base):
    short = learn.pieces(KOREAN * 200, 40, HANGUL, 1.0, base)
    long = learn.pieces([" ".join(KOREAN * 200)], 40, HANGUL, 1.0, base)
    assert set(short) == set(long)


def test_a_line_without_spaces_is_cut_too():
    text = "가나다라마바사아자차카타파하" * 1000
    got = list(learn._cut([text]))
    assert "".join(got) == text
    assert max(len(line.encode()) for line in got) <= learn.LINE_BYTES


def test_an_unknown_script_is_refused_with_the_nearest(base):
    with pytest.raises(ValueError, match=r"unknown script 'Korean', the nearest is Kore"):
        learn.pieces(KOREAN, 10, ("Korean",), 1.0, base)


def test_text_without_the_script_is_refused(base):
    with pytest.raises(DataError, match="has nothing written in Thai"):
        learn.pieces(KOREAN, 10, ("Thai",), 1.0, base)


def test_no_text_at_all_is_refused():
    with pytest.raises(ValueError, match="no text to learn"):
        learn.train(["", "  "], size=300, coverage=1.0)


def test_a_size_the_text_cannot_give_is_refused_with_one_it_can():
    with pytest.raises(ValueError, match=r"too high \(9999\).*<= \d+: change `size`"):
        learn.train(ENGLISH, size=9999, coverage=1.0)


@pytest.mark.parametrize("coverage", [0.5, 1.5])
def test_a_coverage_sentencepiece_does_not_allow_is_refused(coverage):
    with pytest.raises(ValueError, match=r"allows a character coverage of 0\.98 to 1"):
        learn.train(ENGLISH, size=290, coverage=coverage)


# ---------------------------------------------------------------------------- byte level
@pytest.fixture(scope="module")
def bytes_base() -> Tokenizer:
    return byte_tokenizer.learn(ENGLISH, size=290)


def text_of(tokenizer: Tokenizer, piece: str) -> str:
    return family(tokenizer).surface(piece).decode(errors="replace")


def test_byte_level_pieces_are_learnt_within_the_words_and_scripts(bytes_base):
    got = learn.pieces(KOREAN, 200, HANGUL, 1.0, bytes_base)
    texts = [text_of(bytes_base, piece) for piece in got]
    assert {" 고양이가", " 집에", "갑니다"} & set(texts)
    assert not [text for text in texts if any(c.isascii() and c != " " for c in text)]


def test_byte_level_pieces_can_each_be_joined_from_what_stands_before(bytes_base):
    got = learn.pieces(KOREAN, 200, HANGUL, 1.0, bytes_base)
    have = set(family(bytes_base).pieces(bytes_base))
    for piece in got:
        assert piece not in have
        assert any({piece[:i], piece[i:]} <= have for i in range(1, len(piece)))
        have.add(piece)


def test_byte_level_pieces_make_korean_short_and_leave_english_alone(bytes_base):
    new, _ = splice.splice(bytes_base, learn.pieces(KOREAN, 200, HANGUL, 1.0, bytes_base))
    assert new.encode_batch(ENGLISH) == bytes_base.encode_batch(ENGLISH)
    assert len(new.encode("강아지가 집에 갑니다")) < 8 < len(bytes_base.encode("강아지가 집에"))
    assert new.decode(new.encode("강아지가 집에")) == "강아지가 집에"


def test_byte_level_pieces_are_the_same_on_every_run(bytes_base):
    got = [learn.pieces(KOREAN, 30, HANGUL, 1.0, bytes_base) for _ in range(2)]
    assert got[0] == got[1]
    assert len(got[0]) == 30


def test_byte_level_text_without_the_script_is_refused(bytes_base):
    with pytest.raises(DataError, match="has nothing written in Thai"):
        learn.pieces(KOREAN, 10, ("Thai",), 1.0, bytes_base)


def test_byte_level_pieces_leave_out_what_the_base_has():
    taught = byte_tokenizer.learn(KOREAN, size=270)
    got = learn.pieces(KOREAN, 30, HANGUL, 1.0, taught)
    assert len(got) > 5
    assert not set(family(taught).pieces(taught)) & set(got)


def test_large_counts_are_scaled_down_before_they_are_written_out():
    assert "".join(learn._repeated({"ab": 100, "cd": 7, "e": 50}, scale=10)) == "ab " * 10 + "cd "


def test_merges_are_those_of_the_most_frequent_pairs():
    got = learn.merges({"abc": 5, "bcd": 3, "ab": 1}, count=3, min_count=2)
    assert got == [("b", "c"), ("a", "bc"), ("bc", "d")]  # 8, 5, 3
    assert learn.merges({"abc": 5, "bcd": 3}, count=9, min_count=4) == got[:2]
