"""Fits the scaling law of translation data: how scores rise with pairs (arXiv 2308.04948, Eq. 2).

    laws = fit(read_points("points.csv"))            # language,pairs,score
    predict(laws[0], pairs=100_000)                  # 100 - a * 100_000 ** b

A score is COMET's or BLEURT's times 100, so 100 bounds it: S = 100 - a X^b, b < 0. The paper has
a = alpha gamma^b, alpha and b shared by all languages, gamma how similar a language is to English;
points of one language tell only its a, so `shared` needs gamma from elsewhere.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import math

from etils import epath
import numpy as np
import pydantic

from lrl_jax import storage, text
from lrl_jax.recipe.vocab import Section

BOUND = 100.0  # of the score
DRAWS = 10_000  # of the bootstrap
INSIDE = (2.5, 97.5)  # percentiles: an interval holds 95 % of the draws


@dataclasses.dataclass(frozen=True)
class Point:
    """Holds the score of a model trained on `pairs` pairs of a language; `where` is file:line."""

    language: str
    pairs: float
    score: float
    similarity: float = math.nan
    where: str = ""


class Law(Section):
    """Holds the law S = 100 - a X^b of one language, with 95 % bootstrap intervals."""

    language: str
    a: pydantic.PositiveFloat
    b: pydantic.NegativeFloat
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    measured: tuple[float, float]
    """The least and the most pairs it was fitted to."""
    held_back: tuple[float, float]
    """The score of the most pairs, and what the law of all other points says of it."""


class Laws(Section):
    """Describes the content of laws.json."""

    form: str = "score = 100 - a * pairs ** b"
    laws: tuple[Law, ...]


# ---------------------------------------------------------------------------- points and laws
def read_points(path: str) -> list[Point]:
    """Reads a CSV with a header: language, pairs, score and, for `shared`, similarity.

    A missing column, or what is no number, is a DataError with file and line.
    """
    rows = csv.DictReader(text.lines(path))
    if missing := {"language", "pairs", "score"} - set(rows.fieldnames or ()):
        raise text.DataError(
            f"{path}: has no column {', '.join(sorted(missing))}; the first line must name them: "
            "language,pairs,score and, for --shared, similarity"
        )
    points = []
    for row in rows:
        where = f"{path}:{rows.line_num}"
        try:
            numbers = [float(row[name]) for name in ("pairs", "score")]
            numbers.append(float(row.get("similarity") or "nan"))
        except (TypeError, ValueError):
            shown = ",".join(str(value) for value in row.values())
            raise text.DataError(f"{where}: want numbers of pairs and score; got {shown}") from None
        points.append(Point(row["language"], *numbers, where=where))
    return points


def read(path: str) -> tuple[Law, ...]:
    """Reads laws.json, and refuses a file that `write` did not write."""
    try:
        return Laws.model_validate_json(storage.read_bytes(path, storage.JSON_BYTES)).laws
    except FileNotFoundError:
        raise text.DataError(f"{path}: no such file; make it: lrl laws fit points.csv") from None
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise text.DataError(f"{path}: is no laws.json: {where} {first['msg']}") from None


def write(laws: Sequence[Law], path: epath.PathLike) -> None:
    """Writes laws.json."""
    epath.Path(path).write_text(Laws(laws=tuple(laws)).model_dump_json(indent=1) + "\n")


# ---------------------------------------------------------------------------- fit and predict
def fit(points: Sequence[Point], shared: bool = False, seed: int = 0) -> list[Law]:
    """Fits a law to each language by least squares of log(100 - S) on log X.

    Intervals are a parametric bootstrap: the fit is drawn anew with noise whose size is itself
    drawn from what the residuals allow (RSS over chi-squared), so they are as wide as Student's
    with as few points as there are.

    Args:
      shared: one alpha and one b for all languages, a = alpha similarity^b.

    Raises:
      ValueError: fewer than 3 amounts, a score that is not below 100, scores that do not rise.
    """
    if not points:
        raise ValueError("no points; want 3 or more amounts of pairs a language, with their scores")
    if not shared:
        points = [dataclasses.replace(point, similarity=1.0) for point in points]
    _check(points)
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.language, []).append(point)
    if shared:
        return _laws(groups, seed)
    return [_laws({name: own_points}, seed)[0] for name, own_points in groups.items()]


def predict(law: Law, pairs: float) -> float:
    """Returns the score the law predicts for `pairs` pairs."""
    return BOUND - law.a * pairs**law.b


def _check(points: Sequence[Point]) -> None:
    similar = {point.language: point.similarity for point in points}
    for p in points:
        if not 0 < p.pairs < math.inf:
            raise ValueError(
                f"{p.where}: {p.pairs:g} pairs; want more than 0, there is no score of 0"
            )
        if not -math.inf < p.score < BOUND:
            raise ValueError(
                f"{p.where}: score {p.score:g} is not below 100, the bound of the law; give COMET "
                "or BLEURT times 100"
            )
        if not (0 < p.similarity < math.inf and p.similarity == similar[p.language]):
            raise ValueError(
                f"{p.where}: similarity {p.similarity:g}; a shared law wants one above 0 for each "
                "language, the same in all its lines"
            )
    if all(0 <= point.score <= 1 for point in points):
        raise ValueError("every score is between 0 and 1; give them times 100")


def _laws(groups: Mapping[str, Sequence[Point]], seed: int) -> list[Law]:
    """Fits the laws of languages that share alpha and b; of one language, its own law."""
    points = [point for own_points in groups.values() for point in own_points]
    who = ", ".join(groups)
    amounts = {point.pairs * point.similarity for point in points}
    if len(amounts) < 3:
        raise ValueError(
            f"{who}: {len(amounts)} amounts of pairs; a law has two unknowns and wants 3 or more "
            "to be doubted. Train with 3 amounts, such as 10000, 30000 and 100000 pairs"
        )
    alpha, b = _line(points)
    if b >= 0:
        raise ValueError(
            f"{who}: the score does not rise with pairs (b = {b:+.3g}, want below 0), so there is "
            "no law to extend; measure amounts further apart, or leave the language out"
        )
    draws = _draws(points, np.array([alpha, b]), np.random.default_rng(seed))
    most = {name: max(own_points, key=lambda p: p.pairs) for name, own_points in groups.items()}
    line_without_most = _line([point for point in points if point is not most[point.language]])
    laws = []
    for name, own_points in groups.items():
        gamma = own_points[0].similarity
        last, least = most[name], min(point.pairs for point in own_points)
        foretold = BOUND - math.exp(line_without_most @ [1.0, math.log(gamma * last.pairs)])
        a_draws = np.exp(np.clip(draws @ [1.0, math.log(gamma)], -700, 700))
        laws.append(
            Law(
                language=name,
                a=math.exp(alpha + b * math.log(gamma)),
                b=b,
                a_interval=tuple(np.percentile(a_draws, INSIDE).tolist()),
                b_interval=tuple(np.percentile(draws[:, 1], INSIDE).tolist()),
                measured=(least, last.pairs),
                held_back=(last.score, foretold),
            )
        )
    return laws


def _design(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the regressors [n, 2], 1 and log(gamma X), and the targets log(100 - S), [n]."""
    x = [math.log(point.similarity * point.pairs) for point in points]
    y = [math.log(BOUND - point.score) for point in points]
    return np.column_stack([np.ones(len(x)), x]), np.array(y)


def _line(points: Sequence[Point]) -> np.ndarray:
    """Fits log alpha and b."""
    return np.linalg.lstsq(*_design(points))[0]


def _draws(points: Sequence[Point], line: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns bootstrap draws of log alpha and b, [DRAWS, 2]."""
    x, y = _design(points)
    residuals = y - x @ line
    noise = np.sqrt(residuals @ residuals / rng.chisquare(len(y) - 2, (DRAWS, 1)))
    drawn = x @ line + noise * rng.standard_normal((DRAWS, len(y)))
    return drawn @ np.linalg.pinv(x).T
