"""Computes from the answers of annotators which model they prefer, and how far they agree.

    results(key, returned)["wins"]                              {"base": 31, "tuned": 52}

Intervals and tests are over questions, by the majority of their annotators: several judgements of
one question are no independent ones.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
import itertools
from typing import Any

from lrl_jax import text
from lrl_jax.evaluate import intervals
from lrl_jax.evaluate.sheets import agreement
from lrl_jax.evaluate.sheets.forms import KeyAnnotator, SheetKey
from lrl_jax.evaluate.sheets.returned import Returned, SheetAnswer

FORM = "lrl_jax.sheet.human.1"
ORDER = ("A", "tie", "B")  # verdicts, from one end to the other, for the ordinal alpha
LEAST = 5  # decided choices from which one side alone is remarkable: 1 in 16 by chance
ONE_SIDED = 0.001  # of the exact test of left against right, which stood for each model alike

Votes = Mapping[str, Mapping[str, str]]  # question -> annotator -> "A", "B" or "tie"


def results(key: SheetKey, returned: Returned) -> dict[str, Any]:
    """Returns all that is told from answers, as it is written to human.json.

    Raises:
      DataError: there is no answer.
    """
    if not returned.answers:
        nothing = "the sheets have no answers; want left, right or tie in the column choice"
        raise text.DataError("; ".join([*returned.problems, nothing]))
    by_annotator = {
        name: verdicts(given, returned.answers) for name, given in key.annotators.items()
    }
    votes = {
        item: {name: own[item] for name, own in by_annotator.items() if item in own}
        for item in key.items
    }
    decided = {item: majority(said.values()) for item, said in votes.items() if said}
    counts = Counter(decided.values())
    wins, losses = counts["A"], counts["B"]
    ranked = [[ORDER.index(vote) for vote in said.values()] for said in votes.values()]
    return {
        "form": FORM,
        "sheet": key.sheet,
        "models": list(key.models),
        "items": len(decided),
        "wins": {key.models[0]: wins, key.models[1]: losses},
        "ties": counts["tie"],
        "share": wins / (wins + losses) if wins + losses else None,
        "interval": list(intervals.wilson(wins, wins + losses)) if wins + losses else None,
        "sign_test": intervals.sign_test(wins, losses),
        "alpha": {
            "nominal": agreement.alpha(ranked, len(ORDER)),
            "ordinal": agreement.alpha(ranked, len(ORDER), "ordinal"),
        },
        "kappa": _kappas(by_annotator),
        "annotators": [
            _annotator(name, given, by_annotator[name], returned.answers)
            for name, given in key.annotators.items()
        ],
        "categories": _categories(key, decided),
        "verdicts": decided,
        "votes": {item: said for item, said in votes.items() if said},
        "comments": _comments(key, returned.comments),
        "problems": list(returned.problems),
        "notes": list(returned.notes),
    }


def verdicts(given: KeyAnnotator, answers: Mapping[str, SheetAnswer]) -> dict[str, str]:
    """Returns what an annotator said of each question: "A", "B" or "tie".

    Of a question shown twice the first answer counts; the second where that is missing.
    """
    said: dict[str, str] = {}
    for row in given.rows:
        if row.row in answers:
            said.setdefault(row.item, _model(answers[row.row].choice, row.left))
    return said


def majority(votes: Iterable[str]) -> str:
    """Returns the verdict that more annotators gave than any other; a tie if there is none.

    >>> majority(["A", "A", "B"]), majority(["A", "B"]), majority(["B"])
    ('A', 'tie', 'B')
    """
    ranking = Counter(votes).most_common(2)
    if len(ranking) > 1 and ranking[0][1] == ranking[1][1]:
        return "tie"
    return ranking[0][0]


def _model(choice: str, left: str) -> str:
    if choice == "tie":
        return choice
    return left if choice == "left" else "AB".replace(left, "")


def _annotator(
    name: str, given: KeyAnnotator, said: Mapping[str, str], answers: Mapping[str, SheetAnswer]
) -> dict[str, Any]:
    """Returns what an annotator did: how much, which sides, and how often the same again."""
    sides = Counter(answers[row.row].choice for row in given.rows if row.row in answers)
    models = Counter(said.values())
    first = {row.item: row for row in given.rows if not row.repeat}
    again = [
        (answers[first[row.item].row].choice, first[row.item].left, answers[row.row].choice,
         row.left)
        for row in given.rows
        if row.repeat and row.row in answers and first[row.item].row in answers
    ]  # fmt: skip
    same = sum(_model(old, was) == _model(new, now) for old, was, new, now in again)
    answered = sides.total()
    return {
        "name": name,
        "rows": len(given.rows),
        "answered": answered,
        "missing": len(given.rows) - answered,
        "wins": [models["A"], models["B"]],
        "ties": models["tie"],
        "left": sides["left"],
        "right": sides["right"],
        "one_sided": one_sided(sides["left"], sides["right"], sides["tie"]),
        "repeats": len(again),
        "self_agreement": same / len(again) if again else None,
    }


def one_sided(left: int, right: int, ties: int) -> str:
    """Returns which choice an annotator always, or far too often, makes; "" for none.

    >>> one_sided(6, 0, 1), one_sided(2, 30, 0), one_sided(0, 0, 9), one_sided(12, 8, 3)
    ('always left', 'nearly always right', 'always a tie', '')
    """
    side = "left" if left > right else "right"
    if left + right >= LEAST and not min(left, right):
        return f"always {side}"
    if intervals.sign_test(left, right) < ONE_SIDED:
        return f"nearly always {side}"
    return "always a tie" if ties >= LEAST and not left + right else ""


def _kappas(by_annotator: Votes) -> list[dict[str, Any]]:
    """Returns Cohen's kappa of every two annotators who judged the same questions."""
    pairs = []
    for (first, of_first), (second, of_second) in itertools.combinations(by_annotator.items(), 2):
        both = [item for item in of_first if item in of_second]
        said = [(ORDER.index(of_first[item]), ORDER.index(of_second[item])) for item in both]
        if said:
            kappa = agreement.kappa(said, len(ORDER))
            pairs.append({"annotators": [first, second], "items": len(said), "kappa": kappa})
    return pairs


def _categories(key: SheetKey, decided: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Returns wins and ties of each category; nothing where questions have none."""
    counts: dict[str, Counter[str]] = {}
    for item, verdict in decided.items():
        if category := key.items[item]:
            counts.setdefault(category, Counter())[verdict] += 1
    return {
        category: {verdict: count[verdict] for verdict in ("A", "B", "tie")}
        for category, count in sorted(counts.items())
    }


def _comments(key: SheetKey, comments: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {"item": row.item, "annotator": name, "comment": comments[row.row]}
        for name, given in key.annotators.items()
        for row in given.rows
        if row.row in comments
    ]
