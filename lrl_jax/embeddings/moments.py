"""Makes starting rows of new tokens from statistics of the old rows alone.

A strategy is a function of the old matrix [V, D], the clues and a random generator. It returns a
float32 row for each added token, [A, D], in the order of `clues.added`; `strategies.grow` builds
the whole matrix from them.

V: tokens of the old vocabulary. W: tokens of the new vocabulary. A: added tokens. E: width of
another space of vectors. M: old tokens in that space. N: added tokens in it. The output matrix is
passed with a row for each token too. Weights are a scipy csr_array [A, V].
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Literal

import numpy as np
from scipy import sparse

from lrl_jax.vocab.pieces.splice import Splice

BLOCK = 4096  # rows turned to float32 at a time
CELLS = 1 << 22  # numbers in a temporary block of float32: 16 MB

Matrix = Literal["input", "output"]


@dataclasses.dataclass(frozen=True)
class Space:
    """Holds vectors of tokens in a space outside the model; tokens without a vector are left out.

    Ids ascend: those of old tokens in the old vocabulary, [M], and of added tokens in the new, [N].
    """

    old_ids: np.ndarray
    old_ME: np.ndarray
    new_ids: np.ndarray
    new_NE: np.ndarray

    def __post_init__(self):
        assert len(self.old_ids) == len(self.old_ME)
        assert len(self.new_ids) == len(self.new_NE)
        if not len(self.old_ids):
            raise ValueError(
                "no token of the base vocabulary has a vector, so new tokens cannot be compared "
                "with any; give more text, or vectors or a helper that share tokens with the base"
            )


@dataclasses.dataclass(frozen=True)
class Snippets:
    """Holds short texts in two readings: of the old tokenizer, and of the new one.

    M: snippets. T: the longest reading of any; shorter ones are padded with 0.

    Attributes:
      old_MT, new_MT: ids in the old and in the new vocabulary.
      old_M, new_M: how long each reading is.
      ends_MT: for each new id, where the old reading ends with the same byte.
      shared_MT: the new ids that end where an old one does, from the first added token on.
      counts: added id -> how many snippets have it.
    """

    old_MT: np.ndarray
    new_MT: np.ndarray
    old_M: np.ndarray
    new_M: np.ndarray
    ends_MT: np.ndarray
    shared_MT: np.ndarray
    counts: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class Clues:
    """Holds what is known about new tokens. A strategy names the optional clues it needs.

    Attributes:
      splice: the old ids that spell each added token, and the new ids of kept tokens.
      matrix: which matrix is extended; a tied matrix is extended once, as "input".
      bytes_V: how many bytes of text each old token has.
      parents: added id -> the two ids (of the new vocabulary) it is merged from.
      contexts: added id -> how often the base encoded its text as which old ids, in real text.
      words: vectors of tokens made from word vectors of both languages.
      tokens: vectors of tokens learnt from their neighbours in text of the new language.
      helper: vectors of tokens from the embeddings of another model.
      snippets: text with new tokens in it, as the base reads it and as the new model will.
    """

    splice: Splice
    matrix: Matrix = "input"
    bytes_V: np.ndarray | None = None
    parents: Mapping[int, tuple[int, int]] | None = None
    contexts: Mapping[int, Mapping[tuple[int, ...], float]] | None = None
    words: Space | None = None
    tokens: Space | None = None
    helper: Space | None = None
    snippets: Snippets | None = None

    @property
    def added(self) -> list[int]:
        """Returns the ids of added tokens, ascending; a strategy returns rows in this order."""
        return sorted(self.splice.added)

    @property
    def spelled(self) -> list[tuple[int, ...]]:
        """Returns the old ids that spell each added token."""
        return [self.splice.added[new] for new in self.added]


# ---------------------------------------------------------------------------- strategies
def random_normal(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Draws rows from N(0, 0.02), as for an untrained Llama (initializer_range in HF)."""
    return np.float32(0.02) * rng.standard_normal((len(clues.added), old_VD.shape[1]), np.float32)


def matched_normal(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Draws rows from a normal with the mean and standard deviation of each column (WECHSEL)."""
    return draw(old_VD, len(clues.added), rng)


def mean(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of all old rows for every added token (Hewitt 2021)."""
    return np.tile(_moments(old_VD)[0], (len(clues.added), 1))


def hewitt(
    old_VD: np.ndarray, clues: Clues, rng: np.random.Generator, epsilon: float = 1e-9
) -> np.ndarray:
    """Draws rows from N(mean, epsilon Cov) of the old rows, near the mean but distinct.

    Returns the mean itself if the covariance is not positive definite. The default of `epsilon` is
    that of transformers. Source: Hewitt 2021.
    """
    mean_D, _ = _moments(old_VD)
    new_AD = np.tile(mean_D, (len(clues.added), 1))
    cov_DD = np.zeros((len(mean_D),) * 2, np.float32)
    for centred in (block - mean_D for block in _blocks(old_VD)):
        cov_DD += centred.T @ centred
    try:
        root_DD = np.linalg.cholesky(cov_DD / np.float32(len(old_VD)))
    except np.linalg.LinAlgError:
        return new_AD
    noise_AD = rng.standard_normal(new_AD.shape, np.float32)
    return new_AD + noise_AD @ (np.float32(epsilon**0.5) * root_DD.T)


# ---------------------------------------------------------------------------- scaling new rows
def calibrate(new_WD: np.ndarray, splice: Splice, weight_V: np.ndarray) -> np.ndarray:
    """Scales new rows to the usual norm of old rows in the language (Joshi et al. 2608.03494).

    Rows that copy an old row, and rows of zeros, are left unchanged.

    Args:
      new_WD: the matrix that `strategies.grow` returned.
      weight_V: how often text of the language uses each old token (`clues.counts`).
    """
    if len(weight_V) != len(splice.kept) or not weight_V.sum() > 0:
        raise ValueError(
            f"got {len(weight_V)} weights with sum {weight_V.sum()} for {len(splice.kept)} old "
            "tokens; want how often the base tokenizer emits each of them on text"
        )
    norm_W = np.concatenate([np.linalg.norm(block, axis=1) for block in _blocks(new_WD)])
    kept = np.array(sorted(splice.kept))
    weights = np.array([weight_V[splice.kept[i]] for i in kept], np.float64)
    target = (weights * norm_W[kept]).sum() / weights.sum()
    own = [i for i, old in splice.added.items() if len(old) != 1 and norm_W[i] > 0]
    scaled_WD = new_WD.copy()
    for start in range(0, len(own), BLOCK):
        ids = own[start : start + BLOCK]
        factor = (target / norm_W[ids]).astype(np.float32)
        scaled_WD[ids] = (_float32(new_WD[ids]) * factor[:, None]).astype(new_WD.dtype)
    return scaled_WD


# ---------------------------------------------------------------------------- sums and draws
def mix(weights_AV: sparse.csr_array, old_VD: np.ndarray) -> np.ndarray:
    """Returns the weighted sums of old rows, float32; old rows are cast to float32 in blocks.

    >>> weights = listed([{1: 0.5, 2: 0.5}, {2: 1.0}], size=3)
    >>> mix(weights, np.array([[9., 9.], [2., 0.], [0., 4.]]))
    array([[1., 2.],
           [0., 4.]], dtype=float32)
    """
    new_AD = np.empty((len(weights_AV.indptr) - 1, old_VD.shape[1]), np.float32)
    for a in range(0, len(new_AD), BLOCK):
        block = sparse.csr_array(weights_AV[a : a + BLOCK])
        used, places = np.unique(block.indices, return_inverse=True)
        shape = (len(block.indptr) - 1, len(used))
        small = sparse.csr_array((block.data, places, block.indptr), shape=shape)
        step = max(1, CELLS // max(1, len(used)))
        for d in range(0, old_VD.shape[1], step):
            columns = old_VD[:, d : d + step]
            new_AD[a : a + BLOCK, d : d + step] = small @ _float32(columns[used])
    return new_AD


def listed(rows: Sequence[Mapping[int, float]], size: int) -> sparse.csr_array:
    """Returns weights [A, V] made from one mapping {old id: weight} for each row; V is `size`."""
    ends = np.cumsum([0, *map(len, rows)])
    ids = np.fromiter((i for row in rows for i in row), np.int64, ends[-1])
    values = np.fromiter((w for row in rows for w in row.values()), np.float32, ends[-1])
    return sparse.csr_array((values, ids, ends), shape=(len(rows), size))


def draw(old_VD: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws rows from a normal with the mean and standard deviation of each column."""
    mean_D, std_D = _moments(old_VD)
    new_AD = rng.standard_normal((count, len(mean_D)), np.float32)
    new_AD *= std_D
    new_AD += mean_D
    return new_AD


def _moments(old_VD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and standard deviation of each column; blocks avoid a float32 copy."""
    mean_D = sum(block.sum(0) for block in _blocks(old_VD)) / np.float32(len(old_VD))
    square_D = sum(np.square(block - mean_D).sum(0) for block in _blocks(old_VD))
    return np.asarray(mean_D), np.sqrt(square_D / np.float32(len(old_VD)))


def _blocks(old_VD: np.ndarray) -> Iterator[np.ndarray]:
    return (_float32(old_VD[i : i + BLOCK]) for i in range(0, len(old_VD), BLOCK))


def _float32(old_VD: np.ndarray) -> np.ndarray:
    """Casts to float32, because sums of rows in bfloat16 would be too coarse."""
    return old_VD.astype(np.float32, copy=False)
