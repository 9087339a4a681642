"""Makes rows of new tokens from old tokens that are similar to them in another space.

A `Space` has vectors of old and of added tokens. The row of an added token is a sum of old rows,
with weights computed from similarities in that space. Similarities are computed in blocks: for
20,000 new and 32,000 old tokens, about 100 MB of them exist at a time.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

from lrl_jax.embeddings.moments import CELLS, Clues, Space, draw, mix
from lrl_jax.embeddings.pieces import subword_mean

FIRST = 512  # the most similar tokens, tried before all of them: sparsemax seldom keeps more
FLAT = 1e-3  # a mean cosine below this is too small to divide by
SPENT = 1e-5  # a residual below this share of the norm is rounding error in float32


# ---------------------------------------------------------------------------- strategies
def wechsel(
    old_VD: np.ndarray,
    clues: Clues,
    rng: np.random.Generator,
    nearest: int = 10,
    temperature: float = 0.1,
) -> np.ndarray:
    """Returns sums of the nearest old rows, weighted by the softmax of cosine / temperature.

    Rows of tokens without a vector are drawn as `matched_normal` does. The defaults are those of
    the paper (WECHSEL, arXiv 2112.06598).
    """

    def weigh(cosine_BM: np.ndarray) -> np.ndarray:
        near_BM = _nearest(cosine_BM, min(nearest, cosine_BM.shape[1]))
        top_B1 = cosine_BM.max(1, keepdims=True)
        weight_BM = np.where(near_BM, np.exp((cosine_BM - top_B1) / np.float32(temperature)), 0)
        return weight_BM / weight_BM.sum(1, keepdims=True)

    return _mixed(clues.words, weigh, old_VD, clues, rng)


def focus(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns sums of old rows, weighted by the sparsemax of their cosines (arXiv 2305.14481).

    Rows of tokens without a vector are drawn as `matched_normal` does.
    """
    return _mixed(clues.tokens, _sparsemax_rows, old_VD, clues, rng)


def _mixed(
    space: Space | None,
    weigh: Callable[[np.ndarray], np.ndarray],
    old_VD: np.ndarray,
    clues: Clues,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns sums of old rows, weighted as `weigh` makes of cosines, and draws missing rows."""
    assert space is not None  # `grow` has checked
    new_AD = np.empty((len(clues.added), old_VD.shape[1]), np.float32)
    missing_A = ~np.isin(clues.added, space.new_ids)
    if missing_A.any():
        new_AD[missing_A] = draw(old_VD, int(missing_A.sum()), rng)
    rows = np.flatnonzero(~missing_A)
    for cosine_BM in _cosines(space):
        near = sparse.csr_array(weigh(cosine_BM))
        weights = (near.data, space.old_ids[near.indices], near.indptr)
        here, rows = np.split(rows, [len(cosine_BM)])
        shape = (len(here), len(old_VD))
        new_AD[here] = mix(sparse.csr_array(weights, shape=shape), old_VD)
    return new_AD


def clp(old_VD: np.ndarray, clues: Clues, rng: np.random.Generator) -> np.ndarray:
    """Returns sums of the old rows that the helper has, weighted by cosine / sum of cosines.

    The cosine is linear in the unit vectors, so the sum over old tokens is taken first and no
    matrix of cosines is needed. A token that the helper does not have, or whose mean cosine is
    close to 0, gets the mean of its pieces. Source: CLP, arXiv 2301.09626.
    """
    space = clues.helper
    assert space is not None  # `grow` has checked
    old_ME, new_NE = _unit(space.old_ME), _unit(space.new_NE)
    sum_N = new_NE @ old_ME.sum(0)
    good_N = sum_N > FLAT * len(old_ME)
    new_AD = subword_mean(old_VD, clues, rng)
    rows = np.searchsorted(clues.added, space.new_ids[good_N])
    weights_NE = new_NE[good_N] / sum_N[good_N, None]
    step = max(1, CELLS // len(old_ME))
    for d in range(0, old_VD.shape[1], step):
        part_MD = old_VD[:, d : d + step][space.old_ids].astype(np.float32)
        new_AD[rows, d : d + step] = weights_NE @ (old_ME.T @ part_MD)
    return new_AD


def omp(
    old_VD: np.ndarray, clues: Clues, rng: np.random.Generator, sparsity: int = 64
) -> np.ndarray:
    """Returns sums of a few old rows, with the weights that approximate a token in the helper.

    Orthogonal matching pursuit picks the old tokens and weights whose sum in the helper's space is
    closest to the token (arXiv 2506.06607, whose sparsity is the default). A token that the helper
    does not have gets the mean of its pieces.
    """
    space = clues.helper
    assert space is not None  # `grow` has checked
    new_AD = subword_mean(old_VD, clues, rng)
    inverse_M = 1 / np.linalg.norm(space.old_ME, axis=1)
    k = min(sparsity, *space.old_ME.shape)
    block = max(1, CELLS // max(len(space.old_ids), k * space.old_ME.shape[1]))
    for start in range(0, len(space.new_ids), block):
        ids = space.new_ids[start : start + block]
        chosen_BK, weight_BK = _pursue(
            space.new_NE[start : start + block], space.old_ME, inverse_M, k
        )
        ends = np.arange(len(ids) + 1) * k
        weights = (weight_BK.ravel(), space.old_ids[chosen_BK.ravel()], ends)
        weights_BV = sparse.csr_array(weights, shape=(len(ids), len(old_VD)))
        new_AD[np.searchsorted(clues.added, ids)] = mix(weights_BV, old_VD)
    return new_AD


# ---------------------------------------------------------------------------- weights
def sparsemax(z_BM: np.ndarray) -> np.ndarray:
    """Returns the point of the probability simplex nearest to each row (arXiv 1602.02068).

    >>> sparsemax(np.array([[0.5, 0.25, -1.0]], np.float32))
    array([[0.625, 0.375, 0.   ]], dtype=float32)
    """
    down_BM = -np.sort(-z_BM, axis=1).astype(np.float64)  # float64: a sum of thousands, less 1
    total_BM = np.cumsum(down_BM, axis=1) - 1
    place_M = np.arange(1, z_BM.shape[1] + 1)
    count_B = (down_BM * place_M > total_BM).sum(1)
    threshold_B = total_BM[np.arange(len(z_BM)), count_B - 1] / count_B
    return np.maximum(z_BM - threshold_B[:, None], 0).astype(np.float32)


def _sparsemax_rows(cosine_BM: np.ndarray) -> np.ndarray:
    """Returns `sparsemax` of each row, computed from the FIRST largest values where that is enough.

    Sparsemax gives weight to the largest values only. If it leaves one of the FIRST without weight,
    smaller values have none either.
    """
    width = cosine_BM.shape[1]
    if width <= FIRST:
        return sparsemax(cosine_BM)
    top_BK = np.argpartition(cosine_BM, width - FIRST, axis=1)[:, width - FIRST :]
    weight_BK = sparsemax(np.take_along_axis(cosine_BM, top_BK, 1))
    weight_BM = np.zeros_like(cosine_BM)
    np.put_along_axis(weight_BM, top_BK, weight_BK, 1)
    full_B = (weight_BK > 0).all(1)
    if full_B.any():
        weight_BM[full_B] = sparsemax(cosine_BM[full_B])
    return weight_BM


def _nearest(cosine_BM: np.ndarray, count: int) -> np.ndarray:
    """Returns a mask of the `count` largest values of each row; of equal values, the first ones."""
    least_B1 = -np.partition(-cosine_BM, count - 1, axis=1)[:, count - 1 : count]
    above_BM, equal_BM = cosine_BM > least_B1, cosine_BM == least_B1
    room_B1 = count - above_BM.sum(1, keepdims=True)
    return above_BM | (equal_BM & (np.cumsum(equal_BM, axis=1, dtype=np.int32) <= room_B1))


def _pursue(
    x_BE: np.ndarray, old_ME: np.ndarray, inverse_M: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k vectors whose weighted sum approximates x, and the weights, both [B, K].

    This is orthogonal matching pursuit (Pati et al. 1993). Each step adds the vector with the
    smallest angle to the residual, and makes the residual orthogonal to it by Gram-Schmidt. One
    triangular solve at the end then gives the weights.
    """
    size = len(x_BE)
    chosen_BK = np.zeros((size, k), np.int64)
    base_BKE = np.zeros((size, k, x_BE.shape[1]), np.float32)
    upper_BKK = np.tile(np.eye(k, dtype=np.float32), (size, 1, 1))
    part_BK = np.zeros((size, k), np.float32)
    left_BE = x_BE.copy()
    norm_B = np.linalg.norm(x_BE, axis=1)
    for step in range(k):
        angle_BM = np.abs(left_BE @ old_ME.T)
        angle_BM *= inverse_M
        pick_B = angle_BM.argmax(1)
        atom_BE = old_ME[pick_B]
        along_BK, fresh_BE = _orthogonal(atom_BE, base_BKE[:, :step])
        length_B = np.linalg.norm(fresh_BE, axis=1)
        on_B = (length_B * inverse_M[pick_B] > SPENT) & (
            np.linalg.norm(left_BE, axis=1) > SPENT * norm_B
        )
        chosen_BK[:, step] = pick_B
        if not on_B.any():
            break
        base_BKE[on_B, step] = fresh_BE[on_B] / length_B[on_B, None]
        upper_BKK[on_B, :step, step] = along_BK[on_B]
        upper_BKK[on_B, step, step] = length_B[on_B]
        part_BK[:, step] = np.einsum("be,be->b", left_BE, base_BKE[:, step])
        left_BE -= part_BK[:, step, None] * base_BKE[:, step]
    return chosen_BK, np.linalg.solve(upper_BKK, part_BK[:, :, None])[:, :, 0]


def _orthogonal(atom_BE: np.ndarray, base_BKE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the components of atoms along each base vector, and the remainder.

    Projecting twice removes what float32 rounding leaves the first time.
    """
    along_BK = np.zeros(base_BKE.shape[:2], np.float32)
    for _ in range(2):
        more_BK = np.matmul(base_BKE, atom_BE[:, :, None])[:, :, 0]
        atom_BE = atom_BE - np.matmul(more_BK[:, None], base_BKE)[:, 0]
        along_BK += more_BK
    return along_BK, atom_BE


# ---------------------------------------------------------------------------- spaces
def _cosines(space: Space) -> Iterator[np.ndarray]:
    """Yields the cosines [B, M] between added and old tokens, for B added tokens at a time."""
    old_ME = _unit(space.old_ME)
    block = max(1, CELLS // len(old_ME))
    for start in range(0, len(space.new_NE), block):
        yield _unit(space.new_NE[start : start + block]) @ old_ME.T


def _unit(rows_NE: np.ndarray) -> np.ndarray:
    return rows_NE / np.linalg.norm(rows_NE, axis=1, keepdims=True)
