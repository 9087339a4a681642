"""Lists what a layer can keep for its backward pass, from the least memory to the most."""

from collections.abc import Callable
from typing import Any, Literal

import jax

from lrl_jax.model.kernels import RESIDUALS

Remat = Literal["nothing", "qk", "qkv", "projections", "dots", "full", "offload"]


def _keep(*names: str) -> Callable[..., Any]:
    # The residuals of attention kernels are small and costly to compute again.
    return jax.checkpoint_policies.save_only_these_names(RESIDUALS, *names)


# Each rung of the ladder names what is kept besides a layer's input. The names are those that the
# decoder gives with `checkpoint_name` (stream q k v attention o gate up down). "dots" keeps every
# product that a gradient reads; "full" keeps everything, so nothing is computed again; "offload"
# keeps each layer's input in the host's memory.
LADDER: dict[str, Callable[..., Any] | None] = {
    "nothing": _keep(),
    "qk": _keep("q", "k"),  # before v, because they also have to be rotated again
    "qkv": _keep("q", "k", "v"),
    "projections": _keep("q", "k", "v", "o"),
    "dots": _keep("q", "k", "v", "o", "gate", "up"),
    "full": None,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[RESIDUALS],
        names_which_can_be_offloaded=["stream", "q", "k", "v", "o"],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}
