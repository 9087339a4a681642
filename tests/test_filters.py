"""What is not learnt is left out for a reason, and counted."""

from collections import Counter
import json

from conftest import DATA, NO_DATA
import pytest

from lrl_jax.data.read import filters
from lrl_jax.recipe import data as recipe_data
from lrl_jax.text import Bad


def texts(**filtered):
    return recipe_data.Text(kind="text", path=("a.txt",), language="kor_Hang", filters=filtered)


def pairs(**filtered):
    return recipe_data.Parallel(
        kind="parallel",
        source="a.en",
        target="a.ko",
        source_language="eng_Latn",
        target_language="kor_Hang",
        filters=filtered,
    )


def instructions(**filtered):
    return recipe_data.Instructions(
        kind="instructions", path=("a.json",), language="kor_Hang", filters=filtered
    )


def chats(**filtered):
    return recipe_data.Chat(kind="chat", path=("a.json",), language="kor_Hang", filters=filtered)


def tacos(**given):
    return recipe_data.Taco(kind="taco", path=("a.json",), language="kor_Hang", **given)


def pair(source: str, target: str) -> dict[str, str]:
    languages = {"source_language": "eng_Latn", "target_language": "kor_Hang"}
    return {"source": source, "target": target} | languages


def chat(*turns: str) -> dict[str, str]:
    roles = ("user", "assistant")
    said = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"messages": json.dumps(said)}


def chain(answer: str, english: str) -> dict[str, str]:
    return {
        "instruction": "하나",
        "input": "",
        "output": answer,
        "english_instruction": "one",
        "english_input": "",
        "english_output": english,
    }


def sift(dataset, items, repeated=()):
    sieve = filters.Sieve(dataset)
    return list(sieve.sift(items, repeated)), sieve


def reason(dataset, record) -> str:
    """Why the only record is left out; '' where it is kept."""
    kept, sieve = sift(dataset, [record])
    assert len(kept) + sum(sieve.counts.values()) == 1
    return "" if kept else next(iter(sieve.counts))


@pytest.mark.parametrize(
    ("dataset", "record", "want"),
    [
        (texts(), {"text": "x"}, ""),
        (texts(), {"text": " \n"}, "empty"),
        (texts(min_chars=3), {"text": " 서울 "}, "too short"),
        (texts(min_chars=2), {"text": " 서울 "}, ""),
        (texts(max_chars=2), {"text": "서울은"}, "too long"),
        (texts(max_chars=3), {"text": "서울은"}, ""),
        (pairs(), pair("one", " "), "empty"),
        (pairs(), pair("", "하나"), "empty"),
        (pairs(min_chars=3), pair("one", "하나"), "too short"),
        (pairs(max_chars=2), pair("one", "하나"), "too long"),
        (pairs(length_ratio=1.5), pair("one", "하나"), ""),
        (pairs(length_ratio=1.4), pair("one", "하나"), "length ratio"),
        (pairs(length_ratio=1.4), pair("no", "아니요"), "length ratio"),
        (instructions(), {"instruction": "더해", "input": "", "output": "3"}, ""),
        (instructions(), {"instruction": "", "input": "1 2", "output": "3"}, "empty"),
        (chats(), chat("안녕"), "empty"),
        (chats(max_chars=3), chat("안녕하세요", "네", "음", "예"), ""),
        (chats(max_chars=2), chat("안녕하세요", "네", "음", "예"), "too long"),
        (tacos(), chain("답", "answer"), ""),
        (tacos(), chain("answer ", " answer"), "untranslated"),
        (tacos(), chain("답", ""), "empty"),
    ],
)
def test_a_record_is_left_out_for_a_reason(dataset, record, want):
    assert reason(dataset, record) == want


@pytest.mark.parametrize(
    ("filtered", "text", "want"),
    [
        ({"scripts": ["Hang"]}, "서울 2024 K", ""),
        ({"scripts": ["Hang"]}, "K팝", ""),
        ({"scripts": ["Hang"]}, "KK팝", "other script"),
        ({"scripts": ["Hang"], "script_share": 0.3}, "KK팝", ""),
        ({"scripts": ["Hang", "Latn"], "script_share": 1}, "KK팝", ""),
        ({"scripts": ["Hang"]}, "韓國 서", "other script"),
        ({"scripts": ["Kore"]}, "韓國 서", ""),
        ({"scripts": ["Kore", "Hani"], "script_share": 1}, "韓 KK", "other script"),
        ({"scripts": ["Hang"]}, "2024 :-)", "no letters"),
    ],
)
def test_text_in_another_script_is_left_out(filtered, text, want):
    assert reason(texts(**filtered), {"text": text}) == want


def test_scripts_are_those_of_what_is_learnt():
    hangul = {"scripts": ["Hang"]}
    assert reason(pairs(**hangul), pair("one", "하나")) == ""
    assert reason(pairs(**hangul), pair("하나", "one")) == "other script"
    assert reason(chats(**hangul), chat("what?", "하나")) == ""
    assert reason(chats(**hangul), chat("하나?", "one")) == "other script"


def test_of_a_chat_that_learns_its_last_answer_only_that_is_looked_at():
    record = chat("a?", "english", "나?", "하나")
    assert reason(chats(scripts=["Hang"]), record) == "other script"
    last = chats(scripts=["Hang"]).model_copy(update={"learn": "last_answer"})
    assert reason(last, record) == ""


def test_an_unreadable_record_stops_or_is_counted_as_the_recipe_says():
    bad = Bad("a.txt:7", "not UTF-8")
    with pytest.raises(ValueError, match=r"a.txt:7: not UTF-8"):
        sift(texts(), [bad])
    kept, sieve = sift(texts(bad="drop"), [bad, {"text": "x"}])
    assert kept == [{"text": "x"}]
    assert (sieve.counts, sieve.samples) == (
        {"unreadable": 1},
        {"unreadable": [f"{bad.where}: {bad.why}"]},
    )


def test_a_row_without_the_scaffold_is_counted_and_never_stops():
    _, sieve = sift(tacos(), [Bad("a.json: row 1", "no section", "no scaffold")])
    assert sieve.counts == {"no scaffold": 1}


def test_samples_are_few_and_short():
    records = [{"text": f"{i} " + "x" * 200} for i in range(5)]
    _, sieve = sift(texts(max_chars=9), records)
    got = sieve.samples["too long"]
    assert [sample[:3] for sample in got] == ["0 x", "1 x", "2 x"]
    assert [len(sample) for sample in got] == [120, 120, 120]
    assert got[0].endswith("x...")


def test_an_empty_record_is_shown_by_what_it_has():
    _, sieve = sift(pairs(), [pair("only this", "")])
    assert sieve.samples == {"empty": ["only this"]}


def test_take_counts_what_is_kept_and_reads_no_further():
    dataset = texts(min_chars=2).model_copy(update={"take": 2})
    kept, sieve = sift(dataset, iter([{"text": t} for t in ("a", "bb", "c", "dd", "ee")]))
    assert kept == [{"text": "bb"}, {"text": "dd"}]
    assert sieve.read == 4


def test_ordinals_of_repeated_records_count_those_that_pass():
    records = [{"text": t} for t in ("a", "bb", "c", "dd", "ee")]
    kept, sieve = sift(texts(min_chars=2, duplicates="exact"), records, [1])
    assert kept == [{"text": "bb"}, {"text": "ee"}]
    assert sieve.counts == {"too short": 2, "duplicate": 1}
    _, sieve = sift(texts(duplicates="near"), records, [1])
    assert sieve.counts == {"near duplicate": 1}


def test_letters_of_kept_text_are_counted_by_script():
    _, sieve = sift(texts(min_chars=2), [{"text": "K"}, {"text": "K팝 2024"}, {"text": "ᚠᚢ가"}])
    assert sieve.scripts == Counter({"Hang": 2, "Latn": 1, "Runr": 2})


def test_letters_are_counted_when_reading_stops_early():
    _, sieve = sift(texts().model_copy(update={"take": 1}), [{"text": "가"}, {"text": "나"}])
    assert sieve.scripts == Counter({"Hang": 1})


def test_a_digest_tells_questions_apart_but_not_spacing():
    rows = [("더해", "1 2", "3"), ("더해", " 1  2", "3\n"), ("빼", "5 2", "3")]
    fields = ("instruction", "input", "output")
    _, sieve = sift(instructions(), [dict(zip(fields, row, strict=True)) for row in rows])
    first, spaced, other = sieve.digests
    assert first == spaced != other
    assert 0 <= other < 2**64


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (texts(min_chars=9, max_chars=8), "min_chars 9 is more than filters.max_chars 8"),
        (texts(length_ratio=3), "length_ratio 3 is of pairs, and this dataset is of kind text"),
        (pairs(length_ratio=0.5), "never below 1"),
    ],
)
def test_filters_that_cannot_be_meant_are_refused(dataset, message):
    with pytest.raises(ValueError, match=message):
        filters.Sieve(dataset)


def test_a_filter_by_an_unknown_script_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown script 'Korean', the nearest is Kore"):
        texts(scripts=["Korean"])


def test_too_few_rows_with_the_scaffold_are_an_error_with_examples():
    counts, samples = {"no scaffold": 16}, {"no scaffold": ["a.json: row 1: no section"]}
    with pytest.raises(
        ValueError, match=r"'mits': 84% of rows have the scaffold; want 85%: 16 of 100.*\n.*row 1"
    ) as e:
        filters.verdict(tacos(coverage=0.85), "mits", counts, 84, samples)
    assert "lower data.datasets.mits.coverage" in str(e.value)
    filters.verdict(tacos(coverage=0.84), "mits", counts, 84, samples)


def test_a_dataset_of_which_nothing_is_left_says_why():
    with pytest.raises(ValueError, match=r"'web' has no record left of 3 \(1 empty, 2 too short\)"):
        filters.verdict(texts(), "web", {"too short": 2, "empty": 1}, 0)
    filters.verdict(texts(), "web", {"too short": 2}, 1)


def test_english_answers_of_korean_instructions_are_all_found():
    path = DATA / "instruct" / "kullm_user_oriented_eval_ko.jsonl"
    if not path.exists():
        pytest.skip(NO_DATA)
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    records = [{"instruction": row["instruction"], **row["instances"][0]} for row in rows]
    kept, sieve = sift(instructions(scripts=["Hang"]), records)
    assert (kept, sum(sieve.counts.values())) == ([], 252)
    turned = [row | {"instruction": "x", "output": row["instruction"]} for row in records]
    assert len(sift(instructions(scripts=["Hang"]), turned)[0]) == 252
