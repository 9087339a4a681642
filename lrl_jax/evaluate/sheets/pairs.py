"""Reads the answers of two models to the same questions, for people to compare.

    paired("base.jsonl", "tuned.jsonl", "question.jsonl").items[0].answers   ("Seoul.", "Busan.")

An answer is a FastChat record, {"question_id", "model_id", "choices": [{"turns": [...]}]}, whose
question stands in a file of its own, or {"prompt" or "instruction", "output"}.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
import json
from typing import Any

from etils import epath

from lrl_jax import text
from lrl_jax.data.read import columns, formats
from lrl_jax.data.read.files import Span

IDS = ("question_id", "id")
PROMPTS = ("prompt", "instruction", "question", "text")
TURNS = ("turns", "questions")
ANSWERS = ("output", "answer", "response")
MODELS = ("model_id", "generator", "model")
FIELDS = (*IDS, *PROMPTS, *TURNS, *ANSWERS, "choices")  # of a row, and not of a list of rows
SHOWN = 5  # questions that a note names at most


@dataclasses.dataclass(frozen=True)
class SheetItem:
    """Holds a question with the answers of both models, which are called A and B."""

    id: str
    prompt: str
    answers: tuple[str, str]
    category: str = ""


@dataclasses.dataclass(frozen=True)
class AnswerPairs:
    """Holds what two models answered to the questions that both were asked.

    Attributes:
      models: names of A and B.
      notes: what was left out, in words.
    """

    models: tuple[str, str]
    items: tuple[SheetItem, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Holds a question, or the answer to one, as a line of a file has it; "" where it has none."""

    where: str
    id: str
    prompt: str
    answer: str = ""
    category: str = ""
    model: str = ""


def paired(first: str, second: str, questions: str = "") -> AnswerPairs:
    """Reads the answers of two models, and joins those to the same question.

    They are joined by the id of the question where every answer has one, and else by its text.

    Args:
      first, second: files of answers of the models A and B.
      questions: file of questions, which answers without their question need.

    Raises:
      DataError: a line is no answer, a question is answered twice, or none is in both files.
    """
    if epath.Path(first).resolve() == epath.Path(second).resolve():
        raise ValueError(f"{first}: given as A and as B; a comparison takes two files of answers")
    asked = _by_question([*_read(questions, _question)], by_id=True) if questions else {}
    notes: list[str] = []
    files = [_with_questions(name, asked, notes) for name in (first, second)]
    by_id = all(record.id for records in files for record in records)
    answers = [_by_question(records, by_id) for records in files]
    items = tuple(_items(*answers))
    if not items:
        how = "id" if by_id else "text"
        raise text.DataError(
            f"{first} and {second}: answer no question both, compared by the {how} of questions; "
            "want answers of two models to the same questions"
        )
    for name, own, others in zip((first, second), answers, answers[::-1], strict=True):
        alone = [record.id or record.prompt for key, record in own.items() if key not in others]
        _note(notes, name, "answers to questions that the other file has none to", alone)
    return AnswerPairs(_names((first, second), files), items, tuple(notes))


def digest(words: Any) -> str:
    """Returns the SHA-256 in hex of strings, numbers and lists of them."""
    return hashlib.sha256(json.dumps(words, ensure_ascii=True).encode()).hexdigest()


def _items(a: Mapping[str, _Asked], b: Mapping[str, _Asked]) -> Iterator[SheetItem]:
    for number, (key, record) in enumerate(a.items(), start=1):
        if (other := b.get(key)) is None:
            continue
        if record.prompt.strip() != other.prompt.strip():
            raise text.DataError(
                f"{record.where} and {other.where}: have different questions under the id "
                f"{record.id!r}; want answers of both models to the same questions"
            )
        own_id = record.id or other.id or str(number)
        category = record.category or other.category
        yield SheetItem(own_id, record.prompt, (record.answer, other.answer), category)


def _with_questions(name: str, asked: Mapping[str, _Asked], notes: list[str]) -> list[_Asked]:
    """Reads answers, with the question of each; those without are left out, and noted."""
    records = [*_read(name, _answer)]
    if not asked and not all(record.prompt for record in records):
        raise ValueError(
            f"{name}: holds answers without their questions; name the file of questions with "
            "--questions"
        )
    whole = [record for record in records if record.prompt or record.id in asked]
    lost = [record.id for record in records if not record.prompt and record.id not in asked]
    _note(notes, name, "answers whose question is not in the file of questions", lost)
    if not whole:
        raise text.DataError(
            f"{name}: no answer's question is in the file of questions; its ids are such as "
            f"{', '.join(map(repr, [*asked][:3]))}, and those of answers {lost[0]!r}"
        )
    return [
        dataclasses.replace(
            record,
            prompt=record.prompt or asked[record.id].prompt,
            category=record.category or (asked[record.id].category if record.id in asked else ""),
        )
        for record in whole
    ]


def _by_question(records: Sequence[_Asked], by_id: bool) -> dict[str, _Asked]:
    keyed: dict[str, _Asked] = {}
    for record in records:
        key = record.id if by_id else record.prompt.strip()
        if key in keyed:
            raise text.DataError(
                f"{record.where}: the question {key[:60]!r} stands at {keyed[key].where} already; "
                "want each question once in a file"
            )
        keyed[key] = record
    return keyed


def _names(files: tuple[str, str], records: Sequence[Sequence[_Asked]]) -> tuple[str, str]:
    """Returns the names of both models: as records have them, or else of their files."""
    names = []
    for file, answers in zip(files, records, strict=True):
        models = sorted({record.model for record in answers})
        if len(models) > 1:
            raise text.DataError(
                f"{file}: has answers of {', '.join(map(repr, models))}; want one model a file"
            )
        names.append(models[0] or epath.Path(file).stem)
    return (names[0], names[1]) if names[0] != names[1] else files


def _note(notes: list[str], name: str, what: str, left_out: Sequence[str]) -> None:
    if left_out:
        shown = ", ".join(word[:40] for word in left_out[:SHOWN])
        more = ", ..." if len(left_out) > SHOWN else ""
        notes.append(f"{name}: left out {len(left_out)} {what}: {shown}{more}")


# ---------------------------------------------------------------------------- lines of files
def _read(name: str, of_row: Any) -> Iterator[_Asked]:
    """Yields what the rows of a file hold; DataError for a row that holds no such thing."""
    for file in text.files(name):
        count = 0
        for at, row in formats.rows(Span(file), formats.RowFormat("json", wanted=FIELDS)):
            where = f"{file}:{at}"
            if isinstance(row, text.Bad):
                raise text.DataError(f"{row.where}: {row.why}")
            try:
                yield of_row(row, where)
            except columns.UnusableError as e:
                raise text.DataError(f"{where}: {e}") from None
            count += 1
        if not count:
            raise text.DataError(f"{file}: has no rows")


def _question(row: Mapping[str, Any], where: str) -> _Asked:
    prompt = _prompt(row)
    if not (own_id := _first(row, IDS)) or not prompt:
        raise columns.UnusableError(
            f"want a question, question_id and turns or text; it has {', '.join(row) or 'nothing'}"
        )
    return _Asked(where, own_id, prompt, category=_first(row, ("category",)))


def _answer(row: Mapping[str, Any], where: str) -> _Asked:
    base = _Asked(where, _first(row, IDS), _prompt(row), "", _first(row, ("category",)))
    model = _first(row, MODELS)
    if "choices" in row:
        if not base.id:
            raise columns.UnusableError("has choices and no question_id")
        return dataclasses.replace(base, answer=_of_choices(row["choices"]), model=model)
    name = next((name for name in ANSWERS if name in row), "")
    if not name or not base.prompt:
        raise columns.UnusableError(
            "want an answer, either question_id and choices or prompt and output; it has "
            f"{', '.join(row) or 'nothing'}"
        )
    answer = "" if row[name] is None else columns.string(row[name], name)
    return dataclasses.replace(base, answer=answer, model=model)


def _of_choices(choices: Any) -> str:
    """Returns the answer of FastChat's choices: all turns of the first."""
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, Mapping) or not isinstance(first.get("turns"), list):
        raise columns.UnusableError(
            f'want choices such as [{{"index": 0, "turns": ["..."]}}]; got {str(choices)[:60]!r}'
        )
    return _joined(first["turns"], "turns")


def _prompt(row: Mapping[str, Any]) -> str:
    """Returns the question of a row, "" if it has none; an `input` follows its instruction."""
    for name in TURNS:
        if isinstance(row.get(name), list):
            return _joined(row[name], name)
    prompt = _first(row, PROMPTS)
    more = _first(row, ("input",)) if "instruction" in row else ""
    return f"{prompt}\n\n{more}" if more else prompt


def _joined(turns: Sequence[Any], name: str) -> str:
    """Returns several turns as one text, in which they are numbered.

    >>> _joined(["Who?"], "turns"), _joined(["Who?", "Why?"], "turns")
    ('Who?', '[1] Who?\\n\\n[2] Why?')
    """
    texts = [columns.string(turn, name) for turn in turns]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"[{number}] {turn}" for number, turn in enumerate(texts, start=1))


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns the first of these fields that a row has, as text; "" if it has none."""
    for name in names:
        if name in row and not columns.is_null(row[name]):
            return columns.string(row[name], name)
    return ""
