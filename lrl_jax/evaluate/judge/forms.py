"""Writes answers and results in the forms of FastChat, AlpacaEval and TaCo.

fastchat_answers(answers, questions)     model_answer/MODEL.jsonl
fastchat_single(results, ...)            model_judgment/JUDGE_single.jsonl
alpaca_annotations(results, ...)         annotations.json
taco_records(results, ...)               MODEL_evaluated.json
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import hashlib
import time
from typing import Any

from lrl_jax.evaluate.judge.asking import Request
from lrl_jax.evaluate.judge.endpoint import Reply
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion

Json = Mapping[str, Any]
UNPARSED = -1  # FastChat's score of a judgment in which it finds none
PREFERENCE = {"A": 1.0, "tie": 1.5, "B": 2.0}  # AlpacaEval's, for output_1 and output_2
WINNERS = {"A": "model_1", "B": "model_2", "tie": "tie", None: "error"}


def fastchat_answers(
    answers: AnswerSet, questions: Sequence[JudgeQuestion]
) -> Iterator[dict[str, Any]]:
    """Yields the answers as FastChat keeps them, in the order of the questions."""
    for question in questions:
        turns = answers.turns.get(str(question.id))
        if turns is not None:
            digest = hashlib.sha256("\0".join((answers.model, *turns)).encode(errors="replace"))
            yield {
                "question_id": question.id,
                "answer_id": digest.hexdigest()[:22],
                "model_id": answers.model,
                "choices": [{"index": 0, "turns": [*turns]}],
                "tstamp": time.time(),
            }


def fastchat_single(
    results: Iterable[Json], requests: Mapping[str, Request], replies: Mapping[str, Reply]
) -> Iterator[dict[str, Any]]:
    """Yields ratings as FastChat keeps them; an item that failed has the score -1."""
    for result in results:
        key = next(iter(result["keys"]), "")
        score = result["score"]
        yield {
            "question_id": result["question_id"],
            "model": result["model"],
            "judge": [result["judge"], result["prompt"]],
            "user_prompt": _asked(requests.get(key)),
            "judgment": _written(replies.get(key)),
            "score": UNPARSED if score is None else score,
            "turn": result["turn"],
            "tstamp": time.time(),
        }


def fastchat_pair(
    results: Iterable[Json], requests: Mapping[str, Request], replies: Mapping[str, Reply]
) -> Iterator[dict[str, Any]]:
    """Yields comparisons as FastChat keeps them; g2 is the swapped order, mapped back."""
    for result in results:
        keys = [*result["keys"], "", ""][:2]
        decided = result["winner"] if not result["keys"] else None  # by the answers themselves
        games: dict[str, Any] = {}
        for name, key in zip(("g1", "g2"), keys, strict=True):
            games[f"{name}_user_prompt"] = _asked(requests.get(key))
            games[f"{name}_judgment"] = _written(replies.get(key))
        yield {
            "question_id": result["question_id"],
            "model_1": result["models"][0],
            "model_2": result["models"][1],
            "g1_winner": WINNERS[result["g1"] or decided],
            "g2_winner": WINNERS[result["g2"] or decided],
            "judge": [result["judge"], result["prompt"]],
            **games,
            "turn": result["turn"],
            "tstamp": time.time(),
        }


def alpaca_outputs(answers: AnswerSet, questions: Sequence[JudgeQuestion]) -> list[dict[str, Any]]:
    """Returns first answers as AlpacaEval takes them."""
    return [
        {
            "dataset": question.category or "questions",
            "instruction": question.turns[0],
            "output": said,
            "generator": answers.model,
        }
        for question in questions
        if (said := answers.turn(question, 1)) is not None
    ]


def alpaca_annotations(
    results: Iterable[Json],
    first: AnswerSet,
    second: AnswerSet,
    questions: Sequence[JudgeQuestion],
) -> list[dict[str, Any]]:
    """Returns comparisons of first turns as AlpacaEval's annotations.

    Its preference is 1 for output_1, which is the baseline, so our second model; 2 for output_2.
    Where `flaws` of the two are not empty, they decided, and no annotator.
    """
    by_id = {str(question.id): question for question in questions}
    annotations = []
    for result in results:
        if result["turn"] != 1 or result["winner"] is None:
            continue
        question = by_id[str(result["question_id"])]
        annotations.append({
            "dataset": question.category or "questions",
            "instruction": question.turns[0],
            "output_1": second.turn(question, 1),
            "output_2": first.turn(question, 1),
            "generator_1": second.model,
            "generator_2": first.model,
            "annotator": result["judge"],
            "preference": 3 - PREFERENCE[result["winner"]],
            "flaws": [*result["flaws"]][::-1],
        })  # fmt: skip
    return annotations


def taco_records(
    results: Iterable[Json],
    answers: AnswerSet,
    questions: Sequence[JudgeQuestion],
    replies: Mapping[str, Reply],
) -> list[dict[str, Any]]:
    """Returns ratings of first turns as TaCo released its own."""
    by_id = {str(question.id): question for question in questions}
    records = []
    for result in results:
        if result["turn"] == 1:
            question = by_id[str(result["question_id"])]
            records.append({
                "id": question.id,
                "question": question.turns[0],
                "answer": answers.turn(question, 1) or "",
                "judgement": _written(replies.get(next(iter(result["keys"]), ""))),
                "rating_in_number": result["score"],
                "got_rating": result["score"] is not None,
                "category": question.category,
                "turns": [*question.turns],
            })  # fmt: skip
    return records


def _asked(request: Request | None) -> str:
    return request["messages"][-1]["content"] if request else ""


def _written(reply: Reply | None) -> str:
    return reply.text if reply is not None else ""
