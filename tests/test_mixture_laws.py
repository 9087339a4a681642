"""Laws of a mixture: what was planted comes out, the best mixture is the one computed by hand."""

import dataclasses
import math

from conftest import data_file, needs_data
import numpy as np
import pytest

from lrl_jax.laws import repeats
from lrl_jax.laws.mixtures import best as best_mixture
from lrl_jax.laws.mixtures import design, forms
from lrl_jax.laws.mixtures import law as mixture
from lrl_jax.laws.mixtures import runs as mixture_runs
from lrl_jax.laws.mixtures.best import Goal
from lrl_jax.laws.mixtures.design import Bounds
from lrl_jax.laws.mixtures.runs import MixtureRuns

SLOPES = np.array([-2.0, 0.5, 1.5, -0.5])


def runs_of(losses_NK: np.ndarray, weights_ND: np.ndarray, **more) -> MixtureRuns:
    names = tuple(f"r{i}" for i in range(len(weights_ND)))
    datasets = tuple("abcdefgh"[: weights_ND.shape[1]])
    losses = tuple(f"loss{k}" for k in range(losses_NK.shape[1]))
    return MixtureRuns(names, datasets, losses, weights_ND, losses_NK, **more)


def exponential(weights_ND: np.ndarray) -> np.ndarray:
    return 1.5 + np.exp(0.3 + weights_ND @ SLOPES)


def planted(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(4), count)


def law(slopes: dict[str, tuple[float, ...]], floor: float = 1.0, **more) -> mixture.MixtureLaws:
    """Laws that are exactly floor + exp(slopes . w), of runs at the corners and the centre."""
    width = len(next(iter(slopes.values())))
    weights = [*np.eye(width).tolist(), [1 / width] * width]
    made = tuple(
        mixture.MixtureLaw(
            loss=name, form="exponential", floor=floor, scale=0, slopes=own, intercept=0,
            linear=own, root=own, strength=1, held_out={},
        )
        for name, own in slopes.items()
    )  # fmt: skip
    losses = [[floor + math.exp(np.dot(own, w)) for own in slopes.values()] for w in weights]
    return mixture.MixtureLaws(
        datasets=tuple("abcdefgh"[:width]), laws=made, runs=tuple(map(str, range(width + 1))),
        weights=tuple(map(tuple, weights)), losses=tuple(map(tuple, losses)), **more,
    )  # fmt: skip


# ---------------------------------------------------------------------------- fit
def test_a_planted_exponential_law_comes_out():
    weights, unseen = planted(40), planted(200, seed=1)
    laws = mixture.fit(runs_of(exponential(weights)[:, None], weights))
    (got,) = laws.laws
    assert got.form == "exponential"
    assert got.held_out["exponential"].spearman == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(mixture.predict(laws, unseen)[:, 0], exponential(unseen), rtol=2e-3)
    steps = np.diff(got.slopes)  # the weights sum to one: only differences of slopes count
    np.testing.assert_allclose(steps, np.diff(SLOPES), atol=0.05)


def test_a_run_gone_wrong_hardly_moves_the_law():
    weights, unseen = planted(40), planted(200, seed=1)
    losses = exponential(weights)
    losses[7] *= 4
    laws = mixture.fit(runs_of(losses[:, None], weights), form="exponential")
    error = np.abs(mixture.predict(laws, unseen)[:, 0] / exponential(unseen) - 1)
    assert error.mean() < 0.02
    squares = np.linalg.lstsq(weights, np.log(losses))[0]  # what least squares make of it
    assert np.abs(np.exp(unseen @ squares) / exponential(unseen) - 1).mean() > 0.05


def test_a_law_of_roots_is_taken_where_it_foretells_better():
    weights = planted(40)
    losses = np.exp(3 - np.sqrt(weights).sum(1))  # best of all is a little of everything
    laws = mixture.fit(runs_of(losses[:, None], weights))
    assert laws.laws[0].form == "ridge"
    unseen = planted(100, seed=2)
    want = np.exp(3 - np.sqrt(unseen).sum(1))
    np.testing.assert_allclose(mixture.predict(laws, unseen)[:, 0], want, rtol=0.01)


def test_a_tie_goes_to_the_form_that_holds_for_larger_models():
    def scores(exponential: float, both: float, ridge: float) -> dict:
        given = {"exponential": exponential, "both": both, "ridge": ridge}
        return {
            name: mixture.HeldOutFit(spearman=value, folds=(), rmse=1)
            for name, value in given.items()
        }

    assert mixture._better(scores(0.90, 0.91, 0.915)) == "exponential"
    assert mixture._better(scores(0.89, 0.90, 0.915)) == "both"
    assert mixture._better(scores(0.80, 0.85, 0.95)) == "ridge"


def test_the_strength_of_the_ridge_is_the_one_that_leaves_out_best():
    weights = planted(12)
    losses = 2 + np.random.default_rng(3).random((12, 1))
    chosen = forms.ridges(weights, losses).strength_B
    errors = []
    for strength in forms.STRENGTHS:
        off = []
        for i in range(12):
            others = np.arange(12) != i
            x = np.hstack([weights, np.sqrt(weights)])
            x = (x - x.mean(0)) / x.std(0)  # as the closed form: of all runs
            y = np.log(losses[:, 0])
            y = y - y.mean()
            a = np.hstack([np.ones((11, 1)), x[others]])
            penalty = np.diag([0.0] + [strength] * 8)
            slope = np.linalg.solve(a.T @ a + penalty, a.T @ y[others])
            off.append((y[i] - np.append(1.0, x[i]) @ slope) ** 2)
        errors.append(sum(off))
    assert chosen[0] == forms.STRENGTHS[int(np.argmin(errors))]


@pytest.mark.parametrize("share", [1.0, 0.0, 0.5])
def test_the_slope_of_a_law_is_that_of_small_steps(share):
    weights = planted(30)
    losses = np.column_stack([exponential(weights), exponential(weights[:, ::-1])])
    fitted = mixture.fit(runs_of(losses, weights))
    both = dataclasses.replace(mixture.predictor(fitted), share_K=np.full(2, share))
    at = np.array([0.4, 0.3, 0.2, 0.1])
    steps = 1e-6 * np.eye(4)
    want = (both(at[None] + steps) - both(at[None] - steps)) / 2e-6
    np.testing.assert_allclose(both.gradient(at), want.T, rtol=1e-5)


def test_runs_of_one_mixture_never_foretell_each_other():
    weights = np.repeat(planted(10), 3, axis=0)
    parts = mixture.parts_of(weights, folds=4)
    assert sorted(np.concatenate(parts).tolist()) == [*range(30)]
    for part in parts:
        assert len(part) == 3 * len(np.unique(weights[part], axis=0))


def test_runs_are_foretold_by_laws_that_have_not_seen_them():
    weights = planted(14)
    noise = 2 + np.random.default_rng(2).random((14, 1))  # there is nothing to foretell
    laws = mixture.fit(runs_of(noise, weights), form="exponential")
    seen = mixture.spearman(mixture.predict(laws, weights)[:, 0], noise[:, 0])
    assert laws.laws[0].held_out["exponential"].spearman < 0.2 < 0.5 < seen


def test_a_law_wants_as_many_mixtures_as_unknowns():
    weights = planted(5)
    with pytest.raises(ValueError, match=r"5 mixtures; a law of 4 datasets has 6 unknowns"):
        mixture.fit(runs_of(exponential(weights)[:, None], weights))
    twice = np.repeat(weights, 2, axis=0)
    with pytest.raises(ValueError, match="5 mixtures; a law"):
        mixture.fit(runs_of(exponential(twice)[:, None], twice))
    weights = planted(8)
    with pytest.raises(ValueError, match=r"9 folds of 8 mixtures; want 2 to 8"):
        mixture.fit(runs_of(exponential(weights)[:, None], weights), folds=9)


def test_losses_that_never_vary_are_foretold_as_they_are():
    weights = planted(12)
    laws = mixture.fit(runs_of(np.full((12, 1), 2.5), weights))
    np.testing.assert_allclose(mixture.predict(laws, planted(5, 9)), 2.5, rtol=1e-6)
    assert laws.laws[0].held_out["ridge"].spearman == 0


def test_bootstrap_draws_spread_with_the_noise():
    weights, at = planted(40), np.array([[0.25] * 4])
    noise = np.random.default_rng(5).standard_normal(40)
    widths = []
    for size in (0.0, 0.01, 0.1):
        laws = mixture.fit(runs_of((exponential(weights) + size * noise)[:, None], weights))
        drawn = [float(one(at)[0, 0]) for one in mixture.draws(laws, 40)]
        low, high = mixture.interval(np.array(drawn))
        assert low <= mixture.predict(laws, at)[0, 0] <= high + 1e-3
        widths.append(high - low)
    assert widths[0] < 0.01 < widths[2]
    assert widths[1] < widths[2] / 3


def test_laws_go_through_their_file(tmp_path):
    weights = planted(12)
    laws = mixture.fit(runs_of(exponential(weights)[:, None], weights, left_out=("r9: nan",)))
    mixture.write(laws, tmp_path / "law.json")
    assert mixture.read(str(tmp_path / "law.json")) == laws
    with pytest.raises(ValueError, match="no such file; make it: lrl laws mixture fit"):
        mixture.read(str(tmp_path / "none.json"))
    broken = laws.model_copy(update={"weights": laws.weights[:-1]})
    mixture.write(broken, tmp_path / "law.json")
    with pytest.raises(ValueError, match=r"is no mixture_law.json: .* 12 runs of 1 losses"):
        mixture.read(str(tmp_path / "law.json"))


# ---------------------------------------------------------------------------- tables
def test_a_table_of_runs_is_read_and_runs_without_losses_are_named(tmp_path):
    path = tmp_path / "mixtures.csv"
    path.write_text(
        "\ufeffrun,mixture.ko,mixture.en,loss.kor_Hang,steps\n"
        "m0,0.25,0.75,1.5,9\nm1,0.5,0.5,nan,9\nm2,1,0,,9\nm3,0,1.004,2,9\nm4,1,0,inf,9"
    )
    got = mixture_runs.read(str(path))
    assert (got.names, got.datasets, got.losses) == (("m0", "m3"), ("ko", "en"), ("kor_Hang",))
    assert got.weights_ND.tolist() == [[0.25, 0.75], [0, 1]]
    assert got.losses_NK.tolist() == [[1.5], [2]]
    assert got.left_out == (
        "m1: its losses are not finite and above 0: kor_Hang = nan",
        "m2: has no loss kor_Hang",
        "m4: its losses are not finite and above 0: kor_Hang = inf",
    )


def test_two_tables_are_joined_by_the_names_of_runs(tmp_path):
    (tmp_path / "w.csv").write_text("index,ko,en\n1,0.25,0.75\n3,1,0\n4,0,1\n")
    (tmp_path / "l.csv").write_text("index,web\r\n4,3.5\r\n2,9\r\n1,2.5")
    got = mixture_runs.read(str(tmp_path / "w.csv"), str(tmp_path / "l.csv"))
    assert (got.names, got.losses) == (("1", "4"), ("web",))
    assert got.losses_NK.tolist() == [[2.5], [3.5]]
    assert got.left_out == (
        f"2: has no weights in {tmp_path}/w.csv",
        f"3: has no losses in {tmp_path}/l.csv",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("run,mixture.a,loss.x\n", "has no rows"),
        ("run,a,x\nm0,1,2\n", r"has no column mixture.NAME"),
        ("run,mixture.a,x\nm0,1,2\n", r"has no column loss.NAME"),
        ("run,mixture.a,mixture.a\nm0,1,2\n", "two columns are called 'mixture.a'"),
        ("run,mixture.a,loss.x\nm0,1,2\nm0,1,3\n", ":3: run 'm0' stands twice"),
        ("run,mixture.a,loss.x\nm0,1,2\nm1,1\n", ":3: has 2 cells, and the header 3"),
        ("run,mixture.a,loss.x\nm0,1,2\n\nm0 ,1,3\n", ":4: run 'm0' stands twice"),
        ("run,mixture.a,loss.x\nm0,0.9,2\n", "run m0: its weights sum to 0.9; want shares"),
        ("run,mixture.a,mixture.b,loss.x\nm0,-1,2,2\n", "run m0: its weights sum to 1; want"),
        ("run,mixture.a,loss.x\nm0,nan,2\n", "run m0: its weights sum to nan"),
        ("run,mixture.a,loss.x\nm0,many,2\n", "run m0: 'many' is no number"),
        ("run,mixture.a,loss.x\nm0,1,low\n", "loss.x: 'low' is no number"),
        ("run,mixture.a,loss.x\nm0,1,nan\n", "no run has weights and losses; m0: its losses"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_its_place(tmp_path, content, message):
    path = tmp_path / "mixtures.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        mixture_runs.read(str(path))


def test_a_loss_that_was_not_measured_is_refused():
    runs = runs_of(np.ones((3, 2)), planted(3))
    assert runs.only(["loss1"]).losses == ("loss1",)
    with pytest.raises(ValueError, match="no loss 'other' was measured; there are loss0, loss1"):
        runs.only(["other"])


# ---------------------------------------------------------------------------- design and bounds
def test_a_design_begins_with_the_recipe_and_the_even_mixture_and_grows_by_its_end():
    own = [5.0, 3.0, 2.0]
    long = design.mixtures(own, Bounds.free(3), 33)
    assert long[:2].tolist() == [[0.5, 0.3, 0.2], [0.3334, 0.3333, 0.3333]]
    np.testing.assert_array_equal(design.mixtures(own, Bounds.free(3), 9), long[:9])
    np.testing.assert_allclose(long.sum(1), 1, atol=1e-9)
    assert len(np.unique(long, axis=0)) == 33
    assert (long.max(0) > 0.6).all()
    assert (long.min(0) < 0.1).all()
    assert (design.mixtures(own, Bounds.free(3), 9, seed=1)[2:] != long[2:9]).any()


def test_every_mixture_of_a_design_is_within_the_bounds():
    bounds = Bounds.of(["a", "b", "c"], {"a": (0.2, 0.45)}, {"b": 0.15, "c": 3.0})
    assert bounds.high_D.tolist() == [0.45, 0.15, 1]
    for row in design.mixtures([0.9, 0.1, 0.0], bounds, 64):
        assert bounds.met(row)
        assert row.sum() == pytest.approx(1)


def test_a_dataset_without_weight_is_tried_too():
    assert (design.mixtures([1.0, 0.0], Bounds.free(2), 8)[1:, 1] > 0).any()
    tight = Bounds.of(["a", "b"], {}, {"a": 0.4})
    assert design.mixtures([1.0, 0.0], tight, 1).tolist() == [[0.4, 0.6]]


@pytest.mark.parametrize(
    ("given", "caps", "message"),
    [
        ({"d": (0.0, 1.0)}, {}, "no dataset 'd' in the mixture; there are a, b"),
        ({"a": (0.5, 0.4)}, {}, "bounds 0.5:0.4 of a: want"),
        ({"a": (-0.1, 0.4)}, {}, "bounds -0.1:0.4 of a: want"),
        ({"a": (0.5, 1.4)}, {}, "bounds 0.5:1.4 of a: want"),
        ({"a": (0.5, 1.0)}, {"a": 0.3}, "a is to have at least 0.5, and its epochs allow 0.3"),
        ({"a": (0.6, 1.0), "b": (0.6, 1.0)}, {}, "least weights sum to 1.2"),
        ({"a": (0.0, 0.4)}, {"b": 0.5}, "largest to 0.9"),
    ],
)
def test_bounds_that_no_mixture_meets_are_refused(given, caps, message):
    with pytest.raises(ValueError, match=message):
        Bounds.of(["a", "b"], given, caps)


# ---------------------------------------------------------------------------- the best mixture
def best(laws, target, held=None, bounds=None, reference=None):
    width = len(laws.datasets)
    even = np.full(width, 1 / width)
    goal = Goal(target, held or {})
    return best_mixture.optimum(
        laws, goal, even if reference is None else reference, bounds or Bounds.free(width)
    )


TWO = {"ko": (-2.0, 0.0), "en": (0.0, -2.0)}  # a loss of each language falls with its own data


def test_equal_targets_share_equally_and_one_alone_takes_all():
    assert best(law(TWO), {"ko": 1, "en": 1}).tolist() == pytest.approx([0.5, 0.5], abs=2e-4)
    assert best(law(TWO), {"ko": 1}).tolist() == [1, 0]


def test_a_weighted_target_is_best_where_the_slopes_are_equal():
    # 3 exp(-2 a) = exp(-2 (1 - a)): a = 1/2 + log(3) / 4
    got = best(law(TWO), {"ko": 3, "en": 1})
    assert got[0] == pytest.approx(0.5 + math.log(3) / 4, abs=2e-4)


def test_english_is_held_at_what_was_said():
    # of 1 + exp(-1), 10 % more: exp(-2 b) = 1.1 (1 + exp(-1)) - 1
    limit = 1.1 * (1 + math.exp(-1)) - 1
    got = best(law(TWO), {"ko": 1}, {"en": 10})
    assert got[1] == pytest.approx(-math.log(limit) / 2, abs=2e-4)


def test_bounds_and_caps_hold_at_the_optimum():
    bounds = Bounds.of(["a", "b"], {}, {"a": 0.3})
    assert best(law(TWO), {"ko": 1}, bounds=bounds).tolist() == [0.3, 0.7]


def test_what_cannot_be_held_says_how_near_one_comes():
    with pytest.raises(ValueError, match=r"the nearest one has en at -17.00 % of -50 %"):
        best(law(TWO), {"ko": 1}, {"en": -50})  # (1 + exp(-2)) / (1 + exp(-1)) - 1


@pytest.mark.parametrize(
    ("target", "held", "message"),
    [
        ({}, {}, "no target; name a loss with its weight: --target ko=1"),
        ({"fr": 1}, {}, "no law of a loss 'fr'; there are ko, en"),
        ({"ko": 1}, {"fr": 1}, "no law of a loss 'fr'"),
        ({"ko": 0}, {}, "target ko=0: want a weight above 0"),
        ({"ko": 1}, {"en": math.nan}, "hold en=nan: want percent"),
    ],
)
def test_a_goal_that_cannot_be_is_refused(target, held, message):
    with pytest.raises(ValueError, match=message):
        best(law(TWO), target, held)


def test_no_sample_is_better_than_the_mixture_found():
    weights = planted(40)
    rng = np.random.default_rng(0)
    bends = rng.normal(size=(4, 3))
    losses = np.exp(1 + np.sqrt(weights) @ bends)  # roots: not convex
    laws = mixture.fit(runs_of(losses, weights), form="ridge")
    reference = np.full(4, 0.25)
    goal = Goal({"loss0": 1, "loss1": 1}, {"loss2": 1})
    got = best_mixture.optimum(laws, goal, reference, Bounds.free(4))
    sampled = rng.dirichlet(np.ones(4), 20_000)
    foretold = mixture.predict(laws, np.vstack([got, reference, sampled]))
    held = foretold[2:, 2] <= 1.01 * foretold[1, 2]
    value = foretold[:, :2].sum(1)
    assert foretold[0, 2] <= 1.0101 * foretold[1, 2]
    assert value[0] <= value[2:][held].min() + 1e-3


def test_two_mixtures_are_compared_within_each_draw():
    laws = law(TWO)
    shifted = [
        dataclasses.replace(
            mixture.predictor(laws),
            exponentials=forms.Exponentials(
                np.full(2, floor), np.zeros(2), np.array([*TWO.values()])
            ),
        )
        for floor in (0.0, 1.0, 3.0)
    ]
    said, _ = best_mixture.foretold(laws, np.array([[1.0, 0.0], [0.0, 1.0]]), shifted)
    assert said.losses == pytest.approx((1 + math.exp(-2), 2))
    assert said.change == pytest.approx(100 * ((1 + math.exp(-2)) / 2 - 1))
    most = 100 * ((3 + math.exp(-2)) / 4 - 1)
    assert said.change_interval[1] == pytest.approx(most, abs=1.5)
    assert said.change_interval[1] < 0  # though the losses of the draws overlap
    assert said.interval[1] > 2


# ---------------------------------------------------------------------------- repeated data
def test_repeated_data_is_worth_what_the_paper_says():
    assert repeats.effective_epochs(1) == 1
    # one repetition: R* (1 - exp(-1 / R*)) of new data
    want = 1 + 15.387756 * (1 - math.exp(-1 / 15.387756))
    assert repeats.effective_epochs(2) == pytest.approx(want)
    assert repeats.worth(16.387756) == pytest.approx(math.exp(-1))
    # the value of the next token is the slope of the value of all
    for epochs in (0.5, 1.5, 4.0, 40.0):
        slope = repeats.effective_epochs(epochs + 1e-6) - repeats.effective_epochs(epochs)
        assert repeats.worth(epochs) == pytest.approx(slope * 1e6, rel=1e-5)
    with pytest.raises(ValueError, match="0 unique tokens"):
        repeats.effective_tokens(0, 5)


# ---------------------------------------------------------------------------- RegMix
def regmix(name: str) -> MixtureRuns:
    size = name.rpartition("_")[2]
    part = name.partition("_")[0]
    files = [data_file(f"mixture/{part}_{what}_{size}.csv") for what in ("mixture", "pile_loss")]
    return mixture_runs.read(*map(str, files))


@needs_data
@pytest.mark.parametrize(("count", "least"), [(64, 0.92), (128, 0.95)])
def test_few_runs_foretell_the_order_of_the_mixtures_of_regmix(count, least):
    """The runs of arXiv 2407.01492: 13 losses on 17 domains, of models of 1M, and of 1B."""
    train = regmix("train_1m")
    some = dataclasses.replace(
        train,
        names=train.names[:count],
        weights_ND=train.weights_ND[:count],
        losses_NK=train.losses_NK[:count],
    )
    laws = mixture.fit(some)

    def spearmans(test: MixtureRuns) -> dict[str, float]:
        foretold = mixture.predict(laws, test.weights_ND)
        return {
            name: mixture.spearman(foretold[:, k], test.losses_NK[:, test.losses.index(name)])
            for k, name in enumerate(laws.names)
        }

    assert np.mean([*spearmans(regmix("test_1m")).values()]) >= least
    assert spearmans(regmix("test_1B"))["metric/the_pile_pile_cc_val_loss"] >= 0.95
