"""Starting values for the embeddings of new tokens.

Every strategy is a function of the same three things and is named in a recipe:

    new_WD = STRATEGIES["subword_mean"](old_VD, splice, rng)

V is the old vocabulary, W the new one. Rows of kept tokens are copied bit for bit; a strategy
only decides the rows in `splice.added`. The output matrix goes in with rows first, as [V, D].
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from lrl_jax.vocab.splice import Splice

Strategy: TypeAlias = Callable[[np.ndarray, Splice, np.random.Generator], np.ndarray]

BLOCK = 4096  # rows turned to float32 at a time


def subword_mean(old_VD: np.ndarray, splice: Splice, rng: np.random.Generator) -> np.ndarray:
    """A new row is the mean of the old rows its text was spelled with (arXiv 2406.14670).

    >>> old_VD = np.array([[0., 0.], [2., 0.], [0., 4.]], np.float32)
    >>> splice = Splice({0: 0, 1: 1, 2: 2}, {3: (1, 2)}, "base", "new")
    >>> subword_mean(old_VD, splice, np.random.default_rng(0))[3]
    array([1., 2.], dtype=float32)
    """
    del rng
    return _fill(old_VD, splice, lambda old_ids: _float32(old_VD[list(old_ids)]).mean(0))


def mean(old_VD: np.ndarray, splice: Splice, rng: np.random.Generator) -> np.ndarray:
    """Every new row is the mean old row (Hewitt 2021)."""
    del rng
    mean_D, _ = _moments(old_VD)
    return _fill(old_VD, splice, lambda _: mean_D)


def random(old_VD: np.ndarray, splice: Splice, rng: np.random.Generator) -> np.ndarray:
    """New rows are drawn from a normal with the mean and deviation of each old column."""
    mean_D, std_D = _moments(old_VD)
    return _fill(
        old_VD,
        splice,
        lambda _: mean_D + std_D * rng.standard_normal(len(mean_D), np.float32),
    )


STRATEGIES: dict[str, Strategy] = {f.__name__: f for f in (subword_mean, mean, random)}


def _fill(old_VD: np.ndarray, splice: Splice, row: Callable) -> np.ndarray:
    if len(old_VD) != len(splice.kept):
        raise ValueError(
            f"the embedding matrix has {len(old_VD)} rows, but the splice extends a tokenizer of "
            f"{len(splice.kept)} pieces; take model and tokenizer from the same checkpoint"
        )
    new_WD = np.empty((splice.size, old_VD.shape[1]), old_VD.dtype)
    new_WD[list(splice.kept)] = old_VD[list(splice.kept.values())]
    for new, old_ids in splice.added.items():
        new_WD[new] = row(old_ids).astype(old_VD.dtype)
    return new_WD


def _moments(old_VD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, without a float32 copy of the whole matrix."""
    blocks = [old_VD[i : i + BLOCK] for i in range(0, len(old_VD), BLOCK)]
    mean_D = sum(_float32(block).sum(0) for block in blocks) / np.float32(len(old_VD))
    square_D = sum(np.square(_float32(block) - mean_D).sum(0) for block in blocks)
    return np.asarray(mean_D), np.sqrt(square_D / np.float32(len(old_VD)))


def _float32(old_VD: np.ndarray) -> np.ndarray:
    """float32: bfloat16 cannot tell 256 from 257, and sums of rows pass that soon."""
    return old_VD.astype(np.float32)
