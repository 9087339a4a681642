"""Copies are found across shards, and only copies."""

import itertools
import random
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrl_jax.data.read import duplicates, filters
from lrl_jax.recipe import data as recipe_data

SEEDS = st.integers(0, 2**32 - 1)


def texts(duplicates="near", similarity=0.8, **given):
    return recipe_data.Text(
        kind="text",
        path=("a.txt",),
        language="kor_Hang",
        filters={"duplicates": duplicates, "similarity": similarity, **given},
    )


def left_out(dataset, *shards: list[str]) -> list[list[int]]:
    surveys = [duplicates.survey(dataset, [{"text": t} for t in shard]) for shard in shards]
    f = dataset.filters
    got = duplicates.repeated(surveys, f.duplicates == "near", f.similarity)
    return [ordinals.tolist() for ordinals in got]


def signature(text: str) -> np.ndarray:
    """The MinHash of one text."""
    return duplicates.survey(texts(), [{"text": text}])["hashes"][0]


def noise(rng: random.Random, length: int) -> str:
    """Text in which hardly two shingles are the same."""
    return "".join(
        rng.choices("가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허", k=length)
    )


def jaccard(a: str, b: str) -> float:
    one, other = ({t[i : i + 5] for i in range(len(t) - 4)} for t in (a, b))
    return len(one & other) / len(one | other)


def test_the_first_copy_in_the_order_of_shards_stays():
    dataset = texts("exact")
    assert left_out(dataset, ["a", "b", "a"], ["c"], ["b", "d", "b"]) == [[2], [], [0, 2]]


def test_spaces_do_not_make_a_text_another_but_letters_do():
    assert left_out(texts("exact"), ["a b", " a\nb ", "A b", "ab"]) == [[1]]


def test_nothing_is_found_in_nothing():
    assert left_out(texts("exact")) == []
    assert left_out(texts("near"), [], ["a"], []) == [[], [], []]


def test_case_and_normal_form_do_not_make_a_near_copy_another():
    one = "서울은 Korea 의 수도이다"
    assert left_out(texts(), [one, unicodedata.normalize("NFD", one).upper()]) == [[1]]


def test_short_texts_are_compared_as_wholes():
    assert left_out(texts(), ["네", "예", " 네"]) == [[2]]


def test_text_without_spaces_has_near_copies():
    one = "東京は日本の首都であり世界最大の都市圏を形成している江戸時代から続く歴史を持つ" * 2
    assert left_out(texts(), [one, one[:-1] + "。", one[::-1]]) == [[1]]


def test_the_same_answer_to_another_question_is_no_copy():
    dataset = recipe_data.Instructions(
        kind="instructions", path=("a",), language="kor_Hang", filters={"duplicates": "exact"}
    )
    rows = [{"instruction": q, "input": "", "output": "yes"} for q in ("a?", "b?", "a?")]
    got = duplicates.repeated([duplicates.survey(dataset, rows)], False, 0.8)
    assert got[0].tolist() == [2]


def test_a_pair_turned_round_is_no_near_copy():
    dataset = recipe_data.Parallel(
        kind="parallel",
        path=("a",),
        source_language="eng_Latn",
        target_language="kor_Hang",
        filters={"duplicates": "near"},
    )
    one, other = "one two three four five", "하나 둘 셋 넷 다섯 여섯 일곱"
    rows = [{"source": a, "target": b} for a, b in ((one, other), (other, one), (one, other))]
    got = duplicates.repeated([duplicates.survey(dataset, rows)], True, 0.8)
    assert got[0].tolist() == [2]


def test_ordinals_count_records_that_pass_the_other_filters():
    dataset = texts("exact", min_chars=2).model_copy(update={"take": 1})
    shard = [{"text": t} for t in ("x", "aa", "y", "bb", "aa")]
    found = duplicates.survey(dataset, shard)
    assert len(found) == 3  # take counts what is left after copies have gone
    (ordinals,) = duplicates.repeated([found], False, 0.8)
    sieve = filters.Sieve(dataset.model_copy(update={"take": 0}))
    assert [r["text"] for r in sieve.sift(shard, ordinals)] == ["aa", "bb"]


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_survey_goes_through_a_file_without_objects(tmp_path, kind):
    found = duplicates.survey(texts(kind), [{"text": t} for t in ("one text", "two", "one  text")])
    np.save(tmp_path / "a.npy", found, allow_pickle=False)
    back = np.load(tmp_path / "a.npy", mmap_mode="r", allow_pickle=False)
    assert [o.tolist() for o in duplicates.repeated([back, back], kind == "near", 0.8)] == [
        [2],
        [0, 1, 2],
    ]


def test_equal_shares_of_signatures_estimate_jaccard():
    rng = random.Random(1)
    base = noise(rng, 1500)
    for cut in (100, 500, 1000):
        other = base[:cut] + noise(rng, 1500 - cut)
        got = np.mean(signature(base) == signature(other))
        assert abs(got - jaccard(base, other)) < 3 * 0.045  # sqrt(0.25 / 128) is 0.044


def test_a_survey_is_the_same_however_many_texts_are_hashed_at_once():
    rng = random.Random(2)
    shard = [noise(rng, size) for size in (duplicates.BATCH - 1, 3, 1, 70_000, 6)]
    got = duplicates.survey(texts(), [{"text": text} for text in shard])["hashes"]
    assert (got == [signature(text) for text in shard]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab 가나\n", min_size=1).filter(str.strip), min_size=1), st.data())
def test_an_identical_text_is_always_found(shard, data):
    copy = data.draw(st.sampled_from(shard))
    for kind in ("exact", "near"):
        assert left_out(texts(kind), shard, [copy])[1] == [0]


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(400, 4000))
def test_texts_of_jaccard_95_are_found_and_of_20_are_not(seed, length):
    rng = random.Random(seed)
    base = noise(rng, length)
    near = base + noise(rng, length // 19)
    far = base[: length // 3] + noise(rng, 2 * length // 3)
    assert abs(jaccard(base, near) - 0.95) < 0.01
    assert abs(jaccard(base, far) - 0.2) < 0.02
    assert left_out(texts(), [base], [near, far]) == [[], [0]]


def test_texts_that_share_bands_but_are_less_alike_stay():
    rng = random.Random(3)
    for _ in range(20):  # of Jaccard 0.56, a third shares a band
        base = noise(rng, 1000)
        assert left_out(texts(), [base, base[:720] + noise(rng, 280)]) == [[]]


def family(seed: int) -> list[str]:
    """Texts of which some are alike and some nearly so, in chains."""
    rng = random.Random(seed)
    found = [noise(rng, 120) for _ in range(4)]
    for _ in range(16):
        text, at = rng.choice(found), rng.randrange(100)
        size = rng.choice((2, 8, 20))
        found.append(text[:at] + noise(rng, size) + text[at + size :])
    return found


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 20), max_size=4))
def test_how_records_lie_in_shards_does_not_matter(seed, cuts):
    whole = family(seed)
    edges = [0, *sorted(cuts), len(whole)]
    shards = [whole[a:b] for a, b in itertools.pairwise(edges)]
    got = left_out(texts(), *shards)
    joined = [a + i for a, ordinals in zip(edges, got, strict=False) for i in ordinals]
    assert [joined] == left_out(texts(), whole)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_what_is_left_out_is_like_an_earlier_record_and_what_stays_is_not(seed):
    whole = family(seed)
    signatures = [signature(text) for text in whole]
    (gone,) = left_out(texts(similarity=0.7), whole)
    assert gone
    for i in range(len(whole)):
        alike = {j for j in range(i) if share_a_band_and_are_alike(signatures[i], signatures[j])}
        assert alike if i in gone else alike <= set(gone)


def share_a_band_and_are_alike(a: np.ndarray, b: np.ndarray) -> bool:
    same, width = a == b, duplicates.band_width(0.7)
    bands = same[: len(same) // width * width].reshape(-1, width)
    return bool(bands.all(axis=1).any() and same.mean() >= 0.7)


def test_a_near_copy_is_found_behind_records_that_only_share_a_band():
    width = duplicates.band_width(0.8)
    rng = np.random.default_rng(0)
    text = rng.integers(0, 1 << 32, duplicates.HASHES, np.uint32)
    signatures = []
    for start in range(0, duplicates.HASHES, width):
        signatures.append(rng.integers(0, 1 << 32, duplicates.HASHES, np.uint32))
        signatures[-1][start : start + width] = text[start : start + width]
    found = np.empty(len(signatures) + 2, [("digest", "<u8"), ("hashes", "<u4", 128)])
    found["digest"] = np.arange(len(found))
    found["hashes"] = [*signatures, text, text]
    assert duplicates.repeated([found], True, 0.8)[0].tolist() == [len(signatures) + 1]
