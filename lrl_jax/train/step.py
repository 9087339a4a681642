"""Builds the training step: computes loss and gradients, and updates weights if all are finite."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from lrl_jax.devices import chips
from lrl_jax.devices.mesh import param_shardings, replicated
from lrl_jax.model import llama
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn, moments, optimizer
from lrl_jax.train.gradients import Batch, gradients
from lrl_jax.train.moments import Params

# Keys: params, opt, step (steps done), skipped (steps skipped in a row), and ema if it is on.
State = dict[str, Any]
Metrics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """Holds the compiled step of one phase, and what its state looks like.

    Call `run` and `begin` under `jax.set_mesh`: the sharding hints of the model need it.
    """

    run: jax.stages.Wrapped  # (state, batch, asked_X, done) -> (state, metrics); donates the state
    begin: jax.stages.Wrapped  # (params, done, skipped) -> state, anew; donates the parameters
    abstract: State  # shapes, dtypes and shardings of the state, to restore a checkpoint with


def make_step(
    cfg: llama.LlamaConfig,
    phase: learn.Phase,
    settings: recipe_train.Train,
    mesh: Mesh,
    param_dtype: str,
    new_rows: np.ndarray,
) -> Step:
    """Builds the step of one phase; nothing is compiled before its first call.

    The step returns these metrics, replicated on every device: `loss` (token-weighted mean over the
    global batch), `grad_norm` (over trained parameters, before clipping), `lr` per group, `nll_B`
    and `weight_B` (sums over each row), `tokens` (not padding), `applied` (bool), `skipped` (steps
    not applied in a row), and `asked` (the largest of `asked_X`, which has a request from each
    device, so that all hosts save or stop at the same step).

    `done`, float32, is how much of the phase is done, in steps of the recipe: rates follow the rows
    that were read, so that the batch size may change.

    Args:
      new_rows: bool [padded vocabulary], true for rows of new tokens.

    Raises:
      ValueError: a learn table, moments or rounding that these parameters or devices do not allow.
    """
    cfg = dataclasses.replace(cfg, sequence_parallel=settings.axes.sequence)
    params, placed = llama.abstract(cfg, param_dtype), param_shardings(cfg, mesh)
    learner = optimizer.learner(phase, settings.optimizer, [*params], new_rows)
    everywhere = replicated(mesh)
    names = set(learner.trainable)
    optimizer.check_rounding(settings.optimizer, {name: params[name] for name in names})

    def begin(params: Params, done: jax.Array, skipped: jax.Array) -> State:
        state = dict(params=params, opt=learner.init(params), step=done, skipped=skipped)
        if settings.ema:
            state["ema"] = {name: params[name].astype(jnp.float32) for name in learner.trainable}
        return state

    def run(
        state: State, batch: Batch, asked_X: jax.Array, done: jax.Array
    ) -> tuple[State, Metrics]:
        kept = jax.tree.map(fetch, {k: state[k] for k in near}, near)
        trained = {k: v for k, v in state["params"].items() if k in names}
        frozen = {k: v for k, v in state["params"].items() if k not in names}
        value, grads, counts = gradients(cfg, settings, trained, frozen, batch, placed)
        grads = learner.mask(grads)
        norm = _norm(grads)
        applied = jnp.isfinite(value) & jnp.isfinite(norm)
        new, opt, rates = learner.update(trained, grads, norm, kept["opt"], done, state["step"])
        changed = dict(params=new, opt=opt)
        before = dict(params=trained, **kept)
        if settings.ema:
            changed["ema"] = average(kept["ema"], new, settings.ema, done)
        after = jax.tree.map(lambda new, old: jnp.where(applied, new, old), changed, before)
        skipped = jnp.where(applied, 0, state["skipped"] + 1)
        after["params"] = {**frozen, **after["params"]}
        metrics = dict(grad_norm=norm, lr=rates, applied=applied, skipped=skipped)
        metrics["asked"] = jnp.max(asked_X)
        return after | dict(step=state["step"] + 1, skipped=skipped), metrics | counts

    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    shapes = jax.eval_shape(begin, params, scalar, scalar)
    near = dict(opt=moments.shardings(shapes["opt"], params, placed, everywhere))
    if settings.ema:
        near["ema"] = {name: placed[name] for name in learner.trainable}
    lying = near
    if settings.optimizer.moments_on == "host":
        lying = moments.on_host(near, {k: shapes[k] for k in near}, mesh)

    def fetch(leaf: jax.Array, place: NamedSharding) -> jax.Array:
        return jax.device_put(leaf, place) if lying is not near else leaf

    shardings = dict(params=placed, step=everywhere, skipped=everywhere, **lying)
    abstract = jax.tree.map(lambda leaf, place: leaf.update(sharding=place), shapes, shardings)
    return Step(
        run=jax.jit(
            run,
            donate_argnums=0,
            out_shardings=(shardings, everywhere),
            compiler_options=chips.options(mesh.devices.flat[0]),
        ),
        begin=jax.jit(begin, donate_argnums=0, out_shardings=shardings),
        abstract=abstract,
    )


def average(old: Params, new: Params, decay: float, done: jax.Array) -> Params:
    """Returns running averages moved towards new weights, in float32.

    Early in a phase the decay is lower, (1 + t) / (10 + t) after t steps, so that the weights at
    the start of the phase do not dominate (the rule of TensorFlow's ExponentialMovingAverage).

    >>> old, new = {"w_D": jnp.zeros(1)}, {"w_D": jnp.ones(1)}
    >>> [float(average(old, new, 0.5, jnp.int32(t))["w_D"][0]) for t in (0, 2, 8, 99)]
    [0.8999999761581421, 0.75, 0.5, 0.5]
    """
    t = done.astype(jnp.float32)
    kept = jnp.minimum(decay, (1.0 + t) / (10.0 + t))
    return {path: w + (1.0 - kept) * (new[path].astype(jnp.float32) - w) for path, w in old.items()}


def averaged(state: State) -> Params:
    """Returns the parameters, with the running average in place of each parameter that has one.

    Frozen parameters have no average. Averages start anew in each phase, as the optimizer does.
    """
    mean = state.get("ema", {})
    return {
        path: mean[path].astype(w.dtype) if path in mean else w
        for path, w in state["params"].items()
    }


def _norm(grads: Params) -> jax.Array:
    """Returns the global norm, summed in float32 because bfloat16 would lose small squares."""
    squares = [jnp.sum(jnp.square(grad.astype(jnp.float32))) for grad in grads.values()]
    return jnp.sqrt(sum(squares[1:], squares[0]))
