"""Recomputes the tables of released judgments: TaCo's, FastChat's ratings and comparisons.

    table = of_file("nepali_gpt4_evaluated.json")
    table.cells["math"]         RatingCell(mean=9.67, items=3)
    table.mean, table.disagreements

A record holds both a stored rating and the text that it was read from. The table is of the stored
ratings, as published; the disagreements are the records whose text says something else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import math
from pathlib import PurePosixPath
from typing import Any

from lrl_jax.evaluate.judge import preference, records, verdicts
from lrl_jax.evaluate.judge.preference import Rate
from lrl_jax.evaluate.judge.records import Id
from lrl_jax.text import DataError

NO_RATING = "no rating in the text"


@dataclasses.dataclass(frozen=True)
class RatingCell:
    """Holds the mean rating of a category, and of how many records."""

    mean: float
    items: int


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """Holds a record whose text does not say its stored verdict."""

    id: Id
    stored: str
    text: str  # what the text says, or why it says nothing


@dataclasses.dataclass(frozen=True)
class RatingTable:
    """Holds the mean of all ratings, of each category, and what is wrong with the records.

    Attributes:
      text_mean: with the rating that the text names, where it names one.
      unrated: ids of records without a usable stored rating, which count nowhere.
    """

    name: str
    mean: float
    text_mean: float
    interval: tuple[float, float]
    items: int
    cells: Mapping[str, RatingCell]
    disagreements: tuple[Disagreement, ...]
    unrated: tuple[Id, ...]


@dataclasses.dataclass(frozen=True)
class PairTable:
    """Holds how often the first of two models won, where both orders agree; and the rest."""

    name: str
    models: tuple[str, str]
    wins: int
    losses: int
    ties: int
    inconsistent: int  # ties because the two orders disagree
    failed: int
    rate: Rate | None
    at_equal_length: Rate | None = None  # where the records have the answers
    disagreements: tuple[Disagreement, ...] = ()


def of_file(path: str) -> list[RatingTable | PairTable]:
    """Returns the tables of a file: one for each model, or pair of models, and judge.

    Raises:
      DataError: records of no form that is known.
    """
    groups: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for where, record in records.records(path):
        groups[_group(where, record)].append((where, record))
    if not groups:
        raise DataError(f"{path}: no records")
    stem = PurePosixPath(path).stem
    return [
        _TABLES[form](" ".join((stem, *names)), rows) for (form, *names), rows in groups.items()
    ]


def _group(where: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the form of a record, and what its table is of."""
    if "rating_in_number" in record:
        return ("taco",)
    judge = record.get("judge")
    by = str(judge[0]) if isinstance(judge, list) and judge else ""
    if {"g1_winner", "g2_winner"} <= {*record}:
        names = (str(record.get("model_1")), str(record.get("model_2")))
        return ("pair", *names, by)
    if {"score", "model"} <= {*record}:
        return ("single", str(record["model"]), by, f"turn {record.get('turn', 1)}")
    if {"preference", "output_1", "output_2"} <= {*record}:
        names = (str(record.get("generator_2")), str(record.get("generator_1")))
        return ("alpaca", *names, str(record.get("annotator", "")))
    raise DataError(
        f"{where}: no judgment; want records of TaCo (rating_in_number), FastChat (score, or "
        "g1_winner and g2_winner) or AlpacaEval (preference)"
    )


# ---------------------------------------------------------------------------- ratings
def _taco(name: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> RatingTable:
    rated = ((where, r, r["rating_in_number"], r.get("judgement", "")) for where, r in rows)
    return _ratings(name, rated)


def _single(name: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> RatingTable:
    rated = ((where, r, r["score"], r.get("judgment", "")) for where, r in rows)
    return _ratings(name, rated)


def _ratings(name: str, rows: Iterable[tuple[str, Mapping[str, Any], Any, Any]]) -> RatingTable:
    stored: dict[Id, float] = {}
    said: dict[Id, float] = {}
    categories: dict[str, list[float]] = defaultdict(list)
    disagreements: list[Disagreement] = []
    unrated: list[Id] = []
    for where, record, rating, text in rows:
        key, value = _id_of(where, record), _number(rating)
        if key in stored or key in unrated:
            raise DataError(f"{where}: the record {key!r} comes twice; leave one out")
        if value is None or value < 0 or record.get("got_rating") is False:
            unrated.append(key)
            continue
        read = verdicts.rating(text) if isinstance(text, str) else verdicts.Verdict()
        stored[key] = value
        said[key] = value if read.value is None else float(read.value)
        categories[str(record.get("category", "")).replace("-", " ").strip()].append(value)
        if read.value != value:
            why = NO_RATING if read.failure == verdicts.NONE else read.failure
            disagreements.append(Disagreement(key, f"{value:g}", why or f"{read.value:g}"))
    if not stored:
        raise DataError(f"{name}: no record has a rating")
    rate = preference.mean([*stored.values()], [*stored])
    cells = {c: RatingCell(sum(v) / len(v), len(v)) for c, v in sorted(categories.items()) if c}
    return RatingTable(
        name, rate.value, sum(said.values()) / len(said), (rate.low, rate.high), len(stored),
        cells, tuple(disagreements), tuple(unrated),
    )  # fmt: skip


def _id_of(where: str, record: Mapping[str, Any]) -> Id:
    value = next((record[key] for key in records.IDS if key in record), None)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{where}: has no id; want question_id or id, a number or a text")
    return value


def _number(value: Any) -> float | None:
    """Returns a rating that is a number, or a text that is one."""
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# ---------------------------------------------------------------------------- comparisons
def _pair(name: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> PairTable:
    games, groups, inconsistent, failed, disagreements = [], [], 0, 0, []
    models = ("", "")
    for where, record in rows:
        models = (str(record.get("model_1")), str(record.get("model_2")))
        winners = [record["g1_winner"], record["g2_winner"]]
        if not all(winner in ("model_1", "model_2", "tie") for winner in winners):
            failed += 1
            continue
        inconsistent += winners[0] != winners[1]
        games.append({"model_1": 1.0, "model_2": 0.0}.get(winners[0], 0.5)
                     if winners[0] == winners[1] else 0.5)  # fmt: skip
        groups.append(_id_of(where, record))
        disagreements += [*_other_choices(groups[-1], record)]
    return _counted(name, models, games, groups, inconsistent, failed, disagreements)


def _other_choices(key: Id, record: Mapping[str, Any]) -> Iterator[Disagreement]:
    """Yields the orders in which the text chooses another model than the stored winner."""
    for game, choices in (("g1", "AB"), ("g2", "BA")):
        text = record.get(f"{game}_judgment")
        if not isinstance(text, str) or not text:
            continue
        read = verdicts.choice(text)
        said = {choices[0]: "model_1", choices[1]: "model_2", "tie": "tie"}.get(str(read.value))
        if said != record[f"{game}_winner"]:
            why = f"{game}: {said or read.failure}"
            yield Disagreement(key, f"{game}: {record[f'{game}_winner']}", why)


def _alpaca(name: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> PairTable:
    games, groups, failed = [], [], 0
    asked: list[tuple[float, list[int], str]] = []  # what an annotator decided, and no flaw
    models = ("", "")
    for where, record in rows:
        models = (str(record.get("generator_2")), str(record.get("generator_1")))
        value = _number(record["preference"])
        if value is None or not 1 <= value <= 2:
            failed += 1
            continue
        games.append(value - 1)
        groups.append(str(record.get("instruction", where)))
        flaws = record.get("flaws")
        if not (isinstance(flaws, list) and any(flaws)):
            lengths = [len(str(record[key])) for key in ("output_2", "output_1")]
            asked.append((games[-1], lengths, groups[-1]))
    equal = None
    if asked:
        equal = preference.length_controlled(
            [game for game, _, _ in asked],
            [lengths for _, lengths, _ in asked],
            [group for _, _, group in asked],
        )
    table = _counted(name, models, games, groups, 0, failed, [])
    return dataclasses.replace(table, at_equal_length=equal)


def _counted(
    name: str,
    models: tuple[str, str],
    games: list[float],
    groups: list[Any],
    inconsistent: int,
    failed: int,
    disagreements: list[Disagreement],
) -> PairTable:
    return PairTable(
        name, models, sum(g > 0.5 for g in games), sum(g < 0.5 for g in games),
        sum(g == 0.5 for g in games), inconsistent, failed,
        preference.win_rate(games, groups) if games else None, None, tuple(disagreements),
    )  # fmt: skip


_TABLES = {"taco": _taco, "single": _single, "pair": _pair, "alpaca": _alpaca}
