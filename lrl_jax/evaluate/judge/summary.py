"""Sums up results of judges: scores of each model, by each judge and by all of them together.

    summarise("pair", results, models=("ours", "base"), judges=("j1", "j2"))

The panel of several judges rates by the mean of its ratings, and prefers what more of its judges
prefer than anything else; without such a majority it is a tie.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
import itertools
from typing import Any

from lrl_jax.evaluate.intervals import CONFIDENCE
from lrl_jax.evaluate.judge import preference
from lrl_jax.evaluate.judge.grading import NO_ANSWER

PANEL = "all judges"
PREFERRED = {"A": 1.0, "tie": 0.5, "B": 0.0}
Json = Mapping[str, Any]


def summarise(
    kind: str,
    results: Sequence[Json],
    models: Sequence[str],
    judges: Sequence[str],
    difficulty: Mapping[str, float] | None = None,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Returns what judge.json holds of results of the kind "single" or "pair".

    Under "scores" is model -> measures, by all judges together; under "by_judge" judge -> the same;
    "failed" counts the items of each failure, "flaws" those that no judge was asked about.

    Args:
      difficulty: of questions by id, for the length-controlled win rate.
      confidence: of every interval.
    """
    by_judge = {judge: [r for r in results if r["judge"] == judge] for judge in judges}
    panel = by_judge[judges[0]] if len(judges) == 1 else _panel(kind, by_judge)
    measure = _ratings if kind == "single" else _comparison
    return {
        "kind": kind,
        "models": [*models],
        "judges": [*judges],
        "items": len(panel),
        "confidence": confidence,
        "scores": measure(panel, models, difficulty, confidence),
        "failed": dict(Counter(r["failure"] for r in panel if r["failure"])),
        "flaws": _flaws(kind, panel, models),
        **({"orders": _orders(results)} if kind == "pair" else {}),
        **({"by_judge": {
            judge: {
                "scores": measure(of_judge, models, difficulty, confidence),
                "failed": dict(Counter(r["failure"] for r in of_judge if r["failure"])),
            }
            for judge, of_judge in by_judge.items()
        }, "agreement": _between(kind, by_judge)} if len(judges) > 1 else {}),
    }  # fmt: skip


def key_of(result: Json) -> tuple[Any, ...]:
    """Returns what tells an item from others, whichever judge it is of."""
    return str(result["question_id"]), result["turn"], result.get("model", "")


# ---------------------------------------------------------------------------- several judges
def _panel(kind: str, by_judge: Mapping[str, Sequence[Json]]) -> list[dict[str, Any]]:
    """Returns the results of all judges together, an item each."""
    items: dict[tuple[Any, ...], list[Json]] = defaultdict(list)
    for result in itertools.chain.from_iterable(by_judge.values()):
        items[key_of(result)].append(result)
    return [_together(kind, of_item) for of_item in items.values()]


def _together(kind: str, of_item: Sequence[Json]) -> dict[str, Any]:
    """Returns the result of a panel; it failed where every judge did."""
    name = "score" if kind == "single" else "winner"
    values = [r[name] for r in of_item if r[name] is not None]
    shared = {**of_item[0], "judge": PANEL, "failure": "", "keys": [], name: None}
    if not values:
        return {**shared, "failure": Counter(r["failure"] for r in of_item).most_common(1)[0][0]}
    if kind == "single":
        return {**shared, "score": sum(values) / len(values)}
    return {**shared, "g1": None, "g2": None, "winner": majority(values)}


def majority(votes: Sequence[str]) -> str:
    """Returns what more judges chose than anything else, or "tie".

    >>> majority(["A", "A", "B"]), majority(["A", "B"]), majority(["B", "tie", "B"])
    ('A', 'tie', 'B')
    """
    (first, count), *others = Counter(votes).most_common()
    return first if not others or count > others[0][1] else "tie"


def _between(kind: str, by_judge: Mapping[str, Sequence[Json]]) -> list[dict[str, Any]]:
    """Returns Cohen's kappa of every two judges, on the items that both judged."""
    name = "score" if kind == "single" else "winner"
    rows = []
    for first, second in itertools.combinations(by_judge, 2):
        other = {key_of(r): r[name] for r in by_judge[second] if _judged(r)}
        pairs = [
            (r[name], other[key_of(r)])
            for r in by_judge[first]
            if _judged(r) and key_of(r) in other
        ]
        rows.append({"judges": [first, second], **agreed(kind, pairs)})
    return rows


def _judged(result: Json) -> bool:
    """Tells whether a judge decided; what flaws decide is the same for all judges."""
    return not result["failure"] and not any(result["flaws"])


def agreed(kind: str, pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Returns how far two agree who judged the same: the share of same verdicts, and kappa."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    kappa = preference.weighted_kappa if kind == "single" else preference.cohen_kappa
    same = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
    return {"items": len(pairs), "same": same, "kappa": kappa(first, second)}


# ---------------------------------------------------------------------------- single
def _ratings(
    results: Sequence[Json],
    models: Sequence[str],
    difficulty: Mapping[str, float] | None,
    confidence: float,
) -> dict[str, Any]:
    del difficulty  # of comparisons only
    return {
        model: _rating(
            [r for r in results if r["model"] == model and r["score"] is not None], confidence
        )
        for model in models
    }


def _rating(rated: Sequence[Json], confidence: float) -> dict[str, Any]:
    """Returns the mean rating of a model: of all turns, of each turn and of each category."""
    if not rated:
        return {"rating": None, "items": 0}
    scores, groups = [r["score"] for r in rated], [r["question_id"] for r in rated]
    rate = preference.mean(scores, groups, confidence=confidence)
    return {
        "rating": rate.value,
        "interval": [rate.low, rate.high],
        "items": len(rated),
        "turns": _means(rated, "turn", "score"),
        "categories": _means(rated, "category", "score"),
    }


def _means(results: Iterable[Json], key: str, value: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for result in results:
        groups[str(result[key])].append(result[value])
    return {
        name: {"mean": sum(values) / len(values), "items": len(values)}
        for name, values in groups.items()
        if name
    }


# ---------------------------------------------------------------------------- pairs
def _comparison(
    results: Sequence[Json],
    models: Sequence[str],
    difficulty: Mapping[str, float] | None,
    confidence: float,
) -> dict[str, Any]:
    """Returns the measures of both models; those of the second mirror those of the first."""
    judged = [{**r, "preference": PREFERRED[r["winner"]]} for r in results if r["winner"]]
    counts = Counter(r["winner"] for r in judged)
    wins, ties, losses = counts["A"], counts["tie"], counts["B"]
    first: dict[str, Any] = {"wins": wins, "ties": ties, "losses": losses}
    second: dict[str, Any] = {"wins": losses, "ties": ties, "losses": wins}
    if judged:
        groups = [r["question_id"] for r in judged]
        preferences = [r["preference"] for r in judged]
        for side, liked in ((first, preferences), (second, [1 - p for p in preferences])):
            rate = preference.win_rate(liked, groups, confidence=confidence)
            side |= {"win_rate": rate.value, "interval": [rate.low, rate.high]}
        first["length_controlled"] = at_equal_length(judged, difficulty, confidence)
        second["length_controlled"] = _mirrored(first["length_controlled"])
        first["categories"] = _means(judged, "category", "preference")
        second["categories"] = {
            name: {**cell, "mean": 1 - cell["mean"]} for name, cell in first["categories"].items()
        }
    return {model: {**side, "items": len(judged)}
            for model, side in zip(models, (first, second), strict=True)}  # fmt: skip


def at_equal_length(
    judged: Sequence[Json], difficulty: Mapping[str, float] | None, confidence: float
) -> dict[str, Any] | None:
    """Returns the length-controlled win rate, of the items that a judge decided.

    Where the difficulty is given, of the questions that it is given for; None where none is left.
    """
    asked = [r for r in judged if not any(r["flaws"])]
    if difficulty is not None:
        asked = [r for r in asked if str(r["question_id"]) in difficulty]
    if not asked:
        return None
    rate = preference.length_controlled(
        [PREFERRED[r["winner"]] for r in asked],
        [r["characters"] for r in asked],
        [r["question_id"] for r in asked],
        None if difficulty is None else [difficulty[str(r["question_id"])] for r in asked],
        confidence=confidence,
    )
    return {"win_rate": rate.value, "interval": [rate.low, rate.high],
            "length_weight": rate.length_weight, "items": len(asked),
            "difficulty": difficulty is not None}  # fmt: skip


def _mirrored(rate: Json | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    low, high = rate["interval"]
    return {**rate, "win_rate": 1 - rate["win_rate"], "interval": [1 - high, 1 - low]}


def _orders(results: Iterable[Json]) -> dict[str, Any]:
    """Returns in how many items the two orders disagree, and which place they then prefer."""
    both = [r for r in results if r.get("g1") and r.get("g2")]
    differ = [r for r in both if r["g1"] != r["g2"]]
    return {
        "items": len(both),
        "inconsistent": len(differ),
        "share": len(differ) / len(both) if both else None,
        # the first model stands first in g1, and the second model in g2
        "prefer_first": sum((r["g1"], r["g2"]) == ("A", "B") for r in differ),
        "prefer_second": sum((r["g1"], r["g2"]) == ("B", "A") for r in differ),
    }


# ---------------------------------------------------------------------------- both kinds
def _flaws(kind: str, results: Iterable[Json], models: Sequence[str]) -> dict[str, Any]:
    """Returns how many answers of each model were not worth a call, by reason."""
    counts: dict[str, Counter[str]] = {model: Counter() for model in models}
    for result in results:
        names = [result["model"]] if kind == "single" else result["models"]
        for model, flaw in zip(names, result["flaws"], strict=True):
            if flaw and flaw != NO_ANSWER:
                counts[model][flaw] += 1
    return {model: dict(count) for model, count in counts.items() if count}
