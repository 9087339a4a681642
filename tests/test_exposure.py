"""Exposure: how often new tokens are seen, now and in training."""

import json

import hand_tokenizer
import pytest

from lrl_jax.vocab import exposure
from lrl_jax.vocab.pieces import splice

BASE = hand_tokenizer.make()
# "▁aa" is joined from ▁a and a, "bb" from b and b; "cc" never comes up in the text below.
NEW, PLAN = splice.splice(BASE, ["bb", "▁aa", "cc"])
# "aa aa" is ▁aa ▁aa, "aa bb" is ▁aa ▁b b: 5 tokens, 3 of them ▁aa, none bb.
TEXT = ["aa aa", "aa bb"]


def seen(budget: int = 5_000, text=TEXT) -> exposure.Exposure:
    return exposure.expose(NEW, PLAN, text, budget)


def test_new_tokens_are_counted_on_the_sample_most_frequent_first():
    got = seen()
    assert (got.texts, got.tokens) == (2, 5)
    assert list(got.counts.items()) == [("▁aa", 3), ("bb", 0), ("cc", 0)]
    assert (got.share, got.emitted, got.median) == (3 / 5, 1 / 3, 0)


def test_a_count_is_scaled_to_the_budget():
    assert seen(budget=5_000).expected(3) == 3_000
    assert seen(budget=5_000).below(1_000) == ["bb", "cc"]
    assert seen(budget=5_000).below(3_001) == ["▁aa", "bb", "cc"]


def test_a_budget_that_starves_most_pieces_advises_against_extending():
    (advice, thin) = seen(budget=5_000).advice
    assert advice.startswith("3 pieces are many for 5,000 tokens")
    assert "feeds 1 of them" in advice
    assert thin.startswith("1 piece would occur 1,000 to 6,000 times")


def test_half_of_the_pieces_starved_is_not_yet_most():
    new, plan = splice.splice(BASE, ["▁aa", "cc"])
    rare, _ = exposure.expose(new, plan, TEXT, 5_000).advice
    assert rare.startswith("1 piece would occur fewer than 1,000 times")


def test_a_few_rare_pieces_are_dropped_by_the_count_that_does_it():
    # "aa" and "ccbb" (▁c c bb) 9 times, "acc" (▁a cc) once: 9 + 27 + 2 tokens.
    got = seen(budget=38_000, text=["aa", "ccbb"] * 9 + ["acc"])
    assert (got.tokens, got.counts) == (38, {"▁aa": 9, "bb": 9, "cc": 1})
    (thin,) = got.advice  # 1,000 times is enough to stay
    assert "1,000 to 6,000 times" in thin
    got = seen(budget=37_999, text=["aa", "ccbb"] * 9 + ["acc"])
    (rare,) = got.advice
    assert rare == (
        "1 piece would occur fewer than 1,000 times; drop what is rare with min_count: 2 on this "
        "text"
    )


def test_a_count_that_the_recipe_has_already_is_not_advised():
    text = ["aa", "ccbb"] * 9 + ["acc"]
    new, plan = splice.splice(BASE, ["\u2581aa", "bb", "cc"])
    (rare,) = exposure.expose(new, plan, text, 37_999, min_count=20).advice
    assert rare == (
        "1 piece would occur fewer than 1,000 times; longer pieces are joined from them, so that "
        "min_count: 20 keeps them; ask for fewer pieces, or train longer"
    )


def test_the_summary_is_one_line():
    assert seen().summary == (
        "3 new tokens, 33.3% of them emitted, 60.0% of 5 tokens; in 5,000 tokens of training "
        "half of them occur 0 times or more, 2 fewer than 1,000 times"
    )


def test_the_record_lists_both_ends(tmp_path):
    seen().write(tmp_path / "exposure.json")
    got = json.loads((tmp_path / "exposure.json").read_text())
    assert list(got["least"]) == ["cc", "bb", "▁aa"]
    assert (got["new_tokens"], got["median_expected"], got["expected_below_1000"]) == (3, 0.0, 2)


def test_the_sample_is_read_as_a_stream():
    read = []
    text = (read.append(len(read)) or "aa" for _ in range(exposure.BATCH + 1))
    assert seen(text=text).counts["▁aa"] == exposure.BATCH + 1


def test_a_base_used_as_it_is_has_nothing_to_learn():
    got = exposure.expose(BASE, splice.identity(BASE), TEXT, 10)
    assert (got.counts, got.emitted, got.median, got.advice) == ({}, 0.0, 0.0, [])


@pytest.mark.parametrize(
    ("tokenizer", "text", "budget", "message"),
    [
        (BASE, TEXT, 10, "not the one of the splice"),
        (NEW, [], 10, "the sample has no text"),
        (NEW, TEXT, 0, "budget: got 0; want the tokens training will read"),
    ],
)
def test_what_cannot_be_counted_is_refused(tokenizer, text, budget, message):
    with pytest.raises(ValueError, match=message):
        exposure.expose(tokenizer, PLAN, text, budget)
