"""One training step: loss, gradients of what learns, AdamW, and nothing at all if not finite."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from lrl_jax.mesh import batch_sharding, batch_shards, replicated
from lrl_jax.model import llama
from lrl_jax.train import loss
from lrl_jax.train.optimizer import Learner, Params

State = dict[str, Any]  # params, opt, step (done so far), skipped (in a row, up to now)
Batch = Mapping[str, jax.Array]
Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """The compiled step of one phase, and where its state lies.

    Call `run` and `begin` under `jax.set_mesh`, which the model's sharding hints look for.

    Attributes:
      run: (state, batch, asked_B) -> (state, metrics); consumes the state it is given.
      begin: (params, done, skipped) -> the state of a fresh optimizer; consumes the parameters.
      shardings: a tree like the state.
      abstract: shapes, dtypes and shardings of the state, for restoring one.
    """

    run: jax.stages.Wrapped
    begin: jax.stages.Wrapped
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
    everywhere = replicated(mesh)
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
        run=jax.jit(run, donate_argnums=0, out_shardings=(shardings, everywhere)),
        begin=jax.jit(begin, donate_argnums=0, out_shardings=shardings),
        shardings=shardings,
        abstract=abstract,
    )


def place(rows: np.ndarray, mesh: Mesh, batch_size: int) -> jax.Array:
    """This process's rows as its part of one global array of `batch_size` rows.

    Process p of n holds the p-th n-th of the rows.
    """
    shape = (batch_size, *rows.shape[1:])
    return jax.make_array_from_process_local_data(batch_sharding(mesh), rows, shape)


def check_batch(mesh: Mesh, batch_size: int) -> None:
    """Refuses a batch that the mesh cannot split, or not by process.

    Raises:
      ValueError: says which sizes fit.
    """
    ways = batch_shards(mesh)
    if batch_size % ways:
        raise ValueError(
            f"batch_size={batch_size} cannot be split over data x fsdp = {ways} devices; use a "
            f"multiple of {ways}, or move devices to the tensor axis"
        )
    share = batch_size // jax.process_count()
    first = jax.process_index() * share
    slices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    held = {row for (rows,) in filter(None, slices) for row in range(*rows.indices(batch_size))}
    if held != set(range(first, first + share)):
        raise ValueError(
            f"mesh {dict(mesh.shape)} spreads rows so that process {jax.process_index()} does not "
            f"hold rows {first} to {first + share - 1}; keep the tensor axis within one process"
        )


def _losses(cfg, params: Params, batch: Batch, blocks: int) -> tuple[jax.Array, jax.Array]:
    model = llama.bind(cfg, params)
    hidden_BTD = model.hidden(
        batch["decoder_input_tokens"], batch["decoder_segment_ids"], batch["decoder_positions"]
    )
    targets_BT = batch["decoder_target_tokens"]
    nll_BT, _ = loss.token_loss(hidden_BTD, model.unembedding(), targets_BT, cfg.vocab_size, blocks)
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
