"""Lists every way to start the rows of new tokens, by the name a recipe gives it.

new_WD = grow("subword_mean", old_VD, Clues(splice), np.random.default_rng(0))
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from lrl_jax.embeddings import moments, pieces, similar
from lrl_jax.embeddings.moments import BLOCK, Clues

# What a user sets so that a clue can be built; other clues need only the tokenizers.
FIELDS = {
    "contexts": "init.text to text of the new language",
    "tokens": "init.text to text of the new language",
    "snippets": "init.text to text of the new language",
    "words": "init.words to files of word vectors",
    "helper": "init.helper to a model that has the new tokens",
    "bytes_V": "it with lrl_jax.embeddings.clues.build",
    "parents": "it with lrl_jax.embeddings.clues.build",
}


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Describes a way to start rows.

    Attributes:
      rows: what makes them of a matrix alone.
      needs: the optional clues that it reads.
      source: the paper or program that it is from.
      learns: whether the input rows are then learnt with the whole model (`embeddings.distil`).
    """

    rows: Callable[[np.ndarray, Clues, np.random.Generator], np.ndarray]
    needs: tuple[str, ...]
    source: str
    learns: bool = False


STRATEGIES = {
    "subword_mean": Strategy(pieces.subword_mean, (), "Gee et al. 2022; arXiv 2406.14670"),
    "subword_first": Strategy(pieces.subword_first, (), "arXiv 2402.14714"),
    "subword_last": Strategy(pieces.subword_last, (), "mergekit"),
    "subword_weighted": Strategy(pieces.subword_weighted, (), "mergekit, as meant"),
    "eeve": Strategy(pieces.eeve, (), "arXiv 2402.14714"),
    "length_weighted": Strategy(pieces.length_weighted, ("bytes_V",), "arXiv 2608.03494"),
    "merge_tree": Strategy(pieces.merge_tree, ("parents",), "arXiv 2406.11477"),
    "align": Strategy(pieces.align, ("contexts",), "arXiv 2406.11477"),
    "wechsel": Strategy(similar.wechsel, ("words",), "arXiv 2112.06598"),
    "focus": Strategy(similar.focus, ("tokens",), "arXiv 2305.14481"),
    "clp": Strategy(similar.clp, ("helper",), "arXiv 2301.09626"),
    "omp": Strategy(similar.omp, ("helper",), "arXiv 2506.06607"),
    "mean": Strategy(moments.mean, (), "Hewitt 2021"),
    "hewitt": Strategy(moments.hewitt, (), "Hewitt 2021; transformers"),
    "matched_normal": Strategy(moments.matched_normal, (), "arXiv 2112.06598"),
    "random_normal": Strategy(moments.random_normal, (), "initializer_range of Llama"),
    "token_distillation": Strategy(
        pieces.subword_mean, ("snippets",), "arXiv 2505.20133", learns=True
    ),
}


def grow(name: str, old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns the matrix [W, D] of the new vocabulary, in the dtype of the old one.

    Rows of kept tokens are copied bit for bit. So is the row of an old token that spells a new
    token by itself. The strategy `name` makes the other rows. A matrix of another tokenizer, or a
    missing clue that the strategy needs, is a ValueError.
    """
    splice, strategy = clues.splice, STRATEGIES[name]
    if len(old_VD) != len(splice.kept):
        resized = " (it was resized already)" if len(old_VD) == splice.size else ""
        raise ValueError(
            f"the embedding matrix has {len(old_VD)} rows{resized}, but the splice extends a "
            f"tokenizer of {len(splice.kept)} pieces; take model and tokenizer from the same "
            "checkpoint"
        )
    for need in strategy.needs:
        if getattr(clues, need) is None:
            raise ValueError(f"the strategy {name} needs the clue `{need}`; set {FIELDS[need]}")
    new_WD = np.empty((splice.size, old_VD.shape[1]), old_VD.dtype)
    kept = np.array([*splice.kept.items()], np.int64).reshape(-1, 2)
    for start in range(0, len(kept), BLOCK):
        new_ids, old_ids = kept[start : start + BLOCK].T
        new_WD[new_ids] = old_VD[old_ids]
    if splice.added:
        new_WD[clues.added] = strategy.rows(old_VD, clues, rng).astype(old_VD.dtype)
    for new, spelled in splice.added.items():
        if len(spelled) == 1:
            new_WD[new] = old_VD[spelled[0]]
    return new_WD
