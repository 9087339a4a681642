"""Tables of released judgments: TaCo's to the last cell, and what their records contradict."""

import json

import conftest
import pytest

from lrl_jax.cli import main
from lrl_jax.evaluate.judge import forms, summary, tables
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion
from lrl_jax.text import DataError

# The table of the released README, from the records themselves: category -> mean.
NAMES = ("coding", "common sense", "counterfactual", "fermi", "generic", "knowledge", "math",
         "roleplay", "writing")  # fmt: skip
TACO = {
    "nepali": ((3.14, 8.55, 8.90, 7.70, 9.00, 9.55, 9.67, 8.35, 8.80), 8.24375, 8.24625),
    "persian": ((7.90, 8.60, 8.46, 8.20, 9.00, 9.25, 6.33, 8.60, 8.65), 8.52375, 8.565),
}
DISAGREE = {"nepali": [16, 18, 28, 54, 58], "persian": [8, 14, 46, 57, 65]}


@pytest.mark.parametrize("language", TACO)
def test_tacos_table_is_recomputed_from_its_records(language):
    (table,) = tables.of_file(str(conftest.data_file(f"judge/taco/{language}_gpt4_evaluated.json")))
    cells, mean, text_mean = TACO[language]
    assert {name: round(cell.mean, 2) for name, cell in table.cells.items()} == dict(
        zip(NAMES, cells, strict=True)
    )
    counts = {"coding": 7, "math": 3}
    assert {n: cell.items for n, cell in table.cells.items()} == {
        n: counts.get(n, 10) for n in NAMES
    }
    assert table.mean == pytest.approx(mean, abs=1e-12)
    assert table.text_mean == pytest.approx(text_mean, abs=1e-12)
    assert [d.id for d in table.disagreements] == DISAGREE[language]
    assert (table.items, table.unrated) == (80, ())


def test_a_record_whose_text_has_no_rating_is_told_from_one_that_has_another():
    path = str(conftest.data_file("judge/taco/persian_gpt4_evaluated.json"))
    (table,) = tables.of_file(path)
    said = {d.id: (d.stored, d.text) for d in table.disagreements}
    assert said[46] == ("10", "no rating in the text")
    assert said[57] == ("8.5", "9")


def test_the_verb_prints_the_table_and_what_disagrees(capsys, tmp_path):
    paths = [str(conftest.data_file(f"judge/taco/{name}_gpt4_evaluated.json")) for name in TACO]
    assert main.main(["judge", "tables", *paths, "--out", str(tmp_path / "t.json")]) == 0
    printed = capsys.readouterr()
    assert [mean for mean in ("8.24375", "8.52375") if mean not in printed.out] == []
    assert "16 (10; text: 9.5), 18" in printed.err
    assert "46 (10; text: no rating in the text)" in printed.err
    assert [t["items"] for t in json.loads((tmp_path / "t.json").read_text())] == [80, 80]


def record(n, rating, text, **more):
    return {"id": n, "rating_in_number": rating, "judgement": text, "category": "a-b", **more}


def test_ratings_that_are_none_count_nowhere_and_are_listed(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(
        json.dumps([
            record(1, "8.5", "[[8.5]]"), record(2, 7, "[[7]]", category="a b"),
            record(3, "eight", "[[8]]"), record(4, None, ""),
            record(5, 5, "[[5]]", got_rating=False), record(6, 6, "[[6]] or [[7]]"),
        ])
    )  # fmt: skip
    (table,) = tables.of_file(str(path))
    assert table.unrated == (3, 4, 5)
    assert {name: cell.items for name, cell in table.cells.items()} == {"a b": 3}
    assert table.mean == pytest.approx((8.5 + 7 + 6) / 3)
    assert [(d.id, d.text) for d in table.disagreements] == [(6, "several verdicts")]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_fastchats_ratings_make_a_table_for_each_model_judge_and_turn(tmp_path):
    def row(n, turn, score, text):
        return {"question_id": n, "model": "m", "judge": ["gpt-4", "single-v1"], "score": score,
                "turn": turn, "judgment": text}  # fmt: skip

    path = write(
        tmp_path / "s.jsonl",
        row(81, 1, 9, "[[9]]"), row(82, 1, -1, "no"), row(81, 2, 4, "[[5]]"),
    )  # fmt: skip
    first, second = tables.of_file(path)
    assert (first.mean, first.items, first.unrated) == (9, 1, (82,))
    assert [(d.id, d.stored, d.text) for d in second.disagreements] == [(81, "4", "5")]


def test_fastchats_comparisons_are_counted_and_read_again(tmp_path):
    def row(n, g1, g2, text="[[A]]", back="[[B]]"):
        said = {"g1_winner": g1, "g2_winner": g2, "g1_judgment": text, "g2_judgment": back}
        judge = ["gpt-4", "pair-v2"]
        return {"question_id": n, "model_1": "m", "model_2": "n", "judge": judge, **said}

    path = write(
        tmp_path / "p.jsonl",
        row(1, "model_1", "model_1"), row(2, "model_1", "model_2", back="[[A]]"),
        row(3, "tie", "tie", "[[C]]", "[[C]]"), row(4, "error", "model_1"),
        row(5, "model_1", "model_1", "[[A]] [[B]]"),
    )  # fmt: skip
    (table,) = tables.of_file(path)
    assert (table.wins, table.losses, table.ties) == (2, 0, 2)
    assert (table.inconsistent, table.failed) == (1, 1)
    assert table.rate.value == 0.75
    assert [(d.id, d.text) for d in table.disagreements] == [(5, "g1: several verdicts")]


def test_alpacaevals_annotations_are_counted(tmp_path):
    rows = [
        {"instruction": str(n), "output_1": "a", "output_2": "b", "generator_1": "base",
         "generator_2": "ours", "annotator": "gpt-4", "preference": p}
        for n, p in enumerate((2, 1.9, 1, 1.5, None))
    ]  # fmt: skip
    (table,) = tables.of_file(write(tmp_path / "a.jsonl", *rows))
    assert table.models == ("ours", "base")
    assert (table.wins, table.losses, table.ties, table.failed) == (2, 1, 1, 1)
    assert table.rate.value == pytest.approx((1 + 0.9 + 0 + 0.5) / 4)
    assert table.at_equal_length.value == pytest.approx(0.6, abs=0.01)  # all are of one length


def test_our_own_annotations_give_the_rates_that_went_out(tmp_path):
    questions = [JudgeQuestion(n, "", (f"{n}?",)) for n in range(1, 5)]
    ours = AnswerSet("m", {"1": ("aaaa",), "2": ("",), "3": ("a",), "4": ("aa",)})
    theirs = AnswerSet("n", {"1": ("t",), "2": ("t" * 50,), "3": ("ttt",), "4": ("t",)})
    results = [
        {"question_id": n, "category": "", "turn": 1, "judge": "j", "winner": winner, "failure": "",
         "models": ["m", "n"],
         "characters": [len(ours.turns[str(n)][0]), len(theirs.turns[str(n)][0])],
         "flaws": ["empty" * (n == 2), ""]}
        for n, winner in ((1, "A"), (2, "B"), (3, "tie"), (4, "B"))
    ]  # fmt: skip
    want = summary.summarise("pair", results, ["m", "n"], ["j"])["scores"]["m"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(forms.alpaca_annotations(results, ours, theirs, questions)))
    (table,) = tables.of_file(str(path))
    assert (table.wins, table.ties, table.losses) == (1, 1, 2)
    assert table.rate.value == want["win_rate"]
    assert table.at_equal_length.value == want["length_controlled"]["win_rate"]


@pytest.mark.parametrize("row", [{"a": 1}, {"id": 1, "rating": 5}, {"rating_in_number": 4}])
def test_what_is_no_judgment_is_refused_with_its_place(tmp_path, row):
    with pytest.raises(DataError, match=r"x.jsonl:1: "):
        tables.of_file(write(tmp_path / "x.jsonl", row))
