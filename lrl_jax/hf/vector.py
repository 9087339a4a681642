"""Adds an instruct vector to a model: the difference between a tuned model and its base.

    params = add(params, cfg, instruct, base, scale=1.0, rows=32_000)

Continued pretraining on a new language makes a model follow instructions less well; the difference
between an instruct model and its base restores that without training
(theta + scale * (instruct - base)). Rows of new tokens are in neither model and stay as they are.
"""

from collections.abc import Sequence
import contextlib
import itertools

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.hf import families, layout, load, shards
from lrl_jax.hf.safetensors_ranges import Read, Tensors
from lrl_jax.model import llama
from lrl_jax.vocab.tokenizer import load as tokenizers

SHAPE = (
    "width", "depth", "mlp_width", "num_heads", "num_kv_heads", "head_width", "tie_embeddings",
    "family",
)  # fmt: skip


def add(
    params: llama.Params,
    cfg: llama.LlamaConfig,
    instruct: epath.Path,
    base: epath.Path,
    scale: float,
    rows: int,
) -> llama.Params:
    """Returns `params` + scale * (instruct - base), in float32, one parameter at a time.

    `params` hold no adapters. `instruct` is the Hugging Face folder of a model that was tuned from
    `base`; their first `rows` tokens are those of `params`. Raises ValueError for folders of
    another shape than the model, with other tokens, or with numbers that are not finite.
    """
    same_tokens(instruct, base, rows)
    with contextlib.ExitStack() as stack:
        after, before = (_opened(folder, cfg, rows, stack) for folder in (instruct, base))
        out = {}
        for row in layout.rows(cfg):
            place = {row.ours: params[row.ours].sharding}
            read = _finite(difference(after, before, rows if "V" in row.letters else None))
            moved = shards.fill(cfg, place, "float32", lambda _, r=read: r, load.READERS, [row])
            out[row.ours] = _sum(params[row.ours], moved[row.ours], jnp.float32(scale))
    return {name: out[name] for name in params}


def same_tokens(instruct: epath.Path, base: epath.Path, rows: int) -> None:
    """Refuses folders whose first `rows` ids are not the same pieces."""
    pair = [tokenizers.load(folder) for folder in (instruct, base)]
    if pair[0].fingerprint == pair[1].fingerprint:
        return
    pieces = [tokenizers.family(tokenizer).pieces(tokenizer) for tokenizer in pair]
    for folder, own in zip((instruct, base), pieces, strict=True):
        if len(own) < rows:
            raise ValueError(
                f"{folder}: its tokenizer has {len(own):,} pieces, this run's base {rows:,}; "
                "export.vector wants the base this run adapts, and a model tuned from it"
            )
    if apart := first_apart(pieces[0][:rows], pieces[1][:rows]):
        raise ValueError(f"{instruct} and {base}: {apart}; their difference would mix tokens")


def first_apart(pieces: Sequence[str], others: Sequence[str]) -> str:
    """Says which is the first token that two vocabularies have not alike; "" if there is none.

    >>> first_apart(["<s>", "a", "b"], ["<s>", "a", "c"])
    "token 2 is 'b' in one and 'c' in the other"
    """
    for i, (piece, other) in enumerate(itertools.zip_longest(pieces, others)):
        if piece != other:
            return f"token {i} is {piece!r} in one and {other!r} in the other"
    return ""


def _opened(
    folder: epath.Path, cfg: llama.LlamaConfig, rows: int, stack: contextlib.ExitStack
) -> Tensors:
    theirs = families.config_from_hf(load.read_config(folder), cfg.dtype)
    for name in SHAPE:
        got, want = getattr(theirs, name), getattr(cfg, name)
        if got != want:
            raise ValueError(
                f"{folder}: {name} is {got}, of this run's model {want}; "
                "export.vector wants models of the same shape"
            )
    return load.opened(folder, cfg, stack, rows)


def _finite(read: Read) -> Read:
    """Returns a reader that raises ValueError for numbers that are none."""

    def checked(name: str, index: layout.Index) -> np.ndarray:
        moved = read(name, index)
        if not np.isfinite(moved).all():
            raise ValueError(
                f"export.vector: {name} of instruct or of base holds numbers that are not finite; "
                "fetch that model again, or take another one"
            )
        return moved

    return checked


def difference(after: Tensors, before: Tensors, rows: int | None) -> Read:
    """Returns a reader of instruct - base in float32; zero past the first `rows`, if given."""

    def read(name: str, index: layout.Index) -> np.ndarray:
        asked = index[0]
        if rows is not None:
            index = (slice(min(asked.start, rows), min(asked.stop, rows)), *index[1:])
        moved = after.read(name, index).astype(np.float32)
        moved -= before.read(name, index).astype(np.float32)
        beyond = asked.stop - asked.start - len(moved)
        return np.pad(moved, [(0, beyond), (0, 0)]) if beyond else moved

    return read


@jax.jit
def _sum(w: jax.Array, moved: jax.Array, scale: jax.Array) -> jax.Array:
    return w.astype(jnp.float32) + scale * moved
