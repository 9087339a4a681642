"""Fits losses as functions of a mixture's weights, many losses and many resamples at once.

    exponential   loss = c + exp(k + t . w)                    (arXiv 2403.16952, Eq. 7)
    ridge         log loss = linear in [1, w, sqrt w]

Letters of shapes: N runs, D datasets, K losses, B problems (a loss of a resample each). A resample
says how often each run counts, so that folds and bootstrap draws are rows of one array.
"""

import dataclasses

import numpy as np

PENALTY = 1e-6  # on t, beside the mean Huber loss of standardised residuals
HUBER = 0.5  # where the Huber loss turns linear, in spreads of the measured losses
SHARES_OF_LEAST = (0.5, 0.8, 0.2)  # starts of c, as shares of the least loss
STEEPEST = 50.0  # bound of |t|: beyond it, a percent of weight moves the excess loss by half
LARGEST = 30.0  # bound of k + t . w, so that no step overflows
ROUNDS = 80  # most Levenberg-Marquardt steps
STRENGTHS = np.logspace(-4, 3, 29)  # of the ridge, on standardised columns
LEAST_ROOT = 1e-9  # weight below which the slope of its root is not followed
INTERQUARTILE = 1.349  # interquartile range of a normal distribution, in standard deviations


@dataclasses.dataclass(frozen=True)
class Exponentials:
    """Holds B laws loss = floor + exp(scale + slopes . w).

    Attributes:
      floor_B: in [0, the least loss it was fitted to].
      scale_B, slopes_BD: of the exponent; slopes within 50 of 0.
    """

    floor_B: np.ndarray
    scale_B: np.ndarray
    slopes_BD: np.ndarray

    def __call__(self, weights_ND: np.ndarray) -> np.ndarray:
        """Returns the losses that the laws foretell, [N, B]."""
        return (self.floor_B[:, None] + self._excess(weights_ND)).T

    def gradient(self, weights_D: np.ndarray) -> np.ndarray:
        """Returns how the losses change with each weight, [B, D]."""
        return self._excess(weights_D[None]) * self.slopes_BD

    def _excess(self, weights_ND: np.ndarray) -> np.ndarray:
        exponent_BN = self.scale_B[:, None] + self.slopes_BD @ weights_ND.T
        return np.exp(np.clip(exponent_BN, -LARGEST, LARGEST))

    def __getitem__(self, which: slice | np.ndarray) -> "Exponentials":
        return Exponentials(self.floor_B[which], self.scale_B[which], self.slopes_BD[which])


@dataclasses.dataclass(frozen=True)
class Ridges:
    """Holds B laws log loss = intercept + linear . w + root . sqrt(w)."""

    intercept_B: np.ndarray
    linear_BD: np.ndarray
    root_BD: np.ndarray
    strength_B: np.ndarray

    def __call__(self, weights_ND: np.ndarray) -> np.ndarray:
        """Returns the losses that the laws foretell, [N, B]."""
        slopes = self.linear_BD @ weights_ND.T + self.root_BD @ np.sqrt(weights_ND.T)
        return np.exp(np.clip(self.intercept_B[:, None] + slopes, -LARGEST, LARGEST)).T

    def gradient(self, weights_D: np.ndarray) -> np.ndarray:
        """Returns how the losses change with each weight, [B, D]."""
        roots_D = np.sqrt(np.maximum(weights_D, LEAST_ROOT))
        loss_B1 = self(weights_D[None]).T
        return loss_B1 * (self.linear_BD + self.root_BD / (2 * roots_D[None]))

    def __getitem__(self, which: slice | np.ndarray) -> "Ridges":
        return Ridges(
            self.intercept_B[which],
            self.linear_BD[which],
            self.root_BD[which],
            self.strength_B[which],
        )


# ---------------------------------------------------------------------------- exponential
def exponentials(
    weights_ND: np.ndarray,
    losses_BN: np.ndarray,
    counts_BN: np.ndarray,
    start: Exponentials | None = None,
) -> Exponentials:
    """Fits B exponential laws by Levenberg-Marquardt on a Huber loss, each from several starts.

    Args:
      counts_BN: how often each run counts in each problem; 0 leaves it out.
      start: where to begin instead, such as the law of all runs.
    """
    starts = [start] if start else [
        _begun(weights_ND, losses_BN, counts_BN, share) for share in SHARES_OF_LEAST
    ]  # fmt: skip
    fits = [_descended(weights_ND, losses_BN, counts_BN, begun) for begun in starts]
    best_B = np.argmin([errors_B for _, errors_B in fits], axis=0)
    every = [law for law, _ in fits]
    rows = np.arange(len(losses_BN))
    return Exponentials(
        *(
            np.stack([getattr(law, field.name) for law in every])[best_B, rows]
            for field in dataclasses.fields(Exponentials)
        )
    )


def _least(losses_BN: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    return np.where(counts_BN > 0, losses_BN, np.inf).min(axis=1)


def _begun(
    weights_ND: np.ndarray, losses_BN: np.ndarray, counts_BN: np.ndarray, share: float
) -> Exponentials:
    """Returns where a fit begins: c as a share of the least loss, the rest by least squares."""
    floor_B = share * _least(losses_BN, counts_BN)
    logs_BN = np.log(np.maximum(losses_BN - floor_B[:, None], 1e-12))
    scale_B = (counts_BN * logs_BN).sum(1) / counts_BN.sum(1)
    weighted_BDN = counts_BN[:, None, :] * weights_ND.T[None]
    gram_BDD = weighted_BDN @ weights_ND + 1e-2 * np.eye(weights_ND.shape[1])[None]
    right_BD = np.einsum("bdn,bn->bd", weighted_BDN, logs_BN - scale_B[:, None])
    slopes_BD = np.linalg.solve(gram_BDD, right_BD[..., None])[..., 0]
    return Exponentials(floor_B, scale_B, np.clip(slopes_BD, -STEEPEST, STEEPEST))


def _spread(losses_BN: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """Returns a scale of each problem's losses that outliers do not move, [B]."""
    counted = np.where(counts_BN > 0, losses_BN, np.nan)
    low, high = np.nanquantile(counted, [0.25, 0.75], axis=1)
    return np.maximum((high - low) / INTERQUARTILE, 1e-6 * np.nanmedian(counted, axis=1))


def _descended(
    weights_ND: np.ndarray, losses_BN: np.ndarray, counts_BN: np.ndarray, law: Exponentials
) -> tuple[Exponentials, np.ndarray]:
    """Returns the laws at the ends of the descents and their errors, [B]."""
    bend_B = HUBER * _spread(losses_BN, counts_BN)
    ceiling_B = _least(losses_BN, counts_BN)
    share_BN = counts_BN / counts_BN.sum(1, keepdims=True)
    damping_B = np.full(len(losses_BN), 1e-2)

    def errors(law: Exponentials, of: np.ndarray) -> np.ndarray:
        off_BN = np.abs(losses_BN[of] - law(weights_ND).T) / bend_B[of, None]
        huber_BN = np.where(off_BN < 1, off_BN**2 / 2, off_BN - 0.5)
        return (share_BN[of] * huber_BN).sum(1) + PENALTY / 2 * (law.slopes_BD**2).sum(1)

    error_B = errors(law, np.arange(len(losses_BN)))
    going = np.arange(len(losses_BN))  # problems that still improve
    floor_B, scale_B, slopes_BD = law.floor_B.copy(), law.scale_B.copy(), law.slopes_BD.copy()
    for _ in range(ROUNDS):
        here = Exponentials(floor_B, scale_B, slopes_BD)[going]
        step = _step(weights_ND, losses_BN[going], share_BN[going], bend_B[going], here,
                     damping_B[going])  # fmt: skip
        tried = Exponentials(
            np.clip(here.floor_B + step[:, 0], 0, ceiling_B[going]),
            here.scale_B + step[:, 1],
            np.clip(here.slopes_BD + step[:, 2:], -STEEPEST, STEEPEST),
        )
        error = errors(tried, going)
        is_better = error < error_B[going]
        better, gained = going[is_better], (error_B[going] - error)[is_better]
        floor_B[better] = tried.floor_B[is_better]
        scale_B[better] = tried.scale_B[is_better]
        slopes_BD[better] = tried.slopes_BD[is_better]
        slow = better[gained < 1e-7 * error_B[better]]
        error_B[better] = error[is_better]
        damping_B[going] = np.where(is_better, damping_B[going] / 3, damping_B[going] * 4)
        stuck = going[damping_B[going] > 1e9]
        going = np.setdiff1d(going, np.union1d(slow, stuck))
        if not len(going):
            break
    return Exponentials(floor_B, scale_B, slopes_BD), error_B


def _step(
    weights_ND: np.ndarray,
    losses_BN: np.ndarray,
    share_BN: np.ndarray,
    bend_B: np.ndarray,
    law: Exponentials,
    damping_B: np.ndarray,
) -> np.ndarray:
    """Returns a damped Gauss-Newton step of floor, scale and slopes, [B, 2 + D]."""
    excess_BN = law._excess(weights_ND)
    residual_BN = losses_BN - law.floor_B[:, None] - excess_BN
    off_BN = np.abs(residual_BN) / bend_B[:, None]
    # Huber: a residual beyond the bend counts as if it stood there (reweighted least squares)
    weight_BN = share_BN / np.maximum(off_BN, 1) / bend_B[:, None] ** 2
    count, width = weights_ND.shape
    jacobian_BNP = np.empty((len(losses_BN), count, width + 2))
    jacobian_BNP[:, :, 0] = 1
    jacobian_BNP[:, :, 1] = excess_BN
    jacobian_BNP[:, :, 2:] = excess_BN[:, :, None] * weights_ND[None]
    weighted_BPN = (jacobian_BNP * weight_BN[:, :, None]).swapaxes(1, 2)
    hessian_BPP = weighted_BPN @ jacobian_BNP
    slope_BP = (weighted_BPN @ residual_BN[:, :, None])[..., 0]
    slope_BP[:, 2:] -= PENALTY * law.slopes_BD
    diagonal = np.arange(width + 2)
    hessian_BPP[:, diagonal[2:], diagonal[2:]] += PENALTY
    scale_BP = hessian_BPP[:, diagonal, diagonal]
    hessian_BPP[:, diagonal, diagonal] += damping_B[:, None] * scale_BP + 1e-12
    return np.linalg.solve(hessian_BPP, slope_BP[..., None])[..., 0]


# ---------------------------------------------------------------------------- ridge
def ridges(
    weights_ND: np.ndarray, losses_NK: np.ndarray, strength_K: np.ndarray | None = None
) -> Ridges:
    """Fits K ridge regressions of log losses on weights and their roots.

    The strength of each is the one with the least error when each run is left out in turn, which
    has a closed form.

    Args:
      strength_K: strengths to take instead.
    """
    x_NF = np.hstack([weights_ND, np.sqrt(weights_ND)])
    mean_F, spread_F = x_NF.mean(0), x_NF.std(0)
    spread_F = np.where(spread_F > 1e-9, spread_F, 1.0)  # a column that never varies says nothing
    logs_NK = np.log(losses_NK)
    mean_K = logs_NK.mean(0)
    u_NR, s_R, v_RF = np.linalg.svd((x_NF - mean_F[None]) / spread_F[None], full_matrices=False)
    along_RK = u_NR.T @ (logs_NK - mean_K[None])
    if strength_K is None:
        strength_K = _strengths(u_NR, s_R, along_RK, logs_NK - mean_K[None])
    shrunk_RK = s_R[:, None] / (s_R[:, None] ** 2 + strength_K[None])
    slope_KF = (v_RF.T @ (shrunk_RK * along_RK)).T / spread_F[None]
    linear_KD, root_KD = np.split(slope_KF, 2, axis=1)
    return Ridges(mean_K - slope_KF @ mean_F, linear_KD, root_KD, strength_K)


def _strengths(
    u_NR: np.ndarray, s_R: np.ndarray, along_RK: np.ndarray, y_NK: np.ndarray
) -> np.ndarray:
    """Returns the strength of each regression whose leave-one-out error is least, [K]."""
    errors = []
    for strength in STRENGTHS:
        kept_R = s_R**2 / (s_R**2 + strength)
        leverage_N = np.minimum(u_NR**2 @ kept_R + 1 / len(y_NK), 1 - 1e-9)
        residual_NK = y_NK - u_NR @ (kept_R[:, None] * along_RK)
        errors.append(((residual_NK / (1 - leverage_N)[:, None]) ** 2).mean(0))
    return STRENGTHS[np.argmin(errors, axis=0)]
