"""Reads vectors of words from a file, or learns vectors of tokens from plain text.

Vectors are learnt by a truncated SVD of positive pointwise mutual information (Levy & Goldberg
2014). They are as good as skip-gram at this size and the same in every run, and need only scipy.
"""

from collections.abc import Iterable
import dataclasses
import itertools

import numpy as np
from scipy import sparse
import scipy.sparse.linalg

from lrl_jax import text
from lrl_jax.text import DataError
from lrl_jax.vocab.tokenizer import load as tokenizers
from lrl_jax.vocab.tokenizer.types import Tokenizer, batches

LINES = 1000  # texts encoded at a time
START = 0  # seed of the vector the SVD starts from; fixed, so that every run gives the same


@dataclasses.dataclass(frozen=True)
class WordVectors:
    """Holds words and their vectors [N, E], the most frequent first, as in fastText's files."""

    words: list[str]
    rows_NE: np.ndarray


# ---------------------------------------------------------------------------- files
def read(uri: str, limit: int = 200_000) -> WordVectors:
    """Reads word vectors in the text format of fastText and word2vec (`.vec`, `.vec.gz`).

    Files list the most frequent words first, and no more than `limit` are read. Another format, or
    a damaged line, is a DataError.
    """
    lines = text.lines(uri)
    count, width = _header(next(lines, ""), uri)
    rows_NE = np.empty((min(count, limit), width), np.float32)
    words: list[str] = []
    for number, line in enumerate(itertools.islice(lines, len(rows_NE)), start=2):
        word, row_E = _row(line, width, f"{uri}:{number}")
        rows_NE[len(words)] = row_E
        words.append(word)
    if len(words) < len(rows_NE):
        raise DataError(f"{uri}: says it has {count} words, but ends after {len(words)}")
    places, rows_NE = nonzero(np.arange(len(words)), rows_NE)
    return WordVectors([words[place] for place in places], rows_NE)


def read_pairs(uri: str) -> list[tuple[str, str]]:
    """Reads a dictionary: each line has a word, a tab and its translation, else a DataError."""
    pairs = []
    for number, line in enumerate(text.lines(uri), start=1):
        words = line.split("\t")
        if len(words) != 2 or not all(word.strip() for word in words):
            raise DataError(f"{uri}:{number}: want a word, a tab and its translation, got {line!r}")
        pairs.append((words[0].strip(), words[1].strip()))
    return pairs


def _header(line: str, uri: str) -> tuple[int, int]:
    parts = line.split()
    if len(parts) != 2 or not all(number.isdecimal() and int(number) for number in parts):
        raise DataError(
            f"{uri}:1: want a first line such as `2000000 300` (words, width), as fastText .vec "
            f"files have, got {line[:60]!r}"
        )
    return int(parts[0]), int(parts[1])


def _row(line: str, width: int, where: str) -> tuple[str, np.ndarray]:
    # From the right: a word may hold a no-break space, which `split` would cut at.
    word, *numbers = line.rstrip(" ").rsplit(" ", width)
    try:
        row_E = np.array(numbers, np.float32)
    except ValueError:
        row_E = np.empty(0, np.float32)
    if not word or len(row_E) != width or not np.isfinite(row_E).all():
        raise DataError(f"{where}: want a word and {width} numbers, got {line[:60]!r}")
    return word, row_E


# ---------------------------------------------------------------------------- words to tokens
def of_tokens(tokenizer: Tokenizer, words: WordVectors) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids of tokens and their vectors [N, E], made from vectors of words as in WECHSEL.

    The vector of a token is the mean of the words whose spelling contains it. A word weighs 1 / its
    position in the file: files are sorted by frequency but do not give it, and words follow Zipf's
    law. Each word is spelled both as after a space and as at the start of a line.
    """
    family = tokenizers.family(tokenizer)
    spellings = [family.words(tokenizer, [word, f" {word}"]) for word in words.words]
    stretches = list(dict.fromkeys(stretch for parts in spellings for stretch in parts))
    spelled = dict(zip(stretches, family.spell(tokenizer, stretches), strict=True))
    token_places = [
        (i, place)
        for place, parts in enumerate(spellings)
        for i in {i for stretch in parts for i in spelled[stretch]}
    ]
    tokens, places = np.array(token_places, np.int64).reshape(-1, 2).T
    ids, row = np.unique(tokens, return_inverse=True)
    share = (1 / (places + 1)).astype(np.float32)
    shape = (len(ids), len(words.words))
    total_NE = sparse.csr_array((share, (row, places)), shape=shape) @ words.rows_NE
    return nonzero(ids, total_NE / np.bincount(row, share).astype(np.float32)[:, None])


def procrustes(from_NE: np.ndarray, to_NE: np.ndarray) -> np.ndarray:
    """Returns the rotation R [E, E] for which from_NE R is nearest to `to_NE` (Schoenemann 1966).

    >>> turned = procrustes(np.array([[1., 0.], [0., 2.]]), np.array([[0., 1.], [-2., 0.]]))
    >>> (turned + 0.0).round(6)
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    left, _, right = np.linalg.svd(from_NE.T @ to_NE)
    return left @ right


# ---------------------------------------------------------------------------- learning
def learn(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    width: int = 100,
    window: int = 5,
    min_count: int = 10,
    smoothing: float = 0.75,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids of tokens and vectors [N, E] learnt from their neighbours in `texts`.

    Memory depends on the number of distinct pairs of neighbours, 12 bytes each, and not on the
    length of the text. The defaults of width and `min_count` are those of FOCUS (2305.14481), that
    of the window is fastText's, and the smoothing of context counts is that of Levy et al. (2015).

    Args:
      window: how many tokens on each side count as neighbours.
      min_count: rarer tokens get no vector; a ValueError where fewer than three are left.
    """
    count_W, pairs_WW = _neighbours(tokenizer, texts, window)
    ids = np.flatnonzero(count_W >= min_count)
    if len(ids) < 3:
        raise ValueError(
            f"only {len(ids)} tokens occur {min_count} times in the text; give more of it"
        )
    pick_NW = sparse.csr_array(
        (np.ones(len(ids), np.float32), ids, np.arange(len(ids) + 1)),
        shape=(len(ids), len(count_W)),
    )
    ppmi_NN = ppmi(sparse.csr_array(pick_NW @ pairs_WW @ pick_NW.T), smoothing)
    rank = min(width, len(ids) - 1)
    start = np.random.default_rng(START)
    left_NE, values_E, _ = scipy.sparse.linalg.svds(ppmi_NN, k=rank, rng=start)
    return nonzero(ids, (left_NE * np.sqrt(values_E)).astype(np.float32))


def ppmi(pairs_NN: sparse.csr_array, smoothing: float) -> sparse.csr_array:
    """Returns the positive pointwise mutual information of each pair of tokens.

    It is the log of how much more often two tokens occur together than by chance, or 0 if less.

    >>> pairs = sparse.csr_array(np.array([[0., 6.], [2., 2.]]))  # by chance 3.6 would be 4.8
    >>> ppmi(pairs, 1.0).toarray().round(3)
    array([[0.   , 0.223],
           [0.916, 0.   ]], dtype=float32)
    """
    cells = sparse.coo_array(pairs_NN)
    row, column = cells.coords
    context_N = np.asarray(pairs_NN.sum(0)).ravel() ** smoothing
    chance = np.asarray(pairs_NN.sum(1)).ravel()[row] * (context_N / context_N.sum())[column]
    value = np.log(cells.data / chance)
    good = value > 0
    return sparse.csr_array(
        (value[good].astype(np.float32), (row[good], column[good])), shape=pairs_NN.shape
    )


def _neighbours(
    tokenizer: Tokenizer, texts: Iterable[str], window: int
) -> tuple[np.ndarray, sparse.csr_array]:
    """Returns how often each token occurs, and how often each two occur within `window` tokens."""
    size = tokenizer.size
    count_W = np.zeros(size, np.int64)
    pairs_WW = sparse.csr_array((size, size), dtype=np.float32)
    for batch in batches(texts, LINES):
        rows = tokenizer.encode_batch(batch)
        ids = np.fromiter(itertools.chain.from_iterable(rows), np.int64)
        line = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        count_W += np.bincount(ids, minlength=size)
        left, right = [], []
        for apart in range(1, window + 1):
            same = line[apart:] == line[:-apart]
            left.append(ids[:-apart][same])
            right.append(ids[apart:][same])
        where = (np.concatenate(left), np.concatenate(right))
        ones = np.ones(len(where[0]), np.float32)
        pairs_WW += sparse.coo_array((ones, where), shape=(size, size)).tocsr()
    return count_W, sparse.csr_array(pairs_WW + pairs_WW.T)


def nonzero(ids: np.ndarray, rows_NE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and rows without rows of zeros, whose cosines would be NaN."""
    good_N = np.linalg.norm(rows_NE, axis=1) > 0
    return ids[good_N], rows_NE[good_N]
