"""Chooses what a layer keeps for its backward pass, by a ladder from least memory to most."""

from collections.abc import Callable
from typing import Any, Literal

import jax

from lrl_jax.model import attention

Remat = Literal["nothing", "qk", "qkv", "projections", "dots", "full", "offload"]


def _keep(*names: str) -> Callable[..., Any]:
    """Returns a policy that keeps attention's own residuals: they are small, and costly to redo."""
    return jax.checkpoint_policies.save_only_these_names(attention.RESIDUALS, *names)


# What is kept besides a layer's input: names that the decoder gives by `checkpoint_name` (stream q
# k v attention o gate up down). "dots" is every product that a gradient reads; "full" is all there
# is, nothing made again; "offload" keeps the stream too, but in the host's memory.
LADDER: dict[str, Callable[..., Any] | None] = {
    "nothing": _keep(),
    "qk": _keep("q", "k"),  # of the three these cost most: they are rotated, too
    "qkv": _keep("q", "k", "v"),
    "projections": _keep("q", "k", "v", "o"),
    "dots": _keep("q", "k", "v", "o", "gate", "up"),
    "full": None,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[attention.RESIDUALS],
        names_which_can_be_offloaded=["stream", "q", "k", "v", "o"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


def rematerialised(step: Callable[..., Any], rung: str) -> Callable[..., Any]:
    """Returns the body of the layer scan under a policy of the ladder."""
    policy = LADDER[rung]
    return step if policy is None else jax.checkpoint(step, policy=policy, prevent_cse=False)
