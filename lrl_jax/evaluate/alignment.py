"""Measures the evaluation kind `alignment`: how alike a sentence and its translation are by layer.

    lines = read("flores/eng.devtest", "flores/kor.devtest", limit=100)
    align(lines, model, batch_size=8)["poolings"]["weighted"]["layers"][2]["mexa"]      # 0.08

The states of a sentence are pooled to a vector at each layer (`states`). From the cosines S of N
sentences with their N translations, the diagonal being the pairs:

    gap       mean of the pairs minus mean of all others
    accuracy  share of rows (forward) or columns (backward) whose largest cosine is the pair's
    mexa      share of pairs above all others of their row and their column (arXiv 2410.05873)
    cka       linear CKA of the two sets of states, without cosines (arXiv 1905.00414)

Random states score a gap near 0, and 1 / N in accuracy. A sentence that occurs twice can be above
no other, so its pairs count as not found by MEXA, whatever the model is; they are counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
from typing import Any

import numpy as np

from lrl_jax import text
from lrl_jax.data.read import files, plain
from lrl_jax.evaluate import intervals, states
from lrl_jax.evaluate.kinds import EvaluationKind, MeasuredModel, register
from lrl_jax.evaluate.rows import (
    ComparableScore,
    Json,
    ReportRow,
    fixed,
    number,
    pairs,
    recorded,
)
from lrl_jax.recipe.evaluate import Alignment, Evaluate

FEWEST = 3  # pairs: without one of two, there is no other to tell the pair from
MAIN = "weighted"  # the pooling of the summary and of maps, as of MEXA
MEASURES = ("gap", "accuracy_forward", "accuracy_backward", "mexa", "cka")
MAPPED = 100  # pairs of a map at most
TIE = 1e-12  # between cosines: what float64 does not tell apart
DIGITS = 6  # of results: float32 states tell no more


@dataclasses.dataclass(frozen=True)
class ParallelLines:
    """Holds sentences and their translations, and how many lines were left out as blank."""

    sources: list[str]
    targets: list[str]
    blank: int = 0

    @property
    def repeated(self) -> int:
        """Returns how many pairs have a sentence, on either side, that another pair has too."""
        sources, targets = Counter(self.sources), Counter(self.targets)
        every = zip(self.sources, self.targets, strict=True)
        return sum(sources[source] > 1 or targets[target] > 1 for source, target in every)

    @property
    def identical(self) -> int:
        """Returns how many sentences are their own translations."""
        return sum(s == t for s, t in zip(self.sources, self.targets, strict=True))


# ---------------------------------------------------------------------------- measuring
def measure(entry: Alignment, model: MeasuredModel, settings: Evaluate) -> dict[str, Any]:
    """Compares the first `limit` pairs of two parallel files; returns what `align` does."""
    lines = read(entry.source, entry.target, entry.limit)
    return align(lines, model, settings.batch_size)


def check(entry: Alignment) -> None:
    """Raises DataError where the files of an entry cannot be compared (`read`)."""
    read(entry.source, entry.target, entry.limit)


def read(source: str, target: str, limit: int) -> ParallelLines:
    """Returns the first `limit` pairs of two parallel files, without those with a blank side.

    Sentences come without white space around them, whose tokens would be their last.

    Raises:
      DataError: the files differ in their numbers of lines, or have fewer than FEWEST pairs.
    """
    lines, counts = ParallelLines([], []), [0, 0]
    blank = 0
    for pair in itertools.zip_longest(plain.lines(source), plain.lines(target)):
        counts = [n + (line is not None) for n, line in zip(counts, pair, strict=True)]
        if len(lines.sources) == limit or None in pair:
            continue
        source_line, target_line = (line.strip() for line in pair)
        if not (source_line and target_line):
            blank += 1
            continue
        lines.sources.append(source_line)
        lines.targets.append(target_line)
    if counts[0] != counts[1]:
        raise files.unequal(source, counts[0], target, counts[1])
    if len(lines.sources) < FEWEST:
        raise text.DataError(
            f"{source} and {target}: {len(lines.sources)} pairs of lines with text, limit {limit}; "
            f"alignment compares each pair with others and wants {FEWEST} at least, better 100"
        )
    return dataclasses.replace(lines, blank=blank)


def align(lines: ParallelLines, model: MeasuredModel, batch_size: int) -> dict[str, Any]:
    """Returns every measure of every layer for every pooling, and maps of the pairs.

    `poolings` has for each of `states.POOLINGS` the measures of the `layers`, from the embeddings
    to the final norm, and their `max` and `mean` over layers; a measure that is not defined is
    None. Sentences longer than `states.longest` are cut there, and counted as `truncated`.
    """
    count, most = len(lines.sources), states.longest(model)
    sentences = states.sentence_ids([*lines.sources, *lines.targets], model)
    cut = [ids[:most] for ids in sentences]
    pooled = states.pool(model, cut, batch_size)
    if not all(np.isfinite(states_LND).all() for states_LND in pooled.values()):
        raise ValueError(
            "the model's states are not all finite numbers; measure another checkpoint, or compute "
            "in float32"
        )
    poolings = {name: by_layer(x[:, :count], x[:, count:]) for name, x in pooled.items()}
    best = poolings[MAIN]["best_layer"]
    maps = dict.fromkeys([model.cfg.depth // 2, best])
    return {
        "lines": count,
        "blank": lines.blank,
        "repeated": lines.repeated,
        "identical": lines.identical,
        "truncated": sum(len(ids) > most for ids in sentences),
        "poolings": poolings,
        "maps": [_map(l, pooled[MAIN][l, :count], pooled[MAIN][l, count:]) for l in maps],
    }


def by_layer(sources_LND: np.ndarray, targets_LND: np.ndarray) -> dict[str, Any]:
    """Returns every measure of every layer of pooled states, and what sums the layers up."""
    layers, cosines = [], []
    within = middle(len(sources_LND) - 1)
    for l, (x_ND, y_ND) in enumerate(zip(sources_LND, targets_LND, strict=True)):
        cosines_NN = cosine(x_ND, y_ND)
        layers.append({**scores(cosines_NN), "cka": _rounded(linear_cka(x_ND, y_ND))})
        if l in within:
            cosines.append(cosines_NN)
    columns = {key: [layer[key] for layer in layers if layer[key] is not None] for key in MEASURES}
    gap, low, high = gap_interval(np.mean(cosines, axis=0))
    return {
        "layers": layers,
        "max": {key: max(column, default=None) for key, column in columns.items()},
        "mean": {key: _mean(column) for key, column in columns.items()},
        "best_layer": max(range(len(layers)), key=lambda l: layers[l]["mexa"]),
        "middle": {
            "layers": [within[0], within[-1]],
            "gap": _rounded(gap),
            "gap_interval": [_rounded(low), _rounded(high)],
            "mexa": _mean([layers[l]["mexa"] for l in within]),
        },
    }


def middle(depth: int) -> range:
    """Returns the middle half of the states 0 to `depth`: neither embeddings nor output.

    >>> [middle(depth) for depth in (1, 2, 4, 5, 32)]
    [range(1, 2), range(1, 2), range(1, 4), range(2, 4), range(8, 25)]
    """
    first = -(-depth // 4)
    return range(first, max(3 * depth // 4, first) + 1)


# ---------------------------------------------------------------------------- one layer
def cosine(x_ND: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
    """Returns the cosine of each row of x with each row of y, float64 [N, N]."""
    x_ND, y_ND = (_unit(z_ND.astype(np.float64)) for z_ND in (x_ND, y_ND))
    return x_ND @ y_ND.T


def _unit(x_ND: np.ndarray) -> np.ndarray:
    norms_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    return x_ND / np.where(norms_N1 > 0, norms_N1, 1)


def scores(cosines_NN: np.ndarray) -> dict[str, float]:
    """Returns gap, accuracies and MEXA of cosines whose diagonal is the pairs.

    Of equal cosines the first is the largest (as argmax takes it), and none is above the others.

    >>> scores(np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.6], [0.1, 0.4, 0.8]]))
    ... # doctest: +NORMALIZE_WHITESPACE
    {'gap': 0.5, 'accuracy_forward': 0.666667, 'accuracy_backward': 1.0, 'mexa': 0.666667}
    """
    pairs_N = np.diag(cosines_NN)
    others_NN = np.where(np.eye(len(pairs_N), dtype=bool), -np.inf, cosines_NN)
    above_N = pairs_N - np.maximum(others_NN.max(axis=0), others_NN.max(axis=1)) > TIE
    return {
        "gap": _rounded(gap_interval(cosines_NN)[0]),
        "accuracy_forward": _rounded(_first_is_pair(cosines_NN)),
        "accuracy_backward": _rounded(_first_is_pair(cosines_NN.T)),
        "mexa": _rounded(above_N.mean()),
    }


def _first_is_pair(cosines_NN: np.ndarray) -> float:
    """Returns the share of rows whose largest cosine, the first of those, is on the diagonal."""
    largest_N1 = cosines_NN.max(axis=1, keepdims=True)
    firsts_N = np.argmax(cosines_NN >= largest_N1 - TIE, axis=1)
    return float(np.mean(firsts_N == np.arange(len(firsts_N))))


def gap_interval(cosines_NN: np.ndarray) -> tuple[float, float, float]:
    """Returns the gap, and its 95 % interval from leaving each pair out in turn (jackknife).

    >>> [round(x, 3) for x in gap_interval(np.eye(3))]
    [1.0, 1.0, 1.0]
    """
    count, pairs_N = len(cosines_NN), np.diag(cosines_NN)
    others_N = cosines_NN.sum(axis=0) + cosines_NN.sum(axis=1) - 2 * pairs_N
    pairs, others = pairs_N.sum(), others_N.sum() / 2
    gap = pairs / count - others / (count * (count - 1))
    without_N = (pairs - pairs_N) / (count - 1) - (others - others_N) / ((count - 1) * (count - 2))
    error = np.sqrt((count - 1) / count * np.sum((without_N - without_N.mean()) ** 2))
    return float(gap), float(gap - 1.96 * error), float(gap + 1.96 * error)


def linear_cka(x_ND: np.ndarray, y_ND: np.ndarray) -> float | None:
    """Returns |X'Y|^2 / (|X'X| |Y'Y|), Frobenius, columns centred; None where states are all equal.

    It is 1 for states that a rotation and a scale make equal, and depends on the scale of columns.
    Computed from the products of rows, N x N, as N is less than D.
    """
    grams = []
    for z_ND in (x_ND.astype(np.float64), y_ND.astype(np.float64)):
        centred_ND = z_ND - z_ND.mean(axis=0, keepdims=True)
        if np.linalg.norm(centred_ND) <= 1e-7 * np.linalg.norm(z_ND):  # float32 tells no more
            return None
        grams.append(centred_ND @ centred_ND.T)
    both = np.linalg.norm(grams[0]) * np.linalg.norm(grams[1])
    return float(np.sum(grams[0] * grams[1]) / both)


def _map(layer: int, x_ND: np.ndarray, y_ND: np.ndarray) -> dict[str, Any]:
    """Returns the first pairs of a layer on the two axes along which its states vary most (PCA)."""
    z_MD = np.concatenate([x_ND, y_ND]).astype(np.float64)
    centred_MD = z_MD - z_MD.mean(axis=0, keepdims=True)
    left_MK, sizes_K, _ = np.linalg.svd(centred_MD, full_matrices=False)
    left_M2 = left_MK[:, :2]
    signs_2 = np.sign(left_M2[np.abs(left_M2).argmax(axis=0), np.arange(left_M2.shape[1])])
    points_M2 = left_M2 * (signs_2 * sizes_K[:2])[None]  # the sign of an axis is nobody's
    whole = float(np.sum(sizes_K**2))
    return {
        "layer": layer,
        "explained": _rounded(float(np.sum(sizes_K[:2] ** 2)) / whole) if whole else None,
        "source": _points(points_M2[: len(x_ND)]),
        "target": _points(points_M2[len(x_ND) :]),
    }


def _points(points_M2: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in point] for point in points_M2[:MAPPED]]


def _rounded(value: float | None) -> Any:
    return None if value is None else round(float(value), DIGITS)


def _mean(values: Sequence[float]) -> Any:
    return _rounded(float(np.mean(values))) if values else None


# ---------------------------------------------------------------------------- reporting
def rows(before: Json, after: Json) -> Iterator[ReportRow]:
    """Yields MEXA of the best layer and the gap of the middle layers, of every entry.

    What changed counts as better or worse where the 95 % intervals have nothing in common: Wilson's
    of the share, and the jackknife's of the gap.
    """
    for name, *results in pairs(before, after, "alignment"):
        poolings = [(result.get("poolings") or {}).get(MAIN) or {} for result in results]
        mexa = [number((pooling.get("max") or {}).get("mexa")) for pooling in poolings]
        shares = [
            _wilson(value, number(result.get("lines")))
            for value, result in zip(mexa, results, strict=True)
        ]
        newest = results[1] or results[0]
        count = number(newest.get("lines"))
        note = "; ".join([*([f"{count:.0f} pairs"] if count else []), *remarks(newest)])
        yield _row("MEXA, best layer", name, mexa, shares, note, "alignment.mexa")
        middles = [pooling.get("middle") or {} for pooling in poolings]
        gaps = [number(of_middle.get("gap")) for of_middle in middles]
        bounds = [of_middle.get("gap_interval") for of_middle in middles]
        span = (middles[1] or middles[0]).get("layers")
        note = f"layers {span[0]} to {span[1]}" if span else ""
        yield _row("gap of cosines, middle layers", name, gaps, bounds, note, "alignment.gap")


def comparable(results: Json) -> Iterator[ComparableScore]:
    """Yields MEXA of the best layer and the gap of the middle layers, with their intervals."""
    for name, _, result in pairs({}, results, "alignment"):
        pooling = (result.get("poolings") or {}).get(MAIN) or {}
        middle_layers = pooling.get("middle") or {}
        mexa, gap = number((pooling.get("max") or {}).get("mexa")), number(middle_layers.get("gap"))
        count = result.get("lines")
        conditions = {"lines": recorded(count)}
        notes = (*([f"{count} pairs"] if count else ()), *remarks(result))
        if mexa is not None:
            yield ComparableScore(
                "MEXA, best layer", name, "alignment.mexa", mexa, fixed(mexa, 3), conditions,
                bounds=_wilson(mexa, number(count)), notes=notes,
            )  # fmt: skip
        if gap is not None:
            yield ComparableScore(
                "gap of cosines, middle layers", name, "alignment.gap", gap, fixed(gap, 3),
                conditions, bounds=_bounds(middle_layers.get("gap_interval")),
            )  # fmt: skip


def _bounds(interval: Any) -> tuple[float, float] | None:
    low, high = (*map(number, interval or ()), None, None)[:2]
    return None if low is None or high is None else (low, high)


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Returns what must be known of the pairs to read their scores; nothing where all is well."""
    count = result.get("lines")
    said = []
    if identical := result.get("identical"):
        all_of = "all sentences are" if identical == count else f"{identical} sentences are"
        said.append(
            f"{all_of} the same as their translation, which scores 1 and says nothing of languages"
        )
    if repeated := result.get("repeated"):
        said.append(f"{repeated} pairs have a sentence that occurs twice: MEXA cannot find them")
    if blank := result.get("blank"):
        said.append(f"{blank} pairs with a blank line were left out")
    if truncated := result.get("truncated"):
        said.append(f"{truncated} sentences are longer than the model reads here and were cut")
    return said


def _wilson(share: float | None, count: float | None) -> tuple[float, float] | None:
    if share is None or not count:
        return None
    return intervals.wilson(round(share * count), round(count))


def _row(
    measure: str, name: str, values: Sequence[float | None], bounds: Sequence[Any], note: str,
    key: str,
) -> ReportRow:  # fmt: skip
    """Returns the line of a score that is better when higher."""
    was, now = values
    change = verdict = ""
    if was is not None and now is not None:
        change = f"{now - was:+.3f}"
        if bounds[0] and bounds[1]:
            higher, lower = bounds[1][0] > bounds[0][1], bounds[1][1] < bounds[0][0]
            verdict = "better" if higher else "worse" if lower else ""
    return ReportRow(measure, name, fixed(was, 3), fixed(now, 3), change, verdict, note, key)


KIND = register(
    EvaluationKind("alignment", Alignment, measure, rows, check=check, scores=comparable)
)
