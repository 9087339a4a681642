"""Causal attention that cannot see across packed documents, by the means each backend has."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from lrl_jax.model import sharding

RESIDUALS = "attention_residuals"  # what checkpoint policies keep: it is costly to redo
BLOCKS = (1024, 512, 256, 128)  # splash block sizes; 1,024 is best where the length allows it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """What of attention is fixed when it is compiled.

    Attributes:
      window: how many tokens a token sees, itself included; None: all of its segment so far.
      softcap: scores become softcap * tanh(score / softcap) (Gemma 2); None: they stay.
      scale: what queries are multiplied by.
    """

    window: int | None
    softcap: float | None
    scale: float


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
    """Attention within segments, causal; returns [B, T, N, H].

    Args:
      segments_BT: document of each token; tokens see earlier tokens of the same number.
      implementation: a key of IMPLEMENTATIONS, or "auto": what `jax.default_backend()` has.
      window: how many tokens a token sees, itself included; None: all of its segment so far.
      softcap: scores become softcap * tanh(score / softcap) (Gemma 2); None: they stay.
      scale: what scores are multiplied by; None: H**-0.5.
    """
    if implementation == "auto":
        implementation = BY_BACKEND.get(jax.default_backend(), "einsum")
    if implementation not in IMPLEMENTATIONS:
        allowed = ", ".join(["auto", *IMPLEMENTATIONS])
        raise ValueError(f"attention={implementation!r}; want one of {allowed}")
    if window is not None and window < 1:
        raise ValueError(f"window={window}; a token sees at least itself: want 1 or more, or None")
    shape = Shape(
        window=window, softcap=softcap, scale=q_BTNH.shape[-1] ** -0.5 if scale is None else scale
    )
    return IMPLEMENTATIONS[implementation](q_BTNH, k_BSKH, v_BSKH, segments_BT, shape)


def attention_mask(segments_BT, window: int | None = None) -> jax.Array:
    """Causal, and blind across packed documents. Segment 0 is padding.

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


def masked(
    q_BTNH, k_BSKH, v_BSKH, mask_BTS, softcap: float | None = None, scale: float | None = None
) -> jax.Array:
    """Attention under any mask; every token must see something. Returns [B, T, N, H]."""
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    scale = H**-0.5 if scale is None else scale
    q_BKGTH = jnp.moveaxis((q_BTNH * scale).reshape(B, T, K, N // K, H), 1, 3)
    k_BKSH, v_BKSH = jnp.swapaxes(k_BSKH, 1, 2), jnp.swapaxes(v_BSKH, 1, 2)
    # Scores and softmax stay in float32: bfloat16 loses rank order in long rows.
    scores_BKGTS = jnp.einsum(
        "bkgth,bksh->bkgts", q_BKGTH, k_BKSH, preferred_element_type=jnp.float32
    )
    if softcap is not None:
        scores_BKGTS = softcap * jnp.tanh(scores_BKGTS / softcap)
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKGTS, -1e30)
    most_BKGT1 = jax.lax.stop_gradient(scores_BKGTS.max(axis=-1, keepdims=True))
    weights_BKGTS = jnp.exp(scores_BKGTS - most_BKGT1)
    # Normalised after the product, where there is H instead of S to divide.
    total_BKGT1 = weights_BKGTS.sum(axis=-1, keepdims=True).astype(v_BKSH.dtype)
    out_BKGTH = jnp.einsum("bkgts,bksh->bkgth", weights_BKGTS.astype(v_BKSH.dtype), v_BKSH)
    return jnp.moveaxis(out_BKGTH / total_BKGT1, 3, 1).reshape(B, T, N, H)


def _einsum(q_BTNH, k_BSKH, v_BSKH, segments_BT, shape: Shape) -> jax.Array:
    """Plain attention, a row at a time: one row's scores fit a CPU's cache.

    The backward pass makes the scores again, so that none are kept.
    """

    @jax.checkpoint
    def row(args):
        q_TNH, k_SKH, v_SKH, segments_T = args
        mask_1TS = attention_mask(segments_T[None], shape.window)
        one = (array[None] for array in (q_TNH, k_SKH, v_SKH))
        return masked(*one, mask_1TS, shape.softcap, shape.scale)[0]

    def rows(*args):
        return jax.lax.map(row, args)

    out_BTNH = _on_each_device(rows, q_BTNH, k_BSKH, v_BSKH, segments_BT)
    return checkpoint_name(out_BTNH, RESIDUALS)


def _xla(q_BTNH, k_BSKH, v_BSKH, segments_BT, shape: Shape) -> jax.Array:
    """All rows at once; keeps nothing but its result for the backward pass."""
    mask_BTS = attention_mask(segments_BT, shape.window)
    return masked(q_BTNH, k_BSKH, v_BSKH, mask_BTS, shape.softcap, shape.scale)


def _splash(q_BTNH, k_BSKH, v_BSKH, segments_BT, shape: Shape) -> jax.Array:
    """Splash attention, the TPU kernel."""
    attend = functools.partial(_splash_local, shape=shape)
    return _on_each_device(attend, q_BTNH, k_BSKH, v_BSKH, segments_BT)


def _on_each_device(attend, q_BTNH, k_BSKH, v_BSKH, segments_BT) -> jax.Array:
    """Runs `attend` on each device's own rows and heads; rows that do not divide stay whole."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or q_BTNH.shape[0] % (mesh.shape["data"] * mesh.shape["fsdp"]):
        return attend(q_BTNH, k_BSKH, v_BSKH, segments_BT)
    heads = P(sharding.BATCH, None, "tensor", None)
    return jax.shard_map(
        attend,
        in_specs=(heads, heads, heads, P(sharding.BATCH, None)),
        out_specs=heads,
        check_vma=False,  # Pallas calls do not say over which axes they vary
    )(q_BTNH, k_BSKH, v_BSKH, segments_BT)


def _splash_local(q_BTNH, k_BSKH, v_BSKH, segments_BT, shape: Shape) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )

    _, T, N, _ = q_BTNH.shape
    attend = _splash_kernel(T, N, shape)

    def one(q_NTH, k_KSH, v_KSH, segments_T):
        ids = kernel.SegmentIds(q=segments_T, kv=segments_T)
        return attend(q_NTH, k_KSH, v_KSH, segment_ids=ids)

    swap = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
    out_BNTH = jax.vmap(one)(swap(q_BTNH * shape.scale), swap(k_BSKH), swap(v_BSKH), segments_BT)
    return swap(out_BNTH)


def _splash_kernel(length: int, num_heads: int, shape: Shape) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    block = next((b for b in BLOCKS if length % b == 0), None)
    if block is None:
        raise ValueError(
            f"rows of {length} tokens; splash attention needs a multiple of {BLOCKS[-1]}: "
            "change data.sequence_length"
        )
    sizes = kernel.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block, block_q_dkv=block,
        block_kv_dkv=block, block_kv_dkv_compute=block, use_fused_bwd_kernel=True,
    )  # fmt: skip
    mask = masks.CausalMask((length, length))
    if shape.window is not None:
        mask = masks.LocalMask((length, length), (shape.window - 1, 0), 0)
    return kernel.make_splash_mha(
        masks.MultiHeadMask([mask] * num_heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        residual_checkpoint_name=RESIDUALS,
        attn_logits_soft_cap=shape.softcap,
    )


IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "einsum": _einsum,
    "xla": _xla,
    "splash": _splash,
}
BY_BACKEND = {"cpu": "einsum", "gpu": "xla", "tpu": "splash"}
