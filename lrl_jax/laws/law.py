"""Fits the scaling law of translation data: how scores rise with pairs (arXiv 2308.04948, Eq. 2).

    laws = fit(read_points("points.csv"))            # language,pairs,score and, if known, seed
    predict(laws[0], pairs=100_000)                  # 100 - a * 100_000 ** b

A score is COMET's or BLEURT's times 100, or chrF, so 100 bounds it: S = 100 - a X^b, b < 0. The
paper has a = alpha gamma^b, alpha and b shared by all languages, gamma how similar a language is to
English; points of one language tell only its a, so `shared` needs gamma from elsewhere. With five
points or more, the ceiling may be learnt in place of 100.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
import re
from typing import Literal

from etils import epath
import numpy as np
import pydantic

from lrl_jax import text
from lrl_jax.laws import bootstrap, files, forms
from lrl_jax.laws.forms import LawForm
from lrl_jax.recipe.vocab import Section

BOUND = 100.0  # of the score
DRAWS = 10_000  # of the bootstrap
SEARCHED = 1_000  # of them where each takes a search, or many rounds
INSIDE = (2.5, 97.5)  # percentiles: an interval holds 95 % of the draws
LEARNT_FROM = (5, 4)  # points, and amounts among them, from which a ceiling can be learnt
SEED = re.compile(r"\A0*(\d+)(?:[.,]0+)?\Z")  # as a whole number, however it is written
WIDTH = 5.0  # points of the score: as wide as the interval of a score that a law stands behind
LIMIT = 100.0  # times the most pairs measured: as far as that is asked

Ceiling = float | Literal["learn", "auto"]
Loss = Literal["squares", "huber"]


@dataclasses.dataclass(frozen=True)
class Point:
    """Holds the score of a model trained on `pairs` pairs of a language; `where` is file:line."""

    language: str
    pairs: float
    score: float
    similarity: float = math.nan
    where: str = ""
    seed: str = ""


class Law(Section):
    """Holds the law S = ceiling - a X^b of one language, with 95 % bootstrap intervals.

    Fields that are None were not computed by the version that wrote the file.
    """

    language: str
    a: pydantic.PositiveFloat
    b: pydantic.NegativeFloat
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    measured: tuple[float, float]
    """The least and the most pairs it was fitted to."""
    held_back: tuple[float, float]
    """The score of the most pairs, and what the law of all other points says of it."""
    ceiling: float = BOUND
    ceiling_interval: tuple[float, float] = (BOUND, BOUND)
    """Both ends are the ceiling where it was given and not learnt."""
    loss: Loss = "squares"
    r2: float | None = None
    """The share of the variance of the scores that the law explains."""
    held_out: float | None = None
    """The mean error, in points of the score, of each amount by the law of all others."""
    reach: float | None = None
    """The most pairs at which the interval of the law's score is at most WIDTH points wide, up to
    LIMIT times the most that were measured; 0 if it is wider at those."""
    reach_below: float | None = None
    """The least pairs at which it is, down to a LIMITth of the least that were measured; those if
    it is wider there."""


class Laws(Section):
    """Describes the content of laws.json."""

    form: str = "score = ceiling - a * pairs ** b"
    laws: tuple[Law, ...]


# ---------------------------------------------------------------------------- points and laws
def read_points(path: str) -> list[Point]:
    """Reads a CSV with a header: language, pairs, score; seed if known; similarity for `shared`.

    A missing column or cell, what is no number, or a model that stands twice is a DataError with
    file and line.
    """
    columns, separator, rows = files.rows(path)
    if missing := {"language", "pairs", "score"} - set(columns):
        raise text.DataError(
            f"{path}: has no column {', '.join(sorted(missing))}; the first line must name them: "
            "language,pairs,score and, if known, seed, and similarity for --shared"
        )
    points: list[Point] = []
    lines: dict[tuple[str | float, ...], str] = {}  # what tells a model -> where it stands
    for where, row in rows:
        try:
            pairs = files.number(row["pairs"], separator)
            score = files.number(row["score"], separator, most=BOUND)
            similarity = files.number(row.get("similarity") or "nan", separator, most=1)
        except ValueError as e:
            shown = separator.join(row.values())
            raise text.DataError(
                f"{where}: want numbers of pairs and score; got {shown} ({e})"
            ) from None
        if not row["language"]:
            raise text.DataError(f"{where}: names no language; write it in every line")
        if not math.isfinite(score):
            raise text.DataError(
                f"{where}: its score is {score:g}, so it was not measured; leave the line "
                "out, or measure it again"
            )
        seed = SEED.sub(r"\1", row.get("seed", ""))
        point = Point(row["language"], pairs, score, similarity, where, seed)
        model = (point.language, pairs, seed) if seed else (*row.values(),)
        first = lines.setdefault(model, where)
        if first != where and seed:
            raise text.DataError(
                f"{where}: seed {seed} of {point.language} with {pairs:g} pairs stands "
                f"in {first} already; two equal seeds are one model: leave one of them out"
            )
        if first != where:
            raise text.DataError(
                f"{where}: says the same as {first}, and a copy says nothing of the noise; leave "
                "it out, or give each its seed if they are two models"
            )
        points.append(point)
    return points


def falls(points: Sequence[Point]) -> Iterator[str]:
    """Yields a line for each amount whose mean score is below that of a smaller amount."""
    for name, own_points in by_language(points).items():
        amounts = defaultdict(list)
        for point in own_points:
            amounts[point.pairs].append(point.score)
        means = [(pairs, _mean(amounts[pairs])) for pairs in sorted(amounts)]
        for (fewer, higher), (more, lower) in itertools.pairwise(means):
            if lower < higher:
                yield (
                    f"{name}: the score falls from {higher:.2f} with {fewer:,.0f} pairs to "
                    f"{lower:.2f} with {more:,.0f}"
                )


def read(path: str) -> tuple[Law, ...]:
    """Reads laws.json, and refuses a file that `write` did not write."""
    return files.read(path, Laws, "laws.json", "lrl laws fit points.csv").laws


def write(laws: Sequence[Law], path: epath.PathLike) -> None:
    """Writes laws.json."""
    epath.Path(path).write_text(Laws(laws=tuple(laws)).model_dump_json(indent=1) + "\n")


# ---------------------------------------------------------------------------- fit and predict
def fit(
    points: Sequence[Point],
    shared: bool = False,
    seed: int = 0,
    *,
    ceiling: Ceiling = BOUND,
    loss: Loss = "squares",
    draws: int = 0,
) -> list[Law]:
    """Fits a law to each language.

    Where an amount was trained with several seeds, intervals are a bootstrap that draws the seeds
    of each amount anew; else a parametric one. The size of the noise is itself drawn from what it
    was estimated with (chi-squared), so that intervals are as wide as Student's.

    Args:
      shared: one alpha and one b for all languages, a = alpha similarity^b.
      ceiling: a number; `learn`; or `auto`, which learns it where that has the smaller held-out
        error and there are points enough, and else takes 100.
      loss: least squares, or Huber's, which one wrong point moves little.
      draws: of the bootstrap; 0 is 10,000, or 1,000 where each takes long.

    Raises:
      ValueError: fewer than 3 amounts, a score that is not below the ceiling, scores that do not
        rise, or too few points to learn a ceiling.
    """
    if not points:
        raise ValueError("no points; want 3 or more amounts of pairs a language, with their scores")
    if shared and ceiling == "learn":
        raise ValueError("a shared law has a given ceiling; learn one for each language alone")
    if not shared:
        points = [dataclasses.replace(point, similarity=1.0) for point in points]
    given = BOUND if isinstance(ceiling, str) else ceiling
    _check(points, given)
    choices = [LawForm(given, huber=loss == "huber")]
    if isinstance(ceiling, str) and not shared:
        learnt = dataclasses.replace(choices[0], learnt=True)
        choices = [learnt] if ceiling == "learn" else [*choices, learnt]
    groups = by_language(points)
    if shared:
        return _laws(groups, choices, seed, draws)
    return [_laws({name: own}, choices, seed, draws)[0] for name, own in groups.items()]


def predict(law: Law, pairs: float) -> float:
    """Returns the score the law predicts for `pairs` pairs."""
    return law.ceiling - law.a * pairs**law.b


def _check(points: Sequence[Point], ceiling: float) -> None:
    similar = {point.language: point.similarity for point in points}
    for p in points:
        if not 0 < p.pairs < math.inf:
            raise ValueError(
                f"{p.where}: {p.pairs:g} pairs; want more than 0, there is no score of 0"
            )
        if not -math.inf < p.score < ceiling:
            raise ValueError(
                f"{p.where}: score {p.score:g} is not below {ceiling:g}, the bound of the law; "
                "give COMET or BLEURT times 100"
            )
        if not (0 < p.similarity < math.inf and p.similarity == similar[p.language]):
            raise ValueError(
                f"{p.where}: similarity {p.similarity:g}; a shared law wants one above 0 for each "
                "language, the same in all its lines"
            )
    if all(0 <= point.score <= 1 for point in points):
        raise ValueError("every score is between 0 and 1; give them times 100")


def _laws(
    groups: Mapping[str, Sequence[Point]], choices: Sequence[LawForm], seed: int, draws: int
) -> list[Law]:
    """Fits the laws of languages that share alpha and b; of one language, its own law."""
    points = [point for own_points in groups.values() for point in own_points]
    who = ", ".join(groups)
    amounts = _amounts(points)
    if len(amounts) < 3:
        raise ValueError(
            f"{who}: {len(amounts)} {'amount' if len(amounts) == 1 else 'amounts'} of pairs; a law "
            "has two unknowns and wants 3 or more to be doubted. Train with 3 amounts, such as "
            "10000, 30000 and 100000 pairs"
        )
    slope = _curves(LawForm(choices[0].ceiling, huber=choices[0].huber), points).b[0]
    if slope >= 0:
        raise ValueError(
            f"{who}: the score does not rise with pairs (b = {slope:+.3g}, want below 0), so there "
            "is no law to extend; measure amounts further apart, or leave the language out"
        )
    learnable = len(points) >= LEARNT_FROM[0] and len(amounts) >= LEARNT_FROM[1]
    if not learnable and all(form.learnt for form in choices):
        raise ValueError(
            f"{who}: {len(points)} points of {len(amounts)} amounts; a ceiling is learnt from "
            f"{LEARNT_FROM[0]} points of {LEARNT_FROM[1]} amounts or more. Train more, or take the "
            "bound of the score: --ceiling 100"
        )
    errors = {form: _held_out(form, points) for form in choices if learnable or not form.learnt}
    form = min(errors, key=lambda form: errors[form])
    drawn = _drawn(form, points, np.random.default_rng(seed), draws)
    most = {name: max(_amounts(own_points)) for name, own_points in groups.items()}
    others = [p for p in points if p.pairs * p.similarity != most[p.language]]
    return [
        _law(form, own_points, _curves(form, points), _curves(form, others), drawn, errors[form])
        for own_points in groups.values()
    ]


def _law(
    form: LawForm,
    own_points: Sequence[Point],
    curve: forms.Curves,
    without_most: forms.Curves,
    drawn: forms.Curves,
    held_out: float,
) -> Law:
    """Returns the law of one language by curves of similarity times pairs."""
    gamma, amounts = own_points[0].similarity, _amounts(own_points)
    least, most = min(amounts), max(amounts)
    got = np.array([point.score for point in own_points])
    want = forms.scores(curve, np.array([p.pairs * gamma for p in own_points]))[0]
    spread = ((got - got.mean()) ** 2).sum()
    logs = np.concatenate(
        [curve.log_a + curve.b * np.log(gamma), drawn.log_a + drawn.b * np.log(gamma)]
    )
    a = np.exp(np.clip(logs, -700, 700))
    return Law(
        language=own_points[0].language,
        a=float(a[0]),
        b=float(curve.b[0]),
        a_interval=_inside(a[1:]),
        b_interval=_inside(drawn.b),
        measured=(least / gamma, most / gamma),
        held_back=(_mean(amounts[most]), float(forms.scores(without_most, np.array([most]))[0, 0])),
        ceiling=float(curve.ceiling[0]),
        ceiling_interval=_inside(drawn.ceiling),
        loss="huber" if form.huber else "squares",
        r2=float(1 - ((got - want) ** 2).sum() / spread) if spread else None,
        held_out=held_out,
        reach=_reach(drawn, most, LIMIT) / gamma,
        reach_below=(_reach(drawn, least, 1 / LIMIT) or least) / gamma,
    )


def _reach(drawn: forms.Curves, start: float, limit: float) -> float:
    """Returns how far from `start` the interval of the score stays within WIDTH; 0 if nowhere.

    Args:
      limit: times `start`, as far as that is asked; below 1 for fewer pairs.
    """
    x_N = start * np.geomspace(1.0, limit, 61)
    some = forms.Curves(*(values_D[:SEARCHED] for values_D in drawn))
    low_N, high_N = np.percentile(forms.scores(some, x_N), INSIDE, axis=0)
    within_N = np.logical_and.accumulate(high_N - low_N <= WIDTH)
    return float(x_N[within_N][-1]) if within_N[0] else 0.0


def _curves(form: LawForm, points: Sequence[Point]) -> forms.Curves:
    x_N, s_N = _arrays(points)
    return form.fit(x_N, form.targets(s_N[None]))


def _held_out(form: LawForm, points: Sequence[Point]) -> float:
    """Returns the mean error of each amount's mean score by the curve of all other amounts."""
    errors = []
    for x, scores in _amounts(points).items():
        others = [point for point in points if point.pairs * point.similarity != x]
        foretold = forms.scores(_curves(form, others), np.array([x]))[0, 0]
        errors.append(abs(_mean(scores) - foretold))
    return float(np.mean(errors))


def _drawn(
    form: LawForm, points: Sequence[Point], rng: np.random.Generator, draws: int
) -> forms.Curves:
    """Returns the curves of bootstrap draws."""
    count = draws or (SEARCHED if form.learnt or form.huber else DRAWS)
    models = defaultdict(list)  # those that differ in their seeds alone -> their indices
    for i, point in enumerate(points):
        models[point.language, point.pairs].append(i)
    return bootstrap.drawn(form, *_arrays(points), [*models.values()], rng, count)


def _inside(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, INSIDE).tolist()
    return low, high


def _arrays(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    """Returns similarity times pairs, and scores, each [N]."""
    x = [point.similarity * point.pairs for point in points]
    return np.array(x, float), np.array([point.score for point in points], float)


def _amounts(points: Sequence[Point]) -> dict[float, list[float]]:
    """Returns the scores of each amount, which is similarity times pairs."""
    amounts: dict[float, list[float]] = defaultdict(list)
    for point in points:
        amounts[point.similarity * point.pairs].append(point.score)
    return amounts


def by_language(points: Sequence[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.language, []).append(point)
    return groups


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
