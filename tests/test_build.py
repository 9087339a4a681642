"""The vocabulary a recipe asks for: every way to choose, the budget, and what is said of it."""

import byte_tokenizer
import pytest

from lrl_jax import text
from lrl_jax.recipe.vocab import Extend, Keep, TrainVocab
from lrl_jax.vocab import build
from lrl_jax.vocab.pieces import learn, prove
from lrl_jax.vocab.tokenizer import sentencepieces
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENGLISH = ["the cat sat on the mat", "the dog ran to the cat", "a mat and a hat"] * 3
KOREAN = ["고양이가 집에 갑니다", "강아지가 집에 옵니다", "고양이와 강아지가 갑니다"] * 3
HINDI = ["किताब में काम की बात", "काम की किताब", "बात में किताब"] * 4


@pytest.fixture
def files(tmp_path):
    for name, lines in (("en", ENGLISH), ("ko", KOREAN), ("hi", HINDI)):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def base() -> Tokenizer:
    return learn.train(ENGLISH, size=290, coverage=1.0)


def extend(files, **fields) -> Extend:
    part = {
        "method": "extend", "text": [f"{files}/ko.txt"], "pieces": 20, "scripts": ["Hang"],
        "prove_on": [f"{files}/en.txt"], "character_coverage": 1.0,
    }  # fmt: skip
    return Extend(**part | fields)


def tokens(tokenizer: Tokenizer, lines: list[str]) -> int:
    return sum(map(len, tokenizer.encode_batch(lines)))


@pytest.mark.parametrize("choose", ["continue", "append", "frequency"])
@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_every_way_to_choose_serves_both_families(kind, choose, base, files):
    start = base if kind == "sentencepiece" else byte_tokenizer.learn(ENGLISH, 280)
    built = build.build(extend(files, choose=choose), start)
    assert 0 < len(built.splice.added) <= 20
    assert tokens(built.new, KOREAN) * 2 < tokens(start, KOREAN)
    assert built.new.encode_batch(ENGLISH) == start.encode_batch(ENGLISH)
    assert prove.unreachable(built.new, start.size) == []


@pytest.mark.parametrize("field", ["text", "prove_on"])
def test_rows_are_no_text_of_a_vocabulary(field, base, files):
    (files / "ko.jsonl").write_text('{"text": "가"}\n' * 9, encoding="utf-8")
    with pytest.raises(text.DataError, match=r"ko\.jsonl: is jsonl by its name, and is read as li"):
        build.build(extend(files, **{field: [f"{files}/ko.jsonl"]}), base)


def test_a_donor_gives_its_pieces_and_what_it_left_out_is_said(base, files):
    donor = learn.train(KOREAN + ENGLISH, size=330, coverage=1.0)
    sentencepieces.write(donor, files / "donor")
    built = build.build(extend(files, choose="donor", donor=str(files / "donor")), base)
    assert {sentencepieces.pieces(built.new)[i] for i in built.splice.added} <= {
        *sentencepieces.pieces(donor)
    }
    assert built.notes[0].startswith("donor: ")
    assert "are not in the scripts" in built.notes[0]


def test_a_budget_takes_no_more_pieces_than_parity_needs(base, files):
    texts = {"eng_Latn": f"{files}/en.txt", "kor_Hang": f"{files}/ko.txt"}
    want = {"language": "kor_Hang", "at_most": 1.2}
    built = build.build(extend(files, pieces=60, parity=want, report={"texts": texts}), base)
    whole = build.build(extend(files, pieces=60), base)
    assert len(built.splice.added) < len(whole.splice.added)
    assert tokens(built.new, KOREAN) <= 1.2 * tokens(base, ENGLISH)
    assert "reach parity" in built.notes[0]


def test_marks_stay_with_their_letters_when_asked_and_rows_begin_as_the_base_spelled(files):
    base = byte_tokenizer.learn(ENGLISH + HINDI[:3], 300)
    fields = {"text": [f"{files}/hi.txt"], "scripts": ["Deva"], "pieces": 40}
    asked = [extend(files, pretokenizer=how, **fields) for how in ("keep", "mark_aware")]
    keep, aware = (build.build(vocab, base) for vocab in asked)
    assert tokens(aware.new, HINDI) < tokens(keep.new, HINDI)
    assert [build.starting(vocab, base) is base for vocab in asked] == [True, False]
    assert aware.splice.base_fingerprint == base.fingerprint
    assert all(i < base.size for ids in aware.splice.added.values() for i in ids)


def test_a_sentencepiece_base_has_nothing_to_be_mark_aware_of(base, files):
    vocab = extend(files, pretokenizer="mark_aware")
    assert build.starting(vocab, base) is base
    assert build.build(vocab, base).splice.base_fingerprint == base.fingerprint


def test_text_that_gives_no_piece_is_an_error_that_says_what_to_change(base, files):
    with pytest.raises(ValueError, match=r"seen 1000 times in .*ko.txt .*; give more text"):
        build.build(extend(files, choose="append", min_count=1000), base)


def test_text_in_another_script_is_data_that_cannot_be_used(base, files):
    with pytest.raises(ValueError, match="nothing written in Taml") as caught:
        build.build(extend(files, scripts=["Taml"]), base)
    assert caught.value.exit_code == 3


def test_a_tokenizer_is_kept_or_learnt_from_nothing(base, files):
    assert build.build(Keep(method="keep"), base).new is base
    part = TrainVocab(method="train", text=[f"{files}/en.txt"], size=285, character_coverage=1.0)
    built = build.build(part, None)
    assert (built.new.size, built.splice.added) == (285, {})
