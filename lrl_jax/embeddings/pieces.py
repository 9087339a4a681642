"""Makes rows of new tokens from the old tokens that spell them.

Every row is a sum of old rows, with weights that depend on the text alone. The input and the output
matrix use the same weights, each with its own rows.
"""

from collections.abc import Callable, Mapping
import itertools

import numpy as np

from lrl_jax.embeddings.moments import Clues, Weights, listed, mix

Row = dict[int, float]


def subword_mean(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the rows of the old tokens that spell a token (FVT, arXiv 2406.14670).

    >>> from lrl_jax.vocab.pieces.splice import Splice
    >>> old_VD = np.array([[0., 0.], [2., 0.], [0., 4.]], np.float32)
    >>> splice = Splice({0: 0, 1: 1, 2: 2}, {3: (1, 2)}, "base", "new")
    >>> subword_mean(old_VD, Clues(splice), np.random.default_rng(0))
    array([[1., 2.]], dtype=float32)
    """
    del rng
    return mix(_spelled(clues, lambda ids, _: np.ones(len(ids))), old_VD)


def subword_first(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the row of the first piece, which a model would predict first (EEVE 2402.14714)."""
    del rng
    return mix(_spelled(clues, lambda _, place: place == 0), old_VD)


def subword_last(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the row of the last piece, where the model has read the whole text (mergekit)."""
    del rng
    return mix(_spelled(clues, lambda ids, place: place == len(ids) - 1), old_VD)


def subword_weighted(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the pieces with weights 1 to n.

    The last piece weighs most in the input matrix, the first piece in the output matrix. This is
    how mergekit's tokensurgeon describes its weighted mean; its code does the opposite for input.
    """
    del rng
    if clues.matrix == "input":
        return mix(_spelled(clues, lambda _, place: place + 1), old_VD)
    return mix(_spelled(clues, lambda ids, place: len(ids) - place), old_VD)


def eeve(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the pieces for the input matrix, and the first piece for the output.

    Source: EEVE, arXiv 2402.14714.
    """
    strategy = subword_mean if clues.matrix == "input" else subword_first
    return strategy(old_VD, clues, rng)


def length_weighted(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the pieces weighted by the length of text each one spells.

    Length is counted in bytes, because a byte piece spells less than a character. When no piece
    stands for text (unknown characters), all weigh the same. Source: Joshi et al. 2608.03494.
    """
    del rng
    bytes_V = clues.bytes_V
    assert bytes_V is not None  # `grow` has checked

    def weigh(ids: np.ndarray, _: np.ndarray) -> np.ndarray:
        return bytes_V[ids] if bytes_V[ids].any() else np.ones(len(ids))

    return mix(_spelled(clues, weigh), old_VD)


def merge_tree(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the rows of the two tokens that a token is merged from (lowres-cve).

    If one of the two is new itself, its own new row is used. A token without such a merge gets the
    mean of its pieces.
    """
    del rng
    assert clues.parents is not None  # `grow` has checked
    rows: dict[int, Row] = {new: {old: 1.0} for new, old in clues.splice.kept.items()}
    for new in clues.added:
        _resolve(new, clues, clues.parents, rows)
    return mix(listed([rows[new] for new in clues.added]), old_VD)


def align(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the mean of the old ids that the base uses for a token's text, weighted by frequency.

    The frequencies are counted in real text. A token that does not occur in it gets the mean of its
    pieces. Source: lowres-cve.
    """
    del rng
    assert clues.contexts is not None  # `grow` has checked
    return mix(listed([_in_context(new, clues, clues.contexts) for new in clues.added]), old_VD)


# ---------------------------------------------------------------------------- weights
def _spelled(clues: Clues, weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Weights:
    """Returns normalised weights of the old ids that spell each token.

    `weigh` is called with these ids and their positions.
    """
    spelled = clues.spelled
    ends = np.cumsum([0, *map(len, spelled)])
    values = [np.empty(0)]
    for ids in map(np.array, spelled):
        weight = weigh(ids, np.arange(len(ids))).astype(np.float64)
        values.append(weight / weight.sum())
    ids = np.fromiter((old for ids in spelled for old in ids), np.int64, ends[-1])
    return Weights(ends, ids, np.concatenate(values).astype(np.float32))


def _resolve(
    new: int, clues: Clues, parents: Mapping[int, tuple[int, int]], rows: dict[int, Row]
) -> None:
    """Fills in `rows[new]`, and before it the rows of the tokens it is merged from."""
    waiting = [new]
    while waiting:
        last = waiting[-1]
        left = [p for p in parents.get(last, ()) if p not in rows]
        if left:
            assert len(waiting) <= len(rows) + len(parents), "a token is merged from itself"
            waiting += left
            continue
        if last not in rows:
            rows[last] = _merged(last, clues, parents, rows)
        waiting.pop()


def _merged(
    new: int, clues: Clues, parents: Mapping[int, tuple[int, int]], rows: dict[int, Row]
) -> Row:
    spelled = clues.splice.added[new]
    if len(spelled) == 1 or new not in parents:
        return _average([{old: 1.0} for old in spelled])
    return _average([rows[parent] for parent in parents[new]])


def _in_context(
    new: int, clues: Clues, contexts: Mapping[int, Mapping[tuple[int, ...], float]]
) -> Row:
    seen = contexts.get(new) or {clues.splice.added[new]: 1.0}
    row: Row = {}
    for ids, count in seen.items():
        for old in ids:
            row[old] = row.get(old, 0.0) + count / len(ids) / sum(seen.values())
    return row


def _average(rows: list[Row]) -> Row:
    total: Row = {}
    for old, weight in itertools.chain.from_iterable(row.items() for row in rows):
        total[old] = total.get(old, 0.0) + weight / len(rows)
    return total
