"""Intervals and paired tests, against scipy's own and numbers worked out by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from lrl_jax.evaluate import intervals


@pytest.mark.parametrize(("right", "whole"), [(0, 7), (3, 7), (7, 7), (350, 700), (1, 1)])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_wilson_equals_scipys(right, whole, confidence):
    want = scipy.stats.binomtest(right, whole).proportion_ci(confidence, method="wilson")
    assert intervals.wilson(right, whole, confidence) == pytest.approx((want.low, want.high))


def test_wilson_of_half_of_ten_by_hand():
    z = 1.959963984540054  # 5 of 10: 0.5 +- z / (1 + z^2/10) * sqrt(0.025 + z^2/400)
    spread = z / (1 + z * z / 10) * math.sqrt(0.025 + z * z / 400)
    assert intervals.wilson(5, 10) == pytest.approx((0.5 - spread, 0.5 + spread))


@pytest.mark.parametrize(("right", "whole"), [(1, 0), (-1, 5), (6, 5), (0, 0)])
def test_a_share_of_nothing_is_refused(right, whole):
    with pytest.raises(ValueError, match=f"{right} right of {whole} items"):
        intervals.wilson(right, whole)


def test_the_interval_of_a_mean_is_near_that_of_a_normal_distribution():
    values = np.random.default_rng(3).normal(2.0, 1.5, 400)
    low, high = intervals.bootstrap_mean(values, seed=1, samples=4000)
    spread = 1.959964 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.02)


def test_a_bootstrap_is_the_same_for_the_same_seed_and_however_it_is_drawn(monkeypatch):
    values = [0.0, 1.0, 1.0, 3.0, 7.0]
    want = intervals.bootstrap_mean(values, seed=4)
    monkeypatch.setattr(intervals, "BLOCK", 7)  # one resample at a time
    assert intervals.bootstrap_mean(values, seed=4) == want
    assert intervals.bootstrap_mean(values, seed=5) != want


def test_a_bootstrap_of_any_number_equals_that_of_the_mean():
    values = np.array([0.0, 1.0, 1.0, 3.0, 7.0])
    got = intervals.bootstrap(lambda indices: values[indices].mean(), 5, seed=2, samples=2000)
    assert got == pytest.approx(intervals.bootstrap_mean(values, seed=9, samples=2000), abs=0.25)
    assert intervals.bootstrap(lambda indices: 1.0, 5, samples=3) == (1.0, 1.0)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (2, 0), (9, 3), (40, 41), (5, 5)])
def test_mcnemar_equals_scipys_exact_test(gained, lost):
    before = [False] * gained + [True] * lost + [True, False]
    after = [True] * gained + [False] * lost + [True, False]
    got = intervals.mcnemar(before, after)
    want = scipy.stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert (got.gained, got.lost, got.p) == (gained, lost, pytest.approx(want))


def test_a_clear_gain_is_told_from_noise():
    random = np.random.default_rng(0)
    before = random.uniform(0, 1, 300)
    clear = intervals.paired_bootstrap(before, before + 0.1)
    assert clear.change == pytest.approx(0.1)
    assert clear.p == pytest.approx(2 / 1001)
    noise = intervals.paired_bootstrap(before, before + random.normal(0, 1, 300))
    assert noise.low < 0 < noise.high
    assert noise.p > 0.05


def test_the_same_scores_are_no_change():
    got = intervals.paired_bootstrap([1.0, 0.0], [1.0, 0.0])
    assert (got.change, got.low, got.high, got.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("compare", [intervals.mcnemar, intervals.paired_bootstrap])
def test_only_the_same_items_are_compared(compare):
    with pytest.raises(ValueError, match="2 items before and 1 after"):
        compare([1, 0], [1])


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_a_mean_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="a finite number for each"):
        intervals.bootstrap_mean(values)
