"""One training step: loss, gradients of what learns, AdamW, and nothing at all if not finite."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lrl_jax.model import llama, sharding
from lrl_jax.train import loss
from lrl_jax.train.optimizer import Learner, Params

State = dict[str, Any]  # params, opt, step (done so far), skipped (in a row, up to now)
Batch = Mapping[str, jax.Array]
Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """The compiled step of one phase, and where its state lies.

    Attributes:
      run: (state, batch, asked_B) -> (state, metrics); consumes the state it is given.
      begin: (params, done, skipped) -> the state of a fresh optimizer; consumes the parameters.
      shardings: a tree like the state.
      abstract: shapes, dtypes and shardings of the state, for restoring one.
    """

    run: Callable[[State, Batch, jax.Array], tuple[State, Metrics]]
    begin: Callable[[Params, jax.Array, jax.Array], State]
    shardings: State
    abstract: State


def make_step(
    cfg: llama.LlamaConfig,
    learner: Learner,
    params: Mapping[str, jax.ShapeDtypeStruct],
    placed: Mapping[str, NamedSharding],
    mesh: Mesh,
    loss_blocks: int,
) -> Step:
    """Builds the step of one phase; nothing is compiled before its first call.

    Metrics, replicated on every device: `loss` (token-weighted mean over the global batch),
    `grad_norm` (of what learns, before clipping), `lr` per group, `nll_B` and `weight_B` (sums
    over each row), `tokens` (not padding), `applied` (bool), `skipped` (steps not applied, in a
    row), `asked` (the largest of `asked_B`, by which hosts agree).

    Args:
      params: names, shapes and dtypes.
      placed: where each parameter lies.
    """
    everywhere = NamedSharding(mesh, P())
    names = set(learner.trainable)

    def begin(params: Params, done: jax.Array, skipped: jax.Array) -> State:
        return dict(params=params, opt=learner.init(params), step=done, skipped=skipped)

    def run(state: State, batch: Batch, asked_B: jax.Array) -> tuple[State, Metrics]:
        trained = {k: v for k, v in state["params"].items() if k in names}
        frozen = {k: v for k, v in state["params"].items() if k not in names}

        def objective(trained):
            nll_BT, weights_BT = _losses(cfg, {**frozen, **trained}, batch, loss_blocks)
            return loss.mean(nll_BT, weights_BT), (nll_BT, weights_BT)

        (value, per_token), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        grads = learner.mask(grads)
        norm = _norm(grads)
        applied = jnp.isfinite(value) & jnp.isfinite(norm)
        done = state["step"] - learner.phase.start
        new, opt, rates = learner.update(trained, grads, norm, state["opt"], done)

        def choose(new, old):
            return jnp.where(applied, new, old)

        state = dict(
            params={**frozen, **jax.tree.map(choose, new, trained)},
            opt=jax.tree.map(choose, opt, state["opt"]),
            step=state["step"] + 1,
            skipped=jnp.where(applied, 0, state["skipped"] + 1),
        )
        metrics = dict(loss=value, grad_norm=norm, lr=rates, applied=applied)
        metrics |= dict(skipped=state["skipped"], asked=jnp.max(asked_B))
        return state, metrics | _counts(batch, *per_token)

    shardings = dict(
        params=dict(placed),
        opt=learner.state_shardings(placed, everywhere),
        step=everywhere,
        skipped=everywhere,
    )
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        jax.eval_shape(begin, dict(params), scalar, scalar),
        shardings,
    )
    return Step(
        run=_under(mesh, jax.jit(run, donate_argnums=0, out_shardings=(shardings, everywhere))),
        begin=_under(mesh, jax.jit(begin, donate_argnums=0, out_shardings=shardings)),
        shardings=shardings,
        abstract=abstract,
    )


def place_rows(mesh: Mesh, rows: Any, batch_size: int) -> jax.Array:
    """This process's rows of a global batch, as one global array split over the batch axes.

    Processes hold contiguous rows in order of their index.

    Raises:
      ValueError: the mesh does not split `batch_size` rows so.
    """
    sharding_B = NamedSharding(mesh, P(sharding.BATCH))
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % ways:
        raise ValueError(
            f"batch_size={batch_size} rows cannot be split over data x fsdp = {ways} devices; "
            f"use a multiple of {ways}, or move devices to the tensor axis"
        )
    return jax.make_array_from_process_local_data(
        sharding_B, rows, global_shape=(batch_size, *rows.shape[1:])
    )


def _losses(cfg, params: Params, batch: Batch, blocks: int) -> tuple[jax.Array, jax.Array]:
    model = llama.bind(cfg, params)
    hidden_BTD = model.hidden(
        batch["decoder_input_tokens"], batch["decoder_segment_ids"], batch["decoder_positions"]
    )
    targets_BT = batch["decoder_target_tokens"]
    nll_BT = loss.token_loss(hidden_BTD, model.unembedding(), targets_BT, cfg.vocab_size, blocks)
    # float32: weights are counted by the million, integers would do but the mean is not one.
    return nll_BT, batch["decoder_loss_weights"].astype(jnp.float32)


def _norm(grads: Params) -> jax.Array:
    """Global norm in float32: bfloat16 squares overflow nothing but lose everything small."""
    squares = [jnp.sum(jnp.square(grad.astype(jnp.float32))) for grad in grads.values()]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def _counts(batch: Batch, nll_BT: jax.Array, weights_BT: jax.Array) -> Metrics:
    return dict(
        nll_B=jnp.sum(loss.weigh(nll_BT, weights_BT), axis=1),
        weight_B=jnp.sum(weights_BT, axis=1),
        tokens=jnp.sum((batch["decoder_segment_ids"] > 0).astype(jnp.int32)),
    )


def _under(mesh: Mesh, function: Callable) -> Callable:
    """Calls with the mesh in context, which sharding hints inside the model need."""

    def call(*args):
        with jax.set_mesh(mesh):
            return function(*args)

    call.lower = lambda *args: _lower(mesh, function, args)  # type: ignore[attr-defined]
    return call


def _lower(mesh: Mesh, function: Callable, args: tuple) -> Any:
    with jax.set_mesh(mesh):
        return function.lower(*args)
