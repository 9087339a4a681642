"""Calls the attention kernels that JAX ships: splash on TPU, a Triton kernel on GPU.

Both hold no scores but those of a block, both know packed documents. Neither has run on its own
hardware for this project: they are lowered for it in tests, and their numbers are checked in
Pallas' interpreter.
"""

import dataclasses
import functools
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from lrl_jax.model import sharding

RESIDUALS = "attention_residuals"  # what checkpoint policies keep: it is costly to redo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """Holds the settings of attention that are fixed at compile time; see `attention.attention`."""

    window: int | None
    softcap: float | None
    scale: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """Holds how splash cuts a row: queries by keys, of the forward and of the backward pass.

    Attributes:
      fused: one backward kernel instead of two: five matrix products instead of seven, and a
        gradient of q for each block of keys, to be summed.
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
    """Returns the same size everywhere.

    >>> square(512).multiple
    512
    """
    return Blocks(q=size, kv=size, backward_q=size, backward_kv=size, fused=fused)


# Device kind ("" for any other) -> what to try, best first: the first whose sizes divide the row.
# Of a causal mask 512 visits 9 blocks of 16, 1,024 visits 10; and a fused backward pass saves fewer
# products than the sum it leaves costs (compiler estimates on v5e, 7B: 0.113 s a step for 0.138 s).
# Nothing is known of how near either comes to the peak of a real chip.
BLOCKS: dict[str, tuple[Blocks, ...]] = {
    "": (square(512), square(256), square(128)),
}


def splash(q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form, interpret: bool = False) -> jax.Array:
    """Computes splash attention, the TPU kernel; keys and values are not repeated for groups."""
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
    """Returns the entry of BLOCKS for rows of this length on the device that is compiled for."""
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


TRITON_BLOCK = 128  # queries by keys of the forward kernel, its default


def triton(q_BTNH, k_BSKH, v_BSKH, segments_BT, form: Form, interpret: bool = False) -> jax.Array:
    """Returns pallas' fused attention for GPUs.

    cuDNN's kernel, which `jax.nn` has, takes no segments: for packed rows it would need a mask of
    [T, S]. The backward pass runs the forward kernel again, as only its result has a name.

    Raises:
      ValueError: a window, a soft cap, or rows the kernel cannot cut; "blockwise" does all three.
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

    # A group of queries at a time, so that keys and values need not be repeated.
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
    out_BTKGH = jax.vmap(group, in_axes=3, out_axes=3)(q_BTKGH)
    return checkpoint_name(out_BTKGH.reshape(B, T, N, H), RESIDUALS)


def unfit_for_triton(length: int, form: Form) -> str:
    """Returns why the kernel cannot do this, "" if it can."""
    if form.window is not None and form.window < length:
        return f"window={form.window}; it has none"
    if form.softcap is not None:
        return f"softcap={form.softcap}; it has none"
    if length % TRITON_BLOCK:
        return f"rows of {length} tokens; it needs a multiple of {TRITON_BLOCK}"
    return ""
