"""A budget of pairs goes where it gains most, and all of it."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import optimize

from lrl_jax.laws import allocate
from lrl_jax.laws.law import Law, predict

FREE = np.full(6, 1e5)
CAPPED = np.array([5e3, 1e5, 2e4, 1e5, 3e3, 1e5])


def law(name: str, a: float, b: float) -> Law:
    return Law(
        language=name,
        a=a,
        b=b,
        a_interval=(a, a),
        b_interval=(b, b),
        measured=(1e3, 1e5),
        held_back=(0, 0),
    )


TOY = [
    law(name, a, b)
    for name, a, b in [
        ("ara_Arab", 120, -0.17),
        ("ell_Grek", 110, -0.19),
        ("hin_Deva", 140, -0.16),
        ("tur_Latn", 90, -0.15),
        ("vie_Latn", 80, -0.14),
        ("zho_Hans", 100, -0.21),
    ]
]
some_laws = st.lists(
    st.tuples(st.floats(1, 500), st.floats(-0.9, -0.01)), min_size=1, max_size=6
).map(lambda pairs: [law(f"{i}", a, b) for i, (a, b) in enumerate(pairs)])


def total(laws, pairs) -> float:
    return sum(predict(one, x) for one, x in zip(laws, pairs, strict=True))


def by_scipy(laws, budget: float, caps: np.ndarray) -> float:
    """The largest total by an interior point method; SLSQP gives up where caps bind.

    Such a method stays off the caps, by more or less as the machine rounds: those it comes to are
    taken whole, and what is left of the budget is shared once more.
    """
    pairs = interior_point(laws, budget, caps)
    full = pairs > caps - 1e-3
    pairs[full] = caps[full]
    if full.any():
        others = [one for one, at_cap in zip(laws, full, strict=True) if not at_cap]
        pairs[~full] = interior_point(others, budget - caps[full].sum(), caps[~full])
    return total(laws, pairs)


def interior_point(laws, budget: float, caps: np.ndarray) -> np.ndarray:
    a, b = (np.array([getattr(one, field) for one in laws]) for field in ("a", "b"))
    found = optimize.minimize(
        lambda share: (a * (share * budget) ** b).sum(),
        np.minimum(np.full(len(laws), 1 / len(laws)), caps / budget),
        jac=lambda share: a * b * budget * (share * budget) ** (b - 1),
        hess=lambda share: np.diag(a * b * (b - 1) * budget**2 * (share * budget) ** (b - 2)),
        bounds=optimize.Bounds(1 / budget, caps / budget),
        constraints=optimize.LinearConstraint(np.ones((1, len(laws))), 1, 1),
        method="trust-constr",
        options={"gtol": 1e-14, "xtol": 1e-15, "barrier_tol": 1e-14, "maxiter": 5000},
    )
    assert found.status in (1, 2), found.message  # it has converged
    assert abs(found.x.sum() - 1) < 1e-14
    return found.x * budget


@pytest.mark.parametrize("caps", [FREE, CAPPED], ids=["free", "capped"])
def test_the_optimum_is_that_of_a_numeric_optimiser(caps):
    got = allocate.optimum(TOY, 1e5, caps, np.ones(6))
    assert abs(got.sum() - 1e5) < 1e-6
    assert abs(total(TOY, got) - by_scipy(TOY, 1e5, caps)) < 1e-10


def test_one_more_pair_gains_the_same_wherever_no_cap_binds():
    got = allocate.optimum(TOY, 1e5, CAPPED, np.ones(6))
    gains = np.array([-one.a * one.b * x ** (one.b - 1) for one, x in zip(TOY, got, strict=True)])
    bound = np.array([True, False, True, False, True, False])
    assert got[bound] == pytest.approx(CAPPED[bound])
    assert gains[~bound] == pytest.approx(gains[1], rel=1e-12)
    assert (gains[bound] > gains[1]).all()


def test_two_equal_laws_share_equally_and_weights_count():
    twins = [law("a", 50, -1), law("b", 50, -1)]
    assert allocate.allocate(twins, 100) == {"a": 50, "b": 50}
    # gains a w / x^2 are equal where x goes with the root of w
    assert allocate.allocate(twins, 90, weights={"a": 4}) == {"a": 60, "b": 30}
    assert allocate.allocate(twins, 90, caps={"a": 20}) == {"a": 20, "b": 70}


@pytest.mark.parametrize("weight", [5e-324, 1e-100, 1e100, 1.7e308])
@pytest.mark.parametrize("budget", [6, 1000, 10**12])
def test_the_largest_weights_and_budgets_are_shared_out_to_the_pair(weight, budget):
    got = allocate.allocate(TOY, budget, {"ell_Grek": 10**400}, {"ara_Arab": weight})
    assert sum(got.values()) == budget
    assert min(got.values()) >= 1
    assert budget == 6 or (got["ara_Arab"] > budget / 2) == (weight > 1)


def test_what_rounding_leaves_is_handed_out_whole():
    triplets = [law(name, 50, -1) for name in "abc"]
    assert allocate.allocate(triplets, 100) == {"a": 34, "b": 33, "c": 33}


@settings(max_examples=100, deadline=None)
@given(some_laws, st.data())
def test_all_of_the_budget_is_spent_within_bounds(laws, data):
    caps = {one.language: data.draw(st.integers(1, 10**8)) for one in laws}
    budget = data.draw(st.integers(len(laws), sum(caps.values())))
    got = allocate.allocate(laws, budget, caps)
    assert sum(got.values()) == budget
    assert all(1 <= got[name] <= caps[name] for name in caps)


@settings(max_examples=100, deadline=None)
@given(some_laws, st.integers(1000, 10**7), st.data())
def test_an_optimum_under_caps_is_no_worse_than_an_even_split(laws, budget, data):
    names = [one.language for one in laws]
    caps = {name: data.draw(st.integers(10, budget)) for name in names[1:]}
    even = allocate.even(budget, names, caps)
    assert sum(even.values()) == budget
    most = np.array([float(caps.get(name, budget)) for name in names])
    best = allocate.optimum(laws, budget, most, np.ones(len(laws)))
    assert total(laws, best) >= total(laws, [even[name] for name in names]) - 1e-9


@pytest.mark.parametrize(
    ("budget", "given", "message"),
    [
        (5, {}, "a budget of 5 pairs; want one for each of 6 laws or more"),
        (10**20, {}, "a budget of 1000.* pairs; want .* at most 1,000,000,000,000"),
        (100, {"caps": dict.fromkeys((one.language for one in TOY), 10)}, "caps allow, 60; lower"),
        (
            100,
            {"caps": {"kor_Hang": 9}},
            "a cap for kor_Hang, of which there is no law; .*ara_Arab",
        ),
        (100, {"weights": {"kor_Hang": 9}}, "a weight for kor_Hang"),
        (100, {"caps": {"ara_Arab": 0}}, "cap ara_Arab=0: want a number above 0"),
        (100, {"weights": {"ara_Arab": -1}}, "weight ara_Arab=-1: want a number above 0"),
        (100, {"weights": {"ara_Arab": math.inf}}, "weight ara_Arab=inf: want a number above 0"),
        (100, {"weights": {"ara_Arab": math.nan}}, "weight ara_Arab=nan: want a number above 0"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(budget, given, message):
    with pytest.raises(ValueError, match=message):
        allocate.allocate(TOY, budget, **given)


def test_a_name_of_no_dataset_is_refused():
    with pytest.raises(ValueError, match="a dataset for tam_Taml"):
        allocate.takes({"kor_Hang": 3}, {"tam_Taml": "tamil"})
    with pytest.raises(ValueError, match="two languages have the same dataset"):
        allocate.takes({"kor_Hang": 3, "tam_Taml": 4}, {"tam_Taml": "kor_Hang"})
