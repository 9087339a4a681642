"""Computes exact attention with the scores of one block of queries and keys in memory at a time.

This is FlashAttention (arXiv 2205.14135, and 2307.08691 for the backward pass) in plain loops: it
keeps a running maximum and sum while it reads keys, and computes the scores again for the gradient.
Blocks of keys that no query of the block may see are skipped: later keys, keys outside the window
and keys of other documents.
"""

import functools

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from lrl_jax.model import sharding
from lrl_jax.model.kernels import RESIDUALS, Form

BLOCK = 128  # queries and keys in a block; the fastest of 128 to 512 on a CPU (docs/log.md)
HIDDEN = -1e30  # finite: -inf - -inf would be NaN


def blockwise(
    q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form, block: int | None = None
) -> jax.Array:
    """Returns causal attention within segments, [B, T, N, H]; see `attention.attention`."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    block = min(block or BLOCK, T)
    pad = -T % block  # padding comes last, where the causal mask hides it
    q_BKGTH = jnp.moveaxis((q_BTNH * form.scale).reshape(B, T, K, N // K, H), 1, 3)
    k_BKSH, v_BKSH = jnp.swapaxes(k_BSKH, 1, 2), jnp.swapaxes(v_BSKH, 1, 2)
    out_BKGTH = _rows(
        form,
        block,
        jnp.pad(q_BKGTH, ((0, 0),) * 3 + ((0, pad), (0, 0))),
        jnp.pad(k_BKSH, ((0, 0),) * 2 + ((0, pad), (0, 0))),
        jnp.pad(v_BKSH, ((0, 0),) * 2 + ((0, pad), (0, 0))),
        jnp.pad(segments_BT, ((0, 0), (0, pad))),
    )
    return jnp.moveaxis(out_BKGTH[..., :T, :], 3, 1).reshape(B, T, N, H)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows(form: Form, block: int, q_BKGTH, k_BKSH, v_BKSH, segments_BT) -> jax.Array:
    return _forward(form, block, q_BKGTH, k_BKSH, v_BKSH, segments_BT)[0]


def _forward(form: Form, block: int, *row):
    out_BKGTH, logsum_BKGT = _each_row(lambda arrays: _forward_row(form, block, *arrays), row)
    out_BKGTH = checkpoint_name(out_BKGTH, RESIDUALS)
    logsum_BKGT = checkpoint_name(logsum_BKGT, RESIDUALS)
    return out_BKGTH, (*row, out_BKGTH, logsum_BKGT)


def _backward(form: Form, block: int, kept, d_out_BKGTH):
    *row, out_BKGTH, logsum_BKGT = kept
    inner_BKGT = jnp.sum(out_BKGTH.astype(jnp.float32) * d_out_BKGTH.astype(jnp.float32), axis=-1)
    given = (*row, logsum_BKGT, d_out_BKGTH, inner_BKGT)
    return *_each_row(lambda arrays: _backward_row(form, block, *arrays), given), None


_rows.defvjp(_forward, _backward)


def _each_row(work, rows):
    """Applies `work` to one row after another, so that each row can skip blocks it need not see.

    The rows are divided between two loops, which a CPU runs at the same time: the work of a single
    block is too small to be divided between cores.
    """
    half, odd = divmod(len(rows[0]), 2)
    if sharding.platform() != "cpu" or odd:
        return jax.lax.map(work, rows)
    done = [jax.lax.map(work, [x[span] for x in rows]) for span in np.s_[:half, half:]]
    return [jnp.concatenate(parts) for parts in zip(*done, strict=True)]


def _forward_row(form: Form, block: int, q_KGTH, k_KSH, v_KSH, segments_T):
    """Returns result [K, G, T, H], and log of the sum of exp(scores) [K, G, T]."""
    K, G, T, H = q_KGTH.shape
    cut = functools.partial(_cut, size=block)

    def queries(i):
        q_KGtH = cut(q_KGTH, i, 2)

        def keys(j, carry):
            most_KGt, total_KGt, out_KGtH = carry
            scores_KGts, _ = _scores(form, block, i, j, q_KGtH, k_KSH, segments_T)
            higher_KGt = jnp.maximum(most_KGt, scores_KGts.max(-1))
            # While a query has seen no allowed key its sums are wrong; the first one resets them.
            shrink_KGt = jnp.exp(most_KGt - higher_KGt)
            weights_KGts = jnp.exp(scores_KGts - higher_KGt[..., None])
            more_KGtH = _dot("kgts,ksh->kgth", weights_KGts.astype(v_KSH.dtype), cut(v_KSH, j, 1))
            return (
                higher_KGt,
                total_KGt * shrink_KGt + weights_KGts.sum(-1),
                out_KGtH * shrink_KGt[..., None] + more_KGtH,
            )

        zero_KGt = jnp.zeros((K, G, block), jnp.float32)
        start = (zero_KGt + HIDDEN, zero_KGt, jnp.zeros((K, G, block, H), jnp.float32))
        first = 0  # the first block of keys that a query of block i may see
        if form.window is not None:
            first = jnp.maximum(0, (i * block - form.window + 1) // block)
        most_KGt, total_KGt, out_KGtH = _seen(
            first, i + 1, keys, start,
            lambda j: _overlap(cut(segments_T, i, 0), cut(segments_T, j, 0)),
        )  # fmt: skip
        return (out_KGtH / total_KGt[..., None]).astype(v_KSH.dtype), most_KGt + jnp.log(total_KGt)

    out_IKGtH, logsum_IKGt = jax.lax.map(queries, jnp.arange(T // block))
    out_KGTH = jnp.moveaxis(out_IKGtH, 0, 2).reshape(K, G, T, H)
    return out_KGTH, jnp.moveaxis(logsum_IKGt, 0, 2).reshape(K, G, T)


def _backward_row(
    form: Form, block: int, q_KGTH, k_KSH, v_KSH, segments_T, logsum_KGT, d_out_KGTH, inner_KGT
):
    """Returns the gradients of q (after scaling), k and v."""
    K, _, T, H = q_KGTH.shape
    cut = functools.partial(_cut, size=block)

    def keys(d_q_KGTH, j):
        k_KsH, v_KsH = cut(k_KSH, j, 1), cut(v_KSH, j, 1)

        def queries(i, carry):
            d_q_KGTH, d_k_KsH, d_v_KsH = carry
            q_KGtH, d_out_KGtH = cut(q_KGTH, i, 2), cut(d_out_KGTH, i, 2)
            scores_KGts, slope_KGts = _scores(form, block, i, j, q_KGtH, k_KSH, segments_T)
            weights_KGts = jnp.exp(scores_KGts - cut(logsum_KGT, i, 2)[..., None])
            d_v_KsH += _dot("kgts,kgth->ksh", weights_KGts.astype(v_KSH.dtype), d_out_KGtH)
            d_weights_KGts = _dot("kgth,ksh->kgts", d_out_KGtH, v_KsH)
            d_scores_KGts = weights_KGts * (d_weights_KGts - cut(inner_KGT, i, 2)[..., None])
            d_scores_KGts = (d_scores_KGts * slope_KGts).astype(q_KGTH.dtype)
            d_k_KsH += _dot("kgts,kgth->ksh", d_scores_KGts, q_KGtH)
            more_KGtH = cut(d_q_KGTH, i, 2) + _dot("kgts,ksh->kgth", d_scores_KGts, k_KsH)
            d_q_KGTH = jax.lax.dynamic_update_slice_in_dim(d_q_KGTH, more_KGtH, i * block, 2)
            return d_q_KGTH, d_k_KsH, d_v_KsH

        zero_KsH = jnp.zeros((K, block, H), jnp.float32)
        stop = T // block  # the block after the last one whose queries may see keys of block j
        if form.window is not None:
            stop = jnp.minimum(stop, (j * block + block + form.window - 2) // block + 1)
        d_q_KGTH, d_k_KsH, d_v_KsH = _seen(
            j, stop, queries, (d_q_KGTH, zero_KsH, zero_KsH),
            lambda i: _overlap(cut(segments_T, i, 0), cut(segments_T, j, 0)),
        )  # fmt: skip
        return d_q_KGTH, (d_k_KsH.astype(k_KSH.dtype), d_v_KsH.astype(v_KSH.dtype))

    zero_KGTH = jnp.zeros(q_KGTH.shape, jnp.float32)
    d_q_KGTH, (d_k_JKsH, d_v_JKsH) = jax.lax.scan(keys, zero_KGTH, jnp.arange(T // block))
    d_k_KSH, d_v_KSH = (jnp.moveaxis(d, 0, 1).reshape(K, T, H) for d in (d_k_JKsH, d_v_JKsH))
    return d_q_KGTH.astype(q_KGTH.dtype), d_k_KSH, d_v_KSH


def _scores(form: Form, block: int, i, j, q_KGtH, k_KSH, segments_T):
    """Returns the scores of query block i on key block j, and the soft cap's derivative there."""
    scores_KGts = _dot("kgth,ksh->kgts", q_KGtH, _cut(k_KSH, j, 1, block))
    slope = jnp.float32(1.0)
    if form.softcap is not None:
        bent_KGts = jnp.tanh(scores_KGts / form.softcap)
        scores_KGts, slope = form.softcap * bent_KGts, 1 - jnp.square(bent_KGts)
    t, s = (at * block + jnp.arange(block) for at in (i, j))
    back_ts = t[:, None] - s[None]
    seen_ts = (back_ts >= 0) & (
        _cut(segments_T, i, 0, block)[:, None] == _cut(segments_T, j, 0, block)[None]
    )
    if form.window is not None:
        seen_ts &= back_ts < form.window
    return jnp.where(seen_ts[None, None], scores_KGts, HIDDEN), slope


def _seen(start, stop, step, carry, wanted):
    """Runs `step` on each block from `start` to `stop` for which `wanted` is true."""

    def maybe(at, carry):
        return jax.lax.cond(wanted(at), step, lambda _, carry: carry, at, carry)

    return jax.lax.fori_loop(start, stop, maybe, carry)


def _overlap(a_t, b_t) -> jax.Array:
    """Tells whether two blocks may hold tokens of one document; documents are in order."""
    return (a_t.min() <= b_t.max()) & (b_t.min() <= a_t.max())


def _cut(x, i, axis: int, size: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)


def _dot(spec: str, a, b) -> jax.Array:
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)
