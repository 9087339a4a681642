"""Fits curves S = c - a X^b to scores, many at once: to data, and to draws of a bootstrap.

    form = LawForm(ceiling=100.0)                   # c is given: a line in logarithms
    form = LawForm(ceiling=100.0, learnt=True)      # c is learnt, 100 at most: a search for b
    curves = form.fit(x_N, form.targets(s_DN))
    scores(curves, x_N)                          # [D, N]

D counts data sets, N points, B values of b that are tried. With `clip`,
residuals beyond it count by their size and not by its square (Huber 1964).
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

CLIP = 1e-3  # of Huber's loss on logarithms (arXiv 2203.15556, D.2), and a share of the bound
TINY = 1e-9  # the least size of a residual, for points that lie on a curve
ROUNDS = 300  # of reweighting, at most; Huber's loss falls in each
ROUNDS_BENT = 40  # of the same, each of which is a search
SETTLED = 1e-4  # the largest change of a weight in the last of them
STEEPNESS = np.geomspace(0.005, 4.0, 120)  # values of -b that are tried first
NEAR = np.linspace(-1.0, 1.0, 9)  # then these, around the best, each time a quarter as far apart
ZOOMS = 5
FLAT = 1e-12  # the least slope: what would fall is drawn flat


class Curves(NamedTuple):
    """Holds D curves S = ceiling - exp(log_a) X^b; every field is an array [D]."""

    log_a: np.ndarray
    b: np.ndarray
    ceiling: np.ndarray


@dataclasses.dataclass(frozen=True)
class LawForm:
    """Describes how curves are fitted.

    Attributes:
      ceiling: c; where it is learnt, its bound.
      learnt: whether c is learnt.
      huber: whether the loss is Huber's and not the squares.
    """

    ceiling: float
    learnt: bool = False
    huber: bool = False

    @property
    def unknowns(self) -> int:
        return 3 if self.learnt else 2

    def targets(self, scores: np.ndarray) -> np.ndarray:
        """Returns what is fitted, and what noise is added to: scores, or log(ceiling - scores)."""
        return scores if self.learnt else np.log(self.ceiling - scores)

    def fit(self, x_N: np.ndarray, targets_DN: np.ndarray) -> Curves:
        """Fits a curve to each row of targets."""
        if self.learnt:
            clip = CLIP * self.ceiling if self.huber else math.inf
            return bent(x_N, targets_DN, self.ceiling, clip)
        return straight(x_N, targets_DN, self.ceiling, CLIP if self.huber else math.inf)


def scores(curves: Curves, x_N: np.ndarray) -> np.ndarray:
    """Returns the score of each curve at each x, [D, N]."""
    exponents_DN = curves.log_a[:, None] + curves.b[:, None] * np.log(x_N)[None, :]
    return curves.ceiling[:, None] - np.exp(np.clip(exponents_DN, -700, 700))


# ---------------------------------------------------------------------------- a ceiling is given
def straight(x_N: np.ndarray, z_DN: np.ndarray, ceiling: float, clip: float = math.inf) -> Curves:
    """Fits z = log a + b log X, where z = log(ceiling - S) and `clip` is in units of z."""
    log_x_N = np.log(x_N)
    weights_DN = np.ones_like(z_DN)
    for _ in range(ROUNDS if clip < math.inf else 0):
        height_D, slope_D = _line(log_x_N, z_DN, weights_DN)
        before_DN, line_DN = weights_DN, height_D[:, None] + slope_D[:, None] * log_x_N[None, :]
        weights_DN = _weights(z_DN - line_DN, clip)
        if np.abs(weights_DN - before_DN).max() < SETTLED:
            break
    height_D, slope_D = _line(log_x_N, z_DN, weights_DN)
    return Curves(height_D, slope_D, np.full(len(z_DN), ceiling))


def _line(
    x_N: np.ndarray, z_DN: np.ndarray, weights_DN: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns height and slope of the weighted least squares of each data set, [D]."""
    whole_D = weights_DN.sum(1)
    mean_x_D, mean_z_D = weights_DN @ x_N / whole_D, (weights_DN * z_DN).sum(1) / whole_D
    from_x_DN = x_N[None, :] - mean_x_D[:, None]
    both_D = (weights_DN * from_x_DN * (z_DN - mean_z_D[:, None])).sum(1)
    slope_D = both_D / (weights_DN * from_x_DN**2).sum(1)
    return mean_z_D - slope_D * mean_x_D, slope_D


# ---------------------------------------------------------------------------- a ceiling is learnt
def bent(x_N: np.ndarray, s_DN: np.ndarray, bound: float, clip: float = math.inf) -> Curves:
    """Fits S = c - a X^b with c at most `bound`; `clip` is in units of S.

    For every b the best a and c are those of a line, so that b alone is searched.
    """
    middle = np.log(x_N).mean()
    log_x_N = np.log(x_N) - middle
    weights_DN, steep_D1 = np.ones_like(s_DN), None

    def line(steep_D1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p_D1, q_D1, _ = _lines(log_x_N, s_DN, weights_DN, -steep_D1, bound)
        return p_D1, q_D1

    for _ in range(ROUNDS_BENT if clip < math.inf else 0):
        steep_D1 = _steepness(log_x_N, s_DN, weights_DN, bound, steep_D1, zooms=2)
        p_D1, q_D1 = line(steep_D1)
        before_DN, v_DN = weights_DN, np.expm1(-steep_D1 * log_x_N[None, :]) / -steep_D1
        weights_DN = _weights(s_DN - p_D1 - q_D1 * v_DN, clip)
        if np.abs(weights_DN - before_DN).max() < SETTLED:
            break
    steep_D1 = _steepness(log_x_N, s_DN, weights_DN, bound, steep_D1, ZOOMS)
    p_D1, q_D1 = line(steep_D1)
    log_a_D1 = np.log(q_D1 / steep_D1) + steep_D1 * middle
    return Curves(log_a_D1[:, 0], -steep_D1[:, 0], (p_D1 + q_D1 / steep_D1)[:, 0])


def _steepness(
    log_x_N: np.ndarray,
    s_DN: np.ndarray,
    weights_DN: np.ndarray,
    bound: float,
    near_D1: np.ndarray | None,
    zooms: int,
) -> np.ndarray:
    """Returns the -b of the least weighted squares of each data set, [D, 1].

    Without `near_D1` every steepness is tried, with it only those beside it.
    """
    ratio, best_D1 = STEEPNESS[1] / STEEPNESS[0], near_D1
    for _ in range(zooms):
        everywhere = best_D1 is None
        tried_DB = STEEPNESS[None, :] if everywhere else best_D1 * ratio ** NEAR[None, :]
        _, _, loss_DB = _lines(log_x_N, s_DN, weights_DN, -tried_DB, bound)
        best_D = loss_DB.argmin(1)
        tried_DB = np.broadcast_to(tried_DB, loss_DB.shape)
        best_D1 = np.take_along_axis(tried_DB, best_D[:, None], 1)
        if not everywhere:
            ratio **= NEAR[1] - NEAR[0]
    assert best_D1 is not None
    return best_D1


def _lines(
    log_x_N: np.ndarray, s_DN: np.ndarray, weights_DN: np.ndarray, b_DB: np.ndarray, bound: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits S = p + q v, v = (X^b - 1) / b; returns p, q and the weighted squares, each [D, B].

    So written, a small b is well behaved: v becomes log X. The ceiling is p - q / b; where it
    would be above its bound, it is the bound.
    """
    v_DBN = np.expm1(b_DB[..., None] * log_x_N) / b_DB[..., None]
    whole_D1 = weights_DN.sum(1, keepdims=True)
    mean_s_D1 = (weights_DN * s_DN).sum(1, keepdims=True) / whole_D1
    from_s_DN = s_DN - mean_s_D1
    mean_v_DB = _sums(weights_DN, v_DBN) / whole_D1
    both_DB = _sums(weights_DN * from_s_DN, v_DBN)
    spread_DB = _sums(weights_DN, v_DBN**2) - whole_D1 * mean_v_DB**2
    q_DB = np.maximum(both_DB / spread_DB, FLAT)
    p_DB = mean_s_D1 - q_DB * mean_v_DB
    square_D1 = (weights_DN * from_s_DN**2).sum(1, keepdims=True)
    loss_DB = square_D1 - 2 * q_DB * both_DB + q_DB**2 * spread_DB
    below_DN, u_DBN = s_DN - bound, v_DBN + 1 / b_DB[..., None]
    below_u_DB = _sums(weights_DN * below_DN, u_DBN)
    u_u_DB = _sums(weights_DN, u_DBN**2)
    capped_q_DB = np.maximum(below_u_DB / u_u_DB, FLAT)
    square_D1 = (weights_DN * below_DN**2).sum(1, keepdims=True)
    capped_loss_DB = square_D1 - 2 * capped_q_DB * below_u_DB + capped_q_DB**2 * u_u_DB
    capped_DB = p_DB - q_DB / b_DB > bound
    return (
        np.where(capped_DB, bound + capped_q_DB / b_DB, p_DB),
        np.where(capped_DB, capped_q_DB, q_DB),
        np.where(capped_DB, capped_loss_DB, loss_DB),
    )


def _sums(values_DN: np.ndarray, of_DBN: np.ndarray) -> np.ndarray:
    """Returns the sums over points of a product, [D, B]; `of_DBN` may be one for all data sets."""
    if len(of_DBN) == 1:
        return values_DN @ of_DBN[0].T
    return np.einsum("dn,dbn->db", values_DN, of_DBN)


# ---------------------------------------------------------------------------- residuals
def _weights(residuals_DN: np.ndarray, clip: float) -> np.ndarray:
    """Returns the weights with which least squares have the optimum of Huber's loss."""
    return np.minimum(1.0, clip / np.maximum(np.abs(residuals_DN), TINY))
