"""Scores tokens: how probable a model finds the continuations of contexts.

    for index, scored in continuations(model, [(context_ids, continuation_ids)], batch_size=8):
        scored.nats, scored.greedy

What is read is packed into rows with segment ids, by best fit. An input that is the beginning of
another one is not read again: choices of one question that are a token each, or equal up to the
last token, read their context once. Logits are computed for scored tokens alone, and none leaves
the devices: two numbers for each scored token do. They are summed in float64, for a float32 sum of
3,000 nats is off by 1e-4.

Shape suffixes beside those of `lrl_jax.model.llama`: Q scored token of a row.
"""

from collections.abc import Collection, Iterator, Sequence
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.data.pack import bins
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.model import llama, rope, sharding
from lrl_jax.text import DataError
from lrl_jax.train import loss

SHORTEST = 128  # tokens of a row; kernels for TPUs and GPUs need multiples of it
SLACK = 1.1  # computed tokens, over the least possible, up to which the length of rows is free


@dataclasses.dataclass(frozen=True)
class Scored:
    """Holds how probable a model finds some tokens."""

    nats: float  # their negative log-likelihood, summed
    greedy: bool  # whether each is the most probable one after those before it
    tokens: int


@dataclasses.dataclass(frozen=True)
class Item:
    """Describes tokens to score: `targets` follow the tokens of a reading from `first` on.

    Target n is predicted from the token at `first` + n and those before it.
    """

    index: int  # under which the result is yielded
    first: int
    targets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Reading:
    """Holds tokens that the model reads together, from position 0 on, and what they predict."""

    tokens: np.ndarray
    items: list[Item]

    @property
    def scored(self) -> int:
        """Returns how many tokens are scored."""
        return sum(len(item.targets) for item in self.items)

    @property
    def size(self) -> int:
        """Returns the room that it takes in a row, whose scored tokens are no more than a row."""
        return max(len(self.tokens), self.scored)


# ---------------------------------------------------------------------------- continuations
def continuations(
    model: MeasuredModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    batch_size: int,
    skip: Collection[int] = (),
) -> Iterator[tuple[int, Scored]]:
    """Yields the index of a pair and its score, as soon as its batch is done, in any order.

    The model reads the last `model.length` tokens before the last token of the continuation, as in
    lm-evaluation-harness: a longer context is cut on the left. No bos is added, but an empty
    context means bos alone.

    Args:
      pairs: ids of a context, and ids of a continuation whose tokens are scored.
      batch_size: how many rows of `model.length` are computed at a time, at most; rounded up to
        what the mesh can split.
      skip: indices of pairs that need no score. A batch of nothing else is not computed; all others
        are the same batches as without it, so that their scores are equal bit for bit.

    Raises:
      DataError: a continuation is empty, or longer than a row.
    """
    readings = shared(pairs, model.length, model.tokenizer.bos_id)
    return score(model, readings, batch_size, frozenset(skip))


def shared(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], length: int, bos_id: int
) -> list[Reading]:
    """Returns what must be read to score pairs; inputs that begin another one are read with it.

    >>> for reading in shared([([5], [6]), ([5], [6, 7]), ([5], [8])], length=4, bos_id=1):
    ...     print(reading.tokens, [(item.index, item.first) for item in reading.items])
    [5 6] [(1, 0), (0, 0), (2, 0)]
    """
    sequences = []
    for index, (context, continuation) in enumerate(pairs):
        if not 0 < len(continuation) <= length:
            raise DataError(
                f"continuation {index} has {len(continuation)} tokens; want 1 to {length}, the "
                "length of a row: score with longer rows, or leave it out"
            )
        ids = [*(context or (bos_id,)), *continuation][-(length + 1) :]
        sequences.append(np.asarray(ids, np.int32))
    # As bytes, big endian, inputs sort like lists of ids: what begins others comes before them.
    keys = [ids[:-1].astype(">u4").tobytes() for ids in sequences]
    readings: list[Reading] = []
    longest, scored = b"", 0
    for index in sorted(range(len(pairs)), key=keys.__getitem__, reverse=True):
        ids, count = sequences[index], len(pairs[index][1])
        if not (readings and longest.startswith(keys[index]) and scored + count <= length):
            readings.append(Reading(ids[:-1], []))
            longest, scored = keys[index], 0
        readings[-1].items.append(Item(index, len(ids) - 1 - count, ids[-count:]))
        scored += count
    return readings


def token_nats(
    model: MeasuredModel, texts: Sequence[Sequence[Reading]], batch_size: int
) -> list[np.ndarray]:
    """Returns the nats of each scored token of each text, float64 [T].

    Args:
      texts: the readings of each, in order, each with a single item.
    """
    readings, first = [], 0
    for reading in (reading for text in texts for reading in text):
        (item,) = reading.items
        tokens = [
            Item(first + n, item.first + n, item.targets[n : n + 1])
            for n in range(len(item.targets))
        ]
        readings.append(Reading(reading.tokens, tokens))
        first += len(tokens)
    nats = np.empty(first, np.float64)
    for index, scored in score(model, readings, batch_size, greedy=False):
        nats[index] = scored.nats
    sizes = [sum(reading.scored for reading in text) for text in texts]
    return np.split(nats, np.cumsum(sizes)[:-1]) if sizes else []


# ---------------------------------------------------------------------------- batches
def score(
    model: MeasuredModel,
    readings: Sequence[Reading],
    batch_size: int,
    skip: frozenset[int] = frozenset(),
    greedy: bool = True,
) -> Iterator[tuple[int, Scored]]:
    """Yields the index of an item and its score, as soon as its batch is done, in any order.

    Every process passes the same readings and gets the same scores.

    Args:
      skip: a batch is left out if all its items are among these.
      greedy: whether it is found out if tokens are the most probable ones, which takes another
        pass over the logits; without it, scores say that they are not.
    """
    if not readings:
        return
    layout = lay_out([reading.size for reading in readings], model, batch_size)
    rows = [[readings[i] for i in row] for row in layout.bins]
    whole, done = sum(len(reading.items) for reading in readings), 0
    scored = layout.scored(max(sum(reading.scored for reading in row) for row in rows))
    waiting: list[tuple[Sequence[Sequence[Reading]], tuple[jax.Array, jax.Array]]] = []
    for start in range(0, len(rows), layout.rows):
        model.tick(done, whole)
        chunk = rows[start : start + layout.rows]
        indices = {item.index for row in chunk for reading in row for item in reading.items}
        if indices <= skip:
            done += len(indices)
            continue
        arrays = _arrays(chunk, (layout.rows, layout.length, scored), model.tokenizer.pad_id)
        waiting.append((chunk, _dispatch(model, arrays, greedy)))
        if len(waiting) > 1:  # read one step late, so that devices never wait for the host
            for result in _results(*waiting.pop(0)):
                done += 1
                yield result
    for batch in waiting:
        yield from _results(*batch)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Describes how readings lie in rows.

    Attributes:
      length: tokens of a row.
      rows: rows of a batch.
      bins: which readings each row has.
    """

    length: int
    rows: int
    bins: list[list[int]]

    @property
    def computed(self) -> int:
        """Returns how many tokens are computed, padding included."""
        return -(-len(self.bins) // self.rows) * self.rows * self.length

    def scored(self, most: int) -> int:
        """Returns the number of scored tokens that rows are padded to: an eighth to all of them."""
        eighth = self.length // 8 if self.length % 8 == 0 else self.length
        return next(n for n in (eighth, 2 * eighth, 4 * eighth, self.length) if n >= most)


def lay_out(sizes: Sequence[int], model: MeasuredModel, batch_size: int) -> Layout:
    """Packs readings of these sizes into rows, of a length and number that fit what there is.

    Little text gets shorter rows, and fewer of them in a batch, so that little padding is computed.
    Both come from short lists, so that few shapes are compiled. A batch never has more tokens than
    `batch_size` rows of `model.length` (rounded up to what the mesh can split).
    """
    ways = sharding.rows_split(model.mesh.shape)
    layouts = []
    for length in _row_lengths(model.cfg, model.length, max(sizes)):
        packed = bins.best_fit(sizes, length)
        most = -(-batch_size // ways) * (model.length // length)
        each = -(-len(packed) // ways)  # rows of each device
        rows = min(most, _rounded(-(-each // -(-each // most))))
        layouts.append(Layout(length, rows * ways, packed))
    least = min(layout.computed for layout in layouts)
    close = [layout for layout in layouts if layout.computed <= SLACK * least]
    # Short rows have cheaper attention on a CPU; elsewhere fewer shapes count for more.
    return close[-1] if model.mesh.devices.flat[0].platform == "cpu" else close[0]


def _row_lengths(cfg: llama.LlamaConfig, length: int, longest: int) -> Iterator[int]:
    """Yields the length of a row, its half, and so on, as long as the longest reading fits."""
    scalings = [kind.rope.scaling for kind in cfg.kinds]
    # LongRope turns longer rows by other angles, so its rows stay on the same side.
    sides = [s.original_length for s in scalings if isinstance(s, rope.LongRope)]
    shortest = max([SHORTEST, longest, *(side + 1 for side in sides if length > side)])
    yield length
    while length % 2 == 0 and length // 2 >= shortest:
        length //= 2
        yield length


def _rounded(rows: int) -> int:
    """Returns the next of 1 to 16, 18, 20 and so on to 32, 36, 40 and so on.

    >>> [_rounded(n) for n in (1, 7, 16, 17, 32, 33)]
    [1, 7, 16, 18, 32, 36]
    """
    step = 1 << max(0, (rows - 1).bit_length() - 4)
    return -(-rows // step) * step


def _arrays(
    rows: Sequence[Sequence[Reading]], shape: tuple[int, int, int], pad_id: int
) -> dict[str, np.ndarray]:
    """Returns the arrays of a batch, int32, padded to B rows of T tokens and Q scored ones.

    >>> item = Item(index=0, first=1, targets=np.array([7, 8]))
    >>> rows = [[Reading(np.array([5, 6, 7]), [item]), Reading(np.array([5, 6, 7]), [item])]]
    >>> for name, array in _arrays(rows, (1, 8, 5), pad_id=0).items(): print(f"{name:9}", array[0])
    tokens    [5 6 7 5 6 7 0 0]
    segments  [1 1 1 2 2 2 0 0]
    positions [0 1 2 0 1 2 0 0]
    places    [1 2 4 5 0]
    targets   [7 8 7 8 0]
    """
    B, T, Q = shape
    tokens_BT = np.full((B, T), pad_id, np.int32)
    segments_BT, positions_BT = (np.zeros((B, T), np.int32) for _ in range(2))
    places_BQ, targets_BQ = (np.zeros((B, Q), np.int32) for _ in range(2))
    for b, row in enumerate(rows):
        start = used = 0
        for segment, reading in enumerate(row, start=1):
            end = start + len(reading.tokens)
            tokens_BT[b, start:end] = reading.tokens
            segments_BT[b, start:end] = segment
            positions_BT[b, start:end] = np.arange(end - start)
            for item in reading.items:
                count = len(item.targets)
                places_BQ[b, used : used + count] = np.arange(count) + start + item.first
                targets_BQ[b, used : used + count] = item.targets
                used += count
            start = end
    return {
        "tokens": tokens_BT,
        "segments": segments_BT,
        "positions": positions_BT,
        "places": places_BQ,
        "targets": targets_BQ,
    }


def _dispatch(
    model: MeasuredModel, arrays: dict[str, np.ndarray], greedy: bool
) -> tuple[jax.Array, jax.Array]:
    split = meshes.batch_sharding(model.mesh)
    with jax.set_mesh(model.mesh):
        batch = {  # every process has all rows
            name: jax.make_array_from_callback(array.shape, split, array.__getitem__)
            for name, array in arrays.items()
        }
        return token_scores(model.cfg, model.loss_blocks, greedy, model.params, batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def token_scores(
    cfg: llama.LlamaConfig, blocks: int, greedy: bool, params: llama.Params, batch
) -> tuple[jax.Array, jax.Array]:
    """Returns the nats of each scored token, and whether it is the most probable one, [B, Q].

    Args:
      blocks: in how many blocks the vocabulary is read, as in `loss.token_loss`.
      greedy: whether the second is computed; else it is False.
      batch: the arrays of `_arrays`.
    """
    llm = llama.bind(cfg, params)
    hidden_BTD = llm.hidden(batch["tokens"], batch["segments"], batch["positions"])
    hidden_BQD = jnp.take_along_axis(hidden_BTD, batch["places"][..., None], axis=1)
    read = loss.greedy_loss if greedy else loss.token_loss
    nll_BQ, greedy_BQ = read(
        sharding.stream(hidden_BQD), llm.unembedding(), batch["targets"], cfg.vocab_size, blocks,
        cfg.logit_softcap,
    )  # fmt: skip
    if not greedy:
        greedy_BQ = jnp.zeros(nll_BQ.shape, bool)
    everywhere = jax.sharding.PartitionSpec()
    return sharding.constrain(nll_BQ, everywhere), sharding.constrain(greedy_BQ, everywhere)


def _results(
    rows: Sequence[Sequence[Reading]], scores: tuple[jax.Array, jax.Array]
) -> Iterator[tuple[int, Scored]]:
    """Yields the items of a batch in their order, when the devices have computed it."""
    nll_BQ, greedy_BQ = (np.asarray(x_BQ.addressable_data(0)) for x_BQ in scores)
    for row, nll_Q, greedy_Q in zip(rows, nll_BQ, greedy_BQ, strict=False):
        used = 0
        for item in (item for reading in row for item in reading.items):
            own = slice(used, used := used + len(item.targets))
            nats = float(nll_Q[own].sum(dtype=np.float64))
            yield item.index, Scored(nats, bool(greedy_Q[own].all()), len(item.targets))
