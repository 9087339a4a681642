"""Builds optimizers from optax's transformations and stores their moments as the recipe asks.

Each kind of optimizer is an entry of `KINDS`. Its state has optax's form. With `moments: bfloat16`
or `int8` the moments are stored in fewer bits between steps, and are float32 only during a step.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import optax.contrib

from lrl_jax.model import sharding
from lrl_jax.recipe.train import Optimizer
from lrl_jax.train import rounding
from lrl_jax.train.learn import is_matrix

Params = dict[str, jax.Array]
State = Any  # optax's state: a tree of NamedTuples whose fields are dicts like the parameters

MOMENTS = {"mu": 1, "ema": 1, "nu": 2}  # field of optax's states -> first or second moment
FACTORED = 128  # adafactor factors matrices with sides at least this long (optax's own default)
HOST = "pinned_host"  # host memory that devices read and write directly
MUON_RMS = 0.2  # RMS of AdamW's updates, so that both can share one rate (arXiv 2502.16982)


def init(settings: Optimizer, params: Params) -> State:
    """Returns the first state of an optimizer, of parameters in float32 or of their shapes."""
    inner = KINDS[settings.kind](settings, [*params])
    return _store(inner.init(params), settings.moments, jnp.int32(0))


def update(
    settings: Optimizer, grads: Params, state: State, params: Params, step: jax.Array
) -> tuple[Params, State]:
    """Returns moves, and the state after this step of the run.

    The caller multiplies moves by the learning rate and subtracts them from the parameters.
    """
    inner = KINDS[settings.kind](settings, [*params])
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        moves, state = inner.update(grads, _load(state, settings.moments), params)
    return moves, _store(state, settings.moments, step)


# ---------------------------------------------------------------------------- kinds
# The types are Any because optax's types describe trees of any shape, not our flat dicts.
def _adamw(s: Optimizer, paths: Sequence[str]) -> Any:
    return optax.scale_by_adam(s.b1, s.b2, s.eps)


def _adafactor(s: Optimizer, paths: Sequence[str]) -> Any:
    """Returns Adafactor (arXiv 1804.04235) without relative steps: rates are used as in AdamW.

    The second moment decays by 1 - t**-0.8 at step t, but at most by `b2` (arXiv 2106.04560). The
    first moment is not factored and is stored as `moments` says; with b1 = 0 there is none.
    """

    def decay(i: Any, b2: Any) -> jax.Array:
        return jnp.minimum(b2, 1.0 - (i + 1.0) ** -0.8)

    parts: list[Any] = [
        optax.scale_by_factored_rms(
            decay_rate=s.b2, min_dim_size_to_factor=FACTORED, epsilon=s.eps**2, decay_rate_fn=decay
        ),
        optax.clip_by_block_rms(1.0),
    ]
    return optax.chain(*parts, *([optax.ema(s.b1)] if s.b1 else []))


def _muon(s: Optimizer, paths: Sequence[str]) -> Any:
    """Returns Muon (Newton-Schulz on momentum `b1`) for matrices of layers, AdamW for the rest."""
    axes = {
        path: matrix_axes(path) for path in paths if path.startswith("layers/") and is_matrix(path)
    }
    parts: dict[str, Any] = {
        "matrices": optax.contrib.scale_by_muon(
            beta=s.b1,
            eps=s.eps,
            weight_dimension_numbers={
                path: optax.contrib.MuonDimensionNumbers(*sides) for path, sides in axes.items()
            },
        ),
        "rest": _adamw(s, paths),
    }

    def subtree(tree: Params, name: str) -> Params:
        return {path: x for path, x in tree.items() if (path in axes) == (name == "matrices")}

    def init(params: Any) -> Any:
        return {name: parts[name].init(subtree(params, name)) for name in parts}

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        results = {n: parts[n].update(subtree(updates, n), state[n]) for n in parts}
        moves, _ = results["matrices"]
        for path, move in moves.items():
            sides = [math.prod(move.shape[i] for i in side) for side in axes[path]]
            moves[path] = move * (MUON_RMS * math.sqrt(max(sides)))
        return moves | results["rest"][0], {name: state for name, (_, state) in results.items()}

    return optax.GradientTransformation(init, update)


KINDS = {"adamw": _adamw, "adafactor": _adafactor, "muon": _muon}


def matrix_axes(path: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns which axes of a stacked weight form the rows of its matrix, and which the columns.

    >>> matrix_axes("layers/q_DNH"), matrix_axes("layers/o_NHD")
    (((1,), (2, 3)), ((1, 2), (3,)))
    """
    own = sharding.letters(path).removeprefix("L")
    cut = 1 if own[0] in "DR" else len(own) - 1
    axes = tuple(range(1, len(own) + 1))
    return axes[:cut], axes[cut:]


# ---------------------------------------------------------------------------- storage
def _store(state: State, form: str, step: jax.Array) -> State:
    """Returns the state with its moments stored in `form`.

    In int8 the square root of the second moment is stored, which needs half the range of exponents.
    """

    def stored(moment: int, path: str, x: jax.Array) -> rounding.Stored:
        draw = rounding.noise(step, path, x.shape)[moment - 1]
        if form == "bfloat16":
            return rounding.bfloat16(x, draw)
        return rounding.encode(x if moment == 1 else jnp.sqrt(x), draw, signed=moment == 1)

    return state if form == "float32" else _map(state, stored)


def _load(state: State, form: str) -> State:
    def loaded(moment: int, path: str, x: Any) -> jax.Array:
        if form == "bfloat16":
            return x.astype(jnp.float32)
        return rounding.decode(x) if moment == 1 else jnp.square(rounding.decode(x))

    return state if form == "float32" else _map(state, loaded)


def _map(state: State, change: Callable[[int, str, Any], Any]) -> State:
    """Applies a function of (1 or 2, path, moment) to the first and second moments of a state."""

    def mapped(node):
        return node._replace(**{
            name: {path: change(moment, path, x) for path, x in getattr(node, name).items()}
            for name, moment in MOMENTS.items()
            if name in node._fields
        })  # fmt: skip

    return jax.tree.map(mapped, state, is_leaf=lambda node: hasattr(node, "_fields"))


# ---------------------------------------------------------------------------- places
def shardings(
    state: State,
    params: Mapping[str, jax.ShapeDtypeStruct],
    placed: Mapping[str, NamedSharding],
    other: NamedSharding,
) -> State:
    """Returns the sharding of each array in a state: that of its parameter, less missing axes.

    Counters, and arrays whose shape is not derived from a parameter's, get `other`.
    """

    def place(keys, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        names = [getattr(key, "key", getattr(key, "name", "")) for key in keys]
        path = next((name for name in names if name in placed), None)
        if path is None:
            return other
        shape = params[path].shape
        axes = [*placed[path].spec, *[None] * len(shape)][: len(shape)]
        if leaf.shape == shape:
            return placed[path]
        if leaf.shape == (1,):  # adafactor's placeholder for a field it does not use
            return other
        if "v_row" in names or "v_col" in names:
            small, large = np.argsort(shape)[-2:]  # optax factors the two largest axes
            del axes[large if "v_row" in names else small]
        elif "scales" in names:
            ways = shape[-1] // placed[path].shard_shape(shape)[-1]
            axes[-1] = axes[-1] if leaf.shape[-1] % ways == 0 else None
        else:
            return other
        return NamedSharding(placed[path].mesh, P(*axes))

    return jax.tree_util.tree_map_with_path(place, state)


def on_host(places: State, shapes: State, mesh: Mesh) -> State:
    """Returns the same shardings in the host's memory, except for counters."""
    device = mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ValueError(
            f"moments_on: host needs memory of kind {HOST}, and {device.device_kind} has "
            f"{', '.join(kinds)}; use moments_on: device, and moments: int8 or kind: adafactor "
            "to make the state smaller"
        )
    return jax.tree.map(
        lambda place, leaf: place.with_memory_kind(HOST) if leaf.shape else place, places, shapes
    )
