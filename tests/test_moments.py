"""Each kind of optimizer is what its paper says, in any form, and lies where it should."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import worker_train as tiny

from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import moments, rounding

RNG = np.random.default_rng(0)
WIDE = {
    "layers/up_DF": (2, 8, 24), "layers/o_NHD": (2, 2, 8, 8), "embed_VD": (6, 8), "norm_D": (8,)
}  # fmt: skip


def arrays(seed, shapes=WIDE):
    rng = np.random.default_rng(seed)
    return {path: jnp.asarray(rng.standard_normal(s, np.float32)) for path, s in shapes.items()}


def abstract(settings, params):
    """Shapes of the first state."""
    return jax.eval_shape(functools.partial(moments.init, settings), params)


def run(settings, shapes=WIDE, steps=5):
    """Moves of the last of `steps` steps, and the state after it."""
    params, moves = arrays(0, shapes), {}
    state = moments.init(settings, params)
    for i in range(steps):
        grads = arrays(i + 1, shapes)
        moves, state = moments.update(settings, grads, state, params, jnp.int32(i))
    return moves, state


def adam(settings, path, steps=5, shapes=WIDE):
    """Adam's move by its paper (arXiv 1412.6980, algorithm 1), in float64."""
    b1, b2 = settings.b1, settings.b2
    m = v = np.zeros(shapes[path])
    for i in range(steps):
        g = np.asarray(arrays(i + 1, shapes)[path], np.float64)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return m / (1 - b1**steps) / (np.sqrt(v / (1 - b2**steps)) + settings.eps)


@pytest.mark.parametrize(
    ("form", "off"), [("float32", 1e-6), ("bfloat16", 0.02), ("int8", 0.4)]
)  # fmt: skip
def test_moments_in_fewer_bits_give_adams_move_nearly(form, off):
    settings = recipe_train.Optimizer(b1=0.5, b2=0.75, eps=0.25, moments=form)
    moves, _ = run(settings)
    for path, got in moves.items():
        want = adam(settings, path)
        np.testing.assert_allclose(got, want, rtol=0, atol=off * np.abs(want).max())
        assert abs(float(jnp.mean(got - want))) < off / 4


def test_moments_in_bytes_are_right_on_average():
    shapes = {"w_DF": (512, 64)}  # every row the same, in every step
    settings = recipe_train.Optimizer(b1=0.9, b2=0.95, eps=1e-8, moments="int8")
    exact = recipe_train.Optimizer(b1=0.9, b2=0.95, eps=1e-8)
    sizes = 10.0 ** -(np.arange(64) ** 0.3)  # from 1 to 1/3000
    rows = [np.asarray(RNG.standard_normal(64) * sizes, np.float32) for _ in range(30)]

    def end(settings):
        params = {"w_DF": jnp.zeros(shapes["w_DF"])}
        state, moves = moments.init(settings, params), {}
        update = jax.jit(functools.partial(moments.update, settings))
        for i, row in enumerate(rows):
            grads = {"w_DF": jnp.broadcast_to(jnp.asarray(row), shapes["w_DF"])}
            moves, state = update(grads, state, params, jnp.int32(i))
        return np.asarray(moves["w_DF"], np.float64)

    got, want = end(settings), end(exact)[0]
    assert np.abs(got.mean(axis=0) - want).max() < 0.02
    assert 0.001 < np.abs(got - want).mean() < 0.1  # a single draw is further off


@pytest.mark.parametrize(("form", "bytes_each"), [("float32", 8), ("bfloat16", 4), ("int8", 2.125)])
def test_state_has_the_bytes_its_form_promises(form, bytes_each):
    shapes = {"layers/up_DF": (2, 128, 256)}
    settings = recipe_train.Optimizer(moments=form)
    state = abstract(settings, arrays(0, shapes))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert size == 2 * 128 * 256 * bytes_each + 4


def test_adafactor_keeps_a_row_and_a_column():
    shapes = {"layers/up_DF": (2, 128, 256), "norm_D": (128,)}
    settings = recipe_train.Optimizer(kind="adafactor", b1=0.0)
    state = abstract(settings, arrays(0, shapes))
    size = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.size > 1)
    assert size == 2 * 128 + 2 * 256 + 128


def test_adafactor_divides_by_the_product_of_row_and_column_means():
    shapes = {"layers/up_DF": (1, 128, 160)}
    settings = recipe_train.Optimizer(kind="adafactor", b1=0.0, b2=0.3, eps=1e-3)
    moves, _ = run(settings, shapes, steps=3)
    row, col = 0.0, 0.0
    for i in range(3):
        g = np.asarray(arrays(i + 1, shapes)["layers/up_DF"], np.float64)[0]
        keep = min(0.3, 1 - (i + 1.0) ** -0.8)  # arXiv 1804.04235, 7.2, and at most b2
        row = keep * row + (1 - keep) * (g * g + 1e-6).mean(axis=1)
        col = keep * col + (1 - keep) * (g * g + 1e-6).mean(axis=0)
    want = g / np.sqrt(np.outer(row, col) / row.mean())
    want /= max(1.0, np.sqrt((want**2).mean()))
    np.testing.assert_allclose(moves["layers/up_DF"][0], want, rtol=1e-4)


def test_adafactor_with_momentum_starts_at_full_size():
    settings = recipe_train.Optimizer(kind="adafactor", b1=0.9, eps=1e-8)
    moves, _ = run(settings, {"norm_D": (64,)}, steps=1)
    np.testing.assert_allclose(jnp.abs(moves["norm_D"]), np.ones(64), rtol=1e-5)


def test_muon_makes_matrices_of_layers_orthogonal_and_leaves_the_rest_to_adamw():
    settings = recipe_train.Optimizer(kind="muon", b1=0.5, b2=0.75)
    moves, state = run(settings)
    for path, sides in {"layers/up_DF": (8, 24), "layers/o_NHD": (16, 8)}.items():
        for layer in np.asarray(moves[path]).reshape(2, *sides):
            values = np.linalg.svd(layer, compute_uv=False) / (0.2 * np.sqrt(max(sides)))
            assert 0.5 < values.min() <= values.max() < 1.3, values  # what five iterations reach
    for path in ("embed_VD", "norm_D"):
        np.testing.assert_allclose(moves[path], adam(settings, path), rtol=1e-4)
    assert {*state["matrices"].mu} == {"layers/up_DF", "layers/o_NHD"}
    assert {*state["rest"].nu} == {"embed_VD", "norm_D"}


@pytest.mark.parametrize("path", ["embed_VD", "layers/up_DF"])
def test_muon_takes_a_phase_with_or_without_matrices(path):
    moves, _ = run(recipe_train.Optimizer(kind="muon"), {path: WIDE[path]}, steps=2)
    assert {*moves} == {path}
    assert np.isfinite(moves[path]).all()


def test_muons_moves_are_of_adams_size():
    shapes = {"layers/up_DF": (1, 96, 32)}
    moves, _ = run(recipe_train.Optimizer(kind="muon"), shapes)
    size = float(jnp.sqrt(jnp.mean(jnp.square(moves["layers/up_DF"]))))
    assert 0.14 < size < 0.26


@pytest.mark.parametrize("kind", ["adamw", "adafactor", "muon"])
@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_nothing_but_counters_is_kept_whole_on_every_device(kind, form):
    shapes = {
        "layers/up_DF": (2, 256, 512),
        "embed_VD": (512, 256),
        "layers/q_DNH": (2, 256, 8, 128),
    }
    axes = {"layers/up_DF": (None, "fsdp", "tensor"), "embed_VD": ("tensor", "fsdp")}
    axes["layers/q_DNH"] = (None, "fsdp", "tensor", None)
    mesh = tiny.mesh(1, 2, 4)
    placed = {path: NamedSharding(mesh, P(*axes[path])) for path in shapes}
    params = {path: jax.ShapeDtypeStruct(s, jnp.float32) for path, s in shapes.items()}
    state = abstract(recipe_train.Optimizer(kind=kind, moments=form), params)
    places = moments.shardings(state, params, placed, NamedSharding(mesh, P()))
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    part = sum(
        np.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, place in zip(jax.tree.leaves(state), jax.tree.leaves(places), strict=True)
    )
    few = 0.02 if kind == "adafactor" else 0.0001  # its rows and columns lack one of two axes
    assert whole / 8 <= part < whole * (1 / 8 + few)


def test_factored_moments_lie_with_the_axis_they_keep():
    mesh = tiny.mesh(1, 2, 2)
    params = {"embed_VD": jax.ShapeDtypeStruct((128, 128), jnp.float32)}  # which one is larger?
    placed = {"embed_VD": NamedSharding(mesh, P("tensor", "fsdp"))}
    settings = recipe_train.Optimizer(kind="adafactor", b1=0.0)
    everywhere = NamedSharding(mesh, P())
    places = moments.shardings(abstract(settings, params), params, placed, everywhere)
    grads = {"embed_VD": jnp.zeros((128, 128)).at[3, 7].set(5.0)}
    first = moments.init(settings, grads)
    _, state = moments.update(settings, grads, first, grads, jnp.int32(0))
    axis = {3: "tensor", 7: "fsdp"}
    for field in ("v_row", "v_col"):
        at = int(jnp.argmax(getattr(state[0], field)["embed_VD"]))
        assert getattr(places[0], field)["embed_VD"].spec == P(axis[at]), field


def test_scales_that_do_not_divide_over_the_mesh_are_whole_along_that_axis():
    mesh = tiny.mesh(1, 8, 1)
    params = {"layers/o_NHD": jax.ShapeDtypeStruct((2, 4, 8, 64), jnp.float32)}
    placed = {"layers/o_NHD": NamedSharding(mesh, P(None, "tensor", None, "fsdp"))}
    state = abstract(recipe_train.Optimizer(moments="int8"), params)
    assert state.mu["layers/o_NHD"]["scales"].shape == (2, 4, 8, 64 // rounding.BLOCK)
    places = moments.shardings(state, params, placed, NamedSharding(mesh, P()))
    assert places.mu["layers/o_NHD"]["codes"].spec == P(None, "tensor", None, "fsdp")
    assert places.mu["layers/o_NHD"]["scales"].spec == P(None, "tensor", None, None)
