"""Computes causal attention within packed documents, by the best implementation for each backend.

| implementation | where "auto" uses it | scores in memory at a time |
| --- | --- | --- |
| splash | TPU | one block, in the kernel |
| triton | GPU, where the kernel can do what is asked | one block, in the kernel |
| einsum | elsewhere, rows of up to SHORT tokens | one row of the batch, [N, T, T] |
| blockwise | elsewhere, longer rows; other GPU cases | one block of one row (a CPU: of two rows) |
"""

from collections.abc import Callable
import functools

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from lrl_jax.model import blockwise, kernels, sharding
from lrl_jax.model.arithmetic import softcap as bounded
from lrl_jax.model.kernels import RESIDUALS, Form

SHORT = 128  # tokens; on a CPU longer rows are faster in blocks (docs/log.md)


def attention(
    q_BTNH,
    k_BSKH,
    v_BSKH,
    segments_BT,
    implementation: str = "auto",
    *,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
) -> jax.Array:
    """Returns causal attention within segments, [B, T, N, H]; refuses what cannot be computed.

    Args:
      segments_BT: the number of each token's document; a token sees itself and earlier tokens with
        the same number.
      implementation: a key of IMPLEMENTATIONS, or "auto" for the best one on the machine that the
        program is compiled for (`sharding.platform`).
      window: how many tokens a token sees, itself included; None: all of its segment so far.
      softcap: scores become softcap * tanh(score / softcap) (Gemma 2); None leaves them unchanged.
      scale: the factor that scores are multiplied by; None means H**-0.5.
    """
    H = q_BTNH.shape[-1]
    form = Form(window=window, softcap=softcap, scale=H**-0.5 if scale is None else scale)
    if implementation == "auto":
        implementation = _choose(q_BTNH.shape[1], form)
    if implementation not in IMPLEMENTATIONS:
        allowed = ", ".join(["auto", *IMPLEMENTATIONS])
        raise ValueError(f"attention={implementation!r}; want one of {allowed}")
    attend = functools.partial(IMPLEMENTATIONS[implementation], form=form)
    # Each device computes its own rows and heads, or all of them if rows do not divide evenly.
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or q_BTNH.shape[0] % sharding.rows_split(mesh.shape):
        return attend(q_BTNH, k_BSKH, v_BSKH, segments_BT)
    heads = P(sharding.BATCH, None, "tensor", None)
    return jax.shard_map(
        attend,
        in_specs=(heads, heads, heads, P(sharding.BATCH, None)),
        out_specs=heads,
        check_vma=False,  # Pallas calls do not say over which axes they vary
    )(q_BTNH, k_BSKH, v_BSKH, segments_BT)


def attention_mask(segments_BT, window: int | None = None) -> jax.Array:
    """Returns which keys each query sees, bool [B, T, S]: earlier tokens of the same document.

    Segment 0 is padding.

    >>> attention_mask(jnp.array([[1, 1, 2, 0]]))[0].astype(int)
    Array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 1, 0],
           [0, 0, 0, 1]], dtype=int32)
    """
    same_BTS = segments_BT[:, :, None] == segments_BT[:, None, :]
    causal_TS = jnp.tril(jnp.ones(same_BTS.shape[1:], bool))
    if window is not None:
        causal_TS &= jnp.triu(jnp.ones(same_BTS.shape[1:], bool), 1 - window)
    return same_BTS & causal_TS[None]


def masked(q_BTNH, k_BSKH, v_BSKH, mask_BTS, softcap: float | None, scale: float) -> jax.Array:
    """Returns attention under any mask, [B, T, N, H]; every token must see at least one key."""
    k_BKSH, v_BKSH = jnp.swapaxes(k_BSKH, 1, 2), jnp.swapaxes(v_BSKH, 1, 2)
    return by_heads(q_BTNH, k_BKSH, v_BKSH, mask_BTS, softcap, scale)


def by_heads(q_BTNH, k_BKSH, v_BKSH, mask_BTS, softcap: float | None, scale: float) -> jax.Array:
    """Returns `masked` of keys and values that are stored by heads, as a cache stores them."""
    B, T, N, H = q_BTNH.shape
    K = k_BKSH.shape[1]
    q_BKGTH = jnp.moveaxis((q_BTNH * scale).reshape(B, T, K, N // K, H), 1, 3)
    # Scores and softmax are float32: in long rows bfloat16 would not keep scores in order.
    scores_BKGTS = jnp.einsum(
        "bkgth,bksh->bkgts", q_BKGTH.astype(k_BKSH.dtype), k_BKSH,
        preferred_element_type=jnp.float32,
    )  # fmt: skip
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], bounded(scores_BKGTS, softcap), -1e30)
    most_BKGT1 = jax.lax.stop_gradient(scores_BKGTS.max(axis=-1, keepdims=True))
    weights_BKGTS = jnp.exp(scores_BKGTS - most_BKGT1)
    # Normalised after the product: there H numbers are divided instead of S.
    out_BKGTH = jnp.einsum(
        "bkgts,bksh->bkgth", weights_BKGTS.astype(v_BKSH.dtype), v_BKSH,
        preferred_element_type=jnp.float32,
    )  # fmt: skip
    out_BKGTH /= weights_BKGTS.sum(axis=-1, keepdims=True)
    return jnp.moveaxis(out_BKGTH.astype(q_BTNH.dtype), 3, 1).reshape(B, T, N, H)


def _einsum(q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form) -> jax.Array:
    """Computes plain attention one row at a time, because one row's scores fit a CPU's cache.

    The backward pass computes the scores again instead of keeping them.
    """

    @jax.checkpoint
    def row(args):
        q_TNH, k_SKH, v_SKH, segments_T = args
        mask_1TS = attention_mask(segments_T[None], form.window)
        out_1TNH = masked(q_TNH[None], k_SKH[None], v_SKH[None], mask_1TS, form.softcap, form.scale)
        return out_1TNH[0]

    out_BTNH = jax.lax.map(row, (q_BTNH, k_BSKH, v_BSKH, segments_BT))
    return checkpoint_name(out_BTNH, RESIDUALS)


def _choose(length: int, form: Form) -> str:
    platform = sharding.platform()
    if platform == "gpu" and kernels.unfit_for_triton(length, form):
        return "blockwise"
    return BY_BACKEND.get(platform, "einsum" if length <= SHORT else "blockwise")


IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "einsum": _einsum,
    "blockwise": blockwise.blockwise,
    "splash": kernels.splash,
    "triton": kernels.triton,
}
BY_BACKEND = {"gpu": "triton", "tpu": "splash"}
