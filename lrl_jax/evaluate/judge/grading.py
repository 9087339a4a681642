"""Turns answers into items to judge, items into requests, and replies into results.

    items = pair_items(questions, answers_a, answers_b, judge, prompts, settings)
    requests = {key: request for item in items for key, request in item.requests.items()}
    results = [result(item, replies) for item in items]

An answer that says nothing, or is in another script or language than asked for, is not worth a
call: it gets the lowest rating, and loses against one that is as asked. A pair is asked in both
orders.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
from typing import Any

from lrl_jax.evaluate.judge import asking, language, prompts, verdicts
from lrl_jax.evaluate.judge.endpoint import Reply
from lrl_jax.evaluate.judge.prompts import JudgePrompts
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion

NO_ANSWER, NOT_ASKED, CUT_SHORT = "no answer", "not asked", "cut short"
ORDERS = ("forward", "backward")


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """Holds how judges are asked.

    Attributes:
      language: FLORES code that answers have to be in; "" if that is not checked.
      more: fields of the request beside model, messages, temperature and max_tokens; a field of
        null is left out.
    """

    language: str = ""
    temperature: float = 0.0
    max_tokens: int = 2048  # as FastChat asks
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class JudgedItem:
    """Holds one turn of a question, and what one judge is asked about it.

    Attributes:
      flaws: of each model: "" or why its answer is not worth a call; NO_ANSWER if there is none.
      requests: key -> request, in the order of ORDERS for a pair; none where flaws decide.
    """

    question: JudgeQuestion
    turn: int
    models: tuple[str, ...]
    answers: tuple[str, ...]
    judge: str
    prompt: str
    flaws: tuple[str, ...]
    requests: tuple[tuple[str, Mapping[str, Any]], ...]
    scale: tuple[float, float] = (1, 10)


# ---------------------------------------------------------------------------- items
def single_items(
    questions: Sequence[JudgeQuestion],
    answers: AnswerSet,
    judge: str,
    judge_prompts: JudgePrompts,
    settings: JudgeSettings,
) -> Iterator[JudgedItem]:
    """Yields an item for each turn, to be rated by a judge."""
    for question, turn, said in _turns(questions, (answers,)):
        yield _item(question, turn, (answers,), said, judge, judge_prompts, settings)


def pair_items(
    questions: Sequence[JudgeQuestion],
    first: AnswerSet,
    second: AnswerSet,
    judge: str,
    judge_prompts: JudgePrompts,
    settings: JudgeSettings,
) -> Iterator[JudgedItem]:
    """Yields an item for each turn, in which a judge compares two models in both orders."""
    for question, turn, said in _turns(questions, (first, second)):
        yield _item(question, turn, (first, second), said, judge, judge_prompts, settings)


def _turns(
    questions: Sequence[JudgeQuestion], sets: Sequence[AnswerSet]
) -> Iterator[tuple[JudgeQuestion, int, tuple[tuple[str, ...] | None, ...]]]:
    """Yields every turn, with what each model said up to it; None where a turn is missing."""
    for question in questions:
        for turn in range(1, len(question.turns) + 1):
            said = (answers.turns.get(str(question.id), ())[:turn] for answers in sets)
            yield question, turn, tuple(turns if len(turns) == turn else None for turns in said)


def _item(
    question: JudgeQuestion,
    turn: int,
    sets: Sequence[AnswerSet],
    said: Sequence[tuple[str, ...] | None],
    judge: str,
    judge_prompts: JudgePrompts,
    settings: JudgeSettings,
) -> JudgedItem:
    wanted = question.language or settings.language
    reference = question.reference(turn)
    flaws = tuple(
        NO_ANSWER
        if turns is None
        else language.flaw(turns[-1], "" if answers.unwritten else wanted, reference)
        for turns, answers in zip(said, sets, strict=True)
    )
    requests, name = [], ""
    if not any(flaws):
        turns = [answers for answers in said if answers is not None]
        sides = [{"": turns[0]}] if len(turns) == 1 else [
            dict(zip("ab", order, strict=True)) for order in (turns, turns[::-1])
        ]  # fmt: skip
        for side in sides:
            messages, name = prompts.messages_of(judge_prompts, question, turn, side)
            request = _request(judge, messages, settings)
            requests.append((asking.key(request), request))
    return JudgedItem(
        question, turn, tuple(answers.model for answers in sets),
        tuple(turns[-1] if turns else "" for turns in said), judge, name, flaws, tuple(requests),
        judge_prompts.scale,
    )  # fmt: skip


def _request(
    judge: str, messages: Sequence[Mapping[str, str]], settings: JudgeSettings
) -> dict[str, Any]:
    request = {
        "model": judge,
        "messages": [*messages],
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        **settings.more,
    }
    return {name: value for name, value in request.items() if value is not None}


def requests_of(items: Sequence[JudgedItem]) -> dict[str, Mapping[str, Any]]:
    """Returns every request of the items by its key."""
    return dict(itertools.chain.from_iterable(item.requests for item in items))


# ---------------------------------------------------------------------------- results
def result(item: JudgedItem, replies: Mapping[str, Reply]) -> dict[str, Any]:
    """Returns what became of an item, as JSON: a score or a winner, or the name of a failure.

    A single one has `score`; a pair has `winner`, "A" for its first model, "B" or "tie", and the
    winners `g1` and `g2` of its two orders.
    """
    shared = {
        "question_id": item.question.id,
        "category": item.question.category,
        "turn": item.turn,
        "judge": item.judge,
        "prompt": item.prompt,
        "characters": [len(answer) for answer in item.answers],
        "flaws": [*item.flaws],
        "keys": [key for key, _ in item.requests],
    }
    asked = [replies.get(key, Reply(failure=NOT_ASKED)) for key, _ in item.requests]
    if len(item.models) == 1:
        return {"model": item.models[0], **shared, **_single(item, asked)}
    return {"models": [*item.models], **shared, **_pair(item, asked)}


def _single(item: JudgedItem, asked: Sequence[Reply]) -> dict[str, Any]:
    (flaw,) = item.flaws
    if flaw == NO_ANSWER:
        return {"score": None, "failure": NO_ANSWER}
    if flaw:
        return {"score": float(item.scale[0]), "failure": ""}
    failure, value = _verdict(asked[0], item)
    return {"score": value, "failure": failure, "detail": asked[0].detail}


def _pair(item: JudgedItem, asked: Sequence[Reply]) -> dict[str, Any]:
    unsaid: dict[str, Any] = {"g1": None, "g2": None, "winner": None, "failure": ""}
    if NO_ANSWER in item.flaws:
        return {**unsaid, "failure": NO_ANSWER}
    if any(item.flaws):
        winner = "tie" if all(item.flaws) else "B" if item.flaws[0] else "A"
        return {**unsaid, "winner": winner}
    (failure, first), (failure_2, second) = (_verdict(reply, item) for reply in asked)
    second = {"A": "B", "B": "A"}.get(second, second)  # there the models stood the other way round
    if failure or failure_2:
        detail = next((reply.detail for reply in asked if reply.detail), "")
        failed = failure or failure_2
        return {**unsaid, "g1": first, "g2": second, "failure": failed, "detail": detail}
    return {**unsaid, "g1": first, "g2": second, "winner": first if first == second else "tie"}


def _verdict(reply: Reply, item: JudgedItem) -> tuple[str, Any]:
    """Returns the failure of a reply, or "" and its verdict."""
    if reply.failure:
        return reply.failure, None
    single = len(item.models) == 1
    read = verdicts.rating(reply.text, item.scale) if single else verdicts.choice(reply.text)
    if read.failure == verdicts.NONE and reply.finish == "length":
        return CUT_SHORT, None
    return read.failure, read.value
