"""Measures bits per byte of text under a model, a loss that is comparable between vocabularies.

    score = bits_per_byte(cfg, params, tokenizer, lines, mesh, batch_size=8, length=512)
    score.bits_per_byte

Each line is a document. Each of its tokens is predicted from bos and the tokens before it in the
line. Bytes are the UTF-8 bytes of the line. Neither the newline nor eos is counted: many base
models never saw an eos, so training would be credited for learning one token per line. This is also
what `bits_per_byte` means in EleutherAI/lm-evaluation-harness.

A line longer than `length` is read in windows that overlap by half. Every window starts with bos,
and a token is scored in the window where it has the most context. So only the first `length // 2`
tokens of a line have a context shorter than that.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.data.pack import bins, rows
from lrl_jax.model import llama, sharding
from lrl_jax.train import loss
from lrl_jax.vocab.tokenizer.types import Tokenizer

Window = tuple[np.ndarray, np.ndarray]  # tokens, and a mask of those that are scored


@dataclasses.dataclass(frozen=True)
class Score:
    """Holds how well a model predicts a text.

    Attributes:
      bits_per_byte: bits the model needs for one UTF-8 byte; independent of the tokenizer.
      nats_per_token: the training loss of the same text; comparable within one tokenizer only.
      tokens: tokens scored (no bos, no eos).
      bytes: UTF-8 bytes of the scored lines.
      lines: lines scored; blank ones are not.
    """

    bits_per_byte: float
    nats_per_token: float
    tokens: int
    bytes: int
    lines: int


def bits_per_byte(
    cfg: llama.LlamaConfig,
    params: dict[str, jax.Array],
    tokenizer: Tokenizer,
    texts: Sequence[str],
    mesh: jax.sharding.Mesh,
    batch_size: int,
    length: int,
    loss_blocks: int = 1,
) -> Score:
    """Returns the score of lines of text, which may be of any language and script.

    Args:
      params: the flat parameters, sharded on `mesh`.
      texts: one line each; the order and the packing do not change the score.
      batch_size: how many rows are scored at a time; rounded up to what the mesh can split.
      length: how many tokens a row has.
      loss_blocks: how many blocks the loss reads the vocabulary in, to save memory.

    Raises:
      ValueError: there is no text to score, or `length` is too short to score in.
    """
    if length < 2:
        raise ValueError(f"length: {length}; a window needs at least 2 tokens")
    lines = [text for text in texts if text.strip()]
    if not lines:
        raise ValueError(f"no text to score: {len(texts)} lines, all of them blank")
    documents = tokenizer.encode_batch(lines)
    pieces = [window for ids in documents if ids for window in windows(ids, length)]
    packed = [
        rows.PackedRow(
            np.concatenate([pieces[i][0] for i in row]),
            np.concatenate([pieces[i][1] for i in row]),
            np.array([len(pieces[i][0]) for i in row]),
        )
        for row in bins.best_fit([len(ids) for ids, _ in pieces], length)
    ]
    batch = rows.features(packed, length, tokenizer.bos_id, tokenizer.pad_id)
    nats = _total(cfg, params, batch, mesh, batch_size, loss_blocks)
    tokens = sum(map(len, documents))
    size = sum(len(line.encode()) for line in lines)
    return Score(nats / math.log(2) / size, nats / tokens, tokens, size, len(lines))


def windows(ids: Sequence[int], length: int) -> Iterator[Window]:
    """Yields the windows that score every token of a line exactly once.

    >>> for tokens, scored in windows([5, 6, 7, 8, 9], length=4): print(tokens, scored * 1)
    [5 6 7 8] [1 1 1 1]
    [7 8 9] [0 0 1]
    """
    fresh = length // 2  # tokens scored in each later window; those before them are context
    for start in range(0, max(len(ids) - length, 0) + fresh, fresh):
        tokens = np.asarray(ids[start : start + length], np.int32)
        yield tokens, np.arange(len(tokens)) >= (length - fresh if start else 0)


def _total(
    cfg: llama.LlamaConfig,
    params: dict[str, jax.Array],
    arrays: dict[str, np.ndarray],
    mesh: jax.sharding.Mesh,
    batch_size: int,
    loss_blocks: int,
) -> float:
    """Returns the summed loss of the scored tokens, in nats; all batches have the same shape."""
    ways = sharding.rows_split(mesh.shape)
    batch_size = math.ceil(batch_size / ways) * ways
    split = jax.NamedSharding(mesh, jax.P(sharding.BATCH))
    count = len(arrays["decoder_target_tokens"])
    arrays = {k: np.pad(v, ((0, -count % batch_size), (0, 0))) for k, v in arrays.items()}
    sums: list[jax.Array | float] = []
    with jax.set_mesh(mesh):
        for start in range(0, count, batch_size):
            batch = {k: v[start : start + batch_size] for k, v in arrays.items()}
            sums.append(_batch_nats(cfg, loss_blocks, params, _put(batch, split)))
            if len(sums) > 1:  # read one step late, so that devices never wait for the host
                sums[-2] = float(sums[-2])
    return math.fsum(map(float, sums))


def _put(batch: dict[str, np.ndarray], sharding: jax.NamedSharding) -> dict[str, jax.Array]:
    """Puts the rows of a batch on their devices; every process passes the same whole batch."""
    return {
        k: jax.make_array_from_callback(v.shape, sharding, functools.partial(_part, v))
        for k, v in batch.items()
    }


def _part(array: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
    return array[index]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _batch_nats(
    cfg: llama.LlamaConfig, blocks: int, params: dict[str, jax.Array], batch: dict[str, jax.Array]
) -> jax.Array:
    tokens_BT, targets_BT, weights_BT, segments_BT, positions_BT = (
        batch[f"decoder_{name}"]
        for name in ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")
    )
    model = llama.bind(cfg, params)
    hidden_BTD = model.hidden(tokens_BT, segments_BT, positions_BT)
    nll_BT, _ = loss.token_loss(
        hidden_BTD, model.unembedding(), targets_BT, cfg.vocab_size, blocks, cfg.logit_softcap
    )
    return jnp.sum(loss.weigh(nll_BT, weights_BT.astype(jnp.float32)))
