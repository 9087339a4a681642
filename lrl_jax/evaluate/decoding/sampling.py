"""Chooses the next token of every row from its logits.

Each row draws by a key of its own, made of the seed, of a number that stands for its prompt, and of
how many tokens it has drawn. So it draws the same whatever batch it is in.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Way:
    """Describes what is computed to choose a token; each way is a program of its own."""

    sampled: bool = False  # else the most probable token is taken
    nucleus: bool = False  # whether top_p leaves tokens out
    floored: bool = False  # whether min_p does
    penalised: bool = False  # whether tokens that were read or written before count for less


class Knobs(NamedTuple):
    """Holds the numbers of a way of choosing, as float32 scalars, and the key of the seed."""

    temperature: jax.Array
    top_p: jax.Array
    min_p: jax.Array
    repetition_penalty: jax.Array
    key: jax.Array


def draws(prompts: list[tuple[int, ...]]) -> list[int]:
    """Returns the number that stands for each prompt when its row draws: a digest of its ids.

    Prompts that are equal are told apart by how many equal ones come before them.

    >>> a, b, c = draws([(1, 5), (1, 6), (1, 5)])
    >>> a != c, draws([(1, 6)]) == [b]
    (True, True)
    """
    before: dict[tuple[int, ...], int] = {}
    numbers = []
    for prompt in prompts:
        turn = before[prompt] = before.get(prompt, -1) + 1
        digest = hashlib.sha256(np.array([turn, *prompt], "<i8").tobytes())
        numbers.append(int.from_bytes(digest.digest()[:4], "little"))
    return numbers


def choose(way: Way, knobs: Knobs, logits_BV, seen_BV, draw_B, step_B) -> jax.Array:
    """Returns the chosen token of every row, [B].

    Args:
      seen_BV: which tokens a row has read or written; None where nothing is penalised.
      draw_B: the number of each row's prompt (`draws`), uint32.
      step_B: how many tokens each row has drawn.
    """
    if way.penalised:
        logits_BV = penalise(logits_BV, seen_BV, knobs.repetition_penalty)
    if not way.sampled:
        return most_probable(logits_BV)
    logits_BV /= knobs.temperature
    if way.nucleus:
        logits_BV = nucleus(logits_BV, knobs.top_p)
    if way.floored:
        logits_BV = floor(logits_BV, knobs.min_p)

    @jax.vmap
    def uniform(draw, step):
        key = jax.random.fold_in(jax.random.fold_in(knobs.key, draw), step)
        return jax.random.uniform(key)

    return pick(jax.nn.softmax(logits_BV, axis=-1), uniform(draw_B, step_B))


def most_probable(logits_BV) -> jax.Array:
    """Returns the first token with the highest logit of every row, [B].

    It is argmax, in two maxima of float32 that XLA's CPU compiler computes several times as fast.
    They are exact below 2^24 pieces.

    >>> most_probable(jnp.array([[1.0, 3.0, 3.0], [4.0, 2.0, 0.0]]))
    Array([1, 0], dtype=int32)
    """
    most_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
    pieces = logits_BV.shape[-1]
    from_end_1V = pieces - jnp.arange(pieces, dtype=jnp.float32)[None]
    first_B = pieces - jnp.max(jnp.where(logits_BV >= most_B1, from_end_1V, 1.0), axis=-1)
    return first_B.astype(jnp.int32)


def penalise(logits_BV, seen_BV, penalty) -> jax.Array:
    """Divides positive logits of seen tokens by the penalty, and multiplies negative ones by it.

    Source: CTRL (arXiv 1909.05858), in the form of transformers.

    >>> penalise(jnp.array([[2.0, -2.0, 2.0]]), jnp.array([[True, True, False]]), 2.0)
    Array([[ 1., -4.,  2.]], dtype=float32)
    """
    less_BV = jnp.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return jnp.where(seen_BV, less_BV, logits_BV)


def nucleus(logits_BV, top_p) -> jax.Array:
    """Leaves only the most probable tokens, as few as have `top_p` together (arXiv 1904.09751).

    >>> probabilities = jnp.array([[0.125, 0.5, 0.25, 0.125]])
    >>> jnp.isfinite(nucleus(jnp.log(probabilities), 0.7))[0].astype(int)
    Array([0, 1, 1, 0], dtype=int32)
    """
    sorted_BV = -jnp.sort(-logits_BV, axis=-1)
    above_BV = jnp.cumsum(jax.nn.softmax(sorted_BV, axis=-1), axis=-1)
    # a token stays while those above it, itself left out, have not reached top_p yet
    count_B1 = jnp.sum(above_BV < top_p, axis=-1, keepdims=True)
    last_B1 = jnp.minimum(count_B1, logits_BV.shape[-1] - 1)
    least_B1 = jnp.take_along_axis(sorted_BV, last_B1, axis=-1)
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)


def floor(logits_BV, min_p) -> jax.Array:
    """Leaves only tokens with at least `min_p` times the highest probability (arXiv 2407.01082).

    >>> probabilities = jnp.array([[0.125, 0.5, 0.25, 0.125]])
    >>> jnp.isfinite(floor(jnp.log(probabilities), 0.4))[0].astype(int)
    Array([0, 1, 1, 0], dtype=int32)
    """
    least_B1 = jnp.max(logits_BV, axis=-1, keepdims=True) + jnp.log(min_p)
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)


def pick(probabilities_BV, uniform_B) -> jax.Array:
    """Returns the token at each row's place between 0 and 1 of its summed probabilities, [B].

    >>> pick(jnp.array([[0.25, 0.0, 0.75]]), jnp.array([0.25]))
    Array([2], dtype=int32)
    """
    sums_BV = jnp.cumsum(probabilities_BV, axis=-1)
    whole_B = sums_BV[:, -1]
    # below the whole even after rounding, so that a token without probability is never taken
    place_B = jnp.minimum(uniform_B * whole_B, jnp.nextafter(whole_B, jnp.zeros_like(whole_B)))
    return jnp.argmax(sums_BV > place_B[:, None], axis=-1).astype(jnp.int32)
