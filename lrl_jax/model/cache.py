"""Keeps the keys and values of tokens already read, so that decoding reads each token once.

The slots of a row are a ring. All rows have the same head, the slot that is written next, whatever
their lengths: a step writes one slot of every row, which is a single update in place. The token
that a row read `age` steps ago lies `age` slots before the head. A row sees as many slots back as
it has read tokens, so slots that others wrote before, or nobody yet, are never seen.

    slots      0  1  2  3  4  5         head 3: written now
    age        3  2  1  0  5  4         a row at position 2 sees slots 1, 2 and 3
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from lrl_jax.model import sharding
from lrl_jax.model.config import LlamaConfig

SLOTS, ROWS = -2, -4  # axes of what a cache stores, counted from the last

# Keys or values of all layers in one array [L, B, K, S, H], or an array [B, K, S, H] a layer. One
# array is what a scan over layers reads; from arrays apart a CPU need not copy each layer first.
Stored = jax.Array | tuple[jax.Array, ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Holds rotated keys and values of every layer."""

    k_LBKSH: Stored
    v_LBKSH: Stored
    head: jax.Array  # int32, the slot that the next token of every row is written to

    @property
    def length(self) -> int:
        """Returns how many tokens a row can hold."""
        return jax.tree.leaves(self.k_LBKSH)[0].shape[SLOTS]

    def write(self, l, k_BKTH, v_BKTH) -> "Cache":
        """Stores the next T tokens of layer `l`; several of them may not go round the ring."""

        def put(old: Stored, new_BKTH: jax.Array) -> Stored:
            if isinstance(old, tuple):
                new_BKTH = new_BKTH.astype(old[l].dtype)
                layer = jax.lax.dynamic_update_slice(old[l], new_BKTH, (0, 0, self.head, 0))
                return (*old[:l], layer, *old[l + 1 :])
            new_1BKTH = new_BKTH[None].astype(old.dtype)
            return jax.lax.dynamic_update_slice(old, new_1BKTH, (l, 0, 0, self.head, 0))

        return Cache(put(self.k_LBKSH, k_BKTH), put(self.v_LBKSH, v_BKTH), self.head)

    def read(self, l) -> tuple[jax.Array, jax.Array]:
        """Returns keys and values of layer `l`, [B, K, S, H]."""

        def pick(stored: Stored) -> jax.Array:
            if isinstance(stored, tuple):
                return stored[l]
            return jax.lax.dynamic_index_in_dim(stored, l, keepdims=False)

        return pick(self.k_LBKSH), pick(self.v_LBKSH)

    def advance(self, count: int) -> "Cache":
        """Moves the head beyond tokens that all layers have written."""
        return dataclasses.replace(self, head=(self.head + count) % self.length)

    def visible(self, positions_BT, window) -> jax.Array:
        """Returns which slots each token sees, [B, T, S]: itself and those that its row wrote.

        Args:
          positions_BT: of tokens written at the head, one after another.
          window: how many tokens a token sees, itself included.
        """
        at_T = self.head + jnp.arange(positions_BT.shape[1])
        ages_TS = (at_T[:, None] - jnp.arange(self.length)[None]) % self.length
        return (ages_TS[None] <= positions_BT[..., None]) & (ages_TS[None] < window)

    def place(self, b, length, k_LKTH: Stored, v_LKTH: Stored) -> "Cache":
        """Stores the first `length` tokens of a prompt as those that row `b` wrote last."""
        positions_S = length - 1 - (self.head - 1 - jnp.arange(self.length)) % self.length

        def put(old, new):
            row = jnp.take(new, positions_S, axis=SLOTS, mode="clip").astype(old.dtype)
            row = jnp.expand_dims(row, row.ndim + ROWS + 1)
            at = [0] * (old.ndim + ROWS) + [b, 0, 0, 0]
            return jax.lax.dynamic_update_slice(old, row, at)

        k_LBKSH = jax.tree.map(put, self.k_LBKSH, k_LKTH)
        return Cache(k_LBKSH, jax.tree.map(put, self.v_LBKSH, v_LKTH), self.head)

    def longer(self, length: int) -> "Cache":
        """Returns a cache of more slots that holds the same tokens."""
        oldest_first = (self.head + jnp.arange(self.length)) % self.length

        def lengthened(old):
            old = jnp.take(old, oldest_first, axis=SLOTS)
            wider = [(0, 0)] * (old.ndim + SLOTS) + [(0, length - self.length), (0, 0)]
            return jnp.pad(old, wider)

        head = jnp.int32(self.length % length)
        k_LBKSH = jax.tree.map(lengthened, self.k_LBKSH)
        return Cache(k_LBKSH, jax.tree.map(lengthened, self.v_LBKSH), head)


def empty(cfg: LlamaConfig, batch: int, length: int, apart: bool = False) -> Cache:
    """Returns a cache of `length` slots for `batch` rows, in which nothing is visible yet.

    With `apart` each layer has an array of its own.
    """
    row = (batch, cfg.num_kv_heads, length, cfg.head_width)

    def zeros() -> Stored:
        if apart:
            return tuple(split(jnp.zeros(row, dtype(cfg))) for _ in range(cfg.depth))
        return split(jnp.zeros((cfg.depth, *row), dtype(cfg)))

    return Cache(zeros(), zeros(), jnp.int32(0))


def dtype(cfg: LlamaConfig) -> str:
    """Returns what a cache stores: the compute dtype, but float32 on a CPU.

    XLA's CPU compiler widens a whole bfloat16 array to write a slot of it, and again to read it.
    """
    return "float32" if sharding.platform() == "cpu" else cfg.dtype


def split(x_LBKSH: jax.Array) -> jax.Array:
    """Constrains keys or values of one layer or of all: split by rows and by heads."""
    layers: Sequence[None] = [None] * (x_LBKSH.ndim + ROWS)
    return sharding.constrain(x_LBKSH, P(*layers, sharding.BATCH, "tensor", None, None))
