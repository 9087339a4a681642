"""Curves of scores: what was put in comes out, with and without a ceiling, by both losses."""

import math

import numpy as np
import pytest

from lrl_jax.laws import bootstrap, forms
from lrl_jax.laws import law as laws
from lrl_jax.laws.forms import Curves, LawForm
from lrl_jax.laws.law import Point

AMOUNTS = np.array([1e3, 3e3, 1e4, 3e4, 1e5])


def curve(a: float, b: float, ceiling: float) -> Curves:
    return Curves(np.array([math.log(a)]), np.array([b]), np.array([ceiling]))


def points(scores, amounts=AMOUNTS, seeds=("",)) -> list[Point]:
    """The scores of an amount, one for each seed, follow one another."""
    models = [(x, seed) for x in amounts for seed in seeds]
    return [
        Point("kor_Hang", x, float(s), where="a.csv:7", seed=seed)
        for (x, seed), s in zip(models, scores, strict=True)
    ]


def test_a_learnt_ceiling_is_that_of_the_curve():
    truth = curve(a=300, b=-0.3, ceiling=80)
    got = LawForm(100.0, learnt=True).fit(AMOUNTS, forms.scores(truth, AMOUNTS))
    assert got.ceiling[0] == pytest.approx(80, abs=0.01)
    assert got.b[0] == pytest.approx(-0.3, rel=1e-3)
    assert np.exp(got.log_a[0]) == pytest.approx(300, rel=1e-3)


def test_a_ceiling_is_never_above_the_bound():
    truth = curve(a=300, b=-0.1, ceiling=120)
    got = LawForm(100.0, learnt=True).fit(AMOUNTS, forms.scores(truth, AMOUNTS))
    assert got.ceiling[0] == 100


def test_many_data_sets_are_fitted_as_each_alone():
    rows = np.concatenate([forms.scores(curve(300, b, 80), AMOUNTS) for b in (-0.2, -0.5)])
    for form in (LawForm(90.0), LawForm(90.0, learnt=True), LawForm(90.0, learnt=True, huber=True)):
        together = form.fit(AMOUNTS, form.targets(rows))
        alone = [form.fit(AMOUNTS, form.targets(row[None])) for row in rows]
        assert together.b == pytest.approx([one.b[0] for one in alone], rel=1e-3)


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("by", [-6.0, 6.0])
def test_one_wrong_point_of_five_hardly_moves_the_steepness_by_hubers_loss(at, by):
    scores = forms.scores(curve(90, -0.15, 100), AMOUNTS)[0]
    wrong = scores.copy()
    wrong[at] += by
    by_huber = {}
    by_squares = {}
    for name, values in (("right", scores), ("wrong", wrong)):
        for loss, into in (("huber", by_huber), ("squares", by_squares)):
            into[name] = laws.fit(points(values), loss=loss, draws=10)[0].b
    assert by_huber["wrong"] == pytest.approx(by_huber["right"], rel=0.05)
    if at != 2:  # a point in the middle lifts a line and does not turn it
        assert abs(by_squares["wrong"] / by_squares["right"] - 1) > 0.05


@pytest.mark.parametrize("loss", ["squares", "huber"])
@pytest.mark.parametrize("ceiling", [100.0, "learn"])
def test_intervals_hold_what_was_planted(ceiling, loss):
    truth = curve(300, -0.3, 80) if ceiling == "learn" else curve(90, -0.15, 100)
    exact, rng, held = forms.scores(truth, AMOUNTS)[0], np.random.default_rng(1), np.zeros(3)
    for seed in range(50):
        noise = rng.standard_normal(len(AMOUNTS))
        scores = 100 - (100 - exact) * np.exp(0.01 * noise)
        if ceiling == "learn":
            scores = exact + 0.4 * noise
        (law,) = laws.fit(points(scores), seed=seed, ceiling=ceiling, loss=loss, draws=150)
        held += (
            law.a_interval[0] <= math.exp(truth.log_a[0]) <= law.a_interval[1],
            law.b_interval[0] <= truth.b[0] <= law.b_interval[1],
            law.ceiling_interval[0] <= truth.ceiling[0] <= law.ceiling_interval[1],
        )
    assert held.min() >= 45, held


def test_intervals_of_seeds_hold_what_was_planted():
    truth = curve(90, -0.15, 100)
    exact, rng, held = forms.scores(truth, AMOUNTS)[0], np.random.default_rng(0), 0
    for seed in range(50):
        noise = rng.standard_normal((len(AMOUNTS), 2))
        scores = 100 - (100 - exact)[:, None] * np.exp(0.01 * noise)
        (law,) = laws.fit(points(scores.ravel(), seeds=("0", "1")), seed=seed, draws=500)
        held += law.b_interval[0] <= -0.15 <= law.b_interval[1]
    assert held >= 45


def test_seeds_are_drawn_within_their_amount():
    form, x_N = LawForm(100.0, learnt=True), np.repeat(AMOUNTS, 2)
    scores = np.array([40, 40, 52, 52, 60, 60, 65, 65, 60, 74], float)  # the last one differs
    models = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    drawn = bootstrap.drawn(form, x_N, scores, models, np.random.default_rng(0), 400)
    spread = np.std(forms.scores(drawn, AMOUNTS), axis=0)
    assert spread[0] < 0.5 < spread[4]


def test_the_form_that_errs_less_on_amounts_left_out_is_taken():
    low = forms.scores(curve(300, -0.3, 80), AMOUNTS)[0]
    (law,) = laws.fit(points(low), ceiling="auto", draws=50)
    assert law.ceiling == pytest.approx(80, abs=0.1)
    assert law.held_out == pytest.approx(0, abs=0.05)
    assert law.r2 == pytest.approx(1)
    full = forms.scores(curve(90, -0.15, 100), AMOUNTS)[0]
    (law,) = laws.fit(points(full), ceiling="auto", draws=50)
    assert (law.ceiling, law.ceiling_interval) == (100, (100, 100))


def test_with_four_points_no_ceiling_is_learnt():
    scores, few = forms.scores(curve(300, -0.3, 80), AMOUNTS)[0][:4], AMOUNTS[:4]
    (law,) = laws.fit(points(scores, few), ceiling="auto")
    assert law.ceiling == 100
    with pytest.raises(ValueError, match="4 points of 4 amounts; a ceiling is learnt from 5"):
        laws.fit(points(scores, few), ceiling="learn")
    with pytest.raises(ValueError, match="a shared law has a given ceiling"):
        laws.fit(points(scores, few), shared=True, ceiling="learn")


def test_a_score_above_a_given_ceiling_is_refused():
    with pytest.raises(ValueError, match=r"score 70 is not below 69\.5, the bound"):
        laws.fit(points([50, 60, 70], AMOUNTS[:3]), ceiling=69.5)


def test_each_amount_is_foretold_by_all_others():
    # missing to 100: 64, 16 and 8 at 1, 100 and 10000. By the other two: 2 (not 8), 22.6, 4.
    (law,) = laws.fit(points([36, 84, 92], np.array([1.0, 1e2, 1e4])), draws=10)
    errors = (32 - 64, math.sqrt(64 * 8) - 16, 4 - 8)
    assert law.held_out == pytest.approx(sum(map(abs, errors)) / 3)
    assert law.held_back == pytest.approx((92, 96))


def test_a_law_stands_as_far_as_its_interval_is_narrow():
    exact = forms.scores(curve(90, -0.15, 100), AMOUNTS)[0]
    (certain,) = laws.fit(points(exact))
    assert (certain.reach, certain.reach_below) == pytest.approx((1e7, 10))  # as far as is asked
    noise = np.array([2, -1.5, 2, -2.5, 1])
    (some,) = laws.fit(points(exact + noise / 2))
    assert 1e5 < some.reach < 1e6
    assert some.reach_below == 1e3  # as much noise weighs more in a low score
    assert 300 < laws.fit(points(exact + noise / 4))[0].reach_below < 1e3
    (none,) = laws.fit(points(exact + 4 * noise))
    assert (none.reach, none.reach_below) == (0, 1e3)


def test_scores_that_fall_are_named_by_amount():
    some = points([40, 52, 49, 60, 60.0])
    want = "kor_Hang: the score falls from 52.00 with 3,000 pairs to 49.00 with 10,000"
    assert [*laws.falls(some)] == [want]
    assert [*laws.falls(points([40, 30, 50, 50], AMOUNTS[:2], seeds=("0", "1")))] == []


def test_two_equal_seeds_are_refused_with_both_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("language,pairs,score,seed\nkor_Hang,10,50,0\nkor_Hang,10,51,1\n")
    assert [point.seed for point in laws.read_points(str(path))] == ["0", "1"]
    for seed in ("0", "00", " 0", "0.0"):
        path.write_text(f"language,pairs,score,seed\nkor_Hang,10,50,0\nkor_Hang,10,51,{seed}\n")
        with pytest.raises(ValueError, match=r"a.csv:3: seed 0 of .* stands in .*a.csv:2 already"):
            laws.read_points(str(path))


def test_laws_of_an_earlier_version_are_read(tmp_path):
    path = tmp_path / "laws.json"
    path.write_text(
        '{"form": "score = 100 - a * pairs ** b", "laws": [{"language": "kor_Hang", "a": 64.0, '
        '"b": -0.3, "a_interval": [60.0, 70.0], "b_interval": [-0.4, -0.2], "measured": [1.0, '
        '100.0], "held_back": [90.0, 91.0]}]}'
    )
    (law,) = laws.read(str(path))
    assert (law.ceiling, law.loss, law.reach, law.reach_below) == (100, "squares", None, None)
    assert laws.predict(law, 1) == 36
