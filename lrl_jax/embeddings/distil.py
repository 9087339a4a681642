"""Learns input rows of new tokens from the model itself (Token Distillation, arXiv 2505.20133).

    with jax.set_mesh(mesh):
        params, result = learn(cfg, params, splice, snippets, settings, seed=0)

The base reads a snippet as it spells it, and reads it once more with new tokens in it. Where both
readings end at the same byte, after the first new token, their hidden states should be equal, and
the rows of new tokens are moved until they nearly are. Nothing else moves: not the layers, not the
rows of old tokens, not the output rows of a model that has its own.

M: snippets. A: added tokens. Other letters are those of `model.llama`.
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from lrl_jax.embeddings.moments import Snippets
from lrl_jax.model import llama, sharding
from lrl_jax.model.arithmetic import rms_norm
from lrl_jax.recipe.schema import Distillation
from lrl_jax.vocab.pieces.splice import Splice

SHORT = 128  # tokens; scores of longer rows are computed in blocks (`model.attention`)
TENTH = 10  # the error is said of the first and of the last tenth of the steps

Batch = dict[str, jax.Array]
Tell = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Distilled:
    """Says what was learnt.

    Attributes:
      learnt: tokens whose rows were learnt.
      scarce: tokens that keep their subword mean, as text has too few snippets of them.
      snippets: snippets of an epoch.
      before, after: the mean squared error at the beginning and at the end.
    """

    learnt: int
    scarce: int
    snippets: int
    before: float
    after: float


def layer_of(settings: Distillation, cfg: llama.LlamaConfig) -> int:
    """Returns the layer after which states are compared; ValueError for one too many."""
    layer = settings.layer or cfg.depth
    if layer > cfg.depth:
        raise ValueError(
            f"init.distillation.layer: {layer}, but the base has {cfg.depth} layers; name one of "
            "them, or leave it out for the last"
        )
    return layer


def learn(
    cfg: llama.LlamaConfig,
    params: llama.Params,
    splice: Splice,
    snippets: Snippets,
    settings: Distillation,
    seed: int,
    tell: Tell = lambda what, done, whole: None,
) -> tuple[llama.Params, Distilled]:
    """Returns the parameters with learnt input rows for new tokens; under `jax.set_mesh`.

    Args:
      cfg: how the model computes here; `params` hold starting rows of new tokens already.
      seed: of the order in which snippets are read.

    Raises:
      ValueError: a layer that the model has not, or a rate with which the error is no number.
    """
    layer = layer_of(settings, cfg)
    spelled = sorted(i for i, old in splice.added.items() if len(old) > 1)
    ids = [i for i in spelled if snippets.counts.get(i, 0) >= settings.fewest]
    scarce, count = len(spelled) - len(ids), len(snippets.old_M)
    if not ids:
        return params, Distilled(0, scarce, count, math.nan, math.nan)
    attention = "einsum" if snippets.old_MT.shape[1] < SHORT else "blockwise"
    cfg = dataclasses.replace(cfg, attention=attention)
    placed = params["embed_VD"].sharding
    assert isinstance(placed, NamedSharding)
    ids_A = jax.device_put(np.array(ids, np.int32), NamedSharding(placed.mesh, P()))
    batches = _batches(snippets, np.array(ids), settings, seed, placed.mesh)
    errors, rows_AD = _descend(cfg, params, ids_A, batches, settings, layer, count, tell)
    if not np.isfinite(errors).all():
        raise ValueError(
            f"init.distillation.rate: {settings.rate:g}: the error is no finite number at step "
            f"{int(np.argmin(np.isfinite(errors)))} of {len(errors)}; choose a lower rate"
        )
    ends = max(1, len(errors) // TENTH)
    result = Distilled(
        len(ids), scarce, count, float(errors[:ends].mean()), float(errors[-ends:].mean())
    )
    return params | {"embed_VD": _put(params["embed_VD"], ids_A, rows_AD)}, result


def _descend(
    cfg: llama.LlamaConfig,
    params: llama.Params,
    ids_A: jax.Array,
    batches: Iterable[Batch],
    settings: Distillation,
    layer: int,
    count: int,
    tell: Tell,
) -> tuple[np.ndarray, jax.Array]:
    """Returns the error of each step, and the learnt rows in float32; `count`: snippets."""
    steps = math.ceil(count / settings.batch_size)
    optimizer = _optimizer(settings, steps)
    rows_AD = _rows(params["embed_VD"], ids_A)
    state = jax.jit(optimizer.init)(rows_AD)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(rows_AD: jax.Array, state: Any, params: llama.Params, batch: Batch) -> Any:
        error, d_rows_AD = jax.value_and_grad(_error)(rows_AD, params, batch, cfg, layer)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            moves, state = optimizer.update(d_rows_AD, state, rows_AD)
            return optax.apply_updates(rows_AD, moves), state, error

    errors: list[float] = []
    coming: list[jax.Array] = []  # the error of the last step, read while the next one is computed
    for batch in batches:
        rows_AD, state, error = step(rows_AD, state, params, batch)
        errors += [float(e) for e in coming]
        coming = [error]
        tell("token_distillation", len(errors), steps * settings.epochs)
    return np.array([*errors, *(float(e) for e in coming)]), rows_AD


def _optimizer(settings: Distillation, steps: int) -> Any:
    """Returns AdamW without decay; its rate rises for half of the first epoch, and then falls."""
    rising, whole = steps // 2, steps * settings.epochs
    rate = optax.join_schedules(
        [
            optax.linear_schedule(0.0, settings.rate, max(1, rising)),
            optax.linear_schedule(settings.rate, 0.0, max(1, whole - rising)),
        ],
        [rising],
    )
    return optax.adamw(rate, weight_decay=0.0)


@jax.jit
def _rows(embed_VD: jax.Array, ids_A: jax.Array) -> jax.Array:
    return sharding.constrain(embed_VD[ids_A].astype(jnp.float32), P())


def _put(embed_VD: jax.Array, ids_A: jax.Array, rows_AD: jax.Array) -> jax.Array:
    """Returns the matrix with these rows; all others keep every bit."""

    @functools.partial(jax.jit, out_shardings=embed_VD.sharding)
    def put(embed_VD, ids_A, rows_AD):
        return embed_VD.at[ids_A].set(rows_AD.astype(embed_VD.dtype))

    return put(embed_VD, ids_A, rows_AD)


# ---------------------------------------------------------------------------- the error
def _error(
    rows_AD: jax.Array, params: llama.Params, batch: Batch, cfg: llama.LlamaConfig, layer: int
) -> jax.Array:
    """Returns the mean squared difference of both readings' states at the positions they share."""
    kept = {
        name: w[:layer] if name.startswith("layers/") else w
        for name, w in jax.lax.stop_gradient(params).items()
    }
    model = llama.bind(_cut(cfg, layer), kept)
    place_BT = batch["places"]  # in `rows_AD`; -1 for tokens that do not learn

    def take(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
        new_BTD = rows_AD[jnp.maximum(place_BT, 0)].astype(table_VD.dtype)
        return jnp.where(place_BT[..., None] >= 0, new_BTD, table_VD[tokens_BT])

    old_BTD = _states(model, model.embed(batch["old"]), batch["old_segments"], layer == cfg.depth)
    new_BTD = model.embed(batch["new"], take)
    new_BTD = _states(model, new_BTD, batch["new_segments"], layer == cfg.depth)
    want_BTD = jnp.take_along_axis(jax.lax.stop_gradient(old_BTD), batch["ends"][..., None], axis=1)
    shared_BT = batch["shared"]
    # float32: states that are nearly equal differ by less than bfloat16 can tell
    apart_BTD = new_BTD.astype(jnp.float32) - want_BTD.astype(jnp.float32)
    square_BT = jnp.where(shared_BT, jnp.square(apart_BTD).mean(-1), 0.0)
    return square_BT.sum() / jnp.maximum(shared_BT.sum(), 1).astype(jnp.float32)


def _cut(cfg: llama.LlamaConfig, layer: int) -> llama.LlamaConfig:
    """Returns the config of the first layers alone."""
    return dataclasses.replace(
        cfg,
        depth=layer,
        local_layers=cfg.local_layers[:layer],
        unrotated_layers=cfg.unrotated_layers[:layer],
    )


def _states(model: llama.Llama, x_BTD: jax.Array, segments_BT: jax.Array, last: bool) -> jax.Array:
    """Returns the stream after the model's layers; of the last layer normed, as HF gives it."""
    length = segments_BT.shape[1]
    ropes = model.ropes(jnp.arange(length)[None], length)

    @jax.checkpoint
    def step(x_BTD, scanned):
        block, kind, _ = scanned
        return block(x_BTD, segments_BT, ropes, kind), None

    x_BTD, _ = model.each_layer(step, x_BTD)
    if not last:
        return x_BTD
    return rms_norm(x_BTD, model.norm_D[...], model.cfg.norm_eps, model.cfg.centred_norms)


# ---------------------------------------------------------------------------- batches
def _batches(
    snippets: Snippets, ids_A: np.ndarray, settings: Distillation, seed: int, mesh: Any
) -> Iterator[Batch]:
    """Yields batches of one shape, in an order that the seed decides anew for each epoch."""
    ways = sharding.rows_split(mesh.shape)
    rows = -(-settings.batch_size // ways) * ways  # rows that are more than a batch are empty
    split = NamedSharding(mesh, P(sharding.BATCH))
    for epoch in range(settings.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(snippets.old_M))
        for start in range(0, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            arrays = _arrays(snippets, ids_A, chosen)
            spare = rows - len(chosen)
            padded = {n: np.pad(a, ((0, spare), (0, 0))) for n, a in arrays.items()}
            yield {  # every process has all rows
                name: jax.make_array_from_callback(array.shape, split, array.__getitem__)
                for name, array in padded.items()
            }


def _arrays(snippets: Snippets, ids_A: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what `_error` reads of some snippets."""
    new_BT = snippets.new_MT[chosen]
    column_T = np.arange(new_BT.shape[1])
    places_BT = np.minimum(np.searchsorted(ids_A, new_BT), len(ids_A) - 1)
    learnt_BT = (ids_A[places_BT] == new_BT) & (column_T < snippets.new_M[chosen, None])
    return {
        "old": snippets.old_MT[chosen],
        "new": new_BT,
        "old_segments": (column_T < snippets.old_M[chosen, None]).astype(np.int32),
        "new_segments": (column_T < snippets.new_M[chosen, None]).astype(np.int32),
        "places": np.where(learnt_BT, places_BT, -1).astype(np.int32),
        "ends": snippets.ends_MT[chosen],
        "shared": snippets.shared_MT[chosen],
    }
