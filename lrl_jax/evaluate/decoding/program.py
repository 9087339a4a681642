"""Compiles what decoding does on devices: reads prompts, puts them into rows, decodes some steps.

    rows = new_rows(setup, 16, 384)
    keep = read(setup, params, tokens_BT, lengths_B)            # keys and values of some prompts
    rows = put(rows, keep, arrivals)                            # which become rows
    rows, tokens_BC = decode(setup, params, rows, knobs, live_B, steps, least)

A row waits with the last token of its prompt, which the next step reads and continues. All shapes
are fixed: how many rows there are, how many prompts are read together, and a few lengths.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from lrl_jax.evaluate.decoding import sampling
from lrl_jax.model import cache as caches
from lrl_jax.model import llama, sharding
from lrl_jax.model.cache import Cache

CHUNK = 16  # steps a call decodes at most; between calls rows are refilled and texts looked at
NO_TOKEN = -1  # in place of the tokens of a row that has ended


@dataclasses.dataclass(frozen=True)
class Setup:
    """Holds what is fixed when programs are compiled."""

    cfg: llama.LlamaConfig
    way: sampling.Way
    pieces: int  # ids from here on have no text, and are never chosen
    ends: tuple[int, ...]  # ids that end an answer
    longest: int  # tokens of the longest row, as far as rotary positions depend on it
    apart: bool  # whether each layer's arrays are apart (`llama.apart`)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodingRows:
    """Holds the rows that are decoded together, on devices."""

    cache: Cache  # of the tokens before the one that waits
    token_B: jax.Array  # which is read next
    position_B: jax.Array  # of that token
    left_B: jax.Array  # steps that a row has left; 0 once it has ended
    draw_B: jax.Array  # the number of its prompt (`sampling.draws`), uint32
    step_B: jax.Array  # steps that it has done
    seen_BV: jax.Array | None  # tokens it has read or written, where those are penalised


class Arrivals(NamedTuple):
    """Holds prompts that become rows, [A] each; those from `count` on only fill the shape."""

    count: jax.Array
    row_A: jax.Array
    token_A: jax.Array  # the last of each prompt
    position_A: jax.Array
    left_A: jax.Array
    draw_A: jax.Array
    seen_AV: jax.Array | None


@functools.partial(jax.jit, static_argnames=("setup", "batch", "length"))
def new_rows(setup: Setup, batch: int, length: int) -> DecodingRows:
    """Returns rows of which none is decoding, in a cache of `length` slots."""
    zeros_B = jnp.zeros(batch, jnp.int32)
    seen_BV = jnp.zeros((batch, setup.pieces), bool) if setup.way.penalised else None
    cache = caches.empty(setup.cfg, batch, length, setup.apart)
    return DecodingRows(
        cache, zeros_B, zeros_B, zeros_B, zeros_B.astype(jnp.uint32), zeros_B, seen_BV
    )


@functools.partial(jax.jit, static_argnames=("setup",))
def read(
    setup: Setup, params: Any, tokens_AT, lengths_A, shared: Cache | None = None
) -> llama.Keep:
    """Returns the keys and values of prompts, padded at their end, [L, A, K, T, H].

    Args:
      tokens_AT: the prompts; where there is something shared, what follows it.
      shared: what all prompts begin with, in a single row up to the head.
    """
    model = llama.bind(setup.cfg, params)
    positions_AT = jnp.broadcast_to(jnp.arange(tokens_AT.shape[1])[None], tokens_AT.shape)
    if shared is None:
        segments_AT = (positions_AT < lengths_A[:, None]).astype(jnp.int32)
        return model.begin(tokens_AT, segments_AT, positions_AT, setup.longest)
    rows, more = len(tokens_AT), tokens_AT.shape[1]

    def widened(stored):
        wide = [(0, 0)] * (stored.ndim + caches.SLOTS) + [(0, more), (0, 0)]
        shape = [*stored.shape[: caches.ROWS], rows, *stored.shape[caches.ROWS + 1 :]]
        return caches.split(jnp.pad(jnp.broadcast_to(stored, shape), wide))

    k_LBKSH, v_LBKSH = jax.tree.map(widened, (shared.k_LBKSH, shared.v_LBKSH))
    before = Cache(k_LBKSH, v_LBKSH, shared.head)
    _, after = model.extend(tokens_AT, positions_AT + shared.head, before, setup.longest)
    return after.k_LBKSH, after.v_LBKSH


@functools.partial(jax.jit, donate_argnames=("rows",))
def put(rows: DecodingRows, keep: llama.Keep, arrivals: Arrivals) -> DecodingRows:
    """Returns the rows, of which some now hold prompts that `read` has read."""

    def place(a, rows: DecodingRows) -> DecodingRows:
        b, length = arrivals.row_A[a], arrivals.position_A[a]
        seen_BV = rows.seen_BV
        if seen_BV is not None and arrivals.seen_AV is not None:
            seen_BV = seen_BV.at[b].set(arrivals.seen_AV[a])
        return DecodingRows(
            cache=rows.cache.place(b, length, *jax.tree.map(functools.partial(_prompt, a), keep)),
            token_B=rows.token_B.at[b].set(arrivals.token_A[a]),
            position_B=rows.position_B.at[b].set(length),
            left_B=rows.left_B.at[b].set(arrivals.left_A[a]),
            draw_B=rows.draw_B.at[b].set(arrivals.draw_A[a]),
            step_B=rows.step_B.at[b].set(0),
            seen_BV=seen_BV,
        )

    return jax.lax.fori_loop(0, arrivals.count, place, rows)


def _prompt(a, keep_LAKTH) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(
        keep_LAKTH, a, keep_LAKTH.ndim + caches.ROWS, keepdims=False
    )


@functools.partial(jax.jit, static_argnames=("length",))
def lengthen(rows: DecodingRows, length: int) -> DecodingRows:
    """Returns the rows with a cache of more slots."""
    cache = rows.cache.longer(length)
    k_LBKSH, v_LBKSH = jax.tree.map(caches.split, (cache.k_LBKSH, cache.v_LBKSH))
    return dataclasses.replace(rows, cache=Cache(k_LBKSH, v_LBKSH, cache.head))


@functools.partial(jax.jit, static_argnames=("setup",), donate_argnames=("rows",))
def decode(
    setup: Setup, params: Any, rows: DecodingRows, knobs: sampling.Knobs, live_B, steps, least
) -> tuple[DecodingRows, jax.Array]:
    """Decodes until all rows have ended, or too few go on; returns rows and tokens, [B, CHUNK].

    Args:
      live_B: rows that go on; others have been ended by what their text says.
      steps: how many steps are done at most, up to CHUNK.
      least: how many rows there must be that have not ended, to go on.
    """
    model = llama.bind(setup.cfg, params)
    batch = len(live_B)
    ends_E = jnp.array(setup.ends or (NO_TOKEN,), jnp.int32)
    rows = dataclasses.replace(rows, left_B=jnp.where(live_B, rows.left_B, 0))
    tokens_BC = jnp.full((batch, CHUNK), NO_TOKEN, jnp.int32)

    def more(state) -> jax.Array:
        c, rows, _ = state
        return (c < steps) & (jnp.sum(rows.left_B > 0) >= least)

    def step(state):
        c, rows, tokens_BC = state
        going_B = rows.left_B > 0
        done_B = going_B.astype(jnp.int32)
        x_B1D, cache = model.extend(
            rows.token_B[:, None], rows.position_B[:, None], rows.cache, setup.longest
        )
        logits_BV = model.logits(x_B1D)[:, 0, : setup.pieces]
        token_B = sampling.choose(
            setup.way, knobs, logits_BV, rows.seen_BV, rows.draw_B, rows.step_B
        )
        seen_BV = rows.seen_BV
        if seen_BV is not None:
            seen_BV = seen_BV.at[jnp.arange(batch), token_B].set(True)
        ended_B = jnp.any(token_B[:, None] == ends_E[None], axis=1)
        rows = DecodingRows(
            cache=cache,
            token_B=jnp.where(going_B, token_B, rows.token_B),
            position_B=rows.position_B + done_B,
            left_B=jnp.where(going_B & ~ended_B, rows.left_B - 1, 0),
            draw_B=rows.draw_B,
            step_B=rows.step_B + done_B,
            seen_BV=seen_BV,
        )
        shown_B1 = jnp.where(going_B, token_B, NO_TOKEN)[:, None]
        return c + 1, rows, jax.lax.dynamic_update_slice(tokens_BC, shown_B1, (0, c))

    _, rows, tokens_BC = jax.lax.while_loop(more, step, (jnp.int32(0), rows, tokens_BC))
    return rows, sharding.constrain(tokens_BC, P())


apart = jax.jit(llama.apart)
