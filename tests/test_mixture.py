"""Mixtures: shares of tokens come out as written, through nesting, replay, ramps, epochs, caps."""

import dataclasses
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from lrl_jax.data.feed import mixture, plan
from lrl_jax.data.pack import rows
from lrl_jax.recipe import schema as recipes
from lrl_jax.recipe.data import Data

FROZEN = [{"match": ".*", "schedule": "frozen"}]
PACKED = rows.Manifest(
    name="", fingerprint="f", language="kor_Hang", template="plain", order="shuffled",
    sequence_length=100, bos_id=1, eos_id=2, pad_id=2, tokenizer="t", records=0, left_out={},
    docs=1, distinct=1, scripts={}, bytes=1, tokens=1, loss_tokens=1, cut=0, rows=1, shards=(),
)  # fmt: skip


def packed(**sizes) -> dict[str, rows.Manifest]:
    """Manifests of name=(rows, tokens, documents)."""
    return {
        name: dataclasses.replace(
            PACKED, name=name, fingerprint=f"f-{name}", rows=n, tokens=tokens, docs=docs
        )
        for name, (n, tokens, docs) in sizes.items()
    }


def recipe(stages, manifests, *, mixtures=None, replay=None, batch_size=1, **datasets):
    """A recipe of these stages; `datasets` are settings of some, by name."""
    text = {"kind": "text", "path": ["a.txt"], "language": "kor_Hang"}
    return recipes.Recipe(
        name="r",
        seed=5,
        base={"model": "m"},
        vocab={"method": "keep"},
        data=Data(
            sequence_length=100,
            datasets={name: text | datasets.get(name, {}) for name in manifests},
            mixtures=mixtures or {},
        ),
        train={
            "batch_size": batch_size,
            "replay": replay or {},
            "stages": [{"name": f"s{i}", "learn": FROZEN} | s for i, s in enumerate(stages)],
        },
    )


def stages_of(made, manifests) -> tuple[plan.PlanStage, ...]:
    return mixture.plan(made, manifests).stages


def tokens(stage: plan.PlanStage, manifests) -> dict[str, float]:
    """The share of tokens each dataset has in what a stage reads."""
    read = {
        name: count * manifests[name].tokens / manifests[name].rows
        for name, count in plan.taken(stage).items()
    }
    return {name: count / sum(read.values()) for name, count in read.items()}


FULL = packed(a=(100, 10_000, 50), b=(1000, 40_000, 2000))  # rows of 100 and of 40 tokens


def test_half_the_tokens_are_half_the_tokens_whatever_rows_hold():
    made = recipe([{"steps": 100_000, "mixture": {"a": 1, "b": 1}}], FULL)
    (stage,) = stages_of(made, FULL)
    got = plan.taken(stage)
    assert got == {
        "a": pytest.approx(100_000 * 2 / 7, abs=2),
        "b": pytest.approx(500_000 / 7, abs=2),
    }
    assert tokens(stage, FULL)["a"] == pytest.approx(0.5, abs=0.001)


def test_weights_of_examples_are_shares_of_documents():
    made = recipe([{"steps": 90_000, "mixture": {"a": 1, "b": 3}, "weights": "examples"}], FULL)
    (stage,) = stages_of(made, FULL)
    got = plan.taken(stage)
    documents = got["a"] * 50 / 100, got["b"] * 2000 / 1000
    assert documents[1] / documents[0] == pytest.approx(3, rel=0.001)


def test_a_mixture_of_mixtures_shares_its_share():
    mixtures = {"all": {"of": {"a": 1, "bs": 3}}, "bs": {"of": {"b": 1, "c": 1, "d": 0}}}
    sizes = {name: 1.0 for name in "abcd"}
    data = recipe(
        [{"steps": 1, "mixture": {"all": 1}}],
        packed(**{n: (1, 1, 1) for n in "abcd"}), mixtures=mixtures,
    ).data  # fmt: skip
    assert mixture.shares(data, {"all": 1, "a": 1}, sizes) == {"a": 0.625, "b": 0.1875, "c": 0.1875}
    assert mixture.members(data, {"all": 1}) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("temperature", "want"),
    [(1, {"a": 0.1, "b": 0.45, "c": 0.45}), (2, {"a": 0.25, "b": 0.375, "c": 0.375})],
)
def test_a_member_by_size_has_the_size_of_its_whole(temperature, want):
    sizes = packed(a=(9, 100, 1), b=(9, 400, 1), c=(9, 500, 1))
    data = recipe(
        [{"steps": 1, "mixture": {"all": 1}}], sizes,
        mixtures={
            "all": {"of": {"a": 1, "rest": 1}, "by": "size", "temperature": temperature},
            "rest": {"of": {"b": 1, "c": 1}},
        },
    ).data  # fmt: skip
    got = mixture.shares(data, {"all": 7}, {name: one.tokens for name, one in sizes.items()})
    assert got == pytest.approx(want)


def test_a_circle_of_mixtures_is_shown():
    mixtures = {"x": {"of": {"y": 1}}, "y": {"of": {"a": 1, "z": 2}}, "z": {"of": {"y": 1}}}
    made = recipe([{"steps": 1, "mixture": {"x": 1}}], FULL, mixtures=mixtures)
    with pytest.raises(ValueError, match="y -> z -> y: a mixture cannot hold itself"):
        stages_of(made, FULL)
    with pytest.raises(ValueError, match="y -> z -> y"):
        mixture.unsized(made, made.train.stages[0])


def test_replay_has_its_share_of_every_stage_and_adds_to_a_stage_that_has_it():
    sizes = packed(a=(10, 1000, 1), b=(10, 800, 1))
    stages = [
        {"steps": 10_000, "mixture": {"a": 1}},
        {"steps": 10_000, "mixture": {"a": 1, "b": 1}},
    ]
    first, second = stages_of(recipe(stages, sizes, replay={"b": 0.2}), sizes)
    assert tokens(first, sizes) == pytest.approx({"a": 0.8, "b": 0.2}, abs=0.001)
    assert tokens(second, sizes) == pytest.approx({"a": 0.4, "b": 0.6}, abs=0.001)


def test_replay_of_everything_is_refused():
    made = recipe([{"steps": 1, "mixture": {"a": 1}}], FULL, replay={"a": 0.6, "b": 0.4})
    with pytest.raises(ValueError, match=r"train\.replay takes 100% of every stage"):
        stages_of(made, FULL)


# ---------------------------------------------------------------------------- ramps
def test_a_ramp_goes_from_one_mixture_to_the_other_in_equal_steps():
    sizes = packed(a=(10, 1000, 1), b=(10, 1000, 1), c=(10, 1000, 1))
    stage = {"steps": 3, "mixture": {"a": 1, "c": 1}, "ramp_to": {"b": 2, "c": 2}}
    got = stages_of(recipe([stage], sizes, batch_size=4), sizes)
    assert [(one.name, one.rows) for one in got] == [("s0.01", 4), ("s0.02", 4), ("s0.03", 4)]
    assert [dict(one.weights) for one in got] == [
        {"a": 0.5, "c": 0.5, "b": 0.0}, {"a": 0.25, "c": 0.5, "b": 0.25},
        {"a": 0.0, "c": 0.5, "b": 0.5},
    ]  # fmt: skip


def test_a_long_ramp_has_32_stages_of_whole_batches():
    stage = {"steps": 1001, "mixture": {"a": 1}, "ramp_to": {"b": 1}}
    got = stages_of(recipe([stage], FULL, batch_size=8), FULL)
    assert len(got) == 32
    assert {one.rows for one in got} == {31 * 8, 32 * 8}
    assert sum(one.rows for one in got) == 1001 * 8
    assert plan.taken(got[0]) == {"a": got[0].rows, "b": 0}
    assert plan.taken(got[-1]) == {"a": 0, "b": got[-1].rows}


def test_a_ramp_of_one_step_is_refused():
    with pytest.raises(ValueError, match="a ramp takes at least 2 steps, got 1"):
        recipe([{"steps": 1, "mixture": {"a": 1}, "ramp_to": {"b": 1}}], FULL)


# ---------------------------------------------------------------------------- whole epochs
def test_epochs_read_every_row_so_often_and_fill_the_last_batch_from_the_next_epoch():
    sizes = packed(a=(11, 1000, 1), b=(40, 1000, 1))
    made = recipe([{"epochs": 3, "mixture": {"a": 1, "b": 0.5}}], sizes, batch_size=8)
    (stage,) = stages_of(made, sizes)
    assert stage.rows == 96  # 3 x 11 and 1.5 x 40 are 93 rows
    assert plan.taken(stage) == {"a": 34, "b": 62}
    assert [one.steps for one in mixture.steps(made, sizes).train.stages] == [12]
    assert mixture.steps(made, sizes).train.stages[0].epochs == 0


def test_epochs_of_a_mixture_multiply_the_weights_on_the_way():
    sizes = packed(a=(10, 1000, 1), b=(10, 1000, 1))
    mixtures = {"m": {"of": {"a": 1, "b": 3}}}
    made = recipe([{"epochs": 2, "mixture": {"m": 1, "a": 0.5}}], sizes, mixtures=mixtures)
    assert plan.taken(stages_of(made, sizes)[0]) == {"a": 30, "b": 60}
    warm = {"m": mixtures["m"] | {"by": "size", "temperature": 3}}
    made = recipe([{"epochs": 2, "mixture": {"m": 1}}], sizes, mixtures=warm)
    with pytest.raises(ValueError, match="'m' wants shares by temperature 3; give steps"):
        stages_of(made, sizes)


def test_replay_beside_whole_epochs_has_its_share_of_tokens():
    sizes = packed(a=(300, 30_000, 1), b=(100, 5_000, 1))
    made = recipe([{"epochs": 1, "mixture": {"a": 1}}], sizes, replay={"b": 0.25})
    (stage,) = stages_of(made, sizes)
    assert plan.taken(stage) == {"a": 300, "b": 200}  # 10,000 tokens beside 30,000


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_epochs_are_exact_and_mixed_whatever_the_sizes(data):
    names = ["a", "b", "c"][: data.draw(st.integers(1, 3))]
    sizes = packed(**{n: (data.draw(st.integers(1, 300)), 1000, 1) for n in names})
    times = {n: data.draw(st.sampled_from([1, 2, 3])) for n in names}
    size = data.draw(st.sampled_from([1, 8, 32]))
    made = recipe([{"epochs": 1, "mixture": times}], sizes, batch_size=size)
    got = mixture.plan(made, sizes)
    assert got.total % size == 0
    whole = {n: times[n] * sizes[n].rows for n in names}
    assert got.total - sum(whole.values()) < size
    for name, count in got.consumed(got.total).items():
        assert whole[name] <= count < whole[name] + size
    half = got.consumed(got.total // 2)
    for name, count in got.consumed(got.total).items():
        assert abs(half[name] - count / 2) <= 3


# ---------------------------------------------------------------------------- at most so often
def test_a_dataset_is_read_no_more_often_than_it_may_and_the_others_take_its_place():
    sizes = packed(a=(10, 1000, 1), b=(90, 9000, 1), c=(90, 9000, 1))
    stages = [{"steps": 40, "mixture": {"a": 1, "b": 1, "c": 2}}]
    capped = recipe(stages, sizes, a={"max_epochs": 0.4})
    assert plan.taken(stages_of(capped, sizes)[0]) == {"a": 4, "b": 12, "c": 24}
    free = recipe(stages, sizes, a={"max_epochs": 1})
    assert plan.taken(stages_of(free, sizes)[0]) == {"a": 10, "b": 10, "c": 20}


def test_what_an_earlier_stage_read_counts():
    sizes = packed(a=(10, 1000, 1), b=(90, 9000, 1))
    stages = [{"steps": 8, "mixture": {"a": 1}}, {"steps": 10, "mixture": {"a": 1, "b": 1}}]
    got = stages_of(recipe(stages, sizes, a={"max_epochs": 1}), sizes)
    assert [plan.taken(one) for one in got] == [{"a": 8}, {"a": 2, "b": 8}]


@pytest.mark.parametrize("ramp_to", [{}, {"a": 1, "b": 2}])
def test_when_all_may_not_be_read_so_often_the_error_says_what_would_do(ramp_to):
    sizes = packed(a=(10, 1000, 1), b=(20, 2000, 1))
    cap = {"max_epochs": 2}
    stage = {"steps": 40, "mixture": {"a": 1, "b": 1}, "ramp_to": ramp_to}
    made = recipe([stage], sizes, batch_size=2, a=cap, b=cap)
    with pytest.raises(ValueError, match="wants 40 steps; max_epochs leave rows of a, b for 30"):
        stages_of(made, sizes)


def test_a_ramp_shrinks_a_capped_dataset_all_along_and_not_only_at_its_end():
    sizes = packed(a=(100, 1000, 1), b=(1000, 10_000, 1))
    stage = {"steps": 64, "mixture": {"b": 1}, "ramp_to": {"a": 3, "b": 1}}
    made = recipe([stage], sizes, batch_size=100, a={"max_epochs": 10})
    got = [plan.taken(one).get("a", 0) for one in stages_of(made, sizes)]
    assert sum(got) == 1000  # without the cap: 2,400
    assert got == sorted(got)
    assert got[-1] > 60


def test_epochs_stop_at_the_last_whole_batch_where_no_more_may_be_read():
    sizes = packed(a=(11, 1000, 1))
    stage = {"epochs": 3, "mixture": {"a": 1}}
    made = recipe([stage], sizes, batch_size=4, a={"max_epochs": 3})
    assert mixture.steps(made, sizes).train.steps == 8  # 33 rows: one is left
    made = recipe([stage], sizes, batch_size=4, a={"max_epochs": 0.2})
    with pytest.raises(ValueError, match="for 0: "):
        stages_of(made, sizes)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_stage_reads_more_than_is_allowed(data):
    names = ["a", "b", "c", "d"]
    sizes = packed(**{n: (data.draw(st.integers(1, 300)), 1000, 1) for n in names})
    caps = {n: {"max_epochs": data.draw(st.sampled_from([0, 0.5, 1, 4]))} for n in names[1:]}
    weights = st.fixed_dictionaries({n: st.sampled_from([0, 1, 2.5]) for n in names[1:]})
    stages = [
        {
            "steps": data.draw(st.integers(2, 90)),
            "mixture": {"a": 0.3} | data.draw(weights),
            "ramp_to": data.draw(st.sampled_from([{}, {"a": 1, "b": 9}, {"a": 1, "d": 2}])),
        }
        for _ in range(3)
    ]
    made = recipe(stages, sizes, batch_size=data.draw(st.sampled_from([1, 7])), **caps)
    got = mixture.plan(made, sizes)
    assert got.total == made.train.steps * made.train.batch_size
    for name, times in got.epochs(got.total).items():
        assert not (cap := caps.get(name, {}).get("max_epochs")) or times <= cap


# ---------------------------------------------------------------------------- many
def test_132_datasets_with_tiny_shares_have_their_shares():
    sizes = packed(**{f"d{i}": (10 + i, 1000 + i**3, 1) for i in range(132)})
    weights = {f"d{i}": 1 / (1 + i) ** 2.5 for i in range(132)}
    made = recipe([{"steps": 20_000, "mixture": weights}], sizes, batch_size=100)
    (stage,) = stages_of(made, sizes)
    whole = math.fsum(weights.values())
    assert min(weights.values()) / whole < 1e-5
    fills = {n: m.rows / m.tokens for n, m in sizes.items()}
    wanted = {n: w * fills[n] for n, w in weights.items()}
    got = plan.taken(stage)
    for name, weight in wanted.items():
        assert abs(got[name] - weight / math.fsum(wanted.values()) * stage.rows) < 3


def test_the_plan_knows_which_datasets_keep_their_order():
    sizes = packed(a=(10, 1000, 1), b=(10, 1000, 1))
    sizes["b"] = dataclasses.replace(sizes["b"], order="length")
    got = mixture.plan(recipe([{"steps": 20, "mixture": {"a": 1, "b": 1}}], sizes), sizes)
    assert (got.ordered, got.seed, got.sizes) == (("b",), 5, {"a": 10, "b": 10})
    assert got.fingerprints == {"a": "f-a", "b": "f-b"}
    assert got.contents == {name: manifest.content for name, manifest in sizes.items()}
    datasets, read = got(np.arange(20))
    assert read[datasets == 1].tolist() == [*range(10)]
    assert read[datasets == 0].tolist() != [*range(10)]


def test_shares_are_unknown_before_packing_where_sizes_decide():
    mixtures = {"m": {"of": {"a": 1, "b": 1}, "by": "size"}}
    made = recipe([{"steps": 1, "mixture": {"m": 1}}], FULL, mixtures=mixtures)
    assert mixture.unsized(made, made.train.stages[0]) is None
    made = recipe([{"steps": 1, "mixture": {"a": 3}}], FULL, replay={"b": 0.25})
    assert mixture.unsized(made, made.train.stages[0]) == {"a": 0.75, "b": 0.25}
