"""Computes the loss of a batch and the gradients of trained parameters, at once or in parts."""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lrl_jax.model import llama, quantize, sharding
from lrl_jax.recipe import train as recipe_train
from lrl_jax.train import learn, loss
from lrl_jax.train.moments import Params

Batch = Mapping[str, jax.Array]


def gradients(
    cfg: llama.LlamaConfig,
    settings: recipe_train.Train,
    trained: Params,
    frozen: Params,
    batch: Batch,
    placed: Mapping[str, NamedSharding],
) -> tuple[jax.Array, Params, dict[str, jax.Array]]:
    """Returns the value to minimise, its gradients by the names in `trained`, and counts.

    The value is the token-weighted mean over the whole batch of loss + z_loss * log(Z)**2, where Z
    normalises the softmax. The counts are `loss` (the mean without z-loss), `nll_B` and `weight_B`
    (sums over each row), and `tokens` (not padding).

    With `accumulate: k` the model processes the batch in k parts, one after another, and needs a
    k-th of the memory for activations. Each part is divided by the weight of the whole batch, so k
    changes results by no more than rounding. The gradients of each part are scattered to the
    shardings of the parameters (`placed`) and summed in float32. Weights are gathered again for
    each part.
    """
    dtypes = {name: w.dtype for name, w in trained.items()}
    trained, frozen = narrowed(cfg, trained), narrowed(cfg, frozen)

    def placing(grads: Params, dtype: jnp.dtype | None = None) -> Params:
        return {
            name: jax.lax.with_sharding_constraint(grad.astype(dtype or dtypes[name]), placed[name])
            for name, grad in grads.items()
        }

    # float32: bfloat16 could not count millions of tokens, and the mean is not an integer.
    weights_BT = batch["decoder_loss_weights"].astype(jnp.float32)
    total = jnp.sum(weights_BT)
    total = jnp.where(total > 0, total, 1.0)

    def objective(trained: Params, microbatch: Batch, weights_BT: jax.Array):
        nll_BT, log_z_BT = losses(cfg, {**frozen, **trained}, microbatch, settings.loss_blocks)
        weighed_BT = loss.weigh(nll_BT, weights_BT)
        mean = jnp.sum(weighed_BT) / total
        value = mean
        if settings.z_loss:
            squares_BT = loss.weigh(jnp.square(log_z_BT), weights_BT)
            value = mean + settings.z_loss * (jnp.sum(squares_BT) / total)
        return value, (mean, jnp.sum(weighed_BT, axis=1))

    compute = jax.value_and_grad(objective, has_aux=True)
    if settings.accumulate == 1:
        (value, (mean, nll_B)), grads = compute(trained, batch, weights_BT)
        grads = placing(grads)
    else:
        wide = functools.partial(placing, dtype=jnp.dtype("float32"))
        rows = batch, weights_BT
        value, mean, nll_B, grads = _summed(compute, trained, rows, settings.accumulate, wide)
    counts = dict(
        loss=mean,
        nll_B=nll_B,
        weight_B=jnp.sum(weights_BT, axis=1),
        tokens=jnp.sum((batch["decoder_segment_ids"] > 0).astype(jnp.int32)),
    )
    return value, grads, counts


def narrowed(cfg: llama.LlamaConfig, params: Params) -> Params:
    """Casts the matrices of the layers to the compute dtype.

    It happens before the scan over layers, so that the scan stacks gradients in the compute dtype,
    in which they are computed, and not in float32.
    """
    out = dict(params)
    for name, w in params.items():
        layers = name.startswith("layers/") and learn.is_matrix(name)
        if layers and not quantize.is_scale(name) and jnp.issubdtype(w.dtype, jnp.floating):
            out[name] = w.astype(cfg.dtype)
    return out


def _summed(compute, trained: Params, rows: tuple[Batch, jax.Array], parts: int, placing):
    """Returns value, mean loss, loss of each row and gradients, summed over parts of the batch."""

    def step(carry, microbatch):
        (value, (mean, nll_B)), grads = compute(trained, *microbatch)
        sums = (value, mean, placing(grads))
        return jax.tree.map(jnp.add, carry, sums), nll_B

    zero = jnp.float32(0)
    zeros = {path: jnp.zeros(w.shape, jnp.float32) for path, w in trained.items()}
    scanned = split(rows, parts)
    (value, mean, grads), nll_PB = jax.lax.scan(step, (zero, zero, placing(zeros)), scanned)
    return value, mean, nll_PB.T.reshape(-1), grads


def split(tree: Any, parts: int) -> Any:
    """Splits [B, ...] into [parts, B / parts, ...]; part p holds rows p, p + parts, and so on.

    Then no row has to move to another device; parts of neighbouring rows would move most rows.

    >>> split(jnp.arange(6), 2)
    Array([[0, 2, 4],
           [1, 3, 5]], dtype=int32)
    """

    def split_rows(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)
        return sharding.constrain(x, P(None, sharding.BATCH))

    return jax.tree.map(split_rows, tree)


def losses(
    cfg: llama.LlamaConfig, params: Params, batch: Batch, blocks: int
) -> tuple[jax.Array, jax.Array]:
    """Returns each token's loss, and log of the sum of exp(logits), as `loss.token_loss` does."""
    model = llama.bind(cfg, params)
    hidden_BTD = model.hidden(
        batch["decoder_input_tokens"], batch["decoder_segment_ids"], batch["decoder_positions"]
    )
    targets_BT = batch["decoder_target_tokens"]
    return loss.token_loss(
        hidden_BTD, model.unembedding(), targets_BT, cfg.vocab_size, blocks, cfg.logit_softcap
    )
