"""Win rates, at equal length too, and agreement: computed by hand, recovered where planted."""

import numpy as np
import pytest
from scipy import optimize, special

from lrl_jax.evaluate.judge import preference

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def planted(seed, count, rate=0.6, length=1.0, difficulty=0.8):
    """Preferences whose mean is `rate` at equal length, where the judge also likes longer ones."""

    def excess(theta):
        return WEIGHTS @ special.expit(theta + difficulty * POINTS) / WEIGHTS.sum() - rate

    rng = np.random.default_rng(seed)
    lengths_N2 = np.stack([rng.lognormal(6.6, 0.6, count), rng.lognormal(6.2, 0.6, count)], axis=1)
    difference_N = lengths_N2[:, 0] - lengths_N2[:, 1]
    difficulty_N = rng.standard_normal(count)
    logits_N = optimize.brentq(excess, -5, 5) + difficulty * difficulty_N
    logits_N += length * np.tanh(difference_N / difference_N.std())
    preferences_N = (rng.random(count) < special.expit(logits_N)).astype(float)
    return preferences_N, lengths_N2, difficulty_N


def test_a_planted_preference_is_recovered_under_a_length_bias():
    raw, equal, inside = [], [], {0.95: 0, 0.999: 0}
    for seed in range(50):
        preferences_N, lengths_N2, difficulty_N = planted(seed, 400)
        raw.append(preferences_N.mean())
        for confidence, samples in ((0.95, 100), (0.999, 1000)):
            got = preference.length_controlled(
                preferences_N, lengths_N2, range(400), difficulty_N, 0, samples, confidence
            )
            inside[confidence] += got.low <= 0.6 <= got.high
        equal.append(got.value)
    assert np.mean(raw) > 0.63  # what lengths make of it
    assert abs(np.mean(equal) - 0.6) < 3 * np.std(equal) / np.sqrt(50)
    assert 43 <= inside[0.95] < 50  # 47.5 on the average, so hardly ever all
    assert inside[0.999] == 50


def test_a_surer_interval_is_a_wider_one_of_more_resamples():
    preferences_N, lengths_N2, _ = planted(3, 100)
    rates = [
        preference.length_controlled(preferences_N, lengths_N2, range(100), confidence=confidence)
        for confidence in (0.8, 0.95, 0.99)
    ]
    assert len({rate.value for rate in rates}) == 1
    lows, highs = [rate.low for rate in rates], [rate.high for rate in rates]
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)
    assert len({*lows}) == len({*highs}) == 3


def test_without_difficulty_the_rate_is_recovered_too():
    equal = [
        preference.length_controlled(*planted(seed, 805)[:2], range(805), samples=1).value
        for seed in range(40)
    ]
    assert abs(np.mean(equal) - 0.6) < 3 * np.std(equal) / np.sqrt(40)


def test_at_equal_lengths_the_rate_is_the_win_rate():
    got = preference.length_controlled([1, 1, 1, 0] * 20, [[5, 5]] * 80, range(80), samples=10)
    assert got.value == pytest.approx(0.75, abs=2e-4)  # next to nothing is taken by the prior
    assert got.length_weight == 0


def test_swapping_the_models_turns_the_rate_round():
    preferences_N, lengths_N2, difficulty_N = planted(7, 200)
    got = preference.length_controlled(
        preferences_N, lengths_N2, range(200), difficulty_N, samples=50
    )
    back = preference.length_controlled(
        1 - preferences_N, lengths_N2[:, ::-1], range(200), difficulty_N, samples=50
    )
    assert back.value == pytest.approx(1 - got.value)
    assert (back.low, back.high) == pytest.approx((1 - got.high, 1 - got.low))


def test_a_model_that_wins_everywhere_has_a_finite_rate():
    got = preference.length_controlled([1.0] * 30, [[9, 3], [4, 8]] * 15, range(30), samples=20)
    assert 0.99 < got.low <= got.value < 1


def test_turns_of_a_question_are_resampled_together():
    values = [0.0] * 10 + [1.0] * 10
    apart = preference.mean(values, range(20))
    together = preference.mean(values, [0] * 10 + [1] * 10)
    assert apart.value == together.value == 0.5
    assert (together.low, together.high) == (0, 1)
    assert 0.2 < apart.low < apart.high < 0.8


def test_kappa_is_agreement_beyond_chance():
    a = ["A"] * 20 + ["A"] * 5 + ["B"] * 10 + ["B"] * 15
    b = ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    assert preference.cohen_kappa(a, b) == pytest.approx(0.4)  # .7 agreed, .5 by chance
    assert preference.cohen_kappa(["A"], ["A"]) is None
    assert preference.cohen_kappa([], []) is None


def test_kappa_of_ratings_weighs_how_far_they_are_apart():
    # squares of 1 2 3 less 1 3 5: of those that belong 0 1 4, of all 0 4 16, 1 1 9 and 4 0 4
    assert preference.weighted_kappa([1, 2, 3], [1, 3, 5]) == pytest.approx(1 - (5 / 3) / (13 / 3))
