"""The learn table decides what moves and how fast, and AdamW is AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn, optimizer
from lrl_jax.train.checkpoint import CheckpointMismatchError

PATHS = ("embed_VD", "layers/attn_norm_D", "layers/q_DNH", "norm_D", "unembed_DV")
FLAT = recipe_train.Schedule(peak=0.5, kind="constant")
NONE = np.zeros(4, bool)


def rule(match, schedule=FLAT, rows="all"):
    return recipe_train.Rule(match=match, schedule=schedule, rows=rows)


def stage(name, steps, *rules):
    return recipe_train.Stage(name=name, steps=steps, mixture={"kor": 1.0}, learn=rules)


NOW = jnp.float32(0), jnp.int32(0)  # the phase has begun, and so has the run


def phase(*rules, steps=10, start=0):
    return learn.Phase("p", start, steps, rules)


def test_neighbours_with_equal_tables_are_one_phase():
    a, b = rule(".*"), rule("embed")
    got = learn.phases([stage("x", 3, a), stage("y", 4, a), stage("z", 5, b), stage("w", 6, a)])
    want = [("x+y", 0, 7), ("z", 7, 5), ("w", 12, 6)]
    assert [(p.name, p.start, p.steps) for p in got] == want


@pytest.mark.parametrize(("step", "want"), [(0, 0), (1, 0), (7, 0), (8, 1), (12, 1), (13, 2)])
def test_a_step_belongs_to_the_phase_that_made_it(step, want):
    table = [phase(steps=7), phase(steps=5, start=7), phase(steps=6, start=12)]
    assert learn.phase_at(table, step) == want


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("constant", [1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]),
        ("linear", [1.0, 2.0, 3.0, 2.4, 1.8, 1.2, 0.6]),
        ("cosine", [1.0, 2.0, 3.0, 2.648528, 1.8, 0.951472, 0.6]),
        ("wsd", [1.0, 2.0, 3.0, 3.0, 3.0, 1.8, 0.6]),  # the last third of six steps falls
    ],
)
def test_rates_rise_to_the_peak_and_fall_to_the_final_share(kind, want):
    shape = recipe_train.Schedule(peak=3.0, kind=kind, warmup=2, final=0.2, decay=1 / 3)
    got = [float(learn.rate(shape, 6, jnp.int32(done))) for done in range(7)]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_every_phase_warms_up_again():
    warm = rule(".*", recipe_train.Schedule(peak=1.0, warmup=4, kind="constant"))
    learner = optimizer.learner(phase(warm, start=100), recipe_train.Optimizer(), ["norm_D"], NONE)
    params = {"norm_D": jnp.ones(1)}
    state = learner.init(params)
    _, _, rates = learner.update(params, params, jnp.float32(1), state, *NOW)
    np.testing.assert_allclose(rates[".*"], 0.2)


@pytest.mark.parametrize(
    ("decay", "match"),
    [
        (0.0, r"last 0 of 10 .*decay above 0 and up to 0.7"),
        (0.8, r"warms up for 3 .* last 8 of 10"),
    ],
)
def test_a_decay_without_room_is_refused(decay, match):
    wsd = recipe_train.Schedule(peak=1.0, kind="wsd", warmup=3, decay=decay)
    with pytest.raises(ValueError, match=match):
        optimizer.learner(phase(rule(".*", wsd)), recipe_train.Optimizer(), PATHS, NONE)


def test_the_first_rule_that_matches_decides():
    got = learn.groups([rule("norm", "frozen"), rule("^layers"), rule(".*")], PATHS)
    want = [("^layers", ("layers/q_DNH",)), (".*", ("embed_VD", "unembed_DV"))]
    assert [(g.name, g.paths) for g in got] == want


@pytest.mark.parametrize(
    ("rules", "match"),
    [
        ([rule("embed")], r"no rule .* layers/attn_norm_D, layers/q_DNH, norm_D; end the table"),
        ([rule("lora"), rule(".*")], r"decide no parameter: 'lora'"),
        ([rule(".*"), rule("norm")], r"decide no parameter: 'norm'"),
        ([rule(".*", "frozen")], r"nothing would learn"),
        ([rule("[")], r"'\[' is not a regular expression"),
        ([rule(".*", rows="new")], r"rows: new.*decides layers/attn_norm_D.*their own rule"),
    ],
)
def test_a_table_that_cannot_be_honoured_is_refused(rules, match):
    with pytest.raises(ValueError, match=match):
        learn.groups(rules, PATHS)


def test_new_rows_without_an_extended_vocabulary_are_refused():
    table = phase(rule("embed", rows="new"), rule(".*", "frozen"))
    with pytest.raises(ValueError, match="vocabulary was not extended; use `rows: all`"):
        optimizer.learner(table, recipe_train.Optimizer(), PATHS, NONE)


def test_a_warm_up_that_never_ends_is_refused():
    table = phase(rule(".*", recipe_train.Schedule(peak=1.0, warmup=10)))
    with pytest.raises(ValueError, match="warms up for 10 steps, but stages p have 10"):
        optimizer.learner(table, recipe_train.Optimizer(), PATHS, NONE)


def adamw(w, grads, *, lr, decay, b1, b2, eps):
    """AdamW by the paper (arXiv 1711.05101, algorithm 2), in float64."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w = w - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
    return w


@pytest.mark.parametrize(
    ("path", "decay"),
    [("layers/q_DNH", 0.3), ("layers/attn_norm_D", 0.0), ("layers/q_bias_NH", 0.0)],
)
def test_updates_are_adamw_and_norms_and_biases_are_spared_decay(path, decay):
    adam = recipe_train.Optimizer(b1=0.5, b2=0.75, eps=0.25, weight_decay=0.3, clip=1e9)
    learner = optimizer.learner(phase(rule(".*")), adam, [path], NONE)
    params = {path: jnp.array([[1.0, -2.0]])}
    state = learner.init(params)
    grads = [np.array([[0.5, 3.0]]), np.array([[-1.0, 2.0]]), np.array([[0.25, 0.0]])]
    for g in grads:
        given = {path: jnp.asarray(g, jnp.float32)}
        params, state, _ = learner.update(params, given, jnp.float32(1), state, *NOW)
    want = adamw(np.array([[1.0, -2.0]]), grads, lr=0.5, decay=decay, b1=0.5, b2=0.75, eps=0.25)
    np.testing.assert_allclose(params[path], want, rtol=1e-5)


@pytest.mark.parametrize(("norm", "want"), [(8.0, [0.5, 1.0]), (2.0, [1.0, 2.0])])
def test_gradients_longer_than_clip_are_shortened_to_it(norm, want):
    adam = recipe_train.Optimizer(b1=0.0, b2=0.0, eps=1.0, clip=4.0)  # a move of g / (|g| + 1)
    learner = optimizer.learner(phase(rule(".*")), adam, ["q_DN"], NONE)
    params = {"q_DN": jnp.zeros((1, 2))}
    grads = {"q_DN": jnp.array([[1.0, 2.0]])}
    new, _, _ = learner.update(params, grads, jnp.float32(norm), learner.init(params), *NOW)
    want = np.array([want])
    np.testing.assert_allclose(new["q_DN"], -0.5 * want / (want + 1), rtol=1e-6)


def test_each_group_has_its_own_rate():
    table = phase(rule("embed", recipe_train.Schedule(peak=2.0, kind="constant")), rule(".*"))
    learner = optimizer.learner(table, recipe_train.Optimizer(), ["embed_VD", "norm_D"], NONE)
    params = {"embed_VD": jnp.zeros((4, 1)), "norm_D": jnp.zeros(1)}
    grads = jax.tree.map(jnp.ones_like, params)
    new, _, rates = learner.update(params, grads, jnp.float32(1), learner.init(params), *NOW)
    assert {k: float(v) for k, v in rates.items()} == {"embed": 2.0, ".*": 0.5}
    np.testing.assert_allclose(new["embed_VD"], np.full((4, 1), -2.0), rtol=1e-5)
    np.testing.assert_allclose(new["norm_D"], np.full(1, -0.5), rtol=1e-5)


def test_moments_are_float32_and_only_of_what_learns():
    table = phase(rule("embed"), rule(".*", "frozen"))
    learner = optimizer.learner(table, recipe_train.Optimizer(), ["embed_VD", "norm_D"], NONE)
    params = {"embed_VD": jnp.ones((4, 2), jnp.bfloat16), "norm_D": jnp.ones(2, jnp.bfloat16)}
    state = learner.init(params)
    got = {(leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(state)}
    assert got == {((), "int32"), ((4, 2), "float32")}
    grads = {"embed_VD": jnp.ones((4, 2), jnp.bfloat16)}
    new, _, _ = learner.update(params, grads, jnp.float32(1), state, *NOW)
    assert new["embed_VD"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("path", "moves"),
    [
        ("embed_VD", [[0, 0], [1, 1], [0, 0], [1, 1]]),
        ("unembed_DV", [[0, 1, 0, 1], [0, 1, 0, 1]]),
    ],
)
def test_only_new_rows_get_gradients_and_only_they_move(path, moves):
    table = phase(rule("embed", rows="new"))
    new_rows = np.array([False, True, False, True])
    learner = optimizer.learner(table, recipe_train.Optimizer(weight_decay=0.5), [path], new_rows)
    moves = np.array(moves, bool)
    grads = learner.mask({path: jnp.where(moves, 2.0, jnp.nan)})
    np.testing.assert_array_equal(grads[path], np.where(moves, 2.0, 0.0))
    params = {path: jnp.full(moves.shape, 0.1)}
    new, _, _ = learner.update(params, grads, jnp.float32(1), learner.init(params), *NOW)
    np.testing.assert_array_equal(new[path] != params[path], moves)


def bfloat16_step(rounding, rate, on=None, shape=(64, 64)):
    """Weights of 1 in bfloat16, moved once by about `rate`."""
    settings = recipe_train.Optimizer(rounding=rounding, b1=0.0, b2=0.0, clip=1e9)
    table = phase(rule(".*", recipe_train.Schedule(peak=rate, kind="constant")))
    learner = optimizer.learner(table, settings, ["layers/up_DF"], NONE)
    params = {"layers/up_DF": jnp.ones(shape, jnp.bfloat16)}
    grads = {"layers/up_DF": jnp.linspace(1.0, 2.0, shape[0] * shape[1]).reshape(shape)}
    if on is not None:
        params, grads = jax.device_put((params, grads), on)
    step = jax.jit(learner.update)
    new, _, _ = step(
        params, grads, jnp.float32(1), learner.init(params), jnp.float32(3), jnp.int32(3)
    )
    return new["layers/up_DF"]


def test_steps_smaller_than_bfloat16_are_lost_but_not_when_rounded_at_random():
    rate = 2.0**-12  # a sixteenth of the gap below 1
    np.testing.assert_array_equal(bfloat16_step("nearest", rate), 1.0)
    got = np.asarray(bfloat16_step("stochastic", rate), np.float64)
    assert {*np.unique(got)} == {1.0, 1.0 - 2.0**-8}
    np.testing.assert_allclose(1.0 - got.mean(), rate, rtol=0.2)  # 256 of 4,096 fall: deviation 6%


def test_rounding_at_random_gives_the_same_weights_on_eight_devices():
    mesh = tiny.mesh(1, 4, 2)
    split = jax.sharding.NamedSharding(mesh, jax.P("fsdp", "tensor"))
    got = bfloat16_step("stochastic", 2.0**-11, split)
    assert got.sharding.shard_shape(got.shape) == (16, 32)
    np.testing.assert_array_equal(got, bfloat16_step("stochastic", 2.0**-11))


def test_rounding_at_random_of_float32_is_refused():
    params = {"norm_D": jax.ShapeDtypeStruct((4,), jnp.float32)}
    with pytest.raises(ValueError, match=r"stored in float32; set init.param_dtype: bfloat16"):
        optimizer.check_rounding(recipe_train.Optimizer(rounding="stochastic"), params)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ({}, {"optimizer": {"kind": "muon"}}, "optimizer.kind was adamw, is muon"),
        ({}, {"optimizer": {"moments": "int8"}}, "optimizer.moments was float32, is int8"),
        ({"ema": 0.5}, {}, "ema above 0 was True, is False"),
        (
            {"optimizer": {"kind": "adafactor", "b1": 0.0}},
            {"optimizer": {"kind": "adafactor"}},
            "optimizer.b1 above 0 was False, is True",
        ),
    ],
)
def test_a_run_keeps_its_optimizer(old, new, match):
    saved = tiny.settings(**old).model_dump(mode="json")
    with pytest.raises(CheckpointMismatchError, match=f"{match}. A run keeps"):
        optimizer.check_same(saved, tiny.settings(**new))


def test_a_run_from_before_there_were_kinds_goes_on():
    saved = {"optimizer": {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.0, "clip": 1.0}}
    optimizer.check_same(saved, tiny.settings(optimizer={"b2": 0.5, "moments_on": "host"}))
