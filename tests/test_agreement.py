"""Agreement of people: values computed by hand, published ones, and those of another program."""

import numpy as np
import pytest

from lrl_jax.evaluate.sheets.agreement import alpha, kappa

# 4 observers of 12 items: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), which
# has .743 for nominal data. The digits are those of the package krippendorff 0.9.0.
OBSERVERS = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
PUBLISHED = [
    [int(cell) - 1 for cell in column if cell != "."]
    for column in zip(*map(str.split, OBSERVERS.split("\n")[1:5]), strict=True)
]


def test_alpha_is_the_published_one():
    assert alpha(PUBLISHED, 5) == pytest.approx(0.743421052631579, abs=1e-12)
    assert alpha(PUBLISHED, 5, "ordinal") == pytest.approx(0.8153875037548814, abs=1e-12)


def test_alpha_counts_pairs_of_an_item_by_how_many_judged_it():
    # Pairs of unequal values: of (0, 1) two, of (0, 0, 1) four that count 1/2, of (1, 0) two: 6.
    # Of 7 judgements 4 are 0 and 3 are 1: 49 - 16 - 9 = 24 unequal pairs, over 7 - 1, by chance.
    assert alpha([(0, 1), (0, 0, 1), (1, 0)], 2) == pytest.approx(1 - 6 / (24 / 6))


def test_a_single_judgement_of_an_item_says_nothing():
    assert alpha([(0, 1), (0, 0, 1), (1, 0), (1,), (2,)], 3) == pytest.approx(-0.5)


def test_ordinal_disagreement_grows_with_the_distance():
    near, far = [(0, 0), (1, 1), (2, 2), (0, 1)], [(0, 0), (1, 1), (2, 2), (0, 2)]
    assert alpha(near, 3) == pytest.approx(2 / 3)
    assert alpha(far, 3) == pytest.approx(2 / 3)
    # near: 3, 3 and 2 judgements, whose middles are 1.5, 4.5 and 7, so distances 9, 6.25, 30.25
    assert alpha(near, 3, "ordinal") == pytest.approx(1 - 7 * 18 / 600)
    assert alpha(far, 3, "ordinal") == pytest.approx(1 - 7 * 50 / 600)


@pytest.mark.parametrize("items", [[], [(0,), (1,)], [(1, 1), (1, 1, 1)]])
def test_alpha_is_none_where_nothing_can_be_agreed_on(items):
    assert alpha(items, 3) is None
    assert alpha(items, 3, "ordinal") is None


def test_kappa_is_agreement_beyond_chance():
    # 3 of 4 agree; chance: (3/4 of 0) * (2/4 of 0) + 1/4 * 2/4 = 1/2
    assert kappa([(0, 0), (0, 0), (1, 1), (0, 1)], 3) == pytest.approx((3 / 4 - 1 / 2) / (1 / 2))
    assert kappa([(0, 2), (2, 0)], 3) == pytest.approx(-1.0)


def test_kappa_is_none_where_both_always_say_the_same_or_nothing():
    assert kappa([], 3) is None
    assert kappa([(1, 1), (1, 1)], 3) is None


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_alpha_is_that_of_the_package_krippendorff(level):
    krippendorff = pytest.importorskip("krippendorff", reason="compares with krippendorff")
    random = np.random.default_rng(0)
    for _ in range(50):
        truth = random.integers(0, 3, 20)
        noise = random.integers(0, 3, (4, 20))
        table = np.where(random.random((4, 20)) < 0.6, truth, noise).astype(float)
        table[random.random((4, 20)) < 0.3] = np.nan
        items = [[int(value) for value in column if value == value] for column in table.T]
        want = krippendorff.alpha(table, value_domain=[0, 1, 2], level_of_measurement=level)
        assert alpha(items, 3, level) == pytest.approx(want, abs=1e-9)
