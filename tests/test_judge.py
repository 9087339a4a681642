"""Prompts, verdicts, items and scores of judges: strict readings, both orders, nothing invented."""

import json
import tomllib
import zipfile

import conftest
import pytest

from lrl_jax.evaluate.judge import (
    forms,
    grading,
    humans,
    language,
    prompts,
    records,
    spreadsheet,
    summary,
    verdicts,
)
from lrl_jax.evaluate.judge.endpoint import Reply
from lrl_jax.evaluate.judge.grading import JudgeSettings
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion
from lrl_jax.text import DataError

SINGLE, PAIR = prompts.load("", "single"), prompts.load("", "pair")
KOREAN = "\uc11c\uc6b8\uc740 \ud55c\uad6d\uc758 \uc218\ub3c4\uc785\ub2c8\ub2e4."


def question(number=1, category="", turns=("Why?",), references=(), **more):
    return JudgeQuestion(number, category, turns, references, **more)


def answers(model, *texts):
    """The answers of a model to the questions 1, 2, ...: a text, or a tuple of turns."""
    turns = {str(n): (t,) if isinstance(t, str) else t for n, t in enumerate(texts, start=1)}
    return AnswerSet(model, turns)


def lines(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


# ---------------------------------------------------------------------------- verdicts
@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Rating: [[8.5]]", 8.5),
        ("[[8]]", 8.0),
        ("[[ 10 ]]", 10.0),
        ("\uff3b\uff3b7\uff3d\uff3d", 7.0),  # brackets of full width
        ("[[8]], as I said: [[8.0]]", 8.0),
        ("`table = [[0] * (n + 1)]` is wrong. Rating: [[4]]", 4.0),
        ("Rating: [6].", 6.0),
        ("<think>first [[2]]</think>[[9]]", 9.0),
        ("<think>one [[2]]</think>\n<think>two [[3]]</think>[[9]]", 9.0),
        ("first [[2]]\n</think>\n[[9]]", 9.0),
        ("\n<thinking>first [[2]]</thinking>[[9]]", 9.0),
        ("<reasoning>first [[2]]</reasoning>[[9]]", 9.0),
        ("[THINK]first [[2]][/THINK][[9]]", 9.0),
        (
            "<|channel|>analysis<|message|>[[2]]<|end|><|start|>assistant<|channel|>final<|message|>"
            "[[9]]",
            9.0,
        ),
        ("analysisfirst [[2]]assistantfinal[[9]]", 9.0),
        ("Its <think>x</think> is odd. [[9]]", 9.0),  # quoted
        ("Analysis: good. [[9]]", 9.0),
        ("<think>maybe [[3]]", "no verdict"),
        ("<think>maybe </thinking>[[3]]", "no verdict"),
        ("[THINK]maybe [[3]]", "no verdict"),
        ("<|channel|>analysis<|message|>maybe [[3]]", "no verdict"),
        ("10/10", "no verdict"),
        ("eight", "no verdict"),
        ("[[eight]]", "no verdict"),
        ("[[8/10]]", "no verdict"),
        ("[[8,5]]", "no verdict"),
        ("a score of \u201c8\u201d", "no verdict"),
        ("the list a[3] is empty", "no verdict"),
        ("", "no verdict"),
        ("[[0]]", "out of range"),
        ("[[10.5]]", "out of range"),
        ("[[85]]", "out of range"),
        ("[[7]] for style, [[8]] in all", "several verdicts"),
    ],
)
def test_a_rating_is_read_strictly(text, want):
    got = verdicts.rating(text)
    assert (got.failure or got.value) == want
    assert (got.value is None) == bool(got.failure)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("[[A]]", "A"),
        ("so [[B]].", "B"),
        ("[[C]]", "tie"),
        ("[[B>>A]]", "B"),
        ("[[A=B]]", "tie"),
        ("[[A]] yes, [[A]]", "A"),
        ("[[A]] or [[B]]?", "several verdicts"),
        ("A", "no verdict"),
        ("[A]", "no verdict"),
        ("[[D]]", "no verdict"),
    ],
)
def test_a_choice_is_read_strictly(text, want):
    got = verdicts.choice(text)
    assert (got.failure or got.value) == want


# ---------------------------------------------------------------------------- prompts
@pytest.mark.parametrize("kind", ["single", "pair"])
@pytest.mark.parametrize("name", ["", "korean"])
def test_every_prompt_that_ships_shows_all_there_is(kind, name):
    chosen = prompts.load(name, kind)
    said = {"": ("a1", "a2")} if kind == "single" else {"a": ("a1", "a2"), "b": ("b1", "b2")}
    for category in ("writing", "math"):
        asked = question(7, category, ("q1", "q2"), ("r1", "r2"))
        for turn in (1, 2):
            messages, prompt = prompts.messages_of(chosen, asked, turn, said)
            assert [m["role"] for m in messages] == ["system", "user"]
            text = messages[1]["content"]
            want = {f"q{turn}", *(texts[turn - 1] for texts in said.values())}
            want |= {"r1" if turn == 1 else "r2"} if category == "math" else set()
            want |= {"q1", "a1"} if turn == 2 else set()
            assert not [word for word in want if word not in text]
            assert ("r1" in text) == (category == "math")
            assert "{" not in text
            assert prompt.startswith(chosen.name)
            assert ("with_reference" in prompt) == (category == "math")


def test_the_prompts_are_in_the_package():
    settings = tomllib.loads((conftest.CHECKOUT / "pyproject.toml").read_text())["tool"]
    data = settings["setuptools"]["package-data"]
    assert prompts.SHIPPED.name in data[prompts.__name__.rpartition(".")[0]]


def test_a_prompt_in_the_target_language_is_written_in_it():
    text = prompts.load("korean", "pair").question
    assert language.answers.in_script(text, "kor_Hang")
    assert prompts.load("korean", "pair").language == "kor_Hang"


def test_what_an_answer_spells_is_no_field_of_the_prompt():
    messages, _ = prompts.messages_of(SINGLE, question(), 1, {"": ("{question} {reference} {x}",)})
    assert "{question} {reference} {x}" in messages[1]["content"]


def test_prompts_of_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "strict:\n  kind: single\n  scale: [0, 5]\n  language: tam_Taml\n"
        "  question: 'Grade {answer} to {question}'\n"
        "kind:\n  kind: single\n  question: 'Please grade {answer}'\n"
    )
    strict = prompts.load(str(file), "single")
    assert (strict.name, strict.scale) == ("strict", (0, 5))
    messages, _ = prompts.messages_of(strict, question(), 1, {"": ("because",)})
    assert messages == [{"role": "user", "content": "Grade because to Why?"}]
    assert prompts.load(f"{file}:kind", "single").name == "kind"
    two = question(1, "", ("q1", "q2"))
    with pytest.raises(ValueError, match="turn 2"):
        prompts.messages_of(strict, two, 2, {"": ("a1", "a2")})


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("a:\n  kind: single\n  question: 'Grade it'\n", "lacks {answer}"),
        ("a:\n  kind: pair\n  question: '{answer_a}'\n", "lacks {answer_a}, {answer_b}"),
        ("a:\n  kind: double\n  question: '{answer}'\n", "kind"),
        ("a:\n  kind: single\n  qestion: '{answer}'\n", "question"),
        ("a:\n  kind: single\n  question: '{answer}'\n  scale: [5, 1]\n", "scale"),
        ("- a\n", "names of prompt sets"),
    ],
)
def test_a_prompt_file_that_cannot_work_is_refused(tmp_path, source, problem):
    (tmp_path / "p.yaml").write_text(source)
    with pytest.raises(ValueError, match=problem.replace("{", r"\{")):
        prompts.load(str(tmp_path / "p.yaml"), "single")


def test_prompts_that_do_not_exist_are_named_with_those_that_do():
    with pytest.raises(ValueError, match="korean"):
        prompts.load("koreen", "pair")
    with pytest.raises(ValueError, match="no such file"):
        prompts.load("nowhere.yaml", "pair")


def test_fastchats_prompts_are_its_own_words():
    file = str(conftest.data_file("judge/fastchat/judge_prompts.jsonl"))
    sources = {r["name"]: r for _, r in records.records(file)}
    asked = question(1, "math", ("q1", "q2"), ("r1", "r2"))
    for kind, base, said in (
        ("single", "single-v1", {"": ("a1", "a2")}),
        ("pair", "pair-v2", {"a": ("a1", "a2"), "b": ("b1", "b2")}),
    ):
        chosen = prompts.load(file, kind)
        assert chosen.name == base
        for with_reference in (False, True):
            one = asked if with_reference else question(1, "writing", asked.turns)
            for turn in (1, 2):
                messages, name = prompts.messages_of(chosen, one, turn, said)
                family = base.partition("-")[0]
                want = f"{family}-math-v1" if with_reference else base
                assert name == want + ("-multi-turn" if turn == 2 else "")
                fields = {"question": "q1", "answer": "a1", "answer_a": "a1", "answer_b": "b1",
                          "question_1": "q1", "question_2": "q2", "answer_1": "a1",
                          "answer_2": "a2", "ref_answer_1": "r1", "ref_answer_2": "r2",
                          "answer_a_1": "a1", "answer_a_2": "a2", "answer_b_1": "b1",
                          "answer_b_2": "b2"}  # fmt: skip
                assert messages[-1]["content"] == sources[name]["prompt_template"].format(**fields)
                assert messages[0]["content"] == sources[name]["system_prompt"]


# ---------------------------------------------------------------------------- questions, answers
@pytest.mark.parametrize(
    ("path", "count", "turns"),
    [
        ("fastchat/mt_bench/question.jsonl", 80, 160),
        ("fastchat/vicuna_bench/question.jsonl", 80, 80),
        ("logickor_questions.jsonl", 42, 85),
        ("llmzoo/ko100.jsonl", 100, 100),
        ("vicuna80_multilingual/questions_Korean.jsonl", 80, 80),
        ("taco/Nepali_vicuna_benchmark_questions.xlsx", 80, 80),
        ("taco/nepali_gpt4_evaluated.json", 80, 80),
        ("taco/persian_gpt4_evaluated.json", 80, 80),
    ],
)
def test_questions_of_every_public_form_are_read(path, count, turns):
    got = records.read_questions(str(conftest.data_file(f"judge/{path}")))
    assert len(got) == count
    assert sum(len(q.turns) for q in got) == turns
    assert not [q for q in got for turn in q.turns if not turn or turn != turn.strip()]


def test_a_spreadsheet_has_the_questions_of_the_records():
    sheet = records.read_questions(
        str(conftest.data_file("judge/taco/Nepali_vicuna_benchmark_questions.xlsx"))
    )
    file = str(conftest.data_file("judge/taco/nepali_gpt4_evaluated.json"))
    got = {q.id: q.turns for q in sheet}
    want = {q.id: q.turns for q in records.read_questions(file)}
    assert got == want


def test_answers_of_taco_are_read_from_records_and_from_chains():
    file = str(conftest.data_file("judge/taco/nepali_gpt4_evaluated.json"))
    questions = records.read_questions(file)
    judged = records.read_answers(file, questions)
    chains = records.read_answers(str(conftest.data_file("judge/taco/responses/nepali")), questions)
    unfinished = [int(key) for key, turns in chains.turns.items() if turns == ("",)]
    assert sorted(unfinished) == [42, 65, 66]
    same = {key: turns for key, turns in chains.turns.items() if int(key) not in unfinished}
    assert same == {key: judged.turns[key] for key in same}
    assert len(same) == 77


def test_references_of_fastchat_go_to_their_questions():
    questions = records.read_questions(
        str(conftest.data_file("judge/fastchat/vicuna_bench/question.jsonl"))
    )
    path = str(conftest.data_file("judge/fastchat/vicuna_bench/reference_answer/gpt-4.jsonl"))
    got = records.with_references(questions, path)
    assert [q.id for q in got if q.references] == [*range(61, 71)]
    assert {q.category for q in got if q.references} == {"coding", "math"}


def test_answers_go_by_id_by_instruction_and_without_those_that_failed(tmp_path):
    questions = [question(1, turns=("a?",)), question("x", turns=("b?", "c?")), question(3)]
    fastchat = lines(
        tmp_path / "answer.jsonl",
        {"question_id": 1, "model_id": "m", "choices": [{"index": 0, "turns": ["A"]}]},
        {"question_id": "x", "model_id": "m", "choices": [{"index": 0, "turns": ["B", "C"]}]},
        {"question_id": 3, "model_id": "m", "choices": [{"index": 0, "turns": ["$ERROR$"]}]},
        {"question_id": 9, "model_id": "m", "choices": [{"index": 0, "turns": ["other"]}]},
    )
    got = records.read_answers(fastchat, questions)
    assert got == AnswerSet("m", {"1": ("A",), "x": ("B", "C")})
    alpaca = tmp_path / "outputs.json"
    alpaca.write_text(json.dumps([{"instruction": " a?", "output": "A", "generator": "g"}]))
    assert records.read_answers(str(alpaca), questions) == AnswerSet("g", {"1": ("A",)})


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"question_id": 1, "turns": []}], ":1: no question"),
        ([{"question_id": 1, "turns": ["a", ""]}], ":1: no question"),
        ([{"question_id": 1, "text": 5}], ":1: text is 5"),
        ([{"question_id": 1, "text": "a"}, {"question_id": "1", "text": "b"}], ":2: .*twice"),
        ([{"question_id": None, "text": "a"}], ":1: the id None"),
        (["text"], ":1: 'text' is no JSON object"),
    ],
)
def test_a_question_that_cannot_be_read_is_named_by_its_line(tmp_path, rows, problem):
    with pytest.raises(DataError, match=problem):
        records.read_questions(lines(tmp_path / "q.jsonl", *rows))


def test_answers_to_other_questions_are_refused(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"question_id": 5, "text": "A"})
    with pytest.raises(DataError, match="none of the questions"):
        records.read_answers(path, [question(1)])


def test_a_spreadsheet_that_is_none_is_refused(tmp_path):
    (tmp_path / "q.xlsx").write_bytes(b"PK not really")
    with pytest.raises(DataError, match=r"no \.xlsx file"):
        records.read_questions(str(tmp_path / "q.xlsx"))


def test_a_spreadsheet_that_is_a_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "q.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(spreadsheet.SHEET, b" " * (spreadsheet.MOST_BYTES + 1))
    assert (tmp_path / "q.xlsx").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"sheet1\.xml is too large"):
        records.read_questions(str(tmp_path / "q.xlsx"))


# ---------------------------------------------------------------------------- languages
ENGLISH = "I think that this is one of the best ways to learn, and you can do it with your friends."
GERMAN = "Ich denke, dass man das am besten gemeinsam lernt, und zwar mit Freunden und viel Geduld."


@pytest.mark.parametrize(
    ("text", "code", "want"),
    [
        (KOREAN, "kor_Hang", ""),
        (ENGLISH, "kor_Hang", "wrong script"),
        (f"{KOREAN}\n```python\n{ENGLISH}\n```", "kor_Hang", ""),
        ("42", "kor_Hang", ""),
        (GERMAN, "deu_Latn", ""),
        (ENGLISH, "deu_Latn", "wrong language"),
        (ENGLISH, "eng_Latn", ""),
        (ENGLISH, "pcm_Latn", ""),
        (ENGLISH, "any", ""),
        (ENGLISH, "", ""),
        ("", "", "empty"),
        (" \n", "kor_Hang", "empty"),
    ],
)
def test_an_answer_in_another_language_is_told_before_it_is_judged(text, code, want):
    assert language.flaw(text, code) == want


# ---------------------------------------------------------------------------- items and results
def pair(first, second, replies=None, judge="j", settings=None, questions=None):
    """Results of the questions 1, 2, ... by what the judge says of each order."""
    questions = questions or [question(n) for n in range(1, len(first) + 1)]
    items = [
        *grading.pair_items(
            questions, answers("m", *first), answers("n", *second), judge, PAIR,
            settings or JudgeSettings(),
        )
    ]  # fmt: skip
    said = {}
    for item, texts in zip(items, replies or [], strict=False):
        for (key, _), text in zip(item.requests, texts, strict=True):
            said[key] = text if isinstance(text, Reply) else Reply(text=text)
    return [grading.result(item, said) for item in items]


def test_a_judge_that_is_cut_off_in_its_thoughts_says_nothing():
    cut = [Reply(text=f"<think>[[{choice}]] is", finish="length") for choice in "AB"]
    (result,) = pair(["a"], ["t"], [cut])
    assert (result["winner"], result["failure"]) == (None, grading.CUT_SHORT)


def test_a_win_is_one_in_both_orders():
    results = pair(
        ["a", "b", "c", "d", "e", "f"],
        ["t", "u", "v", "w", "x", "y"],
        [
            ("[[A]]", "[[B]]"),  # the first model in both
            ("[[B]]", "[[A]]"),  # the second in both
            ("[[A]]", "[[A]]"),  # whichever stands first
            ("[[B]]", "[[B]]"),  # whichever stands second
            ("[[C]]", "[[C]]"),
            ("[[A]]", "I cannot say"),
        ],
    )
    assert [r["winner"] for r in results] == ["A", "B", "tie", "tie", "tie", None]
    assert [r["failure"] for r in results] == ["", "", "", "", "", "no verdict"]
    got = summary.summarise("pair", results, ["m", "n"], ["j"])
    assert {k: got["scores"]["m"][k] for k in ("wins", "ties", "losses", "items", "win_rate")} == {
        "wins": 1, "ties": 3, "losses": 1, "items": 5, "win_rate": 0.5,
    }  # fmt: skip
    assert got["failed"] == {"no verdict": 1}
    assert got["items"] == 6
    assert got["orders"] == {
        "items": 5, "inconsistent": 2, "share": 0.4, "prefer_first": 1, "prefer_second": 1,
    }  # fmt: skip


def test_an_answer_that_is_not_worth_a_call_loses_without_one():
    korean = JudgeSettings(language="kor_Hang")
    rest = [KOREAN, ENGLISH, KOREAN, ENGLISH, ""]
    results = pair([ENGLISH, KOREAN, KOREAN, ENGLISH, KOREAN], rest, settings=korean)
    assert [len(r["keys"]) for r in results] == [0, 0, 2, 0, 0]
    assert [r["winner"] for r in results] == ["B", "A", None, "tie", "A"]
    assert results[2]["failure"] == "not asked"
    got = summary.summarise("pair", results, ["m", "n"], ["j"])
    assert got["flaws"] == {"m": {"wrong script": 2}, "n": {"wrong script": 2, "empty": 1}}
    single = [
        *grading.single_items([question()], answers("m", ENGLISH), "j", SINGLE, korean),
        *grading.single_items(
            [question(language="any")], answers("m", ENGLISH), "j", SINGLE, korean
        ),
    ]
    assert [grading.result(item, {})["score"] for item in single] == [1.0, None]
    assert [len(item.requests) for item in single] == [0, 1]


def test_an_answer_that_is_not_there_is_no_defeat():
    results = pair(["a"], ["b", "c"], questions=[question(1), question(2)])
    assert results[1]["failure"] == "no answer"
    assert results[1]["winner"] is None


def test_every_turn_is_judged_after_those_before_it():
    two = [question(1, "", ("q1", "q2"))]
    items = [*grading.single_items(two, answers("m", ("a1", "a2")), "j", SINGLE, JudgeSettings())]
    assert [item.turn for item in items] == [1, 2]
    texts = [item.requests[0][1]["messages"][1]["content"] for item in items]
    assert "a2" not in texts[0]
    assert texts[1].index("q1") < texts[1].index("a1") < texts[1].index("q2")


def test_fields_of_a_request_can_be_added_and_left_out():
    more = {"temperature": None, "max_tokens": None, "max_completion_tokens": 9}
    (item,) = grading.single_items(
        [question()], answers("m", "a"), "j", SINGLE, JudgeSettings(more=more)
    )
    assert {*item.requests[0][1]} == {"model", "messages", "max_completion_tokens"}


def test_swapping_the_models_asks_nothing_new_and_swaps_the_counts():
    first, second = ["a", "bbb", "c", "d" * 9], ["tt", "u", "vv", "w"]
    texts = [("[[A]]", "[[B]]"), ("[[A]]", "[[A]]"), ("[[B]]", "[[A]]"), ("[[A]]", "[[B]]")]
    items = [*grading.pair_items([question(n) for n in (1, 2, 3, 4)], answers("m", *first),
                                 answers("n", *second), "j", PAIR, JudgeSettings())]  # fmt: skip
    back = [*grading.pair_items([question(n) for n in (1, 2, 3, 4)], answers("n", *second),
                                answers("m", *first), "j", PAIR, JudgeSettings())]  # fmt: skip
    assert {*grading.requests_of(items)} == {*grading.requests_of(back)}
    said = {
        key: Reply(text=text)
        for item, both in zip(items, texts, strict=True)
        for (key, _), text in zip(item.requests, both, strict=True)
    }
    got, swapped = (
        summary.summarise("pair", [grading.result(i, said) for i in every], names, ["j"])
        for every, names in ((items, ["m", "n"]), (back, ["n", "m"]))
    )
    for model in ("m", "n"):
        one, other = got["scores"][model], swapped["scores"][model]
        counts = ("wins", "ties", "losses", "items", "win_rate")
        assert [one[name] for name in counts] == [other[name] for name in counts]
        assert one["length_controlled"]["win_rate"] == pytest.approx(
            other["length_controlled"]["win_rate"], abs=1e-9
        )
    assert got["scores"]["m"]["wins"] == got["scores"]["n"]["losses"] == 2
    assert got["orders"]["inconsistent"] == swapped["orders"]["inconsistent"] == 1


def test_several_judges_decide_by_majority_and_each_is_shown():
    first, second = ["a", "b", "c"], ["t", "u", "v"]
    won, lost, tied = ("[[A]]", "[[B]]"), ("[[B]]", "[[A]]"), ("[[C]]", "[[C]]")
    refused = (Reply(failure="refusal"), Reply(failure="refusal"))
    results = [
        *pair(first, second, [won, won, refused], judge="j1"),
        *pair(first, second, [won, lost, refused], judge="j2"),
        *pair(first, second, [lost, tied, refused], judge="j3"),
    ]
    got = summary.summarise("pair", results, ["m", "n"], ["j1", "j2", "j3"])
    counts = {k: got["scores"]["m"][k] for k in ("wins", "ties", "losses")}
    assert counts == {"wins": 1, "ties": 1, "losses": 0}
    assert got["failed"] == {"refusal": 1}
    assert [got["by_judge"][j]["scores"]["m"]["wins"] for j in ("j1", "j2", "j3")] == [2, 1, 0]
    assert [p["same"] for p in got["agreement"]] == [0.5, 0.0, 0.0]
    singles = [
        grading.result(item, {item.requests[0][0]: Reply(text=f"[[{score}]]")})
        for judge, score in (("j1", 4), ("j2", 9))
        for item in grading.single_items(
            [question(category="c")], answers("m", "a"), judge, SINGLE, JudgeSettings()
        )
    ]
    got = summary.summarise("single", singles, ["m"], ["j1", "j2"])
    assert got["scores"]["m"]["rating"] == 6.5
    assert got["scores"]["m"]["categories"] == {"c": {"mean": 6.5, "items": 1}}


# ---------------------------------------------------------------------------- people
def test_people_are_compared_with_the_judge(tmp_path):
    results = pair(
        ["a", "b", "c"], ["t", "u", "v"],
        [("[[A]]", "[[B]]"), ("[[B]]", "[[A]]"), ("[[C]]", "[[C]]")],
    )  # fmt: skip
    votes = humans.read_votes(
        lines(
            tmp_path / "h.jsonl",
            {"question_id": 1, "model_a": "n", "model_b": "m", "winner": "model_b", "turn": 1},
            {"question_id": 2, "model_a": "m", "model_b": "n", "winner": "model_a", "turn": 1},
            {"question_id": 3, "model_a": "m", "model_b": "n", "winner": "tie", "turn": 1},
            {"question_id": 3, "model_a": "m", "model_b": "other", "winner": "tie", "turn": 1},
        )
    )
    got = humans.agreement(votes, "pair", results, ["m", "n"])
    # said A A tie and A B tie: 2 of 3 the same; by chance 2/3 1/3 + 0 1/3 + 1/3 1/3 = 1/3
    assert got == {"items": 3, "same": pytest.approx(2 / 3), "kappa": pytest.approx(0.5)}
    sheets = tmp_path / "human.json"  # as `lrl sheet read` writes it; its A is n
    verdicts = {"1": "B", "2": "B", "3": "A"}
    sheets.write_text(json.dumps({"models": ["n", "m"], "verdicts": verdicts}))
    votes = humans.read_votes(str(sheets))
    assert humans.agreement(votes, "pair", results, ["m", "n"])["same"] == pytest.approx(1 / 3)
    csv = tmp_path / "h.csv"
    csv.write_bytes(b"\xef\xbb\xbfquestion_id,winner\n1,A\n2,model_2\n")
    assert humans.agreement(humans.read_votes(str(csv)), "pair", results, ["m", "n"])["same"] == 1.0
    csv.write_text("question_id,winner\n1,m\n2,m\n3,tie\n")
    votes = humans.read_votes(str(csv), ["m", "n"])
    assert humans.agreement(votes, "pair", results, ["m", "n"])["same"] == pytest.approx(2 / 3)
    csv.write_text("question_id,score\n1,8\n2,3\n")
    rated = [{**r, "model": "m", "score": s} for r, s in zip(results, (8.0, 4.0, 1.0), strict=True)]
    got = humans.agreement(humans.read_votes(str(csv)), "single", rated, ["m"])
    # squares 0 and 1; over all pairs of 8 3 with 8 4: 0 16 25 1
    assert got == {"items": 2, "same": 0.5, "kappa": pytest.approx(1 - 0.5 / 10.5)}


@pytest.mark.parametrize("winner", ["model_a", "model_1", "left"])
def test_a_place_is_no_name_of_a_model(tmp_path, winner):
    results = pair(["a"], ["t"], [("[[A]]", "[[B]]")])
    for row in ({}, {"model_a": "B", "model_b": "A"}):
        rows = lines(tmp_path / "h.jsonl", {"question_id": 1, "winner": winner, **row})
        votes = humans.read_votes(rows, ["B", "A"])
        assert humans.agreement(votes, "pair", results, ["B", "A"])["same"] == 1
    sheets = tmp_path / "human.json"
    sheets.write_text(json.dumps({"models": ["B", "A"], "verdicts": {"1": "A"}}))
    votes = humans.read_votes(str(sheets))
    assert humans.agreement(votes, "pair", results, ["B", "A"])["same"] == 1


@pytest.mark.parametrize(
    ("winner", "models"), [("A", ["B", "A"]), ("tie", ["tie", "n"]), ("model_b", ["model_b", "n"])]
)
def test_a_winner_with_two_meanings_is_refused(tmp_path, winner, models):
    votes = lines(tmp_path / "h.jsonl", {"question_id": 1, "winner": winner})
    with pytest.raises(DataError, match=f":1: the winner '{winner}' is the name of a model and"):
        humans.read_votes(votes, models)
    with pytest.raises(DataError, match="write model_1, model_2 or equal"):
        humans.read_votes(votes, models)


def test_the_difficulty_of_questions_goes_into_the_rate_at_equal_length(tmp_path):
    texts = [("[[A]]", "[[B]]"), ("[[B]]", "[[A]]"), ("[[A]]", "[[B]]")]
    results = pair(["a", "b", "cc"], ["t", "uu", "v"], texts)
    file = tmp_path / "d.csv"
    file.write_text("question_id,difficulty\n1,0.5\n2,-1\n")
    hard = humans.read_difficulty(str(file))
    got = summary.summarise("pair", results, ["m", "n"], ["j"], hard)["scores"]["m"]
    assert got["length_controlled"]["difficulty"]
    assert got["length_controlled"]["items"] == 2  # of the third it is not known
    without = summary.summarise("pair", results, ["m", "n"], ["j"])["scores"]["m"]
    assert not without["length_controlled"]["difficulty"]
    assert without["length_controlled"]["items"] == 3
    file.write_text("question_id,difficulty\n1,0,5\n")
    with pytest.raises(DataError, match=":2: has more cells than the first line"):
        humans.read_difficulty(str(file))
    file.write_text("question_id,difficulty\n1,hard\n")
    with pytest.raises(DataError, match=":2: "):
        humans.read_difficulty(str(file))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question_id": 1, "winner": "modle_a"}, "'modle_a' is none"),
        ({"winner": "tie"}, "without question_id"),
        ({"question_id": 1, "score": "eight"}, "numbers"),
        ({"question_id": 1, "winner": "tie", "turn": "two"}, "numbers"),
    ],
)
def test_a_vote_that_cannot_be_read_is_named(tmp_path, row, problem):
    with pytest.raises(DataError, match=f":1: .*{problem}"):
        humans.read_votes(lines(tmp_path / "h.jsonl", row))


# ---------------------------------------------------------------------------- forms
def test_answers_come_back_from_every_form_as_they_were(tmp_path):
    questions = [question(1, "math", ("a?",)), question(2, "", ("b?",))]
    ours = answers("m", "A", "B")
    fastchat = lines(tmp_path / "a.jsonl", *forms.fastchat_answers(ours, questions))
    assert records.read_answers(fastchat, questions) == ours
    alpaca = tmp_path / "b.json"
    alpaca.write_text(json.dumps(forms.alpaca_outputs(ours, questions)))
    assert records.read_answers(str(alpaca), questions) == ours
    taco = tmp_path / "c.json"
    results = [
        {"turn": 1, "question_id": n, "score": 8.0, "keys": [], "category": ""} for n in (1, 2)
    ]
    taco.write_text(json.dumps(forms.taco_records(results, ours, questions, {})))
    assert records.read_answers(str(taco), questions, "m") == ours
