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

from lrl_jax.model import sharding

RESIDUALS = "attention_residuals"  # the name by which remat policies keep them: costly to redo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """Holds the settings of attention that are fixed at compile time; see `attention.attention`."""

    window: int | None
    softcap: float | None
    scale: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """Holds the block sizes of the splash kernel: queries and keys, forward and backward.

    Attributes:
      fused: whether one backward kernel is used instead of two. It computes five matrix products
        instead of seven, but writes one gradient of q for each block of keys, which are then
        summed.
    """

    q: int
    kv: int
    backward_q: int
    backward_kv: int
    fused: bool

    @property
    def multiple(self) -> int:
        """Returns the number that a row's length must be a multiple of."""
        return max(self.q, self.kv, self.backward_q, self.backward_kv)


def square(size: int, fused: bool = False) -> Blocks:
    """Returns blocks with the same size everywhere.

    >>> square(512).multiple
    512
    """
    return Blocks(q=size, kv=size, backward_q=size, backward_kv=size, fused=fused)


# Device kind ("" for any other) -> block sizes, best first; the first that divides the row is used.
# Of a causal row of 4,096, blocks of 512 compute 9/16 of the scores, blocks of 1,024 10/16.
# The fused backward pass saves less in products than its extra sum costs: the compiler estimates
# 0.113 s a step without it and 0.138 s with it (v5e, 7B). Not measured on a real chip.
BLOCKS: dict[str, tuple[Blocks, ...]] = {
    "": (square(512), square(256), square(128)),
}


def splash(q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form, interpret: bool = False) -> jax.Array:
    """Computes attention with the TPU kernel `splash`, without repeating keys for groups."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )

    _, T, N, _ = q_BTNH.shape
    attend = _splash_kernel(T, N, form, interpret)

    def attend_row(q_NTH, k_KSH, v_KSH, segments_T):
        ids = kernel.SegmentIds(q=segments_T, kv=segments_T)
        return attend(q_NTH, k_KSH, v_KSH, segment_ids=ids)

    swap = functools.partial(jnp.swapaxes, axis1=1, axis2=2)
    out_BNTH = jax.vmap(attend_row)(
        swap(q_BTNH * form.scale), swap(k_BSKH), swap(v_BSKH), segments_BT
    )
    return swap(out_BNTH)


def blocks_for(length: int) -> Blocks:
    """Returns the first entry of BLOCKS that divides rows of this length, for the target device."""
    table = BLOCKS.get(sharding.device_kind(), BLOCKS[""])
    fitting = next((blocks for blocks in table if length % blocks.multiple == 0), None)
    if fitting is None:
        least = min(blocks.multiple for blocks in table)
        raise ValueError(
            f"rows of {length} tokens; splash attention needs a multiple of {least}: "
            "change data.sequence_length"
        )
    return fitting


def _splash_kernel(length: int, num_heads: int, form: Form, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    blocks = blocks_for(length)
    fused = blocks.fused
    sizes = kernel.BlockSizes(
        block_q=blocks.q, block_kv=blocks.kv, block_kv_compute=blocks.kv,
        block_q_dkv=blocks.backward_q, block_kv_dkv=blocks.backward_kv,
        block_kv_dkv_compute=blocks.backward_kv, use_fused_bwd_kernel=fused,
        block_q_dq=None if fused else blocks.backward_q,
        block_kv_dq=None if fused else blocks.backward_kv,
    )  # fmt: skip
    mask = masks.CausalMask((length, length))
    if form.window is not None:
        mask = masks.LocalMask((length, length), (form.window - 1, 0), 0)
    return kernel.make_splash_mha(
        masks.MultiHeadMask([mask] * num_heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        residual_checkpoint_name=RESIDUALS,
        attn_logits_soft_cap=form.softcap,
        interpret=interpret,
    )


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
