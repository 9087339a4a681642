"""Generates text greedily: reads all prompts at once, then decodes one token a step with a cache.

Batches have a fixed size. Prompts are padded on the right, and each row decodes from its own length
on. Lengths are rounded up, so that few shapes have to be compiled.
"""

from collections.abc import Callable, Sequence
import contextlib
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np

from lrl_jax.data.templates import documents
from lrl_jax.data.templates import table as templates
from lrl_jax.devices import mesh as meshes
from lrl_jax.model import cache as caches
from lrl_jax.model import llama, sharding
from lrl_jax.vocab.tokenizer.types import Tokenizer

SHORTEST = 32  # prompts are padded to a power of two that is at least this


def answers(
    cfg: llama.LlamaConfig,
    params: llama.Params,
    tokenizer: Tokenizer,
    template: str,
    records: Sequence[templates.Record],
    max_new_tokens: int,
    mesh: Mesh | None = None,
    batch_size: int = 8,
    tick: Callable[[int, int], None] = lambda done, whole: None,
) -> list[str]:
    """Returns the model's answers to records in a template, each up to where the template ends."""
    if not records:
        return []
    ids = [
        documents.ids(templates.prompt_parts(template, record, tokenizer), tokenizer)
        for record in records
    ]
    out = generate_ids(
        cfg, params, ids, max_new_tokens,
        bos_id=tokenizer.bos_id, eos_id=templates.ending(template, records[0], tokenizer),
        mesh=mesh, batch_size=batch_size, tick=tick,
    )  # fmt: skip
    return [tokenizer.decode(new) for new in out]


def generate_ids(
    cfg: llama.LlamaConfig,
    params: llama.Params,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    bos_id: int,
    eos_id: int,
    mesh: Mesh | None = None,
    batch_size: int = 8,
    tick: Callable[[int, int], None] = lambda done, whole: None,
) -> list[list[int]]:
    """Returns the most probable continuation of each prompt, cut before `eos_id`.

    Args:
      prompts: ids; `bos_id` is put in front of prompts that do not begin with it.
      batch_size: how many rows are decoded together; rounded up to what the mesh can split.
      tick: told before each batch how many prompts of how many are done.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}; want 1 or more")
    prompts = [list(p) if list(p[:1]) == [bos_id] else [bos_id, *p] for p in prompts]
    shards = sharding.rows_split(mesh.shape) if mesh is not None else 1
    size = -(-batch_size // shards) * shards
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # less padding in a batch
    out: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), size):
        tick(start, len(order))
        rows = order[start : start + size]
        new_BT = _batch(cfg, params, [prompts[i] for i in rows], size, max_new_tokens, eos_id, mesh)
        for i, new_T in zip(rows, new_BT, strict=False):
            ends = np.flatnonzero(new_T == eos_id)
            out[i] = new_T[: ends[0] if ends.size else None].tolist()
    return out


def _batch(cfg, params, prompts, size: int, max_new_tokens: int, eos_id: int, mesh) -> np.ndarray:
    """Returns the new tokens of one batch, [B, max_new_tokens]."""
    prompts = [*prompts, *[prompts[-1]] * (size - len(prompts))]  # repeats the last prompt
    tokens_BT = np.full((size, _bucket(max(map(len, prompts)))), eos_id, np.int32)
    for row_T, prompt in zip(tokens_BT, prompts, strict=True):
        row_T[: len(prompt)] = prompt
    lengths_B = np.array([len(prompt) for prompt in prompts], np.int32)
    with jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext():
        rows = _put(tokens_BT, mesh), _put(lengths_B, mesh)
        new_BT = _decode(cfg, params, *rows, max_new_tokens, eos_id)
    return np.asarray(new_BT.addressable_data(0))


def _bucket(length: int) -> int:
    """Returns the length to which a prompt is padded.

    >>> [_bucket(n) for n in (1, 32, 33, 100)]
    [32, 32, 64, 128]
    """
    return max(SHORTEST, 1 << (length - 1).bit_length())


def _put(x: np.ndarray, mesh: Mesh | None) -> jax.Array:
    """Puts the rows of a batch on their devices; every process passes the same whole batch."""
    if mesh is None:
        return jax.device_put(x)
    return jax.make_array_from_callback(x.shape, meshes.batch_sharding(mesh), lambda i: x[i])


@functools.partial(jax.jit, static_argnames=("cfg", "max_new_tokens", "eos_id"))
def _decode(cfg, params, tokens_BT, lengths_B, max_new_tokens: int, eos_id: int) -> jax.Array:
    """Reads the prompts, then decodes until all rows have ended; ended rows hold `eos_id`."""
    B, T = tokens_BT.shape
    model = llama.bind(cfg, params)
    cache = caches.empty(cfg, B, T + max_new_tokens)
    positions_BT = jnp.broadcast_to(jnp.arange(T)[None], (B, T))
    x_BTD, cache = model.extend(tokens_BT, positions_BT, cache)
    last_B1D = jnp.take_along_axis(x_BTD, lengths_B[:, None, None] - 1, axis=1)
    first_B = _most_probable(model.logits(last_B1D))
    new_BT = jnp.full((B, max_new_tokens), eos_id, jnp.int32).at[:, 0].set(first_B)

    def more(state):
        t, token_B, _, _ = state
        return (t < max_new_tokens) & jnp.any(token_B != eos_id)

    def step(state):
        t, token_B, new_BT, cache = state
        positions_B1 = (lengths_B + t - 1)[:, None]
        logits_B1V, cache = model.decode(token_B[:, None], positions_B1, cache)
        token_B = jnp.where(token_B == eos_id, eos_id, _most_probable(logits_B1V))
        new_BT = jax.lax.dynamic_update_slice(new_BT, token_B[:, None], (0, t))
        return t + 1, token_B, new_BT, cache

    _, _, new_BT, _ = jax.lax.while_loop(more, step, (1, first_B, new_BT, cache))
    return sharding.constrain(new_BT, PartitionSpec())


def _most_probable(logits_B1V) -> jax.Array:
    return jnp.argmax(logits_B1V[:, 0], axis=-1).astype(jnp.int32)
