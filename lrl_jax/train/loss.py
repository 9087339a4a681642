"""Computes cross-entropy per token, over the whole vocabulary at once or in blocks of it.

In blocks, only the logits of one block are in memory at a time. The gradient is written by hand:
the gradient of a logit is its probability, minus 1 for the target. JAX's own gradient of the same
code needs more passes over the logits (docs/log.md).
"""

import functools

import jax
import jax.numpy as jnp

from lrl_jax.model import arithmetic, sharding


def token_loss(
    hidden_BTD: jax.Array,
    unembed_DV: jax.Array,
    targets_BT: jax.Array,
    vocab_size: int,
    blocks: int = 1,
    softcap: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns each target's negative log-likelihood in nats, and log of the sum of exp(logits).

    Both are float32 [B, T]. The second is squared by z-loss (PaLM, arXiv 2204.02311, section 5).
    With `softcap`, logits become softcap * tanh(logit / softcap) (Gemma 2).

    Columns of `unembed_DV` from `vocab_size` on are padding and get no probability. A target
    outside [0, vocab_size) has an infinite loss.

    With `blocks` > 1, V is read in that many equal blocks with an online log-sum-exp. Memory for
    logits falls to [B, T, V / blocks], and so does the gathered part of a sharded output matrix;
    but logits are computed again for the gradient, four matrix products instead of three.
    With `blocks` = 1 logits are kept, which is fastest for small vocabularies.

    >>> hidden, head = jnp.zeros((1, 2, 3)), jnp.ones((3, 8))
    >>> nll, log_z = token_loss(hidden, head, jnp.array([[0, 3]]), vocab_size=4)
    >>> jnp.exp(-nll), jnp.exp(log_z).round(3)
    (Array([[0.25, 0.25]], dtype=float32), Array([[4., 4.]], dtype=float32))
    """
    refuse_uneven(unembed_DV.shape[1], blocks)
    log_z_BT, label_BT = _read(vocab_size, blocks, softcap, hidden_BTD, unembed_DV, targets_BT)
    return _loss(log_z_BT, label_BT, targets_BT, vocab_size), log_z_BT


def greedy_loss(
    hidden_BTD: jax.Array,
    unembed_DV: jax.Array,
    targets_BT: jax.Array,
    vocab_size: int,
    blocks: int = 1,
    softcap: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns each target's negative log-likelihood, and whether it is the most probable piece.

    The loss is that of `token_loss`, of the same arguments; nothing is kept for a gradient. Of
    pieces with the same logit the one with the lowest id is the most probable, as for argmax.

    >>> hidden, head = jnp.ones((1, 2, 1)), jnp.array([[0.0, 1.0, 1.0, 0.5]])
    >>> greedy_loss(hidden, head, jnp.array([[1, 2]]), vocab_size=4)[1]
    Array([[ True, False]], dtype=bool)
    """
    refuse_uneven(unembed_DV.shape[1], blocks)
    logits_of = functools.partial(_logits, hidden_BTD, vocab_size, unembed_DV.shape[1], softcap)

    def step(carry, block):
        sums, best_BT = carry
        logits_BTV = logits_of(*block)
        best_BT = _first_of_highest(best_BT, sums[0], logits_BTV, block[1])
        return (_add(sums, logits_BTV, block[1], targets_BT), best_BT), None

    start = _no_sums(targets_BT), jnp.zeros_like(targets_BT)
    ((peak_BT, total_BT, label_BT), best_BT), _ = jax.lax.scan(
        step, start, _cut(unembed_DV, blocks), unroll=blocks == 1
    )
    nll_BT = _loss(jnp.log(total_BT) + peak_BT, label_BT, targets_BT, vocab_size)
    return nll_BT, best_BT == targets_BT


def refuse_uneven(V: int, blocks: int) -> None:
    """Raises ValueError for blocks that do not divide a padded vocabulary of V pieces."""
    if V % blocks:
        raise ValueError(
            f"loss_blocks={blocks} must divide the padded vocabulary of {V} pieces; "
            f"use one of {', '.join(str(n) for n in (1, 2, 4, 8, 16) if V % n == 0)}"
        )


def _loss(log_z_BT, label_BT, targets_BT, vocab_size: int) -> jax.Array:
    """Returns the loss of each target; infinite for one that is no piece of the vocabulary."""
    piece_BT = (targets_BT >= 0) & (targets_BT < vocab_size)
    return jnp.where(piece_BT, log_z_BT - label_BT, jnp.inf)


def weigh(nll_BT: jax.Array, weights_BT: jax.Array) -> jax.Array:
    """Returns loss times weight, and 0 where the weight is 0 even if the loss is infinite.

    >>> weigh(jnp.array([[3.0, jnp.inf]]), jnp.array([[0.5, 0.0]]))
    Array([[1.5, 0. ]], dtype=float32)
    """
    return jnp.where(weights_BT > 0, nll_BT * weights_BT, 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _read(vocab_size, blocks, softcap, hidden_BTD, unembed_DV, targets_BT):
    """Returns log of the sum of exp(logits), and the target's logit, each float32 [B, T]."""
    return _forward(vocab_size, blocks, softcap, hidden_BTD, unembed_DV, targets_BT)[0]


def _forward(vocab_size, blocks, softcap, hidden_BTD, unembed_DV, targets_BT):
    logits_of = functools.partial(_logits, hidden_BTD, vocab_size, unembed_DV.shape[1], softcap)
    if blocks == 1:
        index_V = jnp.arange(unembed_DV.shape[1], dtype=jnp.int32)
        logits_BTV = logits_of(unembed_DV, index_V)
        log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
        pick = _look_up if sharding.platform() == "cpu" else _pick
        label_BT = pick(logits_BTV, index_V, targets_BT)
        return (log_z_BT, label_BT), (hidden_BTD, unembed_DV, targets_BT, log_z_BT, logits_BTV)

    def step(sums, block):
        return _add(sums, logits_of(*block), block[1], targets_BT), None

    start = _no_sums(targets_BT)
    (peak_BT, total_BT, label_BT), _ = jax.lax.scan(step, start, _cut(unembed_DV, blocks))
    log_z_BT = jnp.log(total_BT) + peak_BT
    return (log_z_BT, label_BT), (hidden_BTD, unembed_DV, targets_BT, log_z_BT, None)


def _no_sums(targets_BT) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns what `_add` begins with: highest logit, sum of exp(logits - highest), and label."""
    zero_BT = jnp.zeros(targets_BT.shape, jnp.float32)
    return zero_BT - 1e30, zero_BT, zero_BT  # finite: -inf - -inf would be NaN


def _add(sums, logits_BTV, index_V, targets_BT) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Adds the logits of a block of the vocabulary to the sums of the blocks before it."""
    peak_BT, total_BT, label_BT = sums
    higher_BT = jnp.maximum(peak_BT, jnp.max(logits_BTV, axis=-1))
    total_BT = total_BT * jnp.exp(peak_BT - higher_BT)
    total_BT += jnp.sum(jnp.exp(logits_BTV - higher_BT[..., None]), axis=-1)
    label_BT += _pick(logits_BTV, index_V, targets_BT)
    return higher_BT, total_BT, label_BT


def _first_of_highest(best_BT, peak_BT, logits_BTV, index_V) -> jax.Array:
    """Returns the lowest id with the highest logit, of a block and of the blocks before it.

    Args:
      best_BT, peak_BT: that id and its logit in the blocks before.
    """
    highest_BT = jnp.max(logits_BTV, axis=-1)
    here_BTV = logits_BTV == highest_BT[..., None]
    none = jnp.iinfo(index_V.dtype).max
    first_BT = jnp.min(jnp.where(here_BTV, index_V[None, None], none), axis=-1)
    lower_BT = jnp.where(highest_BT == peak_BT, jnp.minimum(first_BT, best_BT), best_BT)
    return jnp.where(highest_BT > peak_BT, first_BT, lower_BT)


def _backward(vocab_size, blocks, softcap, kept, cotangents):
    hidden_BTD, unembed_DV, targets_BT, log_z_BT, logits_BTV = kept
    d_log_z_BT, d_label_BT = cotangents

    def gradients(logits_BTV, w_DV, index_V):
        d_logits_BTV = jnp.exp(logits_BTV - log_z_BT[..., None]) * d_log_z_BT[..., None]
        hit_BTV = index_V[None, None] == targets_BT[..., None]
        d_logits_BTV += jnp.where(hit_BTV, d_label_BT[..., None], 0.0)
        if softcap is not None:  # the slope at -inf, the logit of a padded column, is set to 0
            slope_BTV = 1 - jnp.square(logits_BTV / softcap)
            d_logits_BTV *= jnp.where(index_V[None, None] < vocab_size, slope_BTV, 0.0)
        d_logits_BTV = d_logits_BTV.astype(hidden_BTD.dtype)  # float32 until here
        d_hidden_BTD = arithmetic.input_gradient(d_logits_BTV, w_DV)
        return d_hidden_BTD, arithmetic.weight_gradient(hidden_BTD, d_logits_BTV).astype(w_DV.dtype)

    if blocks == 1:
        index_V = jnp.arange(unembed_DV.shape[1], dtype=jnp.int32)
        d_hidden_BTD, d_unembed_DV = gradients(logits_BTV, unembed_DV, index_V)
        return d_hidden_BTD.astype(hidden_BTD.dtype), d_unembed_DV, None

    def step(d_hidden_BTD, block):
        logits_BTV = _logits(hidden_BTD, vocab_size, unembed_DV.shape[1], softcap, *block)
        more_BTD, d_w_DV = gradients(logits_BTV, *block)
        return d_hidden_BTD + sharding.stream(more_BTD), d_w_DV

    zero_BTD = sharding.stream(jnp.zeros(hidden_BTD.shape, jnp.float32))
    d_hidden_BTD, d_w_WDV = jax.lax.scan(step, zero_BTD, _cut(unembed_DV, blocks))
    d_unembed_DV = jnp.moveaxis(d_w_WDV, 0, 2).reshape(unembed_DV.shape)
    return d_hidden_BTD.astype(hidden_BTD.dtype), d_unembed_DV, None


_read.defvjp(_forward, _backward)


def _cut(unembed_DV, blocks: int) -> tuple[jax.Array, jax.Array]:
    """Returns the output matrix cut into blocks of columns, and the column numbers of each block.

    Block i holds columns i, i + blocks, and so on. Each block then has columns from every shard of
    V, so a matrix that is split over V needs not be moved.
    """
    D, V = unembed_DV.shape
    w_WDV = jnp.moveaxis(unembed_DV.reshape(D, V // blocks, blocks), 2, 0)
    return w_WDV, jnp.arange(V, dtype=jnp.int32).reshape(V // blocks, blocks).T


def _logits(
    hidden_BTD, vocab_size: int, padded: int, softcap: float | None, w_DV, index_V
) -> jax.Array:
    """Returns logits in float32: in bfloat16 a sum over the vocabulary would lose small terms."""
    logits_BTV = sharding.inner(
        jnp.einsum("btd,dv->btv", hidden_BTD, w_DV, preferred_element_type=jnp.float32)
    )
    logits_BTV = arithmetic.softcap(logits_BTV, softcap)
    if vocab_size == padded:  # saves a pass over all logits where the compiler does not fuse it
        return logits_BTV
    return jnp.where(index_V[None, None] < vocab_size, logits_BTV, -jnp.inf)


def _pick(logits_BTV, index_V, targets_BT) -> jax.Array:
    """Returns the logit of each target, or 0 where `index_V` does not contain the target."""
    hit_BTV = index_V[None, None] == targets_BT[..., None]
    return jnp.sum(jnp.where(hit_BTV, logits_BTV, 0.0), axis=-1)


def _look_up(logits_BTV, _, targets_BT) -> jax.Array:
    """Returns the logit of each target by indexing, which needs a vocabulary that is not split."""
    picked_BT1 = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1, mode="clip")
    return picked_BT1[..., 0]
