"""Laws of translation data: what was put in comes out, and what cannot be one is said."""

import math

import numpy as np
import pytest

from lrl_jax.cli import main
from lrl_jax.laws import law as laws
from lrl_jax.laws.law import Point


def points(language: str = "kor_Hang", **scores: float) -> list[Point]:
    """points(n10=50): a score of 50 with 10 pairs."""
    return [Point(language, int(n[1:]), score, where="a.csv:7") for n, score in scores.items()]


def noisy(rng: np.random.Generator, a: float, b: float, amounts, sigma: float) -> list[Point]:
    noise = np.exp(sigma * rng.standard_normal(len(amounts)))
    scores = [100 - a * x**b * e for x, e in zip(amounts, noise, strict=True)]
    return [Point("kor_Hang", x, s) for x, s in zip(amounts, scores, strict=True)]


def test_points_on_a_law_give_that_law():
    (law,) = laws.fit(points(n1=36, n100=84, n10000=96))  # what is missing is divided by 4 a step
    assert law.a == pytest.approx(64)
    assert law.b == pytest.approx(-math.log10(4) / 2)
    assert law.b_interval == pytest.approx((law.b, law.b))
    assert law.a_interval == pytest.approx((64, 64))
    assert law.measured == (1, 10000)
    assert laws.predict(law, 10**6) == pytest.approx(99)


def test_the_largest_amount_is_foretold_by_the_others():
    (law,) = laws.fit(points(n100=84, n10000=90, n1=36))
    assert law.held_back == pytest.approx((90, 96))


def test_the_least_squares_are_of_logarithms():
    (law,) = laws.fit(points(n1=100 - 4, n10=100 - 1, n100=100 - 1))
    # logarithms to base 2 are 2, 0, 0: a mean of 2/3 and a slope of -1 a step
    assert law.b == pytest.approx(-1 / math.log2(10))
    assert law.a == pytest.approx(2 ** (2 / 3 + 1))


@pytest.mark.parametrize("amounts", [(1e4, 3e4, 1e5), (5e3, 1e4, 3e4, 1e5, 3e5, 1e6)])
def test_intervals_hold_the_truth_as_often_as_they_say(amounts):
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for seed in range(300):
        try:
            points_drawn = noisy(rng, 90.0, -0.15, amounts, 0.02)
            (law,) = laws.fit(points_drawn, seed=seed, draws=1000)
        except ValueError:
            continue  # noise has turned the law round
        held += (
            law.b_interval[0] <= -0.15 <= law.b_interval[1],
            (law.a_interval[0] <= 90 <= law.a_interval[1]),
        )
    assert (abs(held / 300 - 0.95) < 0.04).all()  # 3 standard errors


def test_the_same_seed_gives_the_same_intervals():
    some = points(n100=50, n1000=61, n10000=68)
    assert laws.fit(some) == laws.fit(some)
    assert laws.fit(some, seed=1) != laws.fit(some)


def test_languages_that_share_a_law_differ_by_their_similarity():
    truth = {"deu_Latn": 0.9, "kor_Hang": 0.3}
    some = [
        Point(name, x, 100 - 150 * (gamma * x) ** -0.2, gamma)
        for name, gamma in truth.items()
        for x in (1000.0, 9000.0)
    ]
    german, korean = laws.fit(some, shared=True)
    assert (german.b, korean.b) == pytest.approx((-0.2, -0.2))
    assert german.a == pytest.approx(150 * 0.9**-0.2)
    assert korean.a == pytest.approx(150 * 0.3**-0.2)
    assert korean.held_back[1] == pytest.approx(some[3].score)
    assert korean.a_interval == pytest.approx((korean.a, korean.a))


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ([], "no points; want 3 or more"),
        (points(n1=50, n2=51), "kor_Hang: 2 amounts of pairs; a law .* wants 3 or more"),
        (points(n1=50, n2=51) * 2, "kor_Hang: 2 amounts"),
        (points(n1=50, n2=51, n3=100), r"a.csv:7: score 100 is not below 100"),
        (points(n1=50, n2=51, n3=math.nan), r"a.csv:7: score nan"),
        (points(n0=50, n2=51, n3=52), r"a.csv:7: 0 pairs; want more than 0"),
        (points(n1=0.5, n2=0.6, n3=0.7), "between 0 and 1; give them times 100"),
        (points(n1=50, n2=49, n3=48), r"does not rise with pairs \(b = \+0.0"),
        (points(n1=50, n2=50, n3=50), "does not rise with pairs"),
    ],
)
def test_what_is_no_law_is_refused(some, message):
    with pytest.raises(ValueError, match=message):
        laws.fit(some)


def test_a_shared_law_wants_a_similarity_for_each_language():
    some = points(n1=50, n2=51, n3=52)
    with pytest.raises(ValueError, match=r"a.csv:7: similarity nan; a shared law wants"):
        laws.fit(some, shared=True)
    two = [Point("kor_Hang", x, 50.0 + x, x / 9, "a.csv:8") for x in (1.0, 2.0, 3.0)]
    with pytest.raises(ValueError, match="the same in all its lines"):
        laws.fit(two, shared=True)
    assert laws.fit(two)  # one's own law does not look at it


def test_points_come_from_a_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufefflanguage,score,pairs\nkor_Hang,50.5,1e4\n")
    (got,) = laws.read_points(str(path))
    assert (got.language, got.pairs, got.score) == ("kor_Hang", 10000.0, 50.5)
    assert got.where == f"{path}:2"
    path.write_text("language,pairs,score,similarity\nkor_Hang,1,50,0.3\n")
    assert laws.read_points(str(path))[0].similarity == 0.3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("language,pairs\nkor_Hang,1\n", "has no column score; the first line must name them"),
        (
            "language,pairs,score\nkor_Hang,many,50\n",
            "a.csv:2: want numbers .* got kor_Hang,many,50",
        ),
        ("language,pairs,score\nkor_Hang,1\n", "a.csv:2: has 2 cells, and the header 3"),
        ("language,pairs,score\nkor_Hang,1,31,5\n", "a.csv:2: has 4 cells, .*with a point"),
        ("language,pairs,score,seed\nkor_Hang,1,31,5,0\n", "a.csv:2: has 5 cells, and the h.* 4"),
        ("language,pairs,score,score\nkor_Hang,1,31,5\n", "a.csv: two columns .* 'score'"),
        ("language,pairs,score\nkor_Hang,,50\n", "a.csv:2: want numbers"),
        ("language,pairs,score\nkor_Hang,1,50\n,3,60\n", "a.csv:3: names no language"),
        ("language,pairs,score\nk,1,50\n\nk,1,50 \n", "a.csv:4: says the same as .*a.csv:2"),
        ("language,pairs,score,similarity\nkor_Hang,1,50,near\n", "a.csv:2: want numbers"),
        ("language,pairs,score\nkor_Hang,1,nan\n", "a.csv:2: its score is nan, so it was not"),
        (
            "language;pairs;score\nkor_Hang;10.000;5,5\n",
            "a.csv:2: .*10.000: thousands or a deci",
        ),
    ],
)
def test_a_table_that_is_none_is_named_with_its_line(tmp_path, table, message):
    path = tmp_path / "a.csv"
    path.write_text(table)
    with pytest.raises(ValueError, match=message):
        laws.read_points(str(path))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_table_that_a_spreadsheet_saved_says_the_same(tmp_path, separator):
    path = tmp_path / "a.csv"
    rows = ["language,pairs,score", "kor_Hang,1000,10/5"]
    lines = [row.replace(",", separator).replace("/", ",") for row in rows]
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    (got,) = laws.read_points(str(path))
    assert (got.language, got.pairs, got.score) == ("kor_Hang", 1000.0, 10.5)


def test_spaces_around_cells_are_no_part_of_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "language, pairs, score,,\nkor_Hang , 1000, 31.5,,\nkor_Hang,3000,45.9,,\n,,,,\n"
    )
    got = laws.read_points(str(path))
    assert [(p.language, p.pairs, p.score) for p in got] == [
        ("kor_Hang", 1000, 31.5),
        ("kor_Hang", 3000, 45.9),
    ]


@pytest.mark.parametrize("cell", ["31.512", "31,512"])
def test_three_decimals_of_a_score_are_no_thousands(tmp_path, cell):
    path = tmp_path / "a.csv"
    path.write_text(f"language;pairs;score;similarity\nkor_Hang;1000;{cell};0,305\n")
    (got,) = laws.read_points(str(path))
    assert (got.score, got.similarity) == (31.512, 0.305)


def test_models_without_a_seed_are_told_by_whatever_their_lines_say(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("language,pairs,score,model\nk,1,50,a\nk,1,50,b\nk,1,51,b\n")
    assert [point.score for point in laws.read_points(str(path))] == [50, 50, 51]


def test_laws_go_through_their_file(tmp_path):
    found = laws.fit(points(n10=50, n100=61, n1000=66.5))
    laws.write(found, tmp_path / "laws.json")
    assert laws.read(str(tmp_path / "laws.json")) == tuple(found)
    (tmp_path / "other.json").write_text('{"laws": [{"language": "kor_Hang", "a": -1}]}')
    with pytest.raises(ValueError, match=r"other.json: is no laws.json: laws.0.a Input should be"):
        laws.read(str(tmp_path / "other.json"))
    with pytest.raises(ValueError, match="no such file; make it: lrl laws fit"):
        laws.read(str(tmp_path / "no.json"))


def test_wild_points_still_make_a_file_that_is_read_back(tmp_path):
    found = laws.fit(points(n100=0, n101=99.9999999, n102=50))
    laws.write(found, tmp_path / "laws.json")
    assert laws.read(str(tmp_path / "laws.json")) == tuple(found)


def test_from_a_table_of_scores_to_overrides(tmp_path, capsys):
    rows = ["language,pairs,score"]
    rows += [f"kor_Hang,{x},{100 - 80 * x**-0.1}" for x in (1e4, 3e4, 1e5)]
    rows += [f"tam_Taml,{x},{100 - 80 * x**-0.1}" for x in (1e4, 3e4, 1e5)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    out = tmp_path / "laws"
    assert main.main(["laws", "fit", str(tmp_path / "a.csv"), "--out", str(out)]) == 0
    assert "-0.100" in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 1
    assert "tam_Taml" in page
    command = ["laws", "allocate", str(out / "laws.json"), "--budget", "50000"]
    given = ["--cap", "kor_Hang=10000", "--dataset", "tam_Taml=tamil"]
    assert main.main([*command, *given, "--write", str(tmp_path / "a.yaml")]) == 0
    want = "data.datasets.kor_Hang.take=10000 data.datasets.tamil.take=40000"
    assert want in capsys.readouterr().out
    assert (tmp_path / "a.yaml").read_text() == (
        "data:\n  datasets:\n    kor_Hang: {take: 10000}\n    tamil: {take: 40000}\n"
    )
    assert main.main([*command, "--cap", "kor_Hang=10000", "--cap", "tam_Taml=10"]) == 2
    assert "more than the caps allow, 10010" in capsys.readouterr().err
    assert main.main([*command, "--cap", "kor_Hang=1"]) == 0
    assert "10000.0 times, too far" in capsys.readouterr().out  # below what was measured


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [
        ("laws allocate a.json --budget 9", "--cap", "10"),
        ("laws allocate a.json --budget 9", "--weight", "2"),
        ("laws allocate a.json --budget 9", "--dataset", "korean"),
        ("laws run a.yaml --languages k --pairs 9", "--dataset", "korean"),
        ("laws mixture run a.yaml", "--bound", "0.1:0.5"),
        ("laws mixture best a.json", "--bound", "0.1:0.5"),
        ("laws mixture best a.json", "--target", "1"),
        ("laws mixture best a.json", "--hold", "1"),
    ],
)
def test_a_name_that_is_given_a_value_twice_is_refused(verb, option, value, capsys):
    words = [option, f"k={value}", option, f"k={value}"]
    with pytest.raises(SystemExit, match="2"):
        main.main([*verb.split(), *words])
    assert f"argument {option}: k is given twice; leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["kor_Hang", "kor_Hang=", "=korean"])
def test_a_dataset_without_its_language_or_name_is_refused(given, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(["laws", "allocate", "a.json", "--budget", "9", "--dataset", given])
    assert f"invalid LANGUAGE=str value: {given!r}" in capsys.readouterr().err
