"""Reads questions and answers of any of the usual forms: FastChat, AlpacaEval, TaCo, Vicuna.

    questions = read_questions("question.jsonl")          also .json, .jsonl.gz, .xlsx
    answers = read_answers("model_answer/ours.jsonl", questions)

A question may have several turns, and a reference for each. Answers are matched to questions by
their id; those of AlpacaEval, which has no ids, by the instruction.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
from pathlib import PurePosixPath
from typing import Any

from etils import epath

from lrl_jax import storage, text
from lrl_jax.data.templates import taco
from lrl_jax.evaluate.judge import spreadsheet
from lrl_jax.text import Bad, DataError

Id = int | str
IDS = ("question_id", "id")
QUESTIONS = ("question", "turns", "questions", "text", "query", "instruction", "prompt")
REFERENCES = ("reference", "references")
CATEGORIES = ("category", "label", "dataset")
ERROR = "$ERROR$"  # what FastChat writes for an answer that it could not get
MOST = 1 << 17  # questions of a file; the largest public sets have some thousand
LITERAL = 1 << 16  # characters of a list that is written as a text


@dataclasses.dataclass(frozen=True)
class JudgeQuestion:
    """Holds a question of one turn or more, with a reference for each turn ("" for none).

    `language` is that of its answer where it is not that of the others: a FLORES code, or "any".
    """

    id: Id
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()
    language: str = ""

    def reference(self, turn: int) -> str:
        """Returns the reference of a turn, counted from 1; "" where there is none."""
        return self.references[turn - 1] if turn <= len(self.references) else ""


@dataclasses.dataclass(frozen=True)
class AnswerSet:
    """Holds the answers of one model: the id of a question, as a text -> its turns.

    `unwritten` ones stand for answers that are not there yet, where only their length matters.
    """

    model: str
    turns: Mapping[str, tuple[str, ...]]
    unwritten: bool = False

    def turn(self, question: JudgeQuestion, turn: int) -> str | None:
        """Returns the answer to a turn, counted from 1; None where there is none."""
        turns = self.turns.get(str(question.id), ())
        return turns[turn - 1] if turn <= len(turns) else None


# ---------------------------------------------------------------------------- questions
def read_questions(path: str, limit: int = 0) -> list[JudgeQuestion]:
    """Reads the questions of a file, at most `limit` of them (0: all).

    Raises:
      DataError: a record without a question, or an id that comes twice; it names file and line.
    """
    questions: dict[str, JudgeQuestion] = {}
    for number, (where, record) in enumerate(records(path), start=1):
        if limit and number > limit:
            break
        question = _question(where, number, record)
        if str(question.id) in questions:
            raise DataError(f"{where}: the id {question.id!r} comes twice; give each its own")
        questions[str(question.id)] = question
    if not questions:
        raise DataError(
            f'{path}: no questions; want lines such as {{"question_id": 1, "turns": []}}'
        )
    return [*questions.values()]


def with_references(questions: Sequence[JudgeQuestion], path: str) -> list[JudgeQuestion]:
    """Returns the questions with the answers of a file as references, where it has them."""
    answers = read_answers(path, questions)
    return [
        dataclasses.replace(q, references=answers.turns.get(str(q.id), q.references))
        for q in questions
    ]


def _question(where: str, number: int, record: Mapping[str, Any]) -> JudgeQuestion:
    turns = next((texts for key in QUESTIONS if (texts := _texts(where, key, record))), ())
    if not all(turns) or not turns:
        raise DataError(f"{where}: no question; want one of the fields {', '.join(QUESTIONS)}")
    references = next((_texts(where, key, record) for key in REFERENCES if key in record), ())
    category = next((record[key] for key in CATEGORIES if key in record), "")
    language = record.get("language", "")
    if not isinstance(category, str) or not isinstance(language, str):
        raise DataError(f"{where}: category and language are texts; got {category!r:.60}")
    return JudgeQuestion(_id(where, record, number), category.strip(), turns, references, language)


def _id(where: str, record: Mapping[str, Any], otherwise: int) -> Id:
    """Returns the id of a record, or its number where it has none."""
    value = next((record[key] for key in IDS if key in record), otherwise)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise DataError(f"{where}: the id {value!r:.60} is neither a whole number nor a text")
    return value


def _texts(where: str, key: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a field that is a text, a list of texts, or such a list written as a text."""
    value = record.get(key)
    if isinstance(value, str) and key in ("turns", "questions") and value[:1] == "[":
        value = _literal(value)
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(v is None or isinstance(v, str) for v in values):
        raise DataError(f"{where}: {key} is {value!r:.60}; want a text, or a list of texts")
    return tuple((v or "").strip() for v in values)


def _literal(written: str) -> Any:
    """Returns the list that a text is: TaCo's released records write `turns` as Python does."""
    if len(written) > LITERAL:
        return written
    for read in (json.loads, ast.literal_eval):
        try:
            return read(written)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return written


# ---------------------------------------------------------------------------- answers
def read_answers(path: str, questions: Sequence[JudgeQuestion], model: str = "") -> AnswerSet:
    """Reads the answers of one model, of FastChat, AlpacaEval or TaCo, or a folder of its chains.

    Args:
      path: a file; or a folder with a text a question, `1.txt`, each a chain of TaCo's, of which
        the last section is the answer ("" where the chain was cut short).
      model: what to call it; "": what the records say, else the name of the file.

    Raises:
      DataError: no answer to any of the questions, or a record that is none.
    """
    by_text = {question.turns[0]: str(question.id) for question in questions}
    wanted = {str(question.id) for question in questions}
    answers: dict[str, tuple[str, ...]] = {}
    said = ""
    for where, record in _chains(path) if epath.Path(path).is_dir() else records(path):
        turns = _answer(where, record)
        said = said or str(record.get("model_id") or record.get("generator") or "")
        key = next((str(record[name]) for name in IDS if name in record), None)
        if key is None:
            key = by_text.get(str(record.get("instruction", "")).strip(), "")
        if key in answers:
            raise DataError(f"{where}: answers the question {key} a second time; leave one out")
        if key in wanted and ERROR not in turns:
            answers[key] = turns
    if not answers:
        raise DataError(f"{path}: answers none of the questions; do the files belong together?")
    return AnswerSet(model or said or PurePosixPath(path).stem, answers)


def _answer(where: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the turns of an answer; of FastChat's choices those of the first."""
    choices = record.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        record = choices[0]
    for key in ("turns", "answer", "output", "text"):
        # a record of TaCo's has the English questions as its turns
        if key in record and not (key == "turns" and "answer" in record):
            return _texts(where, key, record)
    raise DataError(f"{where}: no answer; want choices (FastChat), output (AlpacaEval) or answer")


def _chains(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the last section of every chain of a folder."""
    paths = sorted(epath.Path(folder).glob("*.txt"))
    if not paths:
        raise DataError(f"{folder}: neither a run, nor a model, nor a folder of texts 1.txt, 2.txt")
    for path in paths:
        chain = storage.read_bytes(path, LITERAL << 4).decode(errors="replace")
        sections = taco.parse(chain)
        yield str(path), {"id": path.stem, "answer": sections.answer if sections else ""}


# ---------------------------------------------------------------------------- records of files
def records(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the fields of every record: JSON lines, a JSON list, a spreadsheet.

    Raises:
      DataError: the file is missing or empty, or has something else.
    """
    file = epath.Path(path)
    text.check_file(file)
    if path.lower().endswith(".xlsx"):
        yield from spreadsheet.records(path)
        return
    with text.opened(file) as f:
        whole = f.read(64).removeprefix(text.BOM).lstrip()[:1] == b"["
    rows = _whole(path) if whole else _lines(path)
    for number, (where, record) in enumerate(rows, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{where}: {record!r:.60} is no JSON object")
        if number > MOST:
            raise DataError(f"{where}: more than {MOST:,} records; want a smaller file")
        yield where, record


def _whole(path: str) -> Iterator[tuple[str, Any]]:
    with text.opened(epath.Path(path)) as f:
        data = f.read(storage.JSON_BYTES + 1)
    if len(data) > storage.JSON_BYTES:
        raise DataError(f"{path}: more than {storage.JSON_BYTES:,} bytes; write a record a line")
    try:
        values = storage.parse_json(data.removeprefix(text.BOM), path)
    except ValueError as e:
        raise DataError(str(e)) from None
    for number, value in enumerate(values, start=1):
        yield f"{path}, record {number}", value


def _lines(path: str) -> Iterator[tuple[str, Any]]:
    for number, line in text.numbered(path):
        if isinstance(line, Bad):
            raise DataError(f"{line.where}: {line.why}")
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except (ValueError, RecursionError) as e:
                raise DataError(f"{path}:{number}: not JSON ({e})") from None
