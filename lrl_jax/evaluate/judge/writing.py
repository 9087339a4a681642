"""Lets a model answer questions, turn by turn, and keeps each answer as soon as it ends.

    answers = write_answers(model, template, "ours", questions, settings, 16, "ours.jsonl")

The second turn is asked with the first answer before it, through the template, as in a talk. An
answer of TaCo's chain is its last section, which is all that its judge saw (arXiv 2311.10797).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

from lrl_jax.data.read import kinds
from lrl_jax.data.templates import documents, taco
from lrl_jax.data.templates import table as templates
from lrl_jax.evaluate import generate
from lrl_jax.evaluate.benchmark import items
from lrl_jax.evaluate.judge.records import AnswerSet, JudgeQuestion
from lrl_jax.evaluate.kinds import MeasuredModel

CHAINS = ("taco", "taco_legacy")  # templates whose answers are chains


def write_answers(
    model: MeasuredModel,
    template: str,
    name: str,
    questions: Sequence[JudgeQuestion],
    settings: generate.Settings,
    batch_size: int,
    path: str,
    language: str = "",
) -> AnswerSet:
    """Returns the answers of a model to every turn of the questions.

    Args:
      model: with the digest of its weights, so that answers of others are not taken for its own.
      template: of the table, or `tokenizer`; "" to continue each question as it stands.
      path: where finished answers are kept; "" for nowhere.
      language: in which a chain of TaCo's ends; other templates do not ask for it.

    Raises:
      ValueError: a question with several turns, and a template that asks each by itself.
    """
    said: dict[str, tuple[str, ...]] = {str(question.id): () for question in questions}
    finished: list[items.Item] = []
    for turn in range(1, max(len(question.turns) for question in questions) + 1):
        asked = [question for question in questions if len(question.turns) >= turn]
        if turn > 1 and not templates.is_chat(template):
            raise ValueError(
                f"question {asked[0].id} has {len(asked[0].turns)} turns, and the template "
                f"{template or '(none)'} asks each by itself; name a chat template with --template"
            )
        prompts = [
            _prompt(model, template, question, said[str(question.id)], language)
            for question in asked
        ]
        finished += _answered(model, settings, batch_size, path, asked, turn, prompts, finished)
        texts = {str(i["question_id"]): i["text"] for i in finished if i["turn"] == turn}
        for question in asked:
            key = str(question.id)
            said[key] = (*said[key], _answer_of(template, texts[key]))
    return AnswerSet(name, said)


def _answer_of(template: str, written: str) -> str:
    """Returns the answer of what was written: of a chain the last section, if it has one."""
    if template not in CHAINS:
        return written.strip()
    sections = taco.parse(written)
    return sections.answer if sections else ""


def _prompt(
    model: MeasuredModel,
    template: str,
    question: JudgeQuestion,
    answers: Sequence[str],
    language: str,
) -> tuple[list[int], tuple[int, ...]]:
    """Returns the ids of a conversation up to its next answer, and those that end that."""
    tokenizer, turn = model.tokenizer, len(answers)
    text = question.turns[turn]
    if not template:
        return tokenizer.encode(text), model.ends
    if templates.is_chat(template):
        messages = []
        for asked, answer in zip(question.turns, answers, strict=False):
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": text})
        record: Mapping[str, str] = {"messages": json.dumps(messages)}
    else:
        fields = dict.fromkeys(kinds.answers(), "")
        record = {**fields, "input": "", "language": language}
        record |= dict.fromkeys(("text", "source", "instruction", "prompt", "inputs"), text)
    parts = templates.prompt_parts(template, dict(record), tokenizer)
    end = templates.ending(template, dict(record), tokenizer)
    return documents.ids(parts, tokenizer), tuple(dict.fromkeys((end, *model.ends)))


def _answered(
    model: MeasuredModel,
    settings: generate.Settings,
    batch_size: int,
    path: str,
    asked: Sequence[JudgeQuestion],
    turn: int,
    prompts: Sequence[tuple[Sequence[int], tuple[int, ...]]],
    before: Sequence[items.Item],
) -> list[items.Item]:
    """Generates the answers to one turn that are not finished yet; returns all of that turn."""
    ends = tuple(dict.fromkeys(end for _, ends in prompts for end in ends))
    settings = dataclasses.replace(settings, ends=ends)
    how = dataclasses.asdict(settings)
    keys = [items.key(model, ids=[*map(int, ids)], settings=how) for ids, _ in prompts]
    file = items.ItemFile(path, [*(i["key"] for i in before), *keys])
    done: dict[str, items.Item] = {**file.done}
    due = [n for n, key in enumerate(keys) if key not in done]
    for index, answer in generate.generate(
        model, [prompts[n][0] for n in due], settings, batch_size
    ):
        number = due[index]
        item: dict[str, Any] = {
            "key": keys[number], "question_id": asked[number].id, "turn": turn,
            "text": answer.text, "why": answer.why, "tokens": answer.tokens,
        }  # fmt: skip
        file.add(item)
        done[keys[number]] = item
    return [
        {**done[key], "question_id": question.id, "turn": turn}
        for key, question in zip(keys, asked, strict=True)
    ]
