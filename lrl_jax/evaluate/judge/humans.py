"""Reads what people judged, and what is known of the difficulty of questions.

    votes = read_votes("human.json")             of `lrl sheet read`
    votes = read_votes("human.jsonl")            FastChat's form, or a CSV of the same columns
    agreement(votes, "pair", results, models)    same, kappa, items

A vote is of a pair (`winner`: the name of a model, model_a, model_1, A or tie) or a rating
(`score`). A winner that is the name of one model and the place of the other is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import io
import math
from typing import Any

from lrl_jax import storage
from lrl_jax.evaluate.judge import records, summary
from lrl_jax.text import DataError

MOST_BYTES = 64 << 20
FIRST = ("model_a", "model_1", "a", "left")
SECOND = ("model_b", "model_2", "b", "right")
TIES = ("tie", "tie (bothbad)", "tie (inconsistent)", "c", "equal")
MARKS = {"A": FIRST, "B": SECOND, "tie": TIES}
OF_SHEETS = {"A": "model_1", "B": "model_2", "tie": "equal"}  # which models are hardly called
Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class HumanVote:
    """Holds what a person said of a turn: "A", "B" or "tie" of two models, or a rating of one."""

    question: str
    turn: int
    models: tuple[str, ...]  # the two that were compared, or the one that was rated; () if not said
    said: str | float


def read_votes(path: str, models: Sequence[str] = ()) -> list[HumanVote]:
    """Reads votes of people; a vote that cannot be read is a DataError with its place.

    Args:
      models: that votes are on which do not say it, the first one first.
    """
    votes = [_vote(where, row, models) for where, row in _rows(path)]
    if not votes:
        raise DataError(f"{path}: no votes; want question_id and winner, or question_id and score")
    return votes


def _rows(path: str) -> Iterator[tuple[str, Json]]:
    if path.lower().endswith(".json") and (of_sheets := _of_sheets(path)):
        yield from of_sheets
        return
    if not path.lower().endswith(".csv"):
        yield from records.records(path)
        return
    try:
        text = storage.read_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: {e}") from None
    reader = csv.DictReader(io.StringIO(text))
    for row in reader:
        if None in row:
            raise DataError(
                f"{path}:{reader.line_num}: has more cells than the first line; write decimals "
                "with a point, and in quotes what has a comma in it"
            )
        yield f"{path}:{reader.line_num}", row


def _of_sheets(path: str) -> list[tuple[str, Json]]:
    """Returns the verdicts of a human.json that `lrl sheet read` wrote; none of another file."""
    try:
        content = storage.read_json(path, MOST_BYTES)
    except (OSError, ValueError):  # of another form, or none, which its reader says
        return []
    verdicts = content.get("verdicts") if isinstance(content, dict) else None
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(verdicts, dict) or not isinstance(models, list) or len(models) != 2:
        return []
    both = {"model_1": models[0], "model_2": models[1]}
    return [
        (f"{path}: {key}", {"question_id": key, "winner": OF_SHEETS.get(str(said), said), **both})
        for key, said in verdicts.items()
    ]


def _vote(where: str, row: Json, models: Sequence[str]) -> HumanVote:
    key = next((row[name] for name in records.IDS if row.get(name) not in (None, "")), None)
    if key is None:
        raise DataError(f"{where}: a vote without question_id")
    try:
        turn = int(row.get("turn") or 1)
        if row.get("score") not in (None, ""):
            score = float(row["score"])
            if not math.isfinite(score):
                raise ValueError(score)
            model = str(row.get("model") or "")
            return HumanVote(str(key), turn, (model,) if model else (), score)
    except (TypeError, ValueError):
        raise DataError(f"{where}: turn and score are numbers; got {row!r:.80}") from None
    names = [str(row.get(f"model_{a}") or row.get(f"model_{b}") or "") for a, b in ("a1", "b2")]
    said = _winner(where, row, names if any(names) else models)
    return HumanVote(str(key), turn, tuple(filter(None, names)), said)


def _winner(where: str, row: Json, names: Sequence[str]) -> str:
    """Returns "A" for the first of the models, whether named or by its place, "B" or "tie"."""
    said = str(row.get("winner") or "").strip()
    readings = {letter for letter, marks in MARKS.items() if said.lower() in marks}
    readings |= {letter for letter, name in zip("AB", names, strict=False) if name == said != ""}
    if len(readings) > 1:
        raise DataError(
            f"{where}: the winner {said!r:.40} is the name of a model and means something else "
            "too; write model_1, model_2 or equal"
        )
    if not readings:
        choices = ", ".join(filter(None, ("model_a", "model_b", "tie", *names)))
        raise DataError(f"{where}: the winner {said!r:.40} is none of {choices}")
    return readings.pop()


def agreement(
    votes: Sequence[HumanVote], kind: str, results: Sequence[Json], models: Sequence[str]
) -> dict[str, Any]:
    """Returns how far people and a judge agree: the share of same verdicts, kappa, and items.

    Every vote counts by itself. Votes on other models or questions, and items that the judge failed
    at or was not asked about, are left out.
    """
    judged = {
        (str(r["question_id"]), r["turn"], r.get("model", "")): r
        for r in results
        if not r["failure"] and not any(r["flaws"])
    }
    pairs: list[tuple[Any, Any]] = []
    for vote in votes:
        single = kind == "single"
        model = (vote.models[0] if vote.models else models[0]) if single else ""
        result = judged.get((vote.question, vote.turn, model))
        if result is None or isinstance(vote.said, str) == single:
            continue
        said = vote.said if single else _letter(vote, models)
        if said is not None:
            pairs.append((said, result["score" if single else "winner"]))
    return summary.agreed(kind, pairs)


def _letter(vote: HumanVote, models: Sequence[str]) -> str | None:
    """Returns a vote as "A", "B" or "tie" of these models; None if it is on others."""
    if vote.models and {*vote.models} != {*models}:
        return None
    swapped = vote.models and vote.models[0] != models[0]
    return {"A": "B", "B": "A"}.get(str(vote.said), "tie") if swapped else str(vote.said)


# ---------------------------------------------------------------------------- difficulty
def read_difficulty(path: str) -> dict[str, float]:
    """Reads how hard questions are: question_id and difficulty, in JSON lines or CSV.

    It is any number of which a larger one means harder or easier throughout, such as the logit of
    the mean preference in other comparisons with the same baseline (arXiv 2404.04475, section 3).
    """
    values: dict[str, float] = {}
    for where, row in _rows(path):
        key = next((row[name] for name in records.IDS if row.get(name) not in (None, "")), None)
        try:
            value = float(row["difficulty"])
        except (KeyError, TypeError, ValueError):
            value = math.nan
        if key is None or not math.isfinite(value):
            raise DataError(f"{where}: want question_id and difficulty, a number; got {row!r:.80}")
        values[str(key)] = value
    if not values:
        raise DataError(f"{path}: no question with a difficulty")
    return values
