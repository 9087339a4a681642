"""Makes rows of new tokens from the old tokens that spell them.

Every row is a sum of old rows, with weights that depend on the text alone. The input and the output
matrix use the same weights, each with its own rows.
"""

from collections.abc import Callable, Iterable, Mapping
import graphlib
import itertools

import numpy as np
from scipy import sparse

from lrl_jax.embeddings.moments import Clues, listed, mix

Row = dict[int, float]


def subword_mean(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the rows of the old tokens that spell a token (FVT, arXiv 2406.14670)."""
    return _spelled(old_VD, clues, lambda ids, _: np.ones(len(ids)))


def subword_first(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the row of the first piece, which a model would predict first (EEVE 2402.14714)."""
    return _spelled(old_VD, clues, lambda _, place: place == 0)


def subword_last(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the row of the last piece, where the model has read the whole text (mergekit)."""
    return _spelled(old_VD, clues, lambda ids, place: place == len(ids) - 1)


def subword_weighted(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the pieces with weights 1 to n.

    The last piece weighs most in the input matrix, the first piece in the output matrix. This is
    how mergekit's tokensurgeon describes its weighted mean; its code does the opposite for input.
    """
    if clues.matrix == "input":
        return _spelled(old_VD, clues, lambda _, place: place + 1)
    return _spelled(old_VD, clues, lambda ids, place: len(ids) - place)


def eeve(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the pieces for input, the first piece for output (arXiv 2402.14714)."""
    strategy = subword_mean if clues.matrix == "input" else subword_first
    return strategy(old_VD, clues, rng)


def length_weighted(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the pieces weighted by the length of text each one spells.

    Length is counted in bytes, because a byte piece spells less than a character. When no piece
    stands for text (unknown characters), all weigh the same. Source: Joshi et al. 2608.03494.
    """
    bytes_V = clues.bytes_V
    assert bytes_V is not None  # `grow` has checked

    def weigh(ids: np.ndarray, _: np.ndarray) -> np.ndarray:
        return bytes_V[ids] if bytes_V[ids].any() else np.ones(len(ids))

    return _spelled(old_VD, clues, weigh)


def merge_tree(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the rows of the two tokens that a token is merged from (lowres-cve).

    If one of the two is new itself, its own new row is used. A token without such a merge gets the
    mean of its pieces.
    """
    assert clues.parents is not None  # `grow` has checked
    parents = {new: clues.parents.get(new, ()) for new in clues.added}
    rows: dict[int, Row] = {new: {old: 1.0} for new, old in clues.splice.kept.items()}
    for new in graphlib.TopologicalSorter(parents).static_order():
        if new not in rows:
            spelled = clues.splice.added[new]
            merged = parents[new] if len(spelled) > 1 else ()
            from_rows = [rows[i] for i in merged] or [{old: 1.0} for old in spelled]
            shares = ((old, w / len(from_rows)) for row in from_rows for old, w in row.items())
            rows[new] = _summed(shares)
    return mix(listed([rows[new] for new in clues.added], len(old_VD)), old_VD)


def align(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the old ids that the base uses for a token's text, weighted by frequency.

    The frequencies are counted in real text. A token that does not occur in it gets the mean of its
    pieces. Source: lowres-cve.
    """
    assert clues.contexts is not None  # `grow` has checked
    spelled = zip(clues.added, clues.spelled, strict=True)
    rows = [_in_context(clues.contexts.get(new) or {ids: 1.0}) for new, ids in spelled]
    return mix(listed(rows, len(old_VD)), old_VD)


def _spelled(
    old_VD: np.ndarray, clues: Clues, weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns means of the old rows that spell each token; `weigh` gets ids and their places."""
    spelled = clues.spelled
    ends = np.cumsum([0, *map(len, spelled)])
    values = [np.empty(0)]
    for ids in map(np.array, spelled):
        weight = weigh(ids, np.arange(len(ids))).astype(np.float64)
        values.append(weight / weight.sum())
    ids = np.fromiter(itertools.chain.from_iterable(spelled), np.int64, ends[-1])
    weights = (np.concatenate(values).astype(np.float32), ids, ends)
    return mix(sparse.csr_array(weights, shape=(len(ends) - 1, len(old_VD))), old_VD)


def _in_context(seen: Mapping[tuple[int, ...], float]) -> Row:
    total = sum(seen.values())
    return _summed((old, n / len(ids) / total) for ids, n in seen.items() for old in ids)


def _summed(shares: Iterable[tuple[int, float]]) -> Row:
    row: Row = {}
    for old, weight in shares:
        row[old] = row.get(old, 0.0) + weight
    return row
