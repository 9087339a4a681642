"""Fits the law of a mixture: how each loss depends on the weights of the datasets.

    laws = fit(mixture_runs.read("mixtures.csv"))
    predict(laws, np.array([[0.7, 0.3]]))        # losses of a mixture, [1, K]

Three forms are fitted to each loss and compared on runs that were left out: an exponential law
(arXiv 2403.16952), which also holds for larger models, a ridge on weights and their roots, which
bends more freely, and the mean of both. RegMix (arXiv 2407.01492) has the idea of small runs.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Literal, get_args

from etils import epath
import numpy as np
import pydantic
from scipy import stats

from lrl_jax import storage, text
from lrl_jax.laws import files
from lrl_jax.laws.mixtures import forms
from lrl_jax.laws.mixtures.runs import MixtureRuns
from lrl_jax.recipe.vocab import Section

Form = Literal["exponential", "both", "ridge"]
FORMS: tuple[Form, ...] = get_args(Form)  # a tie goes to the first
EXPONENTIAL_SHARE: Mapping[Form, float] = {"exponential": 1.0, "both": 0.5, "ridge": 0.0}
TIE = 0.02  # difference of held-out Spearmans below which forms count as equally good
FOLDS, DRAWS = 5, 100
LAW, DESIGN = "mixture_law.json", "design.json"  # what files are called
LEAST_IN_FOLD = 4  # runs of which an order can be judged
CHUNK = 25_000_000  # numbers of a batch's Jacobian, some 200 MB
INSIDE = (2.5, 97.5)  # percentiles: an interval holds 95 % of the draws


class HeldOutFit(Section):
    """Holds how well a form foretells runs that it was not fitted to."""

    spearman: float
    """Rank correlation over all runs, each foretold by a law of the other folds."""
    folds: tuple[float, ...]
    """The same inside of each fold; empty where folds are too small."""
    rmse: float


class MixtureLaw(Section):
    """Holds the law of one loss; slopes are in the order of `MixtureLaws.datasets`."""

    loss: str
    form: Form
    floor: pydantic.NonNegativeFloat
    scale: float
    slopes: tuple[float, ...]
    """Exponential: loss = floor + exp(scale + slopes . w)."""
    intercept: float
    linear: tuple[float, ...]
    root: tuple[float, ...]
    """Ridge: log loss = intercept + linear . w + root . sqrt(w)."""
    strength: float
    held_out: dict[Form, HeldOutFit]


class MixtureDesign(Section):
    """Describes the stage that small runs were made of, for whoever uses their law."""

    recipe: str
    stage: str
    mixture: dict[str, float]
    """The weights of the recipe itself, as shares that sum to 1."""
    sizes: dict[str, float]
    """Tokens of each dataset, or of the datasets of a mixture together."""
    tokens: float
    """What the stage of the recipe reads."""
    steps: int
    """Of a run with the recipe's own weights."""
    equal: Literal["tokens", "bytes"]
    """What all runs read the same amount of."""
    seed: int
    seeds: int
    caps: dict[str, float]
    """The largest weight that was tried of each dataset."""


class MixtureLaws(Section):
    """Describes the content of mixture_law.json: laws, and the runs that they were fitted to."""

    forms: str = "exponential: floor + exp(scale + slopes . w); ridge: of log loss on w, sqrt(w)"
    datasets: tuple[str, ...]
    laws: tuple[MixtureLaw, ...]
    runs: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    """Of each run, in the order of `datasets`."""
    losses: tuple[tuple[float, ...], ...]
    """Of each run, in the order of `laws`."""
    left_out: tuple[str, ...] = ()
    design: MixtureDesign | None = None

    def _misfits(self) -> Iterator[str]:
        width, count = len(self.datasets), len(self.runs)
        slopes = [s for law in self.laws for s in (law.slopes, law.linear, law.root)]
        if any(len(row) != width for row in [*slopes, *self.weights]):
            yield f"there are {width} datasets, and rows of another length"
        if (
            len(self.weights) != count
            or [len(row) for row in self.losses] != [len(self.laws)] * count
        ):
            yield f"there are {count} runs of {len(self.laws)} losses, and rows of another number"

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the names of the losses."""
        return tuple(law.loss for law in self.laws)

    def measured(self) -> MixtureRuns:
        """Returns the runs that the laws were fitted to."""
        arrays = np.array(self.weights), np.array(self.losses)
        return MixtureRuns(self.runs, self.datasets, self.names, *arrays, self.left_out)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Foretells losses from weights by both forms; share_K is that of the exponential one."""

    exponentials: forms.Exponentials
    ridges: forms.Ridges
    share_K: np.ndarray

    def __call__(self, weights_ND: np.ndarray) -> np.ndarray:
        """Returns the losses of mixtures, [N, K]."""
        share = self.share_K[None]
        return share * self.exponentials(weights_ND) + (1 - share) * self.ridges(weights_ND)

    def gradient(self, weights_D: np.ndarray) -> np.ndarray:
        """Returns how the losses change with each weight, [K, D]."""
        share = self.share_K[:, None]
        exponential = self.exponentials.gradient(weights_D)
        return share * exponential + (1 - share) * self.ridges.gradient(weights_D)


# ---------------------------------------------------------------------------- fit
def fit(
    runs: MixtureRuns,
    folds: int = FOLDS,
    seed: int = 0,
    form: Form | None = None,
    design: MixtureDesign | None = None,
) -> MixtureLaws:
    """Fits the laws of all losses.

    Args:
      folds: into how many parts runs are divided, each foretold by laws of the others.
      form: the form to take for every loss; None takes the better one of each by held-out
        Spearman. Forms closer than 0.02 are a tie, and the exponential goes first.

    Raises:
      ValueError: fewer runs than unknowns, or than folds.
    """
    width = len(runs.datasets)
    count = len(np.unique(runs.weights_ND, axis=0))
    if count < width + 2:
        raise ValueError(
            f"{count} mixtures; a law of {width} datasets has {width + 2} unknowns and wants "
            f"as many mixtures, better {3 * width} or more: lrl laws mixture run --runs {3 * width}"
        )
    if not 2 <= folds <= count:
        raise ValueError(f"{folds} folds of {count} mixtures; want 2 to {count}")
    all_runs = np.ones((1, len(runs.names)))
    exponentials, ridges = _fitted(runs.weights_ND, runs.losses_NK, all_runs)
    held_out = _held_out(runs, folds, seed)
    laws = []
    for k, name in enumerate(runs.losses):
        scores = {form: of_losses[k] for form, of_losses in held_out.items()}
        laws.append(
            MixtureLaw(
                loss=name,
                form=form or _better(scores),
                floor=float(exponentials.floor_B[k]),
                scale=float(exponentials.scale_B[k]),
                slopes=tuple(exponentials.slopes_BD[k].tolist()),
                intercept=float(ridges[0].intercept_B[k]),
                linear=tuple(ridges[0].linear_BD[k].tolist()),
                root=tuple(ridges[0].root_BD[k].tolist()),
                strength=float(ridges[0].strength_B[k]),
                held_out=scores,
            )
        )
    return MixtureLaws(
        datasets=runs.datasets,
        laws=tuple(laws),
        runs=runs.names,
        weights=tuple(map(tuple, runs.weights_ND.tolist())),
        losses=tuple(map(tuple, runs.losses_NK.tolist())),
        left_out=runs.left_out,
        design=design,
    )


def _better(scores: Mapping[Form, HeldOutFit]) -> Form:
    """Returns the first form that no other one beats clearly."""
    best = max(score.spearman for score in scores.values())
    return next(form for form in FORMS if scores[form].spearman > best - TIE)


def _fitted(
    weights_ND: np.ndarray,
    losses_NK: np.ndarray,
    counts_SN: np.ndarray,
    start: "Predictor | None" = None,
) -> tuple[forms.Exponentials, list[forms.Ridges]]:
    """Fits both forms to S resamples; problem s * K + k is loss k of resample s."""
    count, losses = losses_NK.shape
    size = max(1, CHUNK // (losses * count * (weights_ND.shape[1] + 2)))
    exponentials, ridges = [], []
    for begin in range(0, len(counts_SN), size):
        counts = counts_SN[begin : begin + size]
        begun = start.exponentials[np.tile(np.arange(losses), len(counts))] if start else None
        exponentials.append(
            forms.exponentials(
                weights_ND, np.tile(losses_NK.T, (len(counts), 1)),
                np.repeat(counts, losses, axis=0), begun,
            )
        )  # fmt: skip
    for counts in counts_SN:
        rows = np.repeat(np.arange(count), counts.astype(int))
        strength = start.ridges.strength_B if start else None
        ridges.append(forms.ridges(weights_ND[rows], losses_NK[rows], strength))
    fields = [field.name for field in dataclasses.fields(forms.Exponentials)]
    joined = [np.concatenate([getattr(chunk, name) for chunk in exponentials]) for name in fields]
    return forms.Exponentials(*joined), ridges


def _held_out(runs: MixtureRuns, folds: int, seed: int) -> dict[Form, list[HeldOutFit]]:
    """Returns how well each form foretells each loss of runs that were left out."""
    count, losses = runs.losses_NK.shape
    folds_of_runs = parts_of(runs.weights_ND, folds, seed)
    counts_FN = np.ones((folds, count))
    for fold, indices in enumerate(folds_of_runs):
        counts_FN[fold, indices] = 0
    exponentials, ridges = _fitted(runs.weights_ND, runs.losses_NK, counts_FN)
    foretold = {form: np.empty_like(runs.losses_NK) for form in FORMS}
    for fold, indices in enumerate(folds_of_runs):
        own = exponentials[np.arange(losses) + fold * losses]
        for form, share in EXPONENTIAL_SHARE.items():
            predictor = Predictor(own, ridges[fold], np.full(losses, share))
            foretold[form][indices] = predictor(runs.weights_ND[indices])
    return {
        form: [
            _scored(measured_N, foretold_N, folds_of_runs)
            for measured_N, foretold_N in zip(runs.losses_NK.T, foretold[form].T, strict=True)
        ]
        for form in FORMS
    }


def parts_of(weights_ND: np.ndarray, folds: int, seed: int = 0) -> list[np.ndarray]:
    """Returns the runs of each fold. Runs of one mixture, with several seeds, go into the same.

    They would foretell each other otherwise.
    """
    _, mixture_N = np.unique(weights_ND, axis=0, return_inverse=True)
    order = np.random.default_rng(seed).permutation(mixture_N.max() + 1)
    return [
        np.flatnonzero(np.isin(mixture_N, mixtures)) for mixtures in np.array_split(order, folds)
    ]


def _scored(
    measured_N: np.ndarray, foretold_N: np.ndarray, folds: Sequence[np.ndarray]
) -> HeldOutFit:
    large = [indices for indices in folds if len(indices) >= LEAST_IN_FOLD]
    return HeldOutFit(
        spearman=spearman(measured_N, foretold_N),
        folds=tuple(spearman(measured_N[indices], foretold_N[indices]) for indices in large),
        rmse=float(np.sqrt(((measured_N - foretold_N) ** 2).mean())),
    )


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the rank correlation of two lists of numbers; 0 where one of them never varies.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    ranks = [stats.rankdata(numbers) for numbers in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    size = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float(centred[0] @ centred[1] / size) if size else 0.0


# ---------------------------------------------------------------------------- predict
def predictor(laws: MixtureLaws) -> Predictor:
    """Returns what foretells the losses of mixtures."""

    def column(name: str) -> np.ndarray:
        return np.array([getattr(law, name) for law in laws.laws])

    return Predictor(
        forms.Exponentials(column("floor"), column("scale"), column("slopes")),
        forms.Ridges(column("intercept"), column("linear"), column("root"), column("strength")),
        np.array([EXPONENTIAL_SHARE[law.form] for law in laws.laws]),
    )


def predict(laws: MixtureLaws, weights_ND: np.ndarray) -> np.ndarray:
    """Returns the losses that the laws foretell of mixtures, [N, K]."""
    return predictor(laws)(weights_ND)


def draws(laws: MixtureLaws, count: int = DRAWS, seed: int = 0) -> list[Predictor]:
    """Returns laws fitted to bootstrap resamples of the runs, each in the form that was chosen."""
    law, total = predictor(laws), len(laws.runs)
    rng = np.random.default_rng(seed)
    counts_SN = rng.multinomial(total, np.full(total, 1 / total), size=count).astype(float)
    runs = laws.measured()
    exponentials, ridges = _fitted(runs.weights_ND, runs.losses_NK, counts_SN, law)
    each = np.arange(len(laws.laws))
    return [
        Predictor(exponentials[each + s * len(each)], ridges[s], law.share_K) for s in range(count)
    ]


def interval(numbers: np.ndarray) -> tuple[float, float]:
    """Returns what holds 95 % of the draws."""
    low, high = np.percentile(numbers, INSIDE)
    return float(low), float(high)


# ---------------------------------------------------------------------------- the file
def write(laws: MixtureLaws, path: epath.PathLike) -> None:
    """Writes mixture_law.json."""
    storage.write(path, laws.model_dump_json(indent=1) + "\n")


def read_design(path: epath.PathLike) -> MixtureDesign:
    """Reads design.json; what is none is a DataError."""
    try:
        return MixtureDesign.model_validate_json(storage.read_bytes(path, storage.JSON_BYTES))
    except pydantic.ValidationError as e:
        raise text.DataError(f"{path}: is no design.json: {e.errors()[0]['msg']}") from None


def read(path: str) -> MixtureLaws:
    """Reads mixture_law.json, and refuses a file that `write` did not write."""
    return files.read(path, MixtureLaws, LAW, "lrl laws mixture fit mixtures.csv")
