"""Choosing pieces: continued BPE, the frequency rule, the budget by parity."""

import itertools
import os
from pathlib import Path
import subprocess
import sys

import byte_tokenizer
from conftest import DATA, NO_DATA
import hand_tokenizer
import pytest

from lrl_jax import text
from lrl_jax.vocab.pieces import choose, learn, splice
from lrl_jax.vocab.tokenizer.load import family, load
from lrl_jax.vocab.tokenizer.types import Tokenizer

ENGLISH = list(itertools.islice(text.lines("sample:train.eng"), 800))
KOREAN = list(itertools.islice(text.lines("sample:train.kor"), 800))
HANGUL, LATIN = ("Hang",), ("Latn",)


@pytest.fixture(scope="module", params=["sentencepiece", "byte_level"])
def base(request) -> Tokenizer:
    """English with some Korean in it, so that Korean words have base merges to go on from."""
    lines = ENGLISH + KOREAN[:60]
    if request.param == "sentencepiece":
        return learn.train(lines, size=700, coverage=0.98)
    return byte_tokenizer.learn(lines, size=700)


@pytest.fixture(scope="module")
def found(base) -> list[str]:
    return choose.continued(KOREAN, 400, HANGUL, 1.0, base)


def count(tokenizer: Tokenizer, lines: list[str]) -> int:
    return sum(map(len, tokenizer.encode_batch(lines)))


# ---------------------------------------------------------------------------- continued BPE
def test_merges_go_on_where_those_of_the_base_end():
    base = hand_tokenizer.make()  # makes ▁a b c of it
    assert choose.continued(["abc abc"], 9, LATIN, 1.0, base) == ["▁ab", "▁abc"]


def test_the_more_frequent_pair_is_merged_first():
    got = choose.continued(["abc ab bbc bbc bbc"], 9, LATIN, 1.0, hand_tokenizer.make())
    assert got == ["bc", "▁bbc"]  # b c is seen 4 times; after it ▁b bc 3 times, ▁a b only once


def test_merges_do_not_reach_over_other_scripts():
    got = choose.continued(["ab1ab ab1ab a1b"], 9, LATIN, 1.0, hand_tokenizer.make())
    assert got == ["▁ab", "ab"]


def test_a_base_piece_of_two_scripts_ends_a_stretch():
    parts = ["Ġ", "K팝", "송", "은", "1"]
    surfaces = [part.replace("Ġ", " ").encode() for part in parts]
    assert list(choose._allowed(parts, surfaces, HANGUL)) == [["송", "은"]]


def test_characters_without_a_piece_come_first():
    got = choose.continued(["adda d ad ad"], 9, LATIN, 1.0, hand_tokenizer.make())
    assert got[0] == "d"
    assert "▁ad" in got


def test_rare_characters_stay_bytes_and_end_a_piece():
    base = hand_tokenizer.make()
    got = choose.continued(["abdab " * 9], 9, LATIN, 0.8, base)
    assert got == ["▁ab", "ab"]  # a and b are .8 of the letters
    assert "d" in choose.continued(["abdab " * 9], 9, LATIN, 0.81, base)


def test_merges_seen_too_rarely_are_not_learnt():
    got = choose.continued(["abc abc", "acb"], 9, LATIN, 1.0, hand_tokenizer.make(), min_count=2)
    assert got == ["▁ab", "▁abc"]


def test_pieces_are_no_longer_than_sixteen_characters():
    got = choose.continued(["a" * 40] * 9, 40, LATIN, 1.0, hand_tokenizer.make())
    assert max(map(len, got)) <= 16


def test_every_piece_comes_out_of_its_own_text_wherever_the_list_is_cut(base, found):
    assert len(found) > 200
    for stop in (1, 7, 40, 133, len(found)):
        new = family(base).extend(base, found[:stop])
        want = [[base.size + i] for i in range(stop)]
        assert family(base).spell(new, found[:stop]) == want


def test_more_pieces_never_make_more_tokens(base, found):
    got = [count(family(base).extend(base, found[:n]), KOREAN) for n in (1, 20, 90, 250)]
    assert got == sorted(got, reverse=True)


def test_the_base_language_keeps_its_ids(base, found):
    new, _ = splice.splice(base, found)
    assert new.encode_batch(ENGLISH) == base.encode_batch(ENGLISH)
    assert count(new, KOREAN) < 0.5 * count(base, KOREAN)


def test_pieces_whose_steps_are_missing_or_come_later_are_left_out():
    got = choose._usable(hand_tokenizer.make(), ["abc", "bc", "▁cbc", "▁ad"], LATIN)
    assert got == ["bc", "▁cbc"]


def test_pruning_finds_nothing_to_drop_but_rare_pieces(base, found):
    assert splice.prune(base, found, KOREAN, min_count=0) == found


def test_it_is_as_good_as_a_vocabulary_learnt_apart(base, found):
    apart = splice.prune(base, learn.pieces(KOREAN, 600, HANGUL, 1.0, base), KOREAN, 1)
    size = min(len(apart), len(found), 250)
    here, there = (splice.splice(base, pieces[:size])[0] for pieces in (found, apart))
    assert count(here, KOREAN) <= 1.02 * count(there, KOREAN)


def test_a_shorter_list_is_the_beginning_of_a_longer_one(base, found):
    assert choose.continued(KOREAN, 90, HANGUL, 1.0, base) == found[:90]


SCRIPT = """
import itertools
from lrl_jax import text
from lrl_jax.vocab.pieces import choose, learn
lines = list(itertools.islice(text.lines("sample:train.kor"), 300))
base = learn.train(lines, 600, 0.98)
print(choose.continued(lines, 200, ("Hang",), 1.0, base))
"""


def test_the_number_of_threads_changes_nothing():
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "4")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 1000


def test_text_in_another_script_is_a_data_error(base):
    with pytest.raises(text.DataError, match="nothing written in Thai"):
        choose.continued(KOREAN, 10, ("Thai",), 1.0, base)


def test_the_corpus_may_be_larger_than_the_trainer_counts(monkeypatch):
    monkeypatch.setattr(learn, "COUNTS", 20)
    got = choose.continued(["abc abc ab"] * 9, 9, LATIN, 1.0, hand_tokenizer.make())
    assert got == ["▁ab", "▁abc"]


# ---------------------------------------------------------------------------- by count
def test_what_comes_out_rarely_is_not_taken_but_its_characters_are():
    lines = ["가나 가나 가나 다라 다 라 다라"]
    base = learn.train(ENGLISH, size=330, coverage=1.0)
    got = choose.frequent(lambda: lines, HANGUL, base, min_count=3)
    assert {"가", "나", "다", "라", "▁가나"} <= set(got)
    assert not {"다라", "▁다라", "▁라"} & set(got)  # twice, twice, once


def test_syllables_are_candidates_however_small_the_intermediate_vocabulary(base):
    got = choose.frequent(lambda: KOREAN, HANGUL, base, min_count=20, size=1)
    new, _ = splice.splice(base, got)
    assert {len(family(base).spell(new, [c])[0]) for c in family(base).words(base, ["다"])} <= {
        1,
        2,
    }
    assert len(got) > 20


def test_every_piece_taken_is_frequent_or_a_part_of_one_that_is(base):
    got = choose.frequent(lambda: KOREAN, HANGUL, base, min_count=20, size=2000)
    assert splice.prune(base, got, KOREAN, min_count=20) == got
    assert 50 < len(got) < 600


def test_frequent_syllables_are_single_tokens(base):
    got = choose.frequent(lambda: KOREAN, HANGUL, base, min_count=20, size=2000)
    new, _ = splice.splice(base, got)
    assert len(new.encode("다")) == 1 + (base.family == "sentencepiece")  # ▁ goes first


# ---------------------------------------------------------------------------- by budget
def test_the_fewest_pieces_that_reach_a_parity_are_taken():
    base = hand_tokenizer.make()
    pieces = ["▁ab", "▁abc", "▁abcb"]  # ▁abcb costs 4, 3, 2, 1 tokens; the reference is 2
    for parity, want in ((2.0, 0), (1.5, 1), (1.2, 2), (1.0, 2), (0.5, 3)):
        got = choose.fewest(base, pieces, ["abcb"], ["bc"], parity)
        assert got.pieces == pieces[:want]
    assert (got.parity, got.before) == (0.5, 2.0)


def test_a_parity_out_of_reach_names_the_best_and_the_floor():
    base, pieces = hand_tokenizer.make(), ["▁ab", "▁abc", "▁abcb"]
    with pytest.raises(
        ValueError, match=r"parity of 0.25 .* all 3 pieces give 0.50, and no pieces go below 0.50"
    ):
        choose.fewest(base, pieces, ["abcb"], ["bc"], 0.25)
    with pytest.raises(ValueError, match=r"all 1 pieces give 1.50, and one token a word would be"):
        choose.fewest(base, pieces[:1], ["abcb"], ["bc"], 1.0)


def test_a_budget_without_text_is_refused():
    with pytest.raises(ValueError, match="needs text of the new and of the reference"):
        choose.fewest(hand_tokenizer.make(), ["▁ab"], [], ["bc"], 1.0)


# ---------------------------------------------------------------------------- a real base
def test_llama_2_goes_on_as_well_as_it_is_appended_to():
    folder, corpus = DATA / "tokenizers" / "llama2", DATA / "mono" / "ko"
    if not folder.exists():
        pytest.skip(NO_DATA)
    base = load(folder)
    lines = list(text.lines(str(corpus / "korquad_dev_contexts.txt")))
    got = choose.continued(lines, 4000, HANGUL, 0.9995, base)
    new, _ = splice.splice(base, got)
    (flores,) = (DATA / "parallel" / "flores101_first200").glob("kor*.devtest")
    korean = list(text.lines(str(flores)))
    # 7,750 before pieces could hold punctuation that Hangul shares, such as 〈 (docs/log.md)
    assert (count(base, korean), count(new, korean)) == (19_971, 7_764)
