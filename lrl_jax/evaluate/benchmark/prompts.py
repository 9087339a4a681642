"""Writes the prompts of a task, and checks every document before anything is scored.

    writer = QuestionWriter(task)
    question = writer.write(document)       a Question, or text.Bad: file, row and what is wrong
    with_shots(question, examples, task)    the prompt as the model reads it

Texts are joined as lm-evaluation-harness joins them.
"""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import random
import re
from typing import Any

from lrl_jax.data.read.columns import is_null
from lrl_jax.data.templates.sandbox import DocumentTemplates, LastingError
from lrl_jax.evaluate.benchmark import answers
from lrl_jax.evaluate.benchmark.documents import TaskDocument
from lrl_jax.evaluate.benchmark.form import TaskSettings
from lrl_jax.evaluate.task_files import BenchmarkTask
from lrl_jax.recipe.vocab import did_you_mean
from lrl_jax.text import Bad, DataError
from lrl_jax.vocab.tokenizer.types import refuse_halves

SHOT_SEED = 1234  # the harness's own seed of examples

NAME = re.compile(r"\w+")  # what can be meant as the name of a field
JINJA = re.compile(r"\{[{%#]")
AN_INDEX = re.compile(r"\|\s*int\b|\.index\(")  # in a template that gives a number for sure


class BadDocumentError(ValueError):
    """Says what is wrong with a document; its file and row are known to the caller."""


@dataclasses.dataclass(frozen=True)
class Question:
    """Holds one document as it is asked.

    Attributes:
      text: the document's own prompt, without description, examples and forced beginning.
      choices: the choices, and `target` the index of the right one; empty where one generates.
      references: the right answers; the text of the right choice where there are choices.
      doubtful: whether the target is an integer whose digits are the text of another choice.
      digest: of the document, by which before and after are compared.
    """

    where: str
    digest: str
    description: str
    text: str
    prefix: str
    choices: tuple[str, ...]
    target: int
    references: tuple[str, ...]
    doubtful: bool = False


class QuestionWriter:
    """Turns documents into questions by the templates of a task."""

    def __init__(self, task: BenchmarkTask):
        """Keeps the templates; they are read when the first document comes."""
        settings = task.settings
        self._task = task
        self.fields: tuple[str, ...] = ()  # of the document that was written last
        choices = settings.doc_to_choice
        self._templates = DocumentTemplates([
            settings.description, settings.doc_to_text, settings.gen_prefix,
            settings.doc_to_target if isinstance(settings.doc_to_target, str) else "",
            choices if isinstance(choices, str) else "",
        ])  # fmt: skip

    def write(self, document: TaskDocument) -> Question | Bad:
        """Returns the question of a document, or what is wrong with it.

        DataError if the templates fail for every document: seconds each would add up to hours.
        """
        try:
            return self._question(document)
        except LastingError as e:
            place = f"{self._task.name}: {document.where}"
            raise DataError(f"{place}: {e}; mend the templates of {self._task.file}") from None
        except ValueError as e:
            return Bad(document.where, str(e))

    def _question(self, document: TaskDocument) -> Question:
        task, fields = self._task, _with_nulls(dict(document.fields))
        settings, self.fields = task.settings, (*fields,)
        names = {"words": dict(task.words), "source_words": dict(task.source_words)}
        names |= {"doc": fields, **fields}  # `doc` is for fields whose names are no identifiers
        description, asked, prefix, target, choices = self._rendered(names, fields)
        _check_named(settings, fields)
        asked = _field(settings.doc_to_text, fields, asked)
        right = _value(settings.doc_to_target, fields, target)
        if settings.has_choices:
            options = _options(settings.doc_to_choice, fields, choices)
            _check_target(settings.doc_to_target, fields, options)
            is_index = AN_INDEX.search(str(settings.doc_to_target)) is not None
            index = _index(right, options, is_index)
            references = (options[index],)
            doubtful = isinstance(right, int) and str(right) in {*options} - {*references}
        else:
            options, index, doubtful = (), -1, False
            references = _references(right)
            if not asked.strip():
                raise BadDocumentError("its prompt is empty")
        if task.facts.answer_in:
            _check_answer_in(references, fields, task.facts.answer_in)
        if "number" in settings.metrics:
            _check_numbers(references)
        if "letter" in settings.metrics:
            _check_letters(references)
        refuse_halves((description, asked, prefix, *options, *references))
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode())
        return Question(
            document.where, digest.hexdigest(), description, asked, prefix, options, index,
            references, doubtful,
        )  # fmt: skip

    def _rendered(self, names: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
        try:
            return self._templates.render(names)
        except ValueError as e:
            if "is undefined" not in str(e):
                raise
            raise BadDocumentError(f"{e}; the document has {', '.join(fields)}") from None


# ---------------------------------------------------------------------------- what a document says
def _with_nulls(value: Any) -> Any:
    """Returns a tree of fields with null in place of NaN, which is how pandas writes it."""
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    return None if is_null(value) else value


def _check_named(settings: TaskSettings, fields: Mapping[str, Any]) -> None:
    """Raises where a template that is a bare name, and so literal text, names no field.

    The target of a task with choices may be the text of one: see `_check_target`.
    """
    named = [each for each in (settings.doc_to_text, settings.doc_to_choice) if _is_name(each)]
    target = settings.doc_to_target
    if not settings.has_choices and isinstance(target, str) and not JINJA.search(target):
        named.append(target)
    for name in map(str, named):
        if name.strip() and name not in fields:
            raise BadDocumentError(_no_field(name, fields))


def _check_target(target: Any, fields: Mapping[str, Any], options: Sequence[str]) -> None:
    """Raises where the target of a task with choices is a name, but of no field and no choice."""
    if _is_name(target) and not (target in fields or target in options or target.isdecimal()):
        raise BadDocumentError(_no_field(target, fields))


def _is_name(template: Any) -> bool:
    return isinstance(template, str) and NAME.fullmatch(template) is not None


def _no_field(name: str, fields: Mapping[str, Any]) -> str:
    return f"has no field {name[:60]!r}; it has {', '.join(fields)}{did_you_mean(name, fields)}"


def _field(name: str, fields: Mapping[str, Any], rendered: str) -> str:
    """Returns the text of the field that a template is the name of, or else the rendered text."""
    if name in fields and fields[name] is None:
        raise BadDocumentError(f"its field {name!r} is null")
    return str(fields[name]) if name in fields else rendered


def _value(setting: Any, fields: Mapping[str, Any], rendered: str) -> Any:
    """Returns what `doc_to_target` gives: a number, a text or a list of texts.

    As in lm-evaluation-harness a field is what it is, and a text that a template writes may be a
    list.
    """
    if not isinstance(setting, str):
        return setting
    if setting in fields:
        return fields[setting]
    is_list = rendered.startswith("[") and rendered.endswith("]")
    return _literal(rendered) if is_list else rendered


def _literal(rendered: str) -> Any:
    """Returns the list that Jinja wrote as text; the text itself where it is none."""
    try:
        return ast.literal_eval(rendered)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return rendered


def _options(setting: Any, fields: Mapping[str, Any], rendered: str) -> tuple[str, ...]:
    """Returns the choices of a document; they are texts, distinct and not empty."""
    if isinstance(setting, Mapping):
        value: Any = [*setting.values()]
    elif isinstance(setting, str):
        value = fields[setting] if setting in fields else _literal(rendered)
    else:
        value = setting
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise BadDocumentError(f"its choices are no list of texts; got {str(value)[:80]!r}")
    if len(value) < 2:
        raise BadDocumentError(f"has {len(value)} choices; want at least 2")
    if empty := [i for i, each in enumerate(value) if not each.strip()]:
        raise BadDocumentError(f"choice {empty[0]} is empty")
    if twice := [each for each in value if value.count(each) > 1]:
        raise BadDocumentError(f"two choices are the same, {twice[0][:60]!r}")
    return tuple(value)


def _index(right: Any, options: Sequence[str], is_index: bool = False) -> int:
    """Returns the index of the right choice: a number, or the text of the choice.

    As in lm-evaluation-harness an integer is an index, also where choices are numbers.

    Args:
      is_index: whether a text of digits is an index for sure, even where choices are numbers.
    """
    if isinstance(right, str) and right.isdecimal() and right in options and not is_index:
        of_text = options.index(right)
        if of_text != int(right):
            raise BadDocumentError(
                f"its target {right!r} is the text of choice {of_text}, and could be an index too; "
                "for an index, write doc_to_target as Jinja with |int; for the text, "
                '"{{choices.index(answer)}}" with the names of your fields'
            )
    if isinstance(right, str) and right in options and not right.isdigit():
        return options.index(right)
    if isinstance(right, str) and right.isdecimal():
        right = int(right)
    if isinstance(right, bool) or not isinstance(right, int):
        raise BadDocumentError(
            f"its target is {str(right)[:60]!r}; want the index of a choice, from 0 to "
            f"{len(options) - 1}, or the text of one; values of a column can be mapped by "
            "metadata.values"
        )
    if not 0 <= right < len(options):
        raise BadDocumentError(
            f"its target is {right}; want the index of a choice, from 0 to {len(options) - 1}"
        )
    return right


def _references(right: Any) -> tuple[str, ...]:
    """Returns the right answers; there is one, and none is empty."""
    references = right if isinstance(right, list | tuple) else [right]
    if not references:
        raise BadDocumentError("has no reference answer")
    if any(each is None for each in references):
        raise BadDocumentError("a reference answer is null")
    texts = [each if isinstance(each, str) else str(each) for each in references]
    if any(not each.strip() for each in texts):
        raise BadDocumentError("a reference answer is empty")
    return tuple(dict.fromkeys(texts))


def _check_answer_in(references: Sequence[str], fields: Mapping[str, Any], name: str) -> None:
    if name not in fields:
        raise BadDocumentError(f"has no field {name!r}; it has {', '.join(fields)}")
    for reference in references:
        if reference not in str(fields[name]):
            raise BadDocumentError(f"its answer {reference[:60]!r} does not stand in its {name}")


def _check_numbers(references: Sequence[str]) -> None:
    for reference in references:
        if answers.last_number(reference) is None:
            raise BadDocumentError(f"its answer {reference[:60]!r} has no number")


def _check_letters(references: Sequence[str]) -> None:
    for reference in references:
        if not answers.chosen_letter(reference, answers.LETTERS):
            raise BadDocumentError(
                f"its answer {reference[:60]!r} names no letter from A to J; want one such as 'B'; "
                "values of a column can be mapped by metadata.values"
            )


def check_that_they_differ(
    task: BenchmarkTask, questions: Sequence[Question], fields: Sequence[str]
) -> None:
    """Raises DataError if different documents all give one prompt, which then uses no field.

    Where there are choices, those may be what differs.
    """
    asked = {(question.text, question.choices) for question in questions}
    if len(asked) == 1 and len({question.digest for question in questions}) > 1:
        [(prompt, _)] = asked
        raise DataError(
            f"{task.name}: all {len(questions):,} documents have the same prompt, {prompt[:60]!r}; "
            f"doc_to_text has to use a field, as {{{{{fields[0]}}}}}: there are {', '.join(fields)}"
        )


# ---------------------------------------------------------------------------- prompts
def with_shots(
    question: Question, examples: Sequence[Question], task: BenchmarkTask, shots: int
) -> str:
    """Returns the whole prompt: description, examples, the question and a forced beginning.

    Examples are drawn by the document, so that neither a limit nor another order changes them. The
    document itself and copies of it are never among them.

    Raises:
      ValueError: there are fewer examples than shots.
    """
    settings = task.settings
    chosen = choose(question, examples, shots, settings.fewshot_config.sampler)
    delimiter = settings.target_delimiter
    shown = [
        _joined(example.text, example.prefix, delimiter, answered=True)
        + _answer_after(example.prefix, example.references[0])
        + settings.fewshot_delimiter
        for example in chosen
    ]
    asked = _joined(question.text, question.prefix, delimiter, answered=False)
    return "".join([question.description, *shown, asked, question.prefix])


def choose(
    question: Question, examples: Sequence[Question], shots: int, sampler: str
) -> list[Question]:
    """Returns the examples that a question is asked with; ValueError if there are too few."""
    if not shots:
        return []
    if sampler == "first_n":
        others = (each for each in examples if each.digest != question.digest)
        chosen = [each for each, _ in zip(others, range(shots), strict=False)]
    else:
        draw = random.Random(f"{SHOT_SEED} {question.digest}")
        wanted = draw.sample(range(len(examples)), min(len(examples), shots + 1))
        drawn = [examples[i] for i in wanted]
        chosen = [each for each in drawn if each.digest != question.digest][:shots]
        if len(chosen) < shots:  # copies of the question were drawn
            others = [each for each in examples if each.digest != question.digest]
            chosen = draw.sample(others, min(len(others), shots))
    if len(chosen) < shots:
        raise ValueError(f"{shots} shots were asked for, and there are {len(chosen)} examples")
    return chosen


def _joined(asked: str, prefix: str, delimiter: str, answered: bool) -> str:
    """Returns the text of a question and what stands before its answer or forced beginning."""
    if prefix:
        apart = asked and not (asked[-1].isspace() or prefix[0].isspace())
        return asked + (delimiter if apart else "")
    return asked + (delimiter if answered else "")


def _answer_after(prefix: str, answer: str) -> str:
    """Returns a forced beginning with the answer, a space between them if none is there."""
    apart = prefix and not (prefix[-1].isspace() or answer[0].isspace())
    return f"{prefix} {answer}" if apart else prefix + answer
