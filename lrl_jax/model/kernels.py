"""Calls the attention kernels that JAX ships: splash on TPU, a Triton kernel on GPU.

Both kernels keep only one block of scores in memory, and both handle packed documents. Neither has
run on its own hardware for this project: tests compile them for it, and check their numbers in
Pallas' interpreter.
"""

import dataclasses
import functools
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

RESIDUALS = "attention_residuals"  # the name by which remat policies keep them: costly to redo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """Holds the settings of attention that are fixed at compile time; see `attention.attention`."""

    window: int | None
    softcap: float | None
    scale: float


# Sizes of splash's blocks of queries and keys, best first; the first that divides the row is used.
# Of a causal row of 4,096, blocks of 512 compute 9/16 of the scores, blocks of 1,024 10/16.
# The backward pass is two kernels. One fused kernel computes five matrix products instead of seven,
# but sums a gradient of q for each block of keys: the compiler estimates 0.138 s a step instead of
# 0.113 s (v5e, 7B). Not measured on a real chip.
BLOCKS = (512, 256, 128)


def block_for(length: int) -> int:
    """Returns the first of BLOCKS that divides rows of this length."""
    for block in BLOCKS:
        if length % block == 0:
            return block
    raise ValueError(
        f"rows of {length} tokens; splash attention needs a multiple of {min(BLOCKS)}: "
        "change data.sequence_length"
    )


def splash(q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form, interpret: bool = False) -> jax.Array:
    """Computes attention with the TPU kernel `splash`, without repeating keys for groups."""
    from jax.experimental.pallas.ops.tpu import splash_attention as kernel

    _, T, N, _ = q_BTNH.shape
    block = block_for(T)
    mask = kernel.CausalMask((T, T))
    if form.window is not None:
        mask = kernel.LocalMask((T, T), (form.window - 1, 0), 0)
    attend: Any = kernel.make_splash_mha(
        kernel.MultiHeadMask([mask] * N),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=kernel.BlockSizes(
            block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block,
            block_q_dq=block, block_kv_dq=block,
        ),
        residual_checkpoint_name=RESIDUALS,
        attn_logits_soft_cap=form.softcap,
        interpret=interpret,
    )  # fmt: skip

    def attend_row(q_NTH, k_KSH, v_KSH, segments_T):
        ids = kernel.SegmentIds(q=segments_T, kv=segments_T)
        return attend(q_NTH, k_KSH, v_KSH, segment_ids=ids)

    swap = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
    out_BNTH = jax.vmap(attend_row)(
        swap(q_BTNH * form.scale), swap(k_BSKH), swap(v_BSKH), segments_BT
    )
    return swap(out_BNTH)


TRITON_BLOCK = 128  # queries and keys in a block of the forward kernel, which is its default


def triton(q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form, interpret: bool = False) -> jax.Array:
    """Computes attention with Pallas' fused kernel for GPUs.

    cuDNN's kernel, which `jax.nn` offers, takes no segments: packed rows would need a [T, S] mask.
    The backward pass runs the forward kernel again, because remat policies can keep only its
    result.

    Raises:
      ValueError: a window, a soft cap, or a row length that the kernel does not support;
        "blockwise" supports all three.
    """
    from jax.experimental.pallas.ops.gpu import attention as kernel

    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    if reason := unfit_for_triton(T, form):
        raise ValueError(f"attention='triton' cannot: {reason}; use attention='blockwise'")

    def group(q_BTKH):
        return kernel.mha(
            q_BTKH, k_BSKH, v_BSKH, segments_BT, sm_scale=form.scale, causal=True,
            interpret=interpret,
        )  # fmt: skip

    # One group of query heads at a time, so that keys and values need not be repeated.
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    out_BTKGH = jax.vmap(group, in_axes=3, out_axes=3)(q_BTKGH)
    return checkpoint_name(out_BTKGH.reshape(B, T, N, H), RESIDUALS)


def unfit_for_triton(length: int, form: Form) -> str:
    """Returns why the kernel cannot compute this attention, or "" if it can."""
    if form.window is not None and form.window < length:
        return f"window={form.window}; it has no windows"
    if form.softcap is not None:
        return f"softcap={form.softcap}; it has no soft cap"
    if length % TRITON_BLOCK:
        return f"rows of {length} tokens; it needs a multiple of {TRITON_BLOCK}"
    return ""
