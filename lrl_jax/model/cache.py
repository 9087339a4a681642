"""Keeps the keys and values of tokens already read, so that decoding reads each token once.

Slot s of a row holds position s. Rows may have different lengths: slots that a row has not written
yet lie after its position, and `visible` hides them until they are written.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from lrl_jax.model import sharding
from lrl_jax.model.config import LlamaConfig

SPEC = P(None, sharding.BATCH, None, "tensor", None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Holds rotated keys and values of every layer, in the compute dtype."""

    k_LBSKH: jax.Array
    v_LBSKH: jax.Array

    @property
    def length(self) -> int:
        """Returns how many tokens a row can hold."""
        return self.k_LBSKH.shape[2]

    def write(self, l, positions_BT, k_BTKH, v_BTKH) -> "Cache":
        """Stores the tokens of layer `l` at their positions, which are consecutive in a row."""
        starts_B = positions_BT[:, 0]

        @jax.vmap
        def put_row(old_SKH, new_TKH, start):
            return jax.lax.dynamic_update_slice(old_SKH, new_TKH, (start, 0, 0))

        def put(old_LBSKH, new_BTKH):
            old_BSKH = jax.lax.dynamic_index_in_dim(old_LBSKH, l, keepdims=False)
            new_BSKH = put_row(old_BSKH, new_BTKH.astype(old_BSKH.dtype), starts_B)
            return jax.lax.dynamic_update_index_in_dim(old_LBSKH, new_BSKH, l, 0)

        return Cache(put(self.k_LBSKH, k_BTKH), put(self.v_LBSKH, v_BTKH))

    def read(self, l) -> tuple[jax.Array, jax.Array]:
        """Returns keys and values of layer `l`, [B, S, K, H]."""
        pick = functools.partial(jax.lax.dynamic_index_in_dim, index=l, keepdims=False)
        return pick(self.k_LBSKH), pick(self.v_LBSKH)

    def visible(self, positions_BT, window) -> jax.Array:
        """Returns which slots a token at each position sees, [B, T, S]; at most `window` slots."""
        back_BTS = positions_BT[..., None] - jnp.arange(self.length)[None, None]
        return (back_BTS >= 0) & (back_BTS < window)


def empty(cfg: LlamaConfig, batch: int, length: int) -> Cache:
    """Returns a cache of `length` slots for `batch` rows, in which nothing is visible yet."""
    shape = (cfg.depth, batch, length, cfg.num_kv_heads, cfg.head_width)
    k_LBSKH, v_LBSKH = jnp.zeros(shape, cfg.dtype), jnp.zeros(shape, cfg.dtype)
    return Cache(sharding.constrain(k_LBSKH, SPEC), sharding.constrain(v_LBSKH, SPEC))
