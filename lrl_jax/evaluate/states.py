"""Pools what a model makes of sentences at every layer: a vector a sentence, layer and pooling.

    pooled = states.pool(model, [[1, 5, 6], [1, 7]], batch_size=8)
    pooled["mean"]                     # float32 [L + 1, N, D], layer 0 the embeddings

Sentences are packed into rows, where each sees itself alone, as by segments in training. They are
summed where the layers are computed, so that L + 1 vectors of a sentence and pooling are kept, and
never the states of all tokens. What a sentence shares a row with, and padding, change nothing.

Shape suffixes beside those of `lrl_jax.model.llama`: P pooling, N sentence.
"""

from collections.abc import Iterator, Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lrl_jax.data.pack import bins
from lrl_jax.devices import mesh as meshes
from lrl_jax.evaluate.kinds import MeasuredModel
from lrl_jax.evaluate.likelihood import SHORTEST
from lrl_jax.model import llama, rope, sharding

# Means of a sentence's tokens, bos among them, with weights 1 to T (MEXA, arXiv 2410.05873) or
# equal ones; and the state of its last token.
POOLINGS = ("weighted", "mean", "last")
LONGEST = 2048  # tokens of a sentence; what is longer is no sentence, and attention grows by T^2
STEP = 16  # tokens of which rows are multiples on a CPU; kernels elsewhere want SHORTEST
SENTENCES = 64  # of a batch at most: as many vectors of each layer are on the devices at once

Batches = list[list[list[int]]]  # which sentences each row of each batch has


def longest(model: MeasuredModel) -> int:
    """Returns how many tokens of a sentence a model reads here."""
    return min(LONGEST, model.context) if model.context else LONGEST


def sentence_ids(sentences: Sequence[str], model: MeasuredModel) -> list[list[int]]:
    """Returns the ids of each sentence after bos, as `pool` takes them."""
    tokenizer = model.tokenizer
    return [[tokenizer.bos_id, *ids] for ids in tokenizer.encode_batch(sentences)]


def pool(
    model: MeasuredModel, sentences: Sequence[Sequence[int]], batch_size: int
) -> dict[str, np.ndarray]:
    """Returns the states of each sentence: pooling -> float32 [L + 1, N, D].

    Layer 0 is the embeddings, layer L is after the final norm. Equal sentences are computed once,
    and have equal states to the bit. Every process passes the same ids and gets the same states.

    Args:
      sentences: ids of each, with bos where the model is to see it; none is empty.
      batch_size: rows of `model.length` tokens that are computed at a time, at most; rounded up to
        what the mesh can split.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for n, ids in enumerate(sentences):
        places.setdefault(tuple(ids), []).append(n)
    unique = [*places]
    shape = (len(POOLINGS), model.cfg.depth + 1, len(sentences), model.cfg.width)
    states_PLND = np.empty(shape, np.float32)
    done = 0
    for indices, sums_LPND in _sums(model, unique, batch_size):
        model.tick(done, len(unique))
        for n, ids in enumerate(unique[i] for i in indices):
            totals_P1 = np.array(_totals(len(ids)), np.float32)[:, None]
            means_PLD = (sums_LPND[:, :, n] / totals_P1[None]).swapaxes(0, 1)
            states_PLND[:, :, places[ids]] = means_PLD[:, :, None]
        done += len(indices)
    model.tick(done, len(unique))
    return dict(zip(POOLINGS, states_PLND, strict=True))


def _totals(tokens: int) -> tuple[int, int, int]:
    """Returns what the weights of a sentence sum to, for each pooling."""
    return tokens * (tokens + 1) // 2, tokens, 1


# ---------------------------------------------------------------------------- batches
def lay_out(
    sizes: Sequence[int], model: MeasuredModel, batch_size: int
) -> tuple[int, int, Batches]:
    """Returns the tokens of a row, the rows of a batch, and the batches, of least padding.

    A batch has at most SENTENCES sentences, and no more tokens than `batch_size` rows of
    `model.length`, but at least a row for each part of the mesh.
    """
    ways = sharding.rows_split(model.mesh.shape)
    room = -(-batch_size // ways) * model.length  # tokens of a device
    layouts = []
    for length in _row_lengths(model, max(sizes)):
        taken = [max(size, -(-length // SENTENCES)) for size in sizes]
        most = max(1, room // length) * ways
        batches = [*_batches(bins.best_fit(taken, length), most)]
        rows = -(-max(map(len, batches)) // ways) * ways
        layouts.append((length, rows, batches))
    return min(layouts, key=lambda layout: layout[0] * layout[1] * len(layout[2]))


def _row_lengths(model: MeasuredModel, size: int) -> Iterator[int]:
    """Yields the shortest row that holds the longest sentence, its double, and so on."""
    side = _side(model.cfg)
    step = STEP if model.mesh.devices.flat[0].platform == "cpu" else SHORTEST
    length = -(-size // step) * step
    if size <= side < length:
        length = side
    yield length
    while 2 * length <= model.length and (2 * length <= side or size > side):
        length *= 2
        yield length


def _side(cfg: llama.LlamaConfig) -> int:
    """Returns how long a row is at most that LongRope turns by its angles for short ones."""
    scalings = [kind.rope.scaling for kind in cfg.kinds]
    sides = [s.original_length for s in scalings if isinstance(s, rope.LongRope)]
    return min(sides, default=1 << 30)


def _batches(rows: Sequence[list[int]], most: int) -> Iterator[list[list[int]]]:
    """Yields rows in batches of at most `most` rows and SENTENCES sentences."""
    batch: list[list[int]] = []
    for row in rows:
        if batch and (len(batch) == most or sum(map(len, [*batch, row])) > SENTENCES):
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _sums(
    model: MeasuredModel, sentences: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yields the sentences of each batch, and their weighted sums [L + 1, P, N, D]."""
    side = _side(model.cfg)  # each side by itself: a sentence is turned as it is when alone
    for short in (True, False):
        own = [i for i, ids in enumerate(sentences) if (len(ids) <= side) == short]
        if not own:
            continue
        length, rows, batches = lay_out([len(sentences[i]) for i in own], model, batch_size)
        waiting: list[tuple[list[int], jax.Array]] = []
        for batch in batches:
            named = [[own[n] for n in row] for row in batch]
            arrays = _arrays(sentences, named, (rows, length), model.tokenizer.pad_id)
            waiting.append(([i for row in named for i in row], _dispatch(model, arrays)))
            if len(waiting) > 1:  # read one batch late, so that devices never wait for the host
                yield _fetched(*waiting.pop(0))
        yield from (_fetched(*each) for each in waiting)


def _arrays(
    sentences: Sequence[Sequence[int]], batch: Sequence[Sequence[int]], shape: tuple[int, int],
    pad_id: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Returns the arrays of a batch, int32, padded to B rows of T tokens.

    >>> arrays = _arrays([[1, 5], [1, 6, 7], [1]], [[1, 0], [2]], (2, 6), pad_id=0)
    >>> for name, (first, second) in arrays.items(): print(f"{name:9}", first, second)
    tokens    [1 6 7 1 5 0] [1 0 0 0 0 0]
    segments  [1 1 1 2 2 0] [1 0 0 0 0 0]
    positions [0 1 2 0 1 0] [0 0 0 0 0 0]
    sentences [ 0  0  0  1  1 -1] [ 2 -1 -1 -1 -1 -1]
    lasts     [0 0 1 0 1 0] [1 0 0 0 0 0]
    """
    names = ("tokens", "segments", "positions", "sentences", "lasts")
    arrays = {name: np.zeros(shape, np.int32) for name in names}
    arrays["tokens"][:], arrays["sentences"][:] = pad_id, -1
    count = 0
    for b, row in enumerate(batch):
        start = 0
        for segment, index in enumerate(row, start=1):
            end = start + len(sentences[index])
            arrays["tokens"][b, start:end] = sentences[index]
            arrays["segments"][b, start:end] = segment
            arrays["positions"][b, start:end] = np.arange(end - start)
            arrays["sentences"][b, start:end] = count
            arrays["lasts"][b, end - 1] = 1
            start, count = end, count + 1
    return arrays


# ---------------------------------------------------------------------------- on the devices
def _dispatch(model: MeasuredModel, arrays: dict[str, np.ndarray]) -> jax.Array:
    split = meshes.batch_sharding(model.mesh)
    with jax.set_mesh(model.mesh):
        batch = {  # every process has all rows
            name: jax.make_array_from_callback(array.shape, split, array.__getitem__)
            for name, array in arrays.items()
        }
        return state_sums(model.cfg, model.params, batch)


@functools.partial(jax.jit, static_argnums=0)
def state_sums(cfg: llama.LlamaConfig, params: llama.Params, batch) -> jax.Array:
    """Returns the weighted sums of the states of each sentence, float32 [L + 1, P, N, D].

    Args:
      batch: the arrays of `_arrays`, which have SENTENCES sentences at most.
    """
    llm = llama.bind(cfg, params)
    weights_PBTN = _weights(batch)

    def look(x_BTD: jax.Array) -> jax.Array:
        # float32 in full: bfloat16 products, TPUs' default, would be off by 1 in 256
        return jnp.einsum(
            "pbtn,btd->pnd", weights_PBTN, x_BTD.astype(jnp.float32), precision="highest"
        )

    sums_LPND = llm.states(batch["tokens"], batch["segments"], batch["positions"], look)
    return sharding.constrain(sums_LPND, jax.sharding.PartitionSpec())


def _weights(batch) -> jax.Array:
    """Returns what each token counts for each sentence, for each of POOLINGS, [P, B, T, N]."""
    numbers_N = jnp.arange(SENTENCES, dtype=jnp.int32)
    own_BTN = batch["sentences"][..., None] == numbers_N[None, None]
    counts = (batch["positions"] + 1, jnp.ones_like(batch["positions"]), batch["lasts"])
    counts_PBT = jnp.stack(counts).astype(jnp.float32)
    return jnp.where(own_BTN[None], counts_PBT[..., None], jnp.float32(0))


def _fetched(indices: list[int], sums_LPND: jax.Array) -> tuple[list[int], np.ndarray]:
    return indices, np.asarray(sums_LPND.addressable_data(0))
